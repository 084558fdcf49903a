//! Standard streams, and files that stand for descriptors of this process.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::arguments::is_standard_stream;

/// Standard input, which this process continues to share with others.
pub(crate) fn standard_input() -> io::Result<File> {
    open_at_start(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Standard output. The buffer of the standard library is not used, so that a failed write is reported at
/// once.
pub(crate) fn standard_output() -> io::Result<File> {
    open_at_start(io::stdout().as_fd().try_clone_to_owned()?)
}

/// The runtime opens `/dev/null` for reading and writing in place of a standard stream that was closed. A
/// shell opens it for one of both.
fn open_at_start(stream: OwnedFd) -> io::Result<File> {
    let access = fcntl_getfl(&stream)? & OFlags::RWMODE;
    let file = File::from(stream);
    let metadata = file.metadata()?;
    let is_null = fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev());
    match is_null && metadata.rdev() != 0 && access == OFlags::RDWR {
        true => Err(io::Error::other("it is closed, or /dev/null opened for reading and writing")),
        false => Ok(file),
    }
}

/// What a file is called in messages.
pub(crate) fn name(path: &Path, standard_stream: &str) -> PathBuf {
    if is_standard_stream(path) { standard_stream.into() } else { path.to_owned() }
}

/// Opens a path such as `/dev/stdout` or `/dev/fd/3` to write where the descriptor writes; `None` for any
/// other path.
pub(crate) fn open_to_write(path: &Path) -> Option<io::Result<File>> {
    let number = match path.to_str()? {
        "/dev/stdin" | "/proc/self/fd/0" | "/dev/fd/0" => 0,
        "/dev/stdout" | "/proc/self/fd/1" | "/dev/fd/1" => return Some(standard_output()),
        "/dev/stderr" => 2,
        other => {
            let number =
                other.strip_prefix("/dev/fd/").or_else(|| other.strip_prefix("/proc/self/fd/"));
            number?.parse().ok()?
        }
    };
    Some(open_again(path, number))
}

/// Opens the file of a descriptor again, at the position and in the mode of the descriptor.
fn open_again(path: &Path, number: u32) -> io::Result<File> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    let appends = OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file =
        File::options().write(true).append(appends).custom_flags(nonblocking).open(path)?;
    if let (true, Some(position)) = (file.metadata()?.is_file(), field("pos:")) {
        let position = position.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        file.seek(SeekFrom::Start(position))?;
    }
    Ok(file)
}
