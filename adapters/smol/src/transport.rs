//! What the adapter needs of a transport.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};

/// A byte stream that is armed to abort.
///
/// It delivers bytes in order, in both directions, and tells the peer how each direction ends. Until it
/// is disarmed, dropping it is an abortive close: the peer must not take that for a graceful one.
/// [`poll_close`](AsyncWrite::poll_close) shuts down the write half only. It is flushed before this
/// side waits for the peer, and at the end. A read or write that is polled again tries the transport again, also if no waker was called.
///
/// [`Socket`](crate::Socket) is a transport. Implement this trait for others, such as TLS, where a
/// graceful close is a `close_notify`, and an abortive close is to leave without one.
///
/// ```
/// use std::io;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
/// use dataserver_smol::{Socket, Transport};
/// use futures_lite::{AsyncRead, AsyncWrite};
///
/// /// A transport that counts the bytes that it reads.
/// struct Counted {
///     inner: Socket,
///     read: u64,
/// }
///
/// impl AsyncRead for Counted {
///     fn poll_read(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         buffer: &mut [u8],
///     ) -> Poll<io::Result<usize>> {
///         let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
///         if let Poll::Ready(Ok(n)) = polled {
///             self.read += n as u64;
///         }
///         polled
///     }
/// }
///
/// impl AsyncWrite for Counted {
///     fn poll_write(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         bytes: &[u8],
///     ) -> Poll<io::Result<usize>> {
///         Pin::new(&mut self.inner).poll_write(cx, bytes)
///     }
///     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.inner).poll_flush(cx)
///     }
///     fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.inner).poll_close(cx)
///     }
/// }
///
/// impl Transport for Counted {
///     fn disarm(&mut self) -> io::Result<()> {
///         self.inner.disarm()
///     }
/// }
/// ```
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Disarms the transport when the transfer is done: dropping it is a graceful close from now on.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn disarm(&mut self) -> io::Result<()>;

    /// Whether nothing has arrived, not even the end of the stream, as far as that can be told without
    /// waiting. What is read for this is kept for the next read. A client asks before the next object of a
    /// session.
    fn is_quiet(&mut self) -> bool {
        true
    }

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

    /// Writes some of the last bytes of an object. These bytes may wait for a moment, since
    /// [`poll_close`](AsyncWrite::poll_close) usually follows, so that both leave together. A transport
    /// over another one forwards this.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn poll_write_last(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, slices)
    }

    /// Sends up to `max` bytes of a file from its cursor, without copying them through this process.
    ///
    /// Returns 0 if nothing, or nothing more, can be sent in this way: the file is at its end, or the
    /// transport or the system does not support it. The rest is then read and written.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn poll_send_file(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _file: &File,
        _max: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    /// Receives up to `max` bytes into a file at its cursor, without copying them through this process.
    /// All bytes that have left the transport are in the file when it is ready.
    ///
    /// Returns 0 if nothing, or nothing more, can be received in this way: the stream is at its end, or
    /// the transport or the system does not support it. The rest is then read and written.
    ///
    /// # Errors
    /// Returns the error of the transport.
    fn poll_receive_file(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _file: &File,
        _max: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
}
