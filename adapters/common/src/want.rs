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
    /// Some of this file sent; none means that the rest is to be read and sent.
    SendFile(&'a File),
    /// The object to be over, and the receipt given or got.
    End,
}
