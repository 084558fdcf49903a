//! Without the feature `digest`: no object has one.

use std::fs::File;
use std::io;

/// Computes nothing.
#[derive(Debug, Default)]
pub struct ObjectDigest(());

#[allow(missing_docs, reason = "see on.rs")]
impl ObjectDigest {
    pub fn update(&mut self, _bytes: &[u8]) {}

    pub fn update_moved(&mut self, _file: &File, _len: u64) {}

    pub fn update_range(&mut self, _file: &File, _from: u64, _len: u64) {}

    pub fn catch_up(&mut self) {}

    pub fn is_behind(&self) -> bool {
        false
    }

    /// # Errors
    /// Always.
    pub fn finish(self) -> io::Result<[u8; 32]> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the feature `digest` is off"))
    }
}
