//! What an application wants of its connection.

use std::fs::File;

/// What a driver's loop goes on for, until the application has it.
///
/// ```
/// use dataserver_adapter::Want;
///
/// let want = Want::Send(b"hello, world");
/// ```
#[derive(Debug)]
pub enum Want<'a> {
    /// The start packet to be over.
    Start,
    /// Some of the object in here; none means that it has ended.
    Receive(&'a mut [u8]),
    /// Some of the object in this file; none means that the rest is to be read and written.
    ReceiveFile(&'a File),
    /// Some of this sent.
    Send(&'a [u8]),
    /// Some of this sent, which is all that is left: the end follows at once.
    SendLast(&'a [u8]),
    /// Some of this file sent; none means that the rest is to be read and sent.
    SendFile(&'a File),
    /// The object to be over, and the receipt given or got.
    End,
}

impl Want<'_> {
    /// What to send next, of at most `max` bytes, and whether that is the last of the object.
    ///
    /// ```
    /// use dataserver_adapter::Want;
    ///
    /// assert_eq!(Want::SendLast(b"hello").bytes(9), (&b"hello"[..], true));
    /// assert_eq!(Want::SendLast(b"hello").bytes(4), (&b"hell"[..], false));
    /// assert_eq!(Want::Start.bytes(9), (&b""[..], false));
    /// ```
    pub fn bytes(&self, max: usize) -> (&[u8], bool) {
        match self {
            Want::Send(bytes) => (&bytes[..bytes.len().min(max)], false),
            Want::SendLast(bytes) => (&bytes[..bytes.len().min(max)], bytes.len() <= max),
            _ => (&[], false),
        }
    }
}
