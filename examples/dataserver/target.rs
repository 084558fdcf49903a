//! Where an object goes, so that what is under the target's name is whole, always.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dataserver_std::{Error, Receiver};
use tempfile::{Builder, NamedTempFile};

pub(crate) enum Target {
    /// What cannot be replaced, such as a terminal, a pipe or a device.
    Direct { file: File, path: PathBuf },
    /// The data goes beside the target, to be renamed when it is whole. Dropped before that, it goes.
    Beside { data: NamedTempFile, target: PathBuf },
}

impl Target {
    pub(crate) fn stdout() -> io::Result<Self> {
        // Past the standard library's buffer: what is written is written, or an error.
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self::Direct { file, path: "standard output".into() })
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match Self::direct(path)? {
            Some(target) => Ok(target),
            None => Self::beside(path),
        }
    }

    /// What is there already, where it is not a file that can be replaced.
    pub(crate) fn direct(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => match File::options().write(true).open(path) {
                Ok(file) => Ok(Some(Self::Direct { file, path: path.to_owned() })),
                Err(error) => Err(about(path, &error)),
            },
            _ => Ok(None),
        }
    }

    /// A file beside the target, which may be there or not.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        Self::create(path).map_err(|error| about(path, &error))
    }

    fn create(path: &Path) -> io::Result<Self> {
        let old = match fs::symlink_metadata(path) {
            Err(_) if path.as_os_str().as_bytes().ends_with(b"/") => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            // Through links: they stay, and the file that they lead to is replaced.
            Ok(_) => Some(fs::canonicalize(path)?),
        };
        let mode = match &old {
            Some(old) => fs::metadata(old)?.permissions().mode() & 0o777,
            None => 0o666, // less the umask
        };
        let target = old.clone().unwrap_or_else(|| path.to_owned());
        let mut builder = Builder::new();
        builder.prefix(".dataserver-").suffix(".part").permissions(Permissions::from_mode(mode));
        let data = builder.tempfile_in(directory(&target))?;
        if old.is_some() {
            data.as_file().set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(Self::Beside { data, target })
    }

    /// Receives an object, and makes it last.
    pub(crate) fn receive(self, object: &mut Receiver) -> io::Result<()> {
        let (file, path) = match &self {
            Self::Direct { file, path } => (file, path.clone()),
            Self::Beside { data, target } => (data.as_file(), target.clone()),
        };
        object.receive_file(file).and_then(|_| self.store()).map_err(|error| {
            let is_of_connection = Error::of(&error).is_some();
            if is_of_connection { error } else { about(&path, &error) }
        })
    }

    fn store(self) -> io::Result<()> {
        match self {
            Self::Direct { file, .. } => match file.sync_all() {
                // What does not know how to sync holds nothing back: fsync(2).
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                synced => synced,
            },
            Self::Beside { data, target } => {
                data.as_file().sync_all()?;
                data.persist(&target)?;
                File::open(directory(&target))?.sync_all() // the new name is in there
            }
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The error of a file says which.
pub(crate) fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
