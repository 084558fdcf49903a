//! What both sides have when a transfer has succeeded.

use std::fmt;
use std::net::SocketAddr;

use dataserver_core::StartPacket;

use crate::error::write_peer;

/// The object was transferred, and the receiver has committed it. Both sides know.
///
/// ```no_run
/// # fn example(receipt: dataserver_common::Receipt) {
/// println!("{} bytes were stored", receipt.bytes);
/// println!("{receipt}"); // 127.0.0.1:8089: put of 5 bytes, key ea2b…: 5 bytes
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The address of the peer, if it has one.
    pub peer: Option<SocketAddr>,
    /// The start packet of the connection.
    pub packet: StartPacket,
    /// The size of the object in bytes.
    pub bytes: u64,
}

impl Receipt {
    #[doc(hidden)]
    /// For an adapter: the transfer of this many bytes has succeeded.
    ///
    /// ```
    /// use dataserver_common::Receipt;
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let receipt = Receipt::new(Some(([127, 0, 0, 1], 8089).into()), packet, 5);
    /// assert_eq!(
    ///     receipt.to_string(),
    ///     "127.0.0.1:8089: put of unknown size, key ea2b2676c28c0db26d39331a336c6b92: 5 bytes",
    /// );
    /// ```
    pub fn new(peer: Option<SocketAddr>, packet: StartPacket, bytes: u64) -> Self {
        Self { peer, packet, bytes }
    }
}

/// One line for a log: the peer, the start packet, and the size of the object.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_peer(f, self.peer)?;
        write!(f, "{}: {} bytes", self.packet, self.bytes)
    }
}
