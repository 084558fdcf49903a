//! What the adapter needs of a transport.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;

use dataserver_core::Instant;

/// A blocking byte stream with deadlines that is armed to abort.
///
/// It delivers bytes in order, in both directions, and tells the peer how each direction ends. Until it
/// is disarmed, dropping it is an abortive close: the peer must not take that for a graceful one. It is
/// flushed before this side waits for the peer, and at the end.
///
/// [`Socket`](crate::Socket) is a transport. Implement this trait for others, such as TLS, where a
/// graceful close is a `close_notify`, and an abortive close is to leave without one.
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::SocketAddr;
/// use dataserver_std::{Instant, Socket, Transport};
///
/// /// A transport that counts the bytes that it reads.
/// struct Counted {
///     inner: Socket,
///     read: u64,
/// }
///
/// impl Read for Counted {
///     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
///         let n = self.inner.read(buffer)?;
///         self.read += n as u64;
///         Ok(n)
///     }
/// }
///
/// impl Write for Counted {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         self.inner.write(bytes)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         self.inner.flush()
///     }
/// }
///
/// impl Transport for Counted {
///     fn set_deadline(&mut self, deadline: Option<Instant>) {
///         self.inner.set_deadline(deadline);
///     }
///     fn shut_down(&mut self) -> io::Result<()> {
///         self.inner.shut_down()
///     }
///     fn disarm(&mut self) -> io::Result<()> {
///         self.inner.disarm()
///     }
///     fn peer_addr(&self) -> Option<SocketAddr> {
///         self.inner.peer_addr()
///     }
/// }
/// ```
pub trait Transport: Read + Write {
    /// Sets until when reads and writes may wait, on the clock of [`now`](crate::now). At that time they
    /// try once more, and fail with [`WouldBlock`](io::ErrorKind::WouldBlock) if the transport is still
    /// not ready. Any error other than that and [`Interrupted`](io::ErrorKind::Interrupted) ends the
    /// transfer, a timeout of the system included.
    fn set_deadline(&mut self, deadline: Option<Instant>);

    /// Writes some of the last bytes of an object. These bytes may wait for a moment, since
    /// [`shut_down`](Self::shut_down) usually follows, so that both leave together. A transport over
    /// another one forwards this.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn write_last(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(slices)
    }

    /// Shuts down the write half: the peer sees the end of the stream.
    ///
    /// # Errors
    /// Returns the error of the transport. The transfer then fails.
    fn shut_down(&mut self) -> io::Result<()>;

    /// Disarms the transport when the transfer is done: dropping it is a graceful close from now on.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn disarm(&mut self) -> io::Result<()>;

    /// The connection waits for its next object from now on, until something is read. A server that needs
    /// the place of this connection may let a read fail meanwhile, with an [`Abort`](crate::Abort).
    fn begin_wait(&mut self) {}

    /// The address of the peer, for messages, if it has one.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether the peer has ended the stream already, as far as that can be told without waiting. What is read
    /// for this is kept for the next read. A sender asks before it ends its object: a receiver that
    /// has closed by then cannot have committed.
    ///
    /// # Errors
    /// Returns the error of the transport. The transfer then fails.
    fn has_ended(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether nothing has arrived, not even the end of the stream, as far as that can be told without
    /// waiting. What is read for this is kept for the next read. A client asks before the next object of a
    /// session.
    fn is_quiet(&mut self) -> bool {
        true
    }

    /// Sends up to `max` bytes of a file from its cursor, without copying them through this process.
    ///
    /// Returns 0 if nothing, or nothing more, can be sent in this way: the file is at its end, or the
    /// transport or the system does not support it. The rest is then read and written.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn send_file(&mut self, _file: &File, _max: usize) -> io::Result<usize> {
        Ok(0)
    }

    /// Receives up to `max` bytes into a file at its cursor, without copying them through this process.
    /// All bytes that have left the transport are in the file when it returns.
    ///
    /// Returns 0 if nothing, or nothing more, can be received in this way: the stream is at its end, or
    /// the transport or the system does not support it. The rest is then read and written.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn receive_file(&mut self, _file: &File, _max: usize) -> io::Result<usize> {
        Ok(0)
    }
}
