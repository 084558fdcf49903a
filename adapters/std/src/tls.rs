//! TLS over a socket, with rustls.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use dataserver_common::now;
use dataserver_common::tls::{TlsConnection, explain, violation};
use dataserver_core::Instant;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

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
pub struct TlsStream {
    tls: Connection,
    socket: Socket,
    /// That of a write whose bytes rustls had taken already. The system reports it once.
    write_error: Option<io::Error>,
}

impl TlsStream {
    /// Completes the handshake of a client, for at most this long.
    ///
    /// # Errors
    /// Returns the error of the socket, or that of rustls with the kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), for example because the certificate is not that of `name`.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use dataserver_std::{Config, Key, ObjectWriter, Socket, TlsStream};
    ///
    /// # fn example(tls: Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = Socket::from_std(TcpStream::connect("example.org:8089")?)?;
    /// let stream = TlsStream::client(socket, tls, "example.org".try_into()?, Duration::from_secs(5))?;
    /// ObjectWriter::open(stream, Key::from_name("report"), &Config::default()).send(b"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Self { tls: tls.into(), socket, write_error: None }.complete_handshake(timeout)
    }

    /// Completes the handshake of a server, for at most this long.
    ///
    /// # Errors
    /// Returns the error of the socket, or that of rustls with the kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), for example because the client does not speak TLS.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use dataserver_std::{Config, Handlers, Socket, TlsStream};
    ///
    /// # fn example(tls: Arc<rustls::ServerConfig>, handlers: Handlers) -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:8089")?;
    /// let socket = Socket::from_std(listener.accept()?.0)?;
    /// let stream = TlsStream::server(socket, tls, Duration::from_secs(5))?;
    /// handlers.serve(stream, &Config::default())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn server(
        socket: Socket,
        config: Arc<ServerConfig>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Self { tls: tls.into(), socket, write_error: None }.complete_handshake(timeout)
    }

    fn complete_handshake(mut self, timeout: Duration) -> io::Result<Self> {
        let deadline = now().saturating_add(timeout);
        self.socket.set_deadline(Some(deadline));
        while self.tls.is_handshaking() {
            match self.tls.complete_io(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("the TLS handshake took longer than {timeout:?}"),
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(explain(error)),
                Ok(_) => {}
            }
        }
        Ok(self)
    }

    fn parts(&mut self) -> (&mut dyn TlsConnection, &Socket) {
        let tls: &mut dyn TlsConnection = match &mut self.tls {
            Connection::Client(tls) => &mut **tls,
            Connection::Server(tls) => &mut **tls,
        };
        (tls, &self.socket)
    }

    /// The error of an earlier write.
    fn check_writes(&mut self) -> io::Result<()> {
        self.write_error.take().map_or(Ok(()), Err)
    }

    /// Writes what rustls holds.
    fn write_pending(&mut self) -> io::Result<()> {
        self.check_writes()?;
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map_err(explain),
            }
            self.write_pending()?;
            self.tls.read_tls(&mut self.socket)?; // the end of the stream is seen by the reader above
            if let Err(error) = self.tls.process_new_packets() {
                _ = self.write_pending(); // the alert that tells the peer
                return Err(violation(error));
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_pending()?; // what is left of the last write
        let written = self.tls.writer().write_vectored(slices)?;
        match self.write_pending() {
            Err(error) if !is_temporary(&error) => self.write_error = Some(error),
            _ => {} // the next write or flush goes on
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_pending()
    }
}

impl Transport for TlsStream {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.socket.set_deadline(deadline);
    }

    /// The end of the stream is a `close_notify`, which is authenticated, and then that of the socket.
    fn shut_down(&mut self) -> io::Result<()> {
        self.tls.send_close_notify(); // once, however often it is called
        self.write_pending()?;
        self.socket.shut_down()
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.write_pending()?;
        self.socket.disarm()
    }

    fn begin_wait(&mut self) {
        self.socket.begin_wait();
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr()
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        self.check_writes()?;
        let (tls, socket) = self.parts();
        tls.has_ended(socket.as_fd())
    }

    fn is_quiet(&mut self) -> bool {
        let has_failed = self.write_error.is_some();
        let (tls, socket) = self.parts();
        !has_failed && tls.is_quiet(socket.as_fd())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Whether another try may succeed.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
