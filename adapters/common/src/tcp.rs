//! What a socket must be told so that every end but a good one is a reset.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::net::SocketFlags;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrAny, SocketType};

use crate::socket::{self, of_option};

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
    socket::raise_no_signal(&socket)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).map_err(of_option)?;
    Ok(sockopt::set_tcp_nodelay(&socket, true).map_err(of_option)?)
}

/// Disarms a socket whose transfer is done: closing it is an orderly end again.
///
/// Who shuts down second disarms first, where this is for Apple's systems: there a socket takes no options
/// once both halves are shut down, and is left as it is. Where the other side was second, no reset follows.
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
    match sockopt::set_socket_linger(socket, None) {
        Err(Errno::INVAL) if cfg!(target_vendor = "apple") => Ok(()),
        disarmed => Ok(disarmed?),
    }
}

/// The options of a connected TCP socket that are set before the write that first needs them. Most
/// connections carry one small object, and need none.
///
/// - Nagle's algorithm delays a write while an earlier one is on its way. It is turned off before the
///   second write.
/// - What the kernel holds unsent is limited to [`MAX_UNSENT`] once a connection writes more than that:
///   see [`limit_unsent`].
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_adapter::tcp::WriteOptions;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// let mut options = WriteOptions::of_new_socket();
/// options.before_write(&socket, 5)?;
/// assert!(!socket.nodelay()?);
/// options.before_write(&socket, 5)?;
/// assert!(socket.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    nagle: Nagle,
    /// How many bytes may still be written before what is unsent is limited; `None` if it is.
    unlimited: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    BeforeFirstWrite,
    BeforeSecondWrite,
    Off,
}

impl WriteOptions {
    /// Of a socket from [`socket()`]: Nagle's algorithm is on.
    pub const fn of_new_socket() -> Self {
        Self { nagle: Nagle::BeforeFirstWrite, unlimited: Some(MAX_UNSENT) }
    }

    /// Of a socket that is [armed](arm): Nagle's algorithm is off.
    pub const fn of_armed_socket() -> Self {
        Self { nagle: Nagle::Off, unlimited: Some(MAX_UNSENT) }
    }

    /// Of a socket that is not TCP: it has no such options.
    pub const fn none() -> Self {
        Self { nagle: Nagle::Off, unlimited: None }
    }

    /// Sets what a write of up to `len` bytes needs.
    ///
    /// # Errors
    /// Returns the error of setsockopt(2).
    pub fn before_write(&mut self, socket: impl AsFd, len: usize) -> io::Result<()> {
        match self.nagle {
            Nagle::BeforeFirstWrite => self.nagle = Nagle::BeforeSecondWrite,
            Nagle::BeforeSecondWrite => {
                sockopt::set_tcp_nodelay(&socket, true).map_err(of_option)?;
                self.nagle = Nagle::Off;
            }
            Nagle::Off => {}
        }
        if let Some(unlimited) = self.unlimited {
            self.unlimited = unlimited.checked_sub(len);
            if self.unlimited.is_none() {
                limit_unsent(&socket)?;
            }
        }
        Ok(())
    }
}

/// The most bytes that the kernel holds unsent for a socket whose unsent bytes are
/// [limited](limit_unsent), on top of those that are on their way.
pub const MAX_UNSENT: usize = 256 * 1024;

/// Limits what the kernel holds unsent (`TCP_NOTSENT_LOWAT`, tcp(7)).
///
/// Without a limit a socket takes several MiB at once. The timer of the receipt, which is meant for the
/// peer's commit, would then run while most of the object is still to be sent. Bytes that are on their
/// way do not count, so this does not slow a connection down. Only Linux and Android have it in safe
/// code; elsewhere this does nothing.
///
/// # Errors
/// Returns the error of setsockopt(2).
///
/// ```
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// dataserver_adapter::tcp::limit_unsent(&socket)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn limit_unsent(socket: impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(&socket.as_fd()).set_tcp_notsent_lowat(MAX_UNSENT as u32)
}

/// Does nothing: this system has no such option in safe code.
///
/// # Errors
/// None.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn limit_unsent(_socket: impl AsFd) -> io::Result<()> {
    Ok(())
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

/// Whether a connection has the options of its listener.
const INHERITS: bool = cfg!(any(target_os = "linux", target_os = "android"));

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
        let early = self.unarmed.load(Ordering::Acquire) && self.holds_some(&listener)?;
        let (socket, peer) = loop {
            match retry_on_intr(|| accept_once(&listener, waits)) {
                // Whoever shares the listener may have made it `O_NONBLOCK`.
                Err(Errno::AGAIN) if waits == Waits::Briefly => wait_for_connection(&listener)?,
                accepted => break accepted?,
            }
        };
        let peer = peer.ok_or(Errno::CONNABORTED)?; // gone before it was taken
        if early || !INHERITS {
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

type Accepted = (OwnedFd, Option<SocketAddrAny>);

#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept_once(listener: impl AsFd, waits: Waits) -> Result<Accepted, Errno> {
    net::acceptfrom_with(listener, flags(waits))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept_once(listener: impl AsFd, waits: Waits) -> Result<Accepted, Errno> {
    let (socket, peer) = net::acceptfrom(listener)?;
    set_flags(&socket, waits)?;
    Ok((socket, peer))
}

fn wait_for_connection(listener: impl AsFd) -> io::Result<()> {
    retry_on_intr(|| poll(&mut [PollFd::new(&listener, PollFlags::IN)], None))?;
    Ok(())
}

/// A socket to [`connect`] to this address. It is armed, but Nagle's algorithm is on: see
/// [`WriteOptions`].
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
        set_flags(&socket, waits)?;
        socket
    };
    socket::raise_no_signal(&socket)?;
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
fn set_flags(socket: &OwnedFd, _waits: Waits) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)
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
    // Said again after it failed, connect(2) tells why on Linux; elsewhere it may only say that it did.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    sockopt::socket_error(&socket)??;
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
/// On Linux only. Elsewhere a listener must be closed for that: macOS does nothing, and FreeBSD wakes one
/// of those who wait; both fail.
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
    /// The system is out of descriptors or memory, or refuses for another reason that may last: try
    /// again in a while.
    Later,
    /// The listener itself is at fault: give up.
    Fatal,
}

/// After accept(2), which has network errors of the new connection among its own. An error that may
/// last is never [`Next`](AcceptError::Next): the server would try again without a pause.
impl From<&io::Error> for AcceptError {
    fn from(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                Self::Fatal
            }
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => Self::Next,
            Some(_) => Self::Later,
            None if error.kind() == io::ErrorKind::ConnectionAborted => Self::Next,
            None => Self::Fatal,
        }
    }
}
