//! stub
#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[cfg(feature = "registry")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod error;
mod key;
#[cfg(feature = "registry")]
mod registry;
mod start_packet;
mod time;
mod transfer;

pub use connection::{Config, Connection, Step};
pub use error::{Error, LocalError, Malformed, PeerError, Refusal, SizeOutOfRange};
pub use key::Key;
#[cfg(feature = "registry")]
pub use registry::{AlreadyRegistered, Claim, Entry, Lease, Registry};
pub use start_packet::{Direction, ObjectSize, StartPacket, StartPacketParser};
pub use time::{Instant, Timeouts, Timer};
pub use transfer::{Side, Transfer};
