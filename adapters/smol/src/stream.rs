//! What the adapter needs of a stream, and sockets that have it.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use dataserver_adapter::socket::{self, Pipe};
use dataserver_adapter::tcp::{self, Waits, WriteOptions};
use futures_lite::{AsyncRead, AsyncWrite};

/// A stream that is armed to abort: however it is dropped, the peer must not take it for an orderly
/// end, unless it was disarmed before. [`poll_close`](AsyncWrite::poll_close) shuts down the write
/// half, and only that. Nobody flushes it: what a write holds back must leave by itself, in
/// `poll_close` at the latest.
///
/// [`Socket`] is one. Implement it to carry objects over something else, such as TLS, where an
/// orderly end is a `close_notify`, and an abort is to leave without one.
///
/// ```
/// use std::io;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
/// use dataserver_smol::{Socket, Stream};
/// use futures_lite::{AsyncRead, AsyncWrite};
///
/// /// A stream that counts what it reads.
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
/// impl Stream for Counted {
///     fn disarm(&mut self) -> io::Result<()> {
///         self.inner.disarm()
///     }
/// }
/// ```
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The transfer is done: from now on, dropping the stream is an orderly end.
    ///
    /// # Errors
    /// What the stream says.
    fn disarm(&mut self) -> io::Result<()>;

    /// The address of the other end, for messages, where it has one.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether the peer has closed already, as far as can be told without waiting, and without taking
    /// anything from the stream. A sender looks before it ends its object: a receiver that is gone by
    /// then cannot have committed.
    ///
    /// # Errors
    /// What the stream says; the transfer then fails.
    fn has_ended(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Writes some of the last bytes of an object. What is written here may wait for a moment, as
    /// [`poll_close`](AsyncWrite::poll_close) mostly comes next, to leave together with the end. A
    /// stream over another one hands this on, or lets it be a write.
    ///
    /// # Errors
    /// As those of any write.
    fn poll_write_last(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, slices)
    }

    /// Sends up to `max` bytes of a file from its cursor, without taking them through this process.
    ///
    /// 0 where nothing, or nothing more, goes this way: the file is at its end, or this stream or
    /// the system cannot. What is left is then read and written, which tells the one from the other.
    ///
    /// # Errors
    /// What the stream says.
    fn poll_send_file(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _file: &File,
        _max: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    /// Receives up to `max` bytes into a file at its cursor, without taking them through this
    /// process. All that have left the stream are in the file when it is ready.
    ///
    /// 0 where nothing, or nothing more, comes this way: the stream is at its end, or it or the
    /// system cannot. What is left is then to be read, which tells the one from the other.
    ///
    /// # Errors
    /// What the stream says; or what the file says, in an [`Abort`](dataserver_adapter::Abort).
    fn poll_receive_file(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _file: &File,
        _max: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
}

/// A connected TCP or Unix stream socket that is armed to abort.
///
/// Over TCP an abort is a reset. A Unix socket has none: its peer sees an end of stream, or a reset
/// where bytes were left unread. So declare the size of an object there.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_smol::{Socket, Stream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let socket = Socket::try_from(stream)?;
/// assert_eq!(socket.peer(), Some(listener.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    fd: Arc<OwnedFd>,
    /// Made when it first has to wait: what is there at once needs no reactor.
    reactor: Option<Async<Arc<OwnedFd>>>,
    peer: Option<SocketAddr>,
    armed: bool,
    options: WriteOptions,
    /// Made when an object first goes to a file.
    pipe: Option<Pipe>,
}

impl TryFrom<TcpStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        tcp::arm(&stream)?;
        Ok(Self::armed(stream.into(), peer))
    }
}

impl TryFrom<Async<TcpStream>> for Socket {
    type Error = io::Error;

    fn try_from(stream: Async<TcpStream>) -> io::Result<Self> {
        stream.into_inner()?.try_into()
    }
}

impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        socket::raise_no_signal(&stream)?;
        Ok(Self::new(stream.into(), None))
    }
}

impl TryFrom<Async<UnixStream>> for Socket {
    type Error = io::Error;

    fn try_from(stream: Async<UnixStream>) -> io::Result<Self> {
        stream.into_inner()?.try_into()
    }
}

impl Socket {
    fn new(fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        let options = WriteOptions::none();
        Self { fd: Arc::new(fd), reactor: None, peer, armed: false, options, pipe: None }
    }

    /// A TCP socket that is armed and does not block.
    pub(crate) fn armed(fd: OwnedFd, peer: SocketAddr) -> Self {
        let options = WriteOptions::of_armed_socket();
        Self { armed: true, options, ..Self::new(fd, Some(peer)) }
    }

    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut socket = Self::armed(tcp::socket(&address, Waits::Never)?, address);
        socket.options = WriteOptions::of_new_socket();
        poll_fn(|cx| {
            socket.poll_writable(cx, |fd| tcp::connect(fd, &address, Waits::Never).map(|()| 0))
        })
        .await?;
        Ok(socket)
    }

    fn poll_readable(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match attempt(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.reactor()?.poll_readable(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_writable(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match attempt(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.reactor()?.poll_writable(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// Writes at most `max` bytes.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.options.before_write(&*self.fd, max)?;
        self.poll_writable(cx, attempt)
    }

    fn reactor(&mut self) -> io::Result<&Async<Arc<OwnedFd>>> {
        if self.reactor.is_none() {
            self.reactor = Some(Async::new_nonblocking(Arc::clone(&self.fd))?);
        }
        self.reactor.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_readable(cx, |fd| socket::read(fd, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, socket::total_len(slices), |fd| socket::write(fd, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // There it could not be disarmed any more once the other half is shut down too.
        if cfg!(target_vendor = "apple") && self.has_ended()? {
            self.disarm()?;
        }
        Poll::Ready(socket::shut_down(&self.fd))
    }
}

impl Stream for Socket {
    fn disarm(&mut self) -> io::Result<()> {
        if self.armed {
            tcp::disarm(&self.fd)?;
            self.armed = false;
        }
        Ok(())
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn has_ended(&self) -> io::Result<bool> {
        socket::has_ended(&self.fd)
    }

    fn poll_write_last(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, socket::total_len(slices), |fd| socket::write_last(fd, slices))
    }

    fn poll_send_file(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &File,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, max, |fd| socket::send_file(fd, file, max))
    }

    fn poll_receive_file(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &File,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = self.pipe.take().or_else(Pipe::new) else {
            return Poll::Ready(Ok(0)); // the object can be read all the same
        };
        let received = self.poll_readable(cx, |fd| pipe.receive_file(fd, file, max));
        self.pipe = Some(pipe);
        received
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use futures_lite::{AsyncWriteExt, future};

    use super::*;

    #[test]
    fn nagles_delay_is_off_before_it_meets_a_write() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut socket = future::block_on(Socket::connect(address)).unwrap();
        for off in [false, true, true] {
            future::block_on(socket.write_all(b"some")).unwrap();
            let same = TcpStream::from(socket.fd.try_clone().unwrap());
            assert_eq!(same.nodelay().unwrap(), off);
        }
    }
}
