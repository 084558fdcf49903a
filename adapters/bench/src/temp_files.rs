//! Temporary files for the benches.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file to read and a file to write. They are in `/dev/shm` if it exists, so that no write-back to a disk
/// disturbs a measurement.
#[derive(Debug)]
pub struct TempFiles {
    /// Their directory.
    pub directory: PathBuf,
}

impl TempFiles {
    /// Creates both with this size in bytes.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let shared_memory = Path::new("/dev/shm");
        let parent =
            if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() };
        let directory = parent.join(format!("dataserver-bench-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let files = Self { directory };
        for path in [files.source(), files.sink()] {
            let mut file = File::create(path)?;
            let piece = vec![7; 1 << 20];
            for _ in 0..bytes / piece.len() as u64 {
                file.write_all(&piece)?;
            }
        }
        Ok(files)
    }

    /// The file to read.
    pub fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// The file to write.
    pub fn sink(&self) -> PathBuf {
        self.directory.join("sink")
    }
}

impl Drop for TempFiles {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}
