//! TCP and Unix sockets as transports.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use dataserver_common::socket::{self, Pipe};
use dataserver_common::tcp::{self, BlockingMode};
use dataserver_common::{Error, WriteOptions};
use futures_lite::{AsyncRead, AsyncWrite};

use crate::transport::Transport;

/// A connected TCP or Unix stream socket that is armed to abort.
///
/// Over TCP, an abortive close is a reset. Unix sockets have no abortive close. Use the framed format there
/// ([`Request::framed`](crate::Request::framed)), which needs none. In the bare format a receipt over a Unix
/// socket does not prove a commit, and a get that was refused looks like an empty object.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_smol::{Socket, Transport};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let socket = Socket::from_std(stream)?;
/// assert_eq!(socket.peer_addr(), Some(listener.local_addr()?));
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
    pipe: Option<Box<Pipe>>,
}

impl Socket {
    /// Arms a connected TCP socket.
    ///
    /// # Errors
    /// Returns [`Error::Socket`] if the socket is not connected, or its options cannot be set.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let socket = dataserver_smol::Socket::from_std(stream)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(stream: TcpStream) -> Result<Self, Error> {
        let prepare = || {
            stream.set_nonblocking(true)?;
            tcp::arm(&stream)?;
            stream.peer_addr()
        };
        let peer = prepare().map_err(Error::socket)?;
        Ok(Self::armed(stream.into(), peer))
    }

    /// A connected Unix socket. It has no abortive close: see [`Socket`].
    ///
    /// # Errors
    /// Returns [`Error::Socket`] if its options cannot be set.
    ///
    /// ```
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let socket = dataserver_smol::Socket::from_unix(ours)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_unix(stream: UnixStream) -> Result<Self, Error> {
        let prepared = stream.set_nonblocking(true).and_then(|()| socket::raise_no_signal(&stream));
        prepared.map_err(Error::socket)?;
        Ok(Self::new(stream.into(), None))
    }

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
        let mut socket = Self::armed(tcp::socket(&address, BlockingMode::Never)?, address);
        socket.options = WriteOptions::of_new_socket();
        poll_fn(|cx| {
            socket
                .poll_writable(cx, |fd| tcp::connect(fd, &address, BlockingMode::Never).map(|()| 0))
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
        let written = ready!(self.poll_writable(cx, attempt))?;
        self.options.after_write(&*self.fd, written)?;
        Poll::Ready(Ok(written))
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

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Transport for Socket {
    fn disarm(&mut self) -> io::Result<()> {
        if self.armed {
            tcp::disarm(&self.fd)?;
            self.armed = false;
        }
        Ok(())
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        socket::has_ended(&self.fd)
    }

    fn is_quiet(&mut self) -> bool {
        socket::is_quiet(&self.fd)
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
        let Some(pipe) = self.pipe.take().or_else(|| Pipe::new().map(Box::new)) else {
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
