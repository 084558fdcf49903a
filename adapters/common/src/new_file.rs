//! A file that appears under its name when it is complete.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{self, Path, PathBuf};

use dataserver_core::{Key, ObjectSize};
use tempfile::{Builder, NamedTempFile};

use crate::part::Part;

/// A file that is written under a unique temporary name beside its target, and takes the name of the
/// target when it is complete. So two receivers of one target never mix, and a reader of the target
/// finds one whole object or the other. Dropped before that, it is removed.
///
/// A process that is killed leaves the temporary file, whose name begins with `.dataserver-`.
///
/// ```
/// use std::fs;
/// use std::io::Write;
/// use dataserver_common::NewFile;
///
/// let target = std::env::temp_dir().join(format!("dataserver-new-file-{}", std::process::id()));
/// let new = NewFile::create(&target)?;
/// new.file().write_all(b"hello")?;
/// assert!(!target.exists());
/// new.commit()?;
/// assert_eq!(fs::read(&target)?, b"hello");
/// # fs::remove_file(target)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct NewFile {
    data: Data,
    target: PathBuf,
    /// To be synced; `None` if this process may not open it.
    directory: Option<File>,
}

#[derive(Debug)]
enum Data {
    Unique(NamedTempFile),
    Part(Part),
}

impl NewFile {
    /// A file for this target, which may exist: it is replaced, and its permission bits are kept, and its
    /// owner and group as far as this process may set them. If it is a symbolic link, the file that it leads
    /// to is replaced.
    ///
    /// # Errors
    /// Returns an error that names the target if its directory cannot be written, or if it exists and
    /// is not a regular file.
    pub fn create(target: impl AsRef<Path>) -> io::Result<Self> {
        let target = target.as_ref();
        Self::beside(target, None).map_err(|error| about(target, &error))
    }

    /// The same for a transfer that can be resumed: the file has the bytes of an earlier attempt with the same
    /// target, key and declared size, and its cursor is behind them. Dropped before it is complete, it stays for
    /// the next attempt, for a week. If another receiver is using it, this is a file of its own, and empty.
    ///
    /// After a crash of the system the file may have other bytes than were written: check the digest of the
    /// whole object before [`commit`](Self::commit), and [`discard`](Self::discard) it if that differs.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    ///
    /// ```
    /// use std::io::Write;
    /// use dataserver_common::NewFile;
    /// use dataserver_core::{Key, ObjectSize};
    ///
    /// # let target = std::env::temp_dir().join(format!("dataserver-resume-{}", std::process::id()));
    /// let (key, size) = (Key::from_name("report"), ObjectSize::new(5)?);
    /// let new = NewFile::resume(&target, key, size)?;
    /// new.file().write_all(b"hel")?;
    /// drop(new); // the connection has failed
    ///
    /// let new = NewFile::resume(&target, key, size)?;
    /// assert_eq!(new.offset()?, 3);
    /// new.file().write_all(b"lo")?;
    /// new.commit()?;
    /// assert_eq!(std::fs::read(&target)?, b"hello");
    /// # std::fs::remove_file(target)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(target: impl AsRef<Path>, key: Key, size: ObjectSize) -> io::Result<Self> {
        let target = target.as_ref();
        Self::beside(target, Some((key, size))).map_err(|error| about(target, &error))
    }

    fn beside(target: &Path, object: Option<(Key, ObjectSize)>) -> io::Result<Self> {
        let text = target.as_os_str().as_encoded_bytes();
        if target.file_name().is_none() || text.ends_with(b"/") || text.ends_with(b"/.") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected the name of a file"));
        }
        let old = match fs::symlink_metadata(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(_) => {
                follow(target)?;
                Some(fs::canonicalize(target)?)
            }
        };
        let replaced = old.as_ref().map(fs::metadata).transpose()?;
        if replaced.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mode = replaced.as_ref().map_or(0o666, |metadata| metadata.mode() & 0o777); // less the umask
        let target = old.map_or_else(|| path::absolute(target), Ok)?; // the process may change its directory
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let part = match object {
            Some((key, size)) => Part::open(directory, &target, key, size, mode)?,
            None => None,
        };
        let data = match part {
            Some(part) => Data::Part(part),
            None => {
                let mut builder = Builder::new();
                builder
                    .prefix(".dataserver-")
                    .suffix(".part")
                    .permissions(Permissions::from_mode(mode));
                Data::Unique(builder.tempfile_in(directory)?)
            }
        };
        if let Some(replaced) = replaced {
            keep_owner_and_mode(data.file(), &replaced)?;
        }
        // Now, since nothing may fail once the object has its name.
        let directory = File::open(directory).ok();
        Ok(Self { data, target, directory })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.data.file()
    }

    /// How many bytes of the object the file has.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn offset(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }

    /// Removes the file: its bytes are not those of the object.
    pub fn discard(self) {
        if let Data::Part(part) = self.data {
            part.discard();
        }
    }

    /// Makes the file durable, and gives it the name of its target.
    ///
    /// # Errors
    /// Returns an error that names the target if the file cannot be synced or renamed. The target is
    /// then as before. Once the file has its name, this succeeds, even on a file system that cannot
    /// sync a directory.
    pub fn commit(self) -> io::Result<()> {
        self.file().sync_all().map_err(|error| about(&self.target, &error))?;
        if let Some(directory) = self.rename()? {
            // The object is visible: to report an error now would have the sender send it again.
            _ = directory.sync_all();
        }
        Ok(())
    }

    /// Gives the file the name of its target, without syncing it. Returns its directory, which is then to be
    /// synced, if this process may open it.
    ///
    /// # Errors
    /// Returns an error that names the target if the file cannot be renamed. The target is then as before.
    ///
    /// ```
    /// use dataserver_common::NewFile;
    ///
    /// # let target = std::env::temp_dir().join(format!("dataserver-rename-{}", std::process::id()));
    /// let new = NewFile::create(&target)?;
    /// new.rename()?;
    /// assert!(target.exists());
    /// # std::fs::remove_file(target)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn rename(self) -> io::Result<Option<File>> {
        let Self { data, target, directory } = self;
        let renamed = match data {
            Data::Unique(data) => data.persist(&target).map(drop).map_err(|error| error.error),
            Data::Part(part) => part.rename(&target),
        };
        renamed.map_err(|error| about(&target, &error))?;
        Ok(directory)
    }
}

/// Fails if the kernel does not follow a link here, such as one of another user in a sticky directory
/// (`fs.protected_symlinks`, proc_sys_fs(5)).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn follow(target: &Path) -> io::Result<()> {
    rustix::fs::open(target, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
    Ok(())
}

/// Does nothing: this system has no such rule.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn follow(_target: &Path) -> io::Result<()> {
    Ok(())
}

/// Gives a file the owner and the mode of the one that it replaces. Only root can give a file away. The
/// set-group-ID bit belongs to the group, and is kept with it.
fn keep_owner_and_mode(file: &File, replaced: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    let (user, group) = (replaced.uid(), replaced.gid());
    if new.uid() != user {
        _ = fchown(file, Some(user), None);
    }
    let keeps_group = new.gid() == group || fchown(file, None, Some(group)).is_ok();
    let mask = if keeps_group { 0o2777 } else { 0o777 };
    file.set_permissions(Permissions::from_mode(replaced.mode() & mask))
}

impl Data {
    fn file(&self) -> &File {
        match self {
            Self::Unique(data) => data.as_file(),
            Self::Part(part) => part.file(),
        }
    }
}

/// The error of a file says which.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_in_a_directory_that_cannot_be_read_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("object");
        let mut new = NewFile::create(&target).unwrap();
        new.directory = None; // as for a directory of mode 0o300, which root could open
        new.file().write_all(b"hello").unwrap();
        new.commit().unwrap();
        assert_eq!(fs::read(target).unwrap(), b"hello");
    }

    #[test]
    fn a_target_that_is_no_file_is_an_error_that_names_it() {
        for target in ["", "/", "..", "src/", "src", "/dev/null"] {
            let error = NewFile::create(target).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{target}: ")), "{error}");
        }
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(NewFile::create(directory.path().join("object")).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_stays_and_the_mode_of_the_target_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [target, link] = ["object", "link"].map(|name| directory.path().join(name));
        fs::write(&target, b"old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        NewFile::create(&link).unwrap().commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (0, 0o640));
    }
}
