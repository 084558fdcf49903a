//! What a socket must be told so that every end but a good one is a reset.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType};

/// For how long a call on a socket that waits [briefly](Waits::Briefly) does so.
const MOMENT: Duration = Duration::from_millis(20);

/// Whether calls on a socket wait for the peer.
///
/// ```
/// use dataserver_adapter::tcp::{self, Waits};
///
/// tcp::socket(&"127.0.0.1:8089".parse()?, Waits::Never)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// They do not: the socket is `O_NONBLOCK`.
    Never,
    /// `connect` does, for 20 ms, and so does a read after [`let_reads_wait`]; what takes longer is to
    /// be polled for. To wait in the call that then has what it waited for is cheaper than to poll
    /// first. On Linux only; elsewhere this is `Never`.
    Briefly,
}

/// Has a read of a socket that waits [briefly](Waits::Briefly) give up in time.
///
/// # Errors
/// What the system says.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// tcp::let_reads_wait(&socket)?;
/// assert!(socket.read_timeout()?.is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn let_reads_wait(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(socket, Timeout::Recv, Some(MOMENT))?)
}

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

/// Nagle's delay of a connected socket, which holds back what is written while something written before
/// is on its way: not the first write. Most clients write once.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp::Delay;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// let mut delay = Delay::BeforeFirstWrite;
/// delay.before_write(&socket)?;
/// assert!(!socket.nodelay()?);
/// delay.before_write(&socket)?;
/// assert!(socket.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// It is on, and nothing was written yet.
    BeforeFirstWrite,
    /// It is on, and would hold back the next write.
    BeforeNextWrite,
    /// It is off, as where a socket is [armed](arm), or the socket has none.
    Off,
}

impl Delay {
    /// Turns it off where it would meet what is written next.
    ///
    /// # Errors
    /// What the system says.
    pub fn before_write(&mut self, socket: impl AsFd) -> io::Result<()> {
        *self = match *self {
            Self::BeforeFirstWrite => Self::BeforeNextWrite,
            Self::BeforeNextWrite => {
                sockopt::set_tcp_nodelay(socket, true)?;
                Self::Off
            }
            Self::Off => Self::Off,
        };
        Ok(())
    }
}

/// The connections of a listener that nobody has accepted yet. They are armed from the moment that
/// they exist, as they inherit the options of the listener on Linux; elsewhere, and where they came
/// before the listener had these options, they are armed as they are accepted.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp::{Backlog, Waits};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let backlog = Backlog::of(&listener)?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (_socket, peer) = backlog.accept(&listener, Waits::Never)?;
/// assert_eq!(peer, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Backlog {
    /// It has not been empty yet: some may have come before the options were set.
    unarmed: AtomicBool,
}

impl Backlog {
    /// Sets the options of this listener, and lets more connections wait than the standard library's
    /// 128: those behind the backlog would have to try again after a second.
    ///
    /// # Errors
    /// What the system says: the socket is not one that listens.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// dataserver_adapter::tcp::Backlog::of(&listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn of(listener: impl AsFd) -> io::Result<Self> {
        arm(&listener)?;
        net::listen(listener, BACKLOG)?;
        Ok(Self { unarmed: AtomicBool::new(true) })
    }

    /// Takes the next connection of this listener, and waits for it where the listener does. It is
    /// armed.
    ///
    /// # Errors
    /// What the system says: an [`AcceptError`] tells what to do about it.
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::net::{TcpListener, TcpStream};
    /// use dataserver_adapter::tcp::{Backlog, Waits};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut early = TcpStream::connect(listener.local_addr()?)?;
    /// drop(Backlog::of(&listener)?.accept(&listener, Waits::Never)?);
    /// assert_eq!(early.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self, listener: impl AsFd, waits: Waits) -> io::Result<(OwnedFd, SocketAddr)> {
        let unarmed = self.unarmed.load(Ordering::Acquire) && self.holds_some(&listener)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let (socket, peer) = retry_on_intr(|| net::acceptfrom_with(&listener, flags(waits)))?;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let (unarmed, (socket, peer)) = (true, retry_on_intr(|| net::acceptfrom(&listener))?);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        set_flags(&socket)?;
        let peer = peer.ok_or(Errno::CONNABORTED)?; // gone before it was taken
        if unarmed {
            arm(&socket)?;
        }
        Ok((socket, SocketAddr::try_from(peer)?))
    }

    /// Whether one waits now. Once none does, all that came early have been accepted.
    fn holds_some(&self, listener: impl AsFd) -> io::Result<bool> {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        let some = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? > 0;
        if !some {
            self.unarmed.store(false, Ordering::Release);
        }
        Ok(some)
    }
}

/// A socket to [`connect`] to this address. It is armed, but for its [`Delay`].
///
/// # Errors
/// What the system says.
///
/// ```
/// use dataserver_adapter::tcp::{self, Waits};
///
/// tcp::socket(&"127.0.0.1:8089".parse()?, Waits::Never)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn socket(address: &SocketAddr, waits: Waits) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let socket = net::socket_with(family, SocketType::STREAM, flags(waits), None)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let socket = {
        let socket = net::socket(family, SocketType::STREAM, None)?;
        set_flags(&socket)?;
        socket
    };
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    if waits == Waits::Briefly {
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(MOMENT))?;
    }
    Ok(socket)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn flags(waits: Waits) -> SocketFlags {
    match waits {
        Waits::Never => SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        Waits::Briefly => SocketFlags::CLOEXEC,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_flags(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, true)?;
    Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?)
}

/// Connects, and waits for that as the socket does; said again once it is writable, it tells how that
/// went.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) until it is known, or what the system says.
///
/// ```
/// use dataserver_adapter::tcp::{self, Waits};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let socket = tcp::socket(&address, Waits::Never)?;
/// while let Err(error) = tcp::connect(&socket, &address, Waits::Never) {
///     assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect(socket: impl AsFd, address: &SocketAddr, waits: Waits) -> io::Result<()> {
    let connected = match net::connect(&socket, address) {
        // To a peer on the same machine it is done by now, and needs no waiting.
        Err(Errno::INPROGRESS) if waits == Waits::Never => net::connect(&socket, address),
        connected => connected,
    };
    match connected {
        Ok(()) | Err(Errno::ISCONN) => Ok(()),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Stops listening at once, and wakes who waits for a connection: further clients are refused, and
/// those that nobody has accepted are reset.
///
/// # Errors
/// What the system says: it does not listen.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// dataserver_adapter::tcp::stop_listening(&listener)?;
/// assert!(TcpStream::connect(listener.local_addr()?).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stop_listening(listener: impl AsFd) -> io::Result<()> {
    Ok(net::shutdown(listener, Shutdown::Both)?)
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
