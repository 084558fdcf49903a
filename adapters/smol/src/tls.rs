//! TLS over a socket, with rustls.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use dataserver_common::tls::{TlsConnection, explain};
use futures_lite::{AsyncRead, AsyncWrite, future};
use futures_rustls::{TlsAcceptor, TlsConnector};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::socket::Socket;
use crate::transport::Transport;

/// A TLS connection over a [`Socket`], in either role.
///
/// [`Client::tls`](crate::Client::tls) and [`Server::tls`](crate::Server::tls) make it. With the functions
/// here, a program can use it with connections of its own.
///
/// - A stream that ends without the peer's `close_notify` is an error, so that an
///   intermediary cannot truncate an object, in either format.
/// - The configuration should require TLS 1.3, as that of rustls does by default where both sides can. In TLS 1.2 a
///   `close_notify` ends both directions (RFC 5246, section 7.2.1), so that the bare format has no receipt.
/// - The kernel cannot move files through TLS. They are read, encrypted and written in user space.
pub struct TlsStream(futures_rustls::TlsStream<Socket>);

impl TlsStream {
    /// Completes the handshake of a client, for at most this long.
    ///
    /// # Errors
    /// Returns the error of the socket, or that of rustls with the kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), for example because the certificate is not that of `name`.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use dataserver_smol::{Config, Key, ObjectWriter, Socket, TlsStream};
    ///
    /// # async fn example(tls: Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = async_io::Async::<TcpStream>::connect(([192, 0, 2, 1], 8089)).await?;
    /// let socket = Socket::from_std(stream.into_inner()?)?;
    /// let name = "example.org".try_into()?;
    /// let stream = TlsStream::client(socket, tls, name, Duration::from_secs(5)).await?;
    /// ObjectWriter::open(stream, Key::from_name("report"), &Config::default()).send(b"hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn client(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let handshake = TlsConnector::from(config).connect(name, socket);
        Ok(Self(within(timeout, handshake).await?.into()))
    }

    /// Completes the handshake of a server, for at most this long.
    ///
    /// # Errors
    /// Returns the error of the socket, or that of rustls with the kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), for example because the client does not speak TLS.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use dataserver_smol::{Config, Handlers, Socket, TlsStream};
    ///
    /// # async fn example(tls: Arc<rustls::ServerConfig>, handlers: Handlers) -> std::io::Result<()> {
    /// let listener = async_io::Async::<TcpListener>::bind(([127, 0, 0, 1], 8089))?;
    /// let (stream, _) = listener.accept().await?;
    /// let socket = Socket::from_std(stream.into_inner()?)?;
    /// let stream = TlsStream::server(socket, tls, Duration::from_secs(5)).await?;
    /// handlers.serve(stream, &Config::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn server(
        socket: Socket,
        config: Arc<ServerConfig>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let handshake = TlsAcceptor::from(config).accept(socket);
        Ok(Self(within(timeout, handshake).await?.into()))
    }

    fn socket(&self) -> &Socket {
        self.0.get_ref().0
    }

    fn parts(&mut self) -> (&mut Socket, &mut dyn TlsConnection) {
        match &mut self.0 {
            futures_rustls::TlsStream::Client(stream) => {
                let (socket, tls) = stream.get_mut();
                (socket, &mut **tls)
            }
            futures_rustls::TlsStream::Server(stream) => {
                let (socket, tls) = stream.get_mut();
                (socket, &mut **tls)
            }
        }
    }
}

async fn within<T>(
    timeout: Duration,
    handshake: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let timed_out = async {
        Timer::after(timeout).await;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the TLS handshake took longer than {timeout:?}"),
        ))
    };
    future::or(handshake, timed_out).await.map_err(explain)
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer).map_err(explain)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// The end of the stream is a `close_notify`, which is authenticated, and then that of the socket.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Transport for TlsStream {
    /// The `close_notify` is sent if the socket takes it at once. At the end of an object, that of
    /// [`poll_close`](AsyncWrite::poll_close) has been sent before.
    fn disarm(&mut self) -> io::Result<()> {
        let (socket, tls) = self.parts();
        tls.send_close_notify_to(socket.as_fd())?;
        socket.disarm()
    }

    fn is_quiet(&mut self) -> bool {
        let (socket, tls) = self.parts();
        tls.is_quiet(socket.as_fd())
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket().peer_addr()
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        let (socket, tls) = self.parts();
        tls.has_ended(socket.as_fd())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", self.socket()).finish_non_exhaustive()
    }
}
