//! Files that benches read and write.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file to read and one to write, in memory where the system has such a place: writing back to a
/// disk would come at any time.
#[derive(Debug)]
pub struct Scratch {
    /// Where they are.
    pub directory: PathBuf,
}

impl Scratch {
    /// Makes them, both of this size in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let shared_memory = Path::new("/dev/shm");
        let parent =
            if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() };
        let directory = parent.join(format!("dataserver-bench-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let scratch = Self { directory };
        for path in [scratch.source(), scratch.sink()] {
            let mut file = File::create(path)?;
            let piece = vec![7; 1 << 20];
            for _ in 0..bytes / piece.len() as u64 {
                file.write_all(&piece)?;
            }
        }
        Ok(scratch)
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

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}
