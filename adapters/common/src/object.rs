//! What both adapters go by when they move an object between a file or reader and a connection.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The size in bytes from which on it pays to have the kernel move an object to a file.
pub const WORTH_A_PIPE: u64 = 64 * 1024;

/// How much of a file is read first, to leave together with the start packet. Most files end there.
pub const FIRST_BYTES: usize = 16 * 1024;

/// The reason of an [`Abort`](crate::Abort): the application's source failed.
pub const SOURCE_FAILED: &str = "the object cannot be read";

/// The reason of an [`Abort`](crate::Abort): the application's file failed.
pub const SINK_FAILED: &str = "the object cannot be written";

/// The reason of an [`Abort`](crate::Abort): a send was cancelled, or failed, in the middle.
pub const SEND_GIVEN_UP: &str = "a send was given up before the end of the object";

/// The reason of an [`Abort`](crate::Abort): an object was committed before all of it was read.
pub const NOT_READ_TO_END: &str = "the object was not read to its end";

/// The reason of an [`Abort`](crate::Abort): in the framed format, a write was given more bytes than it took,
/// and the object ended before they followed.
pub const ENDED_WITHIN_WRITE: &str = "the object ended before all bytes of a write had been sent";

/// The reason of an [`Abort`](crate::Abort): more was sent after the end of the object.
pub const ENDED_ALREADY: &str = "the object has ended already";

/// The reason of an [`Abort`](crate::Abort): another server may have claimed the ticket meanwhile.
pub const LEASE_LOST: &str = "the lease of the ticket cannot be renewed";
/// The reason of an [`Abort`](crate::Abort): the file that was moved could not be read again.
pub const NOT_HASHED: &str = "the digest of the object cannot be computed";

/// What files and readers are copied through where the system cannot move the bytes: 256 KiB.
///
/// # Errors
/// Returns an error if there is no memory for it.
///
/// ```
/// assert_eq!(dataserver_common::object::copy_buffer()?.len(), 256 * 1024);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn copy_buffer() -> io::Result<Vec<u8>> {
    buffer(256 * 1024)
}

/// Zeros, of this many bytes.
pub(crate) fn buffer(len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Opens a regular file to be sent. Opening anything else may block.
///
/// # Errors
/// Returns an error that names the path if it cannot be opened, or is not a regular file.
///
/// ```
/// use std::path::Path;
///
/// assert!(dataserver_common::object::open_regular(Path::new("/dev/null")).is_err());
/// ```
pub fn open_regular(path: &Path) -> io::Result<File> {
    let open = || {
        // Opening a FIFO would block otherwise.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        }
    };
    open().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// How many bytes a regular file has from its cursor on, by its metadata; `None` if it is not one.
///
/// ```
/// use std::fs::File;
///
/// let file = File::open("Cargo.toml")?;
/// assert_eq!(dataserver_common::object::regular_len(&file), Some(file.metadata()?.len()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn regular_len(mut file: &File) -> Option<u64> {
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let cursor = file.stream_position().ok()?;
    Some(metadata.len().saturating_sub(cursor))
}

/// Whether this file was opened to be read, too.
///
/// ```
/// use std::fs::File;
///
/// assert!(dataserver_common::object::is_readable(&File::open("Cargo.toml")?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_readable(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| !flags.contains(OFlags::WRONLY))
}

/// How many bytes a file has from its cursor to this position; without a position, there is no limit.
///
/// ```
/// use std::fs::File;
/// use dataserver_common::object::left_until;
///
/// let file = File::open("Cargo.toml")?;
/// assert_eq!(left_until(&file, Some(5)), 5);
/// assert_eq!(left_until(&file, None), u64::MAX);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn left_until(mut file: &File, end: Option<u64>) -> u64 {
    let Some(end) = end else { return u64::MAX };
    file.stream_position().map_or(0, |cursor| end.saturating_sub(cursor))
}

/// The position of the cursor of a file after these many bytes more; `None` if it is not known how many.
///
/// ```
/// use std::fs::File;
/// use dataserver_common::object::end_after;
///
/// let file = File::open("Cargo.toml")?;
/// assert_eq!(end_after(&file, Some(5)), Some(5));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn end_after(mut file: &File, left: Option<u64>) -> Option<u64> {
    Some(file.stream_position().ok()?.saturating_add(left?))
}
