//! Start packets, objects, configurations and assertions that many tests share.

use std::fmt::Debug;
use std::io;

use dataserver_common::Error;
use dataserver_core::{Cause, Config, Key, StartPacket, Timeouts};

use crate::wait::TIMEOUT;

/// The key of every test that needs only one.
pub const KEY: Key = Key::from_bytes([0xc7; 16]);

/// The start packet of a put with [`KEY`].
pub fn put(size: Option<u64>) -> StartPacket {
    with(StartPacket::put(KEY), size)
}

/// The start packet of a get with [`KEY`].
pub fn get(size: Option<u64>) -> StartPacket {
    with(StartPacket::get(KEY), size)
}

/// A start packet that declares this size, or none.
///
/// # Panics
/// Panics if the size is out of range.
pub fn with(packet: StartPacket, size: Option<u64>) -> StartPacket {
    size.map_or(packet, |size| packet.with_size(size).expect("a size"))
}

/// An object of this many pseudo-random bytes.
pub fn object(size: usize) -> Vec<u8> {
    let mut state = size as u32 ^ 0x9e37_79b9;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Timeouts that do not run out, even on a busy machine.
pub fn long_timeouts() -> Config {
    let long = TIMEOUT * 3;
    Config::default().timeouts(Timeouts::default().start(long).idle(long).receipt(long))
}

/// The cause of a failed transfer.
///
/// # Panics
/// Panics if the result is a success, or not the error of a transfer.
#[track_caller]
pub fn cause<T: Debug>(result: &io::Result<T>) -> Cause {
    let error = result.as_ref().expect_err("an error was expected");
    match Error::of(error).and_then(Error::cause) {
        Some(cause) => cause,
        None => panic!("not the error of a transfer: {error:?}"),
    }
}

/// Asserts that the peer reset the connection.
///
/// # Panics
/// Panics if it did not.
#[track_caller]
pub fn assert_reset<T: Debug>(result: &io::Result<T>) {
    let error = result.as_ref().expect_err("a reset was expected");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}
