//! What a receiver has of an object whose transfer can be resumed.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use dataserver_core::{Key, ObjectSize};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

/// A file beside the target, under a name that the same request finds again. It is locked: two receivers never
/// write one part, and neither do two processes. Dropped, it stays for the next attempt.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
}

/// A part that has not been written to for this long is not used any more, and is removed.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long to wait for a lock: the connection that broke may not have ended on this side yet.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

const PREFIX: &str = ".dataserver-";
const SUFFIX: &str = ".part";

impl Part {
    /// The part of this object for this target, with the cursor at its end. `None` if another receiver has it, or
    /// if a file of this name is not ours.
    pub(crate) fn open(
        directory: &Path,
        target: &Path,
        key: Key,
        size: ObjectSize,
        mode: u32,
    ) -> io::Result<Option<Self>> {
        let target = target.file_name().unwrap_or_default().as_bytes();
        let target = Key::from_name_bytes(target); // a name of fixed length
        let size_text = size.bytes().map_or_else(|| "unknown".into(), |size| size.to_string());
        let path = directory.join(format!("{PREFIX}{target}-{key}-{size_text}{SUFFIX}"));
        let began = Instant::now();
        let part = loop {
            let Some(file) = open_own(&path, mode)? else { return Ok(None) };
            if !try_lock(&file)? {
                if began.elapsed() >= LOCK_TIMEOUT {
                    return Ok(None);
                }
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            // Another receiver may have renamed or removed it just before the lock.
            if is_at(&file, &path) {
                break Self { file, path };
            }
        };
        let metadata = part.file.metadata()?;
        if is_old(&metadata) || size.bytes().is_some_and(|size| metadata.len() > size) {
            part.file.set_len(0)?;
        }
        if (&part.file).seek(SeekFrom::End(0))? == 0 {
            remove_old(directory);
        }
        Ok(Some(part))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it the name of the target.
    pub(crate) fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }

    pub(crate) fn discard(self) {
        _ = self.file.set_len(0); // a part without bytes is removed
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_empty && is_at(&self.file, &self.path) {
            _ = fs::remove_file(&self.path); // it is removed when it is old
        }
        // A clone of the file may still be read for its digest.
        _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Opens or makes a file. `None` if it is there and not a regular file of this user alone: in a directory that
/// others can write to, the name can be theirs.
fn open_own(path: &Path, mode: u32) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(mode).custom_flags(flags);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(_) if fs::symlink_metadata(path).is_ok() => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let is_own = metadata.uid() == geteuid().as_raw() && metadata.nlink() <= 1;
    Ok(Some(file).filter(|_| metadata.is_file() && is_own))
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file still has this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn is_old(metadata: &fs::Metadata) -> bool {
    let age = |written| SystemTime::now().duration_since(written).unwrap_or_default();
    metadata.modified().is_ok_and(|written| age(written) > MAX_AGE)
}

/// Removes the parts of a directory that have not been written for longer than [`MAX_AGE`].
fn remove_old(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let is_part = name.ends_with(SUFFIX) && name.as_bytes().get(32) == Some(&b'-');
        if !is_part
            || !entry.metadata().is_ok_and(|metadata| metadata.is_file() && is_old(&metadata))
        {
            continue;
        }
        let Ok(Some(file)) = open_own(&entry.path(), 0o600) else { continue };
        let is_still_old = file.metadata().is_ok_and(|metadata| is_old(&metadata));
        if is_still_old && try_lock(&file).unwrap_or(false) && is_at(&file, &entry.path()) {
            _ = fs::remove_file(entry.path()); // the next attempt tries it again
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: Key = Key::from_name("object");

    fn open(directory: &Path, size: u64) -> Option<Part> {
        let size = ObjectSize::new(size).unwrap();
        Part::open(directory, &directory.join("target"), KEY, size, 0o600).unwrap()
    }

    fn len(part: &Part) -> u64 {
        part.file().metadata().unwrap().len()
    }

    #[test]
    fn a_part_is_found_again_by_the_same_target_key_and_size_only() {
        let directory = tempfile::tempdir().unwrap();
        let part = open(directory.path(), 9).unwrap();
        part.file().write_all(b"hello").unwrap();
        drop(part);
        assert_eq!(len(&open(directory.path(), 9).unwrap()), 5);
        assert_eq!(len(&open(directory.path(), 8).unwrap()), 0);
        let size = ObjectSize::new(9).unwrap();
        for (name, key) in [("target", Key::from_name("other")), ("other", KEY)] {
            let target = directory.path().join(name);
            let part = Part::open(directory.path(), &target, key, size, 0o600).unwrap().unwrap();
            assert_eq!(len(&part), 0);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the others were empty");
    }

    #[test]
    fn two_receivers_do_not_write_one_part() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), 9).unwrap();
        assert!(open(directory.path(), 9).is_none());
        let clone = first.file().try_clone().unwrap();
        first.file().write_all(b"hello").unwrap();
        drop(first);
        assert_eq!(len(&open(directory.path(), 9).unwrap()), 5, "a clone does not keep the lock");
        drop(clone);
    }

    #[test]
    fn a_discarded_old_or_long_part_begins_again() {
        let directory = tempfile::tempdir().unwrap();
        let write = |bytes: &[u8]| {
            let part = open(directory.path(), 5).unwrap();
            assert_eq!(len(&part), 0);
            part.file().write_all(bytes).unwrap();
            part
        };
        write(b"hello").discard();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(write(b"too long"));
        let part = write(b"hello");
        part.file().set_modified(SystemTime::now() - 2 * MAX_AGE).unwrap();
        drop(part);
        drop(write(b"hel"));
        // The part of another request is removed when it is old.
        let other = open(directory.path(), 7).unwrap();
        other.file().write_all(b"hello").unwrap();
        other.file().set_modified(SystemTime::now() - 2 * MAX_AGE).unwrap();
        drop(other);
        drop(open(directory.path(), 8));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_with_the_name_of_a_part_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let part = open(directory.path(), 9).unwrap();
        let (path, secret) = (part.path.clone(), directory.path().join("secret"));
        fs::write(&secret, b"secret").unwrap();
        drop(part);
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(open(directory.path(), 9).is_none());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        assert!(open(directory.path(), 9).is_none());
        assert_eq!(fs::read(secret).unwrap(), b"secret");
    }
}
