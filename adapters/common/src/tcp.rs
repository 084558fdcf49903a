//! What a socket must be told so that every end but a good one is a reset.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

/// How many connections may wait to be accepted. The kernel takes less where `somaxconn` says so.
const BACKLOG: i32 = 4096;

/// Arms a connected socket: closing it, in whatever way, is a reset from now on (`SO_LINGER` with a
/// zero timeout, socket(7)). Also turns off Nagle's delay, which a small object must not wait for.
///
/// # Errors
/// What the system says, where it cannot be armed.
///
/// ```
/// use std::io::{ErrorKind, Read};
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// tcp::arm(&client)?;
/// drop(client);
/// assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn arm(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    Ok(sockopt::set_tcp_nodelay(&socket, true)?)
}

/// Disarms a socket whose transfer is done: closing it is an orderly end again.
///
/// # Errors
/// What the system says.
///
/// ```
/// use std::io::Read;
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// tcp::arm(&client)?;
/// tcp::disarm(&client)?;
/// drop(client);
/// assert_eq!(server.read(&mut [0])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn disarm(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, None)?)
}

/// Prepares a listener. What it accepts is armed from the moment that it exists, where it inherits
/// the listener's options as on Linux; elsewhere [`arm`] does it. And more connections may wait than
/// the standard library's 128: those behind the backlog would have to try again after a second.
///
/// # Errors
/// What the system says: the socket is not one that listens.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// dataserver_adapter::tcp::prepare(&listener)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn prepare(listener: impl AsFd) -> io::Result<()> {
    arm(&listener)?;
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

/// What a listener should do about an error of `accept`.
///
/// ```
/// use std::io;
/// use dataserver_adapter::tcp::AcceptError;
///
/// let error = io::ErrorKind::ConnectionAborted.into();
/// assert_eq!(AcceptError::from(&error), AcceptError::Next);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// That connection is gone: take the next one.
    Next,
    /// The system is out of descriptors or memory: try again in a while.
    Later,
    /// The listener itself is at fault: give up.
    Fatal,
}

/// After accept(2), which has network errors of the new connection among its own.
impl From<&io::Error> for AcceptError {
    fn from(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Later,
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                Self::Fatal
            }
            Some(_) => Self::Next,
            None if error.kind() == io::ErrorKind::ConnectionAborted => Self::Next,
            None => Self::Fatal,
        }
    }
}
