//! The digest of an object, computed while it passes.

use std::fs::File;
use std::io::{self, Seek};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use blake3::Hasher;

use crate::object::buffer;

/// Computes the BLAKE3 digest of an object. Bytes that pass through this program are hashed on the way. What the
/// system moves between a file and a socket is read from the file, by a second thread beside the transfer.
///
/// ```
/// use dataserver_common::ObjectDigest;
///
/// let mut digest = ObjectDigest::default();
/// digest.update(b"hello");
/// assert_eq!(digest.finish()?[..4], [0xea, 0x8f, 0x16, 0x3d]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct ObjectDigest(State);

/// The hasher has 2 KiB: an object without a digest has none.
#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Here(Box<Hasher>),
    Beside(Beside),
    Failed(io::Error),
}

impl State {
    /// The hasher, if it is not with the second thread.
    fn hasher(self) -> Result<Box<Hasher>, Self> {
        match self {
            Self::Empty => Ok(Box::default()),
            Self::Here(hasher) => Ok(hasher),
            state => Err(state),
        }
    }
}

/// How much of a file is read and hashed at once: what the cache of a processor holds.
const READ: usize = 64 * 1024;

/// A thread that has the hasher, and reads ranges of a file.
#[derive(Debug)]
struct Beside {
    /// The offset and the length of each range.
    ranges: Sender<(u64, u64)>,
    thread: JoinHandle<io::Result<Box<Hasher>>>,
}

impl Beside {
    fn begin(file: &File, mut hasher: Box<Hasher>) -> io::Result<Self> {
        let file = file.try_clone()?;
        let mut buffer = buffer(READ)?;
        let (ranges, to_hash) = mpsc::channel::<(u64, u64)>();
        let hash = move || {
            for (mut at, len) in to_hash {
                let end = at + len;
                while at < end {
                    let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                    file.read_exact_at(&mut buffer[..most], at)?;
                    hasher.update(&buffer[..most]);
                    at += most as u64;
                }
            }
            Ok(hasher)
        };
        let thread = thread::Builder::new().name("dataserver digest".into()).spawn(hash)?;
        Ok(Self { ranges, thread })
    }

    /// Waits until everything has been hashed.
    fn end(self) -> io::Result<Box<Hasher>> {
        drop(self.ranges);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the digest panicked")))
    }
}

impl ObjectDigest {
    /// These are the next bytes of the object. Waits for the second thread, if it has something to do.
    pub fn update(&mut self, bytes: &[u8]) {
        self.catch_up();
        self.0 = match mem::take(&mut self.0).hasher() {
            Ok(mut hasher) => {
                hasher.update(bytes);
                State::Here(hasher)
            }
            Err(state) => state,
        };
    }

    /// The next bytes of the object are the `len` before the cursor of this file.
    pub fn update_moved(&mut self, mut file: &File, len: u64) {
        match file.stream_position() {
            Ok(cursor) => self.update_range(file, cursor.saturating_sub(len), len),
            Err(error) => self.0 = State::Failed(error),
        }
    }

    /// The next bytes of the object are `len` of this file, from this offset on. Does not wait for them. All
    /// ranges between two calls of [`update`](Self::update) are of one file.
    pub fn update_range(&mut self, file: &File, from: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.0 = match mem::take(&mut self.0).hasher().map(|hasher| Beside::begin(file, hasher)) {
            Ok(Ok(beside)) => State::Beside(beside),
            Ok(Err(error)) => State::Failed(error),
            Err(state) => state,
        };
        if let State::Beside(beside) = &self.0 {
            _ = beside.ranges.send((from, len)); // if the thread has failed, its end tells
        }
    }

    /// Waits until the second thread has hashed what it was given.
    pub fn catch_up(&mut self) {
        self.0 = match mem::take(&mut self.0) {
            State::Beside(beside) => match beside.end() {
                Ok(hasher) => State::Here(hasher),
                Err(error) => State::Failed(error),
            },
            state => state,
        };
    }

    /// Whether [`catch_up`](Self::catch_up) may wait.
    pub fn is_behind(&self) -> bool {
        matches!(self.0, State::Beside(_))
    }

    /// The digest of the whole object. Waits for the second thread.
    ///
    /// # Errors
    /// Returns an error if the file could not be read.
    pub fn finish(mut self) -> io::Result<[u8; 32]> {
        self.catch_up();
        match self.0.hasher() {
            Ok(hasher) => Ok(*hasher.finalize().as_bytes()),
            Err(State::Failed(error)) => Err(error),
            Err(_) => Err(io::Error::other("the digest is not complete")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_and_ranges_of_a_file_in_turn_give_the_digest_of_the_whole() {
        let object: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&object).unwrap();
        let mut digest = ObjectDigest::default();
        digest.update(&object[..1000]);
        digest.update_range(&file, 1000, 999_000);
        assert!(digest.is_behind());
        digest.update_range(&file, 1_000_000, 500_000);
        digest.update(&object[1_500_000..2_000_000]);
        assert!(!digest.is_behind());
        digest.update_moved(&file, 1_000_000);
        assert_eq!(digest.finish().unwrap(), *blake3::hash(&object).as_bytes());
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let mut digest = ObjectDigest::default();
        digest.update_range(&tempfile::tempfile().unwrap(), 0, 1);
        digest.update(b"more");
        assert_eq!(digest.finish().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
