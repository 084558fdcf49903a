//! What scenarios use all over.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, process};

use dataserver_adapter::Error;
use dataserver_core::{Config, Error as Cause, Key, StartPacket, Timeouts};

use crate::patience::PATIENCE;

/// The key of every scenario that needs no other.
pub const KEY: Key = Key::new([0xc7; 16]);

/// The start packet of a put with [`KEY`].
pub fn put(size: Option<u64>) -> StartPacket {
    with(StartPacket::put(KEY), size)
}

/// The start packet of a get with [`KEY`].
pub fn get(size: Option<u64>) -> StartPacket {
    with(StartPacket::get(KEY), size)
}

/// A start packet with a size, if there is one.
///
/// # Panics
/// The size is out of range.
pub fn with(packet: StartPacket, size: Option<u64>) -> StartPacket {
    size.map_or(packet, |size| packet.with_size(size).expect("a size"))
}

/// So many bytes, of which none looks like its neighbours.
pub fn object(size: usize) -> Vec<u8> {
    let mut state = size as u32 ^ 0x9e37_79b9;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Timeouts that no scenario is to run into, however busy the machine.
pub fn patient() -> Config {
    let timeouts = Timeouts {
        start: PATIENCE * 3,
        idle: PATIENCE * 3,
        end: PATIENCE * 3,
        ..Timeouts::default()
    };
    Config { timeouts, ..Config::default() }
}

/// Why a transfer failed, as the core has it.
///
/// # Panics
/// It did not fail, or not as a transfer.
#[track_caller]
pub fn cause<T: Debug>(result: &io::Result<T>) -> Cause {
    let error = result.as_ref().expect_err("this was to fail");
    match Error::of(error).and_then(Error::cause) {
        Some(cause) => cause,
        None => panic!("not an error of a transfer: {error:?}"),
    }
}

/// Asserts that the peer has reset the connection.
///
/// # Panics
/// It has not.
#[track_caller]
pub fn reset<T: Debug>(result: &io::Result<T>) {
    let error = result.as_ref().expect_err("this was to be reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// A path in the system's directory for such, which nobody else has.
fn fresh_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("dataserver-{}-{next}", process::id()))
}

/// A file that goes with its name.
#[derive(Debug)]
pub struct TempFile(PathBuf);

impl TempFile {
    /// A file with these bytes.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn new(bytes: &[u8]) -> Self {
        let path = fresh_path();
        fs::write(&path, bytes).expect("room for a file");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.0);
    }
}

/// A directory that goes with all that is in it.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// An empty one.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new() -> Self {
        let path = fresh_path();
        fs::create_dir(&path).expect("room for a directory");
        Self(path)
    }

    /// Where it is.
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
        let _already_gone = fs::remove_dir_all(&self.0);
    }
}
