//! Where an object is stored.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dataserver_common::NewFile;
use dataserver_std::{ObjectReader, Receipt};

use crate::failure::Failure;

pub(crate) enum Target {
    /// A file that cannot be replaced, such as a terminal, a pipe or a device. It is written directly.
    Direct { file: File, path: PathBuf },
    /// A file that takes the name of its target when it is complete.
    New(Temporary),
}

/// A new file until it is committed. It is removed when this is dropped.
pub(crate) struct Temporary(Arc<Mutex<Option<NewFile>>>);

impl Temporary {
    /// A function that removes the file, unless it is committed. It waits for a commit that is running.
    pub(crate) fn discard(&self) -> impl Fn() + Send + 'static {
        let new = Arc::clone(&self.0);
        move || drop(new.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn file(&self) -> io::Result<File> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(new) => new.file().try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn commit(&self) -> io::Result<()> {
        let mut new = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        new.take().map_or(Err(io::ErrorKind::NotFound.into()), NewFile::commit)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.discard()();
    }
}

impl Target {
    pub(crate) fn stdout() -> io::Result<Self> {
        // Not through the standard library's buffer, so that a failed write is reported at once.
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self::Direct { file, path: "standard output".into() })
    }

    /// The existing file of this name, if it is not a regular file.
    pub(crate) fn direct(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => match File::options().write(true).open(path) {
                Ok(file) => Ok(Some(Self::Direct { file, path: path.to_owned() })),
                Err(error) => Err(with_path(path, &error)),
            },
            _ => Ok(None),
        }
    }

    /// A new file for this path, which may exist.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let new = NewFile::create(path)?;
        Ok(Self::New(Temporary(Arc::new(Mutex::new(Some(new))))))
    }

    /// Receives the object, makes it durable, and sends the receipt.
    pub(crate) fn receive(self, mut object: ObjectReader) -> Result<Receipt, Failure> {
        match self {
            Self::Direct { file, path } => {
                object.receive_file(&file)?;
                match file.sync_all() {
                    // A file that does not support fsync(2) has no buffer either.
                    Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                        return Err(with_path(&path, &error).into());
                    }
                    _ => {}
                }
            }
            Self::New(new) => {
                object.receive_file(&new.file()?)?;
                new.commit()?;
            }
        }
        Ok(object.commit()?)
    }
}

/// Adds the path to an error.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
