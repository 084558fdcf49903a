//! What an adapter asks of a TLS connection beside its reads and writes.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;

use rustls::{ConnectionCommon, SideData};

use crate::socket;

/// A TLS connection of either side, whose socket is at hand. Nothing here waits.
///
/// ```no_run
/// use std::os::fd::AsFd;
/// use dataserver_common::tls::TlsConnection;
///
/// # fn example(mut tls: rustls::ClientConnection, socket: std::net::TcpStream) -> std::io::Result<()> {
/// tls.send_close_notify_to(socket.as_fd())?;
/// # Ok(())
/// # }
/// ```
pub trait TlsConnection {
    /// Whether the peer has sent its `close_notify`, and nothing is left to read before that. Records that have
    /// arrived are read from the socket, and kept for the application.
    ///
    /// # Errors
    /// Returns the error of the socket, [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream has ended
    /// without a `close_notify`, or [`InvalidData`](io::ErrorKind::InvalidData) if the peer violates TLS.
    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool>;

    /// Whether nothing of the peer is there to read, not even the end of the stream. Records that have arrived are
    /// read from the socket, as in [`has_ended`](Self::has_ended).
    fn is_quiet(&mut self, socket: BorrowedFd<'_>) -> bool;

    /// Sends the `close_notify`, once, and as much of it as the socket takes.
    ///
    /// # Errors
    /// Returns the error of the socket.
    fn send_close_notify_to(&mut self, socket: BorrowedFd<'_>) -> io::Result<()>;
}

impl<D: SideData> TlsConnection for ConnectionCommon<D> {
    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        match read_arrived(self, socket)? {
            Arrived::End => Ok(true),
            Arrived::Nothing | Arrived::Bytes => Ok(false),
        }
    }

    fn is_quiet(&mut self, socket: BorrowedFd<'_>) -> bool {
        matches!(read_arrived(self, socket), Ok(Arrived::Nothing))
    }

    fn send_close_notify_to(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.send_close_notify();
        while self.wants_write() {
            match self.write_tls(&mut Nonblocking(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                written => _ = written?,
            }
        }
        Ok(())
    }
}

/// What the application would read next.
enum Arrived {
    Nothing,
    Bytes,
    End,
}

fn read_arrived<D: SideData>(
    tls: &mut ConnectionCommon<D>,
    socket: BorrowedFd<'_>,
) -> io::Result<Arrived> {
    while tls.wants_read() {
        match tls.read_tls(&mut Nonblocking(socket)) {
            Ok(0) => return Err(truncation()),
            Ok(_) => _ = tls.process_new_packets().map_err(violation)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let state = tls.process_new_packets().map_err(violation)?;
    Ok(match (state.plaintext_bytes_to_read(), state.peer_has_closed()) {
        (0, false) => Arrived::Nothing,
        (0, true) => Arrived::End,
        _ => Arrived::Bytes,
    })
}

/// The error of a stream that has ended without a `close_notify`, in the words of this project. Any other error stays
/// as it is.
///
/// ```
/// use std::io;
/// use dataserver_common::tls;
///
/// let error = tls::explain(io::ErrorKind::UnexpectedEof.into());
/// assert_eq!(error.to_string(), "the peer has ended the TLS stream without a close_notify");
/// ```
pub fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncation(),
        _ => error,
    }
}

fn truncation() -> io::Error {
    let reason = "the peer has ended the TLS stream without a close_notify";
    io::Error::new(io::ErrorKind::UnexpectedEof, reason)
}

/// The peer has violated TLS.
///
/// ```
/// let error = dataserver_common::tls::violation(rustls::Error::DecryptError);
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
/// ```
pub fn violation(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A socket whose reads and writes do not wait.
struct Nonblocking<'a>(BorrowedFd<'a>);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::read(self.0, buffer)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::write(self.0, &[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
