//! Where an object is stored: a file or standard output.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dataserver_common::NewFile;
use dataserver_common::object::copy_buffer;
use dataserver_std::{ObjectReader, Receipt};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::arguments::is_standard_stream;
use crate::console::Console;
use crate::descriptors;
use crate::failure::Failure;
use crate::source::position_since;
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) enum Target {
    /// A file that is written as it is, such as a pipe or a device.
    InPlace { file: File, path: PathBuf, truncate: bool },
    /// A file that takes the name of its target when it is complete.
    New(Temporary),
}

impl Target {
    /// Opens the target of this path, or standard output for `-`. What can be known to fail fails now, before
    /// a connection uses up an entry of the server.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = descriptors::name(path, "standard output");
        match Self::in_place(path).map_err(|error| Failure::file(&name, &error))? {
            Some((file, truncate)) => Ok(Self::InPlace { file, path: name, truncate }),
            None => Ok(Self::New(Temporary::create(path)?)),
        }
    }

    /// Finds out whether a target can be opened later, without opening a FIFO or a device.
    pub(crate) fn check(path: &Path) -> Result<(), Failure> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Ok(()),
            _ => Self::open(path).map(drop),
        }
    }

    /// The file, if it is to be written in place, and whether it is to be truncated first.
    fn in_place(path: &Path) -> io::Result<Option<(File, bool)>> {
        if is_standard_stream(path) {
            return Ok(Some((descriptors::standard_output()?, false)));
        }
        if let Some(opened) = descriptors::open_to_write(path) {
            return Ok(Some((opened?, false)));
        }
        let Ok(metadata) = fs::metadata(path) else {
            return Ok(None); // a new file, or an error for what creates it
        };
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A FIFO without a reader would block.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let opened = File::options().write(true).custom_flags(nonblocking).open(path);
        match opened {
            Ok(file) if !metadata.is_file() => Ok(Some((file, false))),
            Ok(file) if !may_be_replaced(path, &metadata)? => Ok(Some((file, true))),
            Ok(_) => Ok(None),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                Err(io::Error::other("no process has this FIFO open for reading"))
            }
            // A file that this user may not write can be replaced, unless it is immutable (EPERM).
            Err(error)
                if metadata.is_file()
                    && Errno::from_io_error(&error) == Some(Errno::ACCESS)
                    && may_be_replaced(path, &metadata)? =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what was written cannot be taken back.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self, Self::InPlace { .. })
    }

    /// Receives the object, makes it durable, and sends the receipt.
    pub(crate) fn receive(
        self,
        mut object: ObjectReader,
        rate: Option<NonZeroU64>,
        console: &Arc<Console>,
    ) -> Result<Receipt, Failure> {
        let declared = object.declared_size().bytes();
        match self {
            Self::InPlace { file, path, truncate } => {
                let moved = Arc::new(AtomicU64::new(0));
                let shown = Arc::clone(&moved);
                let _watch = console.watch(declared, move || shown.load(Ordering::Relaxed));
                let stream = Stream::new(&file, rate, &moved);
                copy(
                    &mut object,
                    stream,
                    &path,
                    || if truncate { file.set_len(0) } else { Ok(()) },
                )?;
                match file.sync_all() {
                    // A file that does not support fsync(2) has no buffer either.
                    Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                        return Err(Failure::file(&path, &error));
                    }
                    _ => {}
                }
            }
            // What is there stays for the next attempt, also after a signal.
            #[cfg(feature = "digest")]
            Self::New(new) if object.is_resumable() && rate.is_none() => {
                let mut watch = None;
                let received = object.receive_to_shown(&new.path, |file| {
                    let shown =
                        |cursor| console.watch(declared, move || position_since(&cursor, 0));
                    watch = file.try_clone().ok().map(shown);
                });
                drop(watch);
                return Ok(received?);
            }
            Self::New(new) => {
                let file = new.file()?;
                let cursor = file.try_clone()?;
                let _watch = console.watch(declared, move || position_since(&cursor, 0));
                match rate {
                    None => drop(object.receive_file(&file)?),
                    Some(_) => {
                        let stream = Stream::new(&file, rate, &Arc::default());
                        copy(&mut object, stream, &new.path, || Ok(()))?;
                    }
                }
                new.commit()?;
            }
        }
        Ok(object.commit()?)
    }
}

/// Copies an object. `begin` is called once its first byte, or its end, has arrived.
fn copy(
    object: &mut ObjectReader,
    mut stream: Stream<'_>,
    path: &Path,
    begin: impl FnOnce() -> io::Result<()>,
) -> Result<(), Failure> {
    let failed = |error| Failure::file(path, &error);
    let mut buffer = copy_buffer().map_err(failed)?;
    let mut begin = Some(begin);
    loop {
        let n = object.read(&mut buffer)?;
        if let Some(begin) = begin.take() {
            begin().map_err(failed)?;
        }
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).map_err(failed)?;
    }
}

/// Whether this user can rename another file to this name. That fails for a mount point, and for the file of
/// another user in a sticky directory.
fn may_be_replaced(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    let path = fs::canonicalize(path)?;
    let Some(directory) = path.parent() else { return Ok(false) };
    if mount_of(&path) != mount_of(directory) {
        return Ok(false);
    }
    let parent = fs::metadata(directory)?;
    let user = rustix::process::geteuid();
    let is_sticky = parent.mode() & 0o1000 != 0;
    let owns = user.is_root() || [metadata.uid(), parent.uid()].contains(&user.as_raw());
    Ok(!is_sticky || owns)
}

/// The mount that a path is on; `None` if the system cannot tell.
#[cfg(target_os = "linux")]
fn mount_of(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    let status = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    Some(status.stx_mnt_id)
}

/// The device that a path is on.
#[cfg(not(target_os = "linux"))]
fn mount_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

/// A new file until it is committed. It is removed when this is dropped, and by [`discard_all`].
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    new: Arc<Mutex<Option<NewFile>>>,
}

/// The files that a signal must remove.
static TEMPORARIES: Mutex<Vec<Weak<Mutex<Option<NewFile>>>>> = Mutex::new(Vec::new());

/// Removes all temporary files of this process. Waits for a commit that is running. No file is committed
/// after this.
pub(crate) fn discard_all() {
    for new in TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(new) = new.upgrade() {
            drop(new.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Temporary {
    /// An error names the path.
    fn create(path: &Path) -> io::Result<Self> {
        let new = Arc::new(Mutex::new(Some(NewFile::create(path)?)));
        let mut temporaries = TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner);
        temporaries.retain(|other| other.strong_count() > 0);
        temporaries.push(Arc::downgrade(&new));
        Ok(Self { path: path.to_owned(), new })
    }

    fn file(&self) -> io::Result<File> {
        match &*self.new.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(new) => new.file().try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn commit(&self) -> io::Result<()> {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        new.take().map_or(Err(io::ErrorKind::NotFound.into()), NewFile::commit)
    }
}
