//! Temporary files and directories.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process};

fn unique_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("dataserver-{}-{next}", process::id()))
}

/// A temporary file, deleted on drop.
#[derive(Debug)]
pub struct TempFile(PathBuf);

impl TempFile {
    /// Creates a file with these bytes.
    ///
    /// # Panics
    /// Panics if it cannot be written.
    pub fn new(bytes: &[u8]) -> Self {
        let path = unique_path();
        fs::write(&path, bytes).expect("room for a file");
        Self(path)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0); // the test may have removed it
    }
}

/// A temporary directory, deleted with its contents on drop.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates an empty directory.
    ///
    /// # Panics
    /// Panics if it cannot be created.
    pub fn new() -> Self {
        let path = unique_path();
        fs::create_dir(&path).expect("room for a directory");
        Self(path)
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0); // the test may have removed it
    }
}
