//! TCP sockets that send a reset when they are closed, unless the transfer has succeeded.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataserver_core::Timeouts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::net::SocketFlags;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrAny, SocketType};

use crate::socket::{self, of_option};

/// How long a call on a socket with [`BlockingMode::Briefly`] blocks.
const BRIEF_TIMEOUT: Duration = Duration::from_millis(20);

/// Whether calls on a socket block.
///
/// ```
/// use dataserver_common::tcp::{self, BlockingMode};
///
/// tcp::socket(&"127.0.0.1:8089".parse()?, BlockingMode::Never)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingMode {
    /// They do not block: the socket is `O_NONBLOCK`.
    Never,
    /// `connect` blocks for 20 ms, and so does a read after [`set_read_timeout`]. For longer waits the
    /// caller polls. A call that blocks for a short time and then succeeds is cheaper than a poll before
    /// it. On systems other than Linux this is `Never`.
    Briefly,
}

/// Sets the timeout of blocking reads on a socket with [`BlockingMode::Briefly`].
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::tcp;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// tcp::set_read_timeout(&socket)?;
/// assert!(socket.read_timeout()?.is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_read_timeout(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(socket, Timeout::Recv, Some(BRIEF_TIMEOUT))?)
}

/// Turns on TCP keep-alive if a connection has no idle timeout: the system then notices within about two
/// minutes that the machine of the peer is gone (`SO_KEEPALIVE`, tcp(7)). A peer that is there may pause for as
/// long as it likes.
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::tcp;
/// use dataserver_core::Timeouts;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// tcp::keep_alive_without_idle_timeout(&socket, &Timeouts::default().idle(None))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn keep_alive_without_idle_timeout(socket: impl AsFd, timeouts: &Timeouts) -> io::Result<()> {
    if timeouts.idle.is_some() {
        return Ok(());
    }
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(60)).map_err(of_option)?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(15)).map_err(of_option)?;
    sockopt::set_tcp_keepcnt(&socket, 4).map_err(of_option)?;
    Ok(sockopt::set_socket_keepalive(&socket, true).map_err(of_option)?)
}

/// The length of the accept queue. The kernel limits it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// Arms a connected socket: closing it in any way sends a reset from now on (`SO_LINGER` with a zero
/// timeout, socket(7)). Also turns off Nagle's algorithm, which would delay a small object.
///
/// # Errors
/// Returns the error of setsockopt(2).
///
/// ```
/// use std::io::{ErrorKind, Read};
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::tcp;
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

/// Disarms a socket whose transfer is done: closing it is a graceful close again.
///
/// On Apple's systems a socket takes no options once both halves are shut down, and is left as it is. So
/// the side that shuts down last disarms before that.
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use std::io::Read;
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::tcp;
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

/// A listener for IPv6 and IPv4 on all interfaces, or for IPv4 alone on a system without IPv6.
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use std::net::{Ipv4Addr, TcpStream};
///
/// let listener = dataserver_common::tcp::listen_on_all_interfaces(0)?;
/// TcpStream::connect((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen_on_all_interfaces(port: u16) -> io::Result<TcpListener> {
    listen_dual_stack(new_socket(AddressFamily::INET6, BlockingMode::Briefly), port)
}

/// The same, with a new IPv6 socket, or the reason why there is none.
fn listen_dual_stack(socket: Result<OwnedFd, Errno>, port: u16) -> io::Result<TcpListener> {
    let socket = match socket {
        Err(Errno::AFNOSUPPORT) => return TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        socket => socket?,
    };
    // The default is net.ipv6.bindv6only on Linux, and on FreeBSD it is on.
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?; // as std does
    net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The accept queue of a listener. Its connections are armed from the moment that they exist, since they
/// inherit the options of the listener on Linux. On other systems, and if they came before the listener
/// had these options, they are armed when they are accepted.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::tcp::{Backlog, BlockingMode};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let backlog = Backlog::of(&listener)?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (_socket, peer) = backlog.accept(&listener, BlockingMode::Never)?;
/// assert_eq!(peer, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Backlog {
    /// The queue has not been empty yet: some connections may be older than the options.
    may_hold_unarmed: AtomicBool,
}

/// Whether a connection has the options of its listener.
const INHERITS: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl Backlog {
    /// Sets the options of this listener, and makes its accept queue longer than the 128 of the standard
    /// library: a client that finds it full tries again after a second.
    ///
    /// # Errors
    /// Returns an error if the socket does not listen.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// dataserver_common::tcp::Backlog::of(&listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn of(listener: impl AsFd) -> io::Result<Self> {
        arm(&listener)?;
        net::listen(listener, BACKLOG)?;
        Ok(Self { may_hold_unarmed: AtomicBool::new(true) })
    }

    /// Accepts the next connection of this listener, and waits for it if the listener blocks. The socket is
    /// armed.
    ///
    /// # Errors
    /// Returns the error of accept(2). [`AcceptError`] classifies it.
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::net::{TcpListener, TcpStream};
    /// use dataserver_common::tcp::{Backlog, BlockingMode};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut early = TcpStream::connect(listener.local_addr()?)?;
    /// drop(Backlog::of(&listener)?.accept(&listener, BlockingMode::Never)?);
    /// assert_eq!(early.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(
        &self,
        listener: impl AsFd,
        mode: BlockingMode,
    ) -> io::Result<(OwnedFd, SocketAddr)> {
        let early =
            self.may_hold_unarmed.load(Ordering::Acquire) && self.is_not_empty(&listener)?;
        let (socket, peer) = loop {
            match retry_on_intr(|| accept_once(&listener, mode)) {
                // Another holder of the listener may have made it `O_NONBLOCK`.
                Err(Errno::AGAIN) if mode == BlockingMode::Briefly => {
                    wait_for_connection(&listener)?;
                }
                accepted => break accepted?,
            }
        };
        let peer = peer.ok_or(Errno::CONNABORTED)?; // gone before it was taken
        if early || !INHERITS {
            arm(&socket)?;
        }
        Ok((socket, unmapped(SocketAddr::try_from(peer)?)))
    }

    /// Whether a connection waits now. Once none does, all older ones have been accepted.
    fn is_not_empty(&self, listener: impl AsFd) -> io::Result<bool> {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        let some = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? > 0;
        if !some {
            self.may_hold_unarmed.store(false, Ordering::Release);
        }
        Ok(some)
    }
}

/// An IPv4 peer of an IPv6 socket has its IPv4 address, not the mapped one.
fn unmapped(peer: SocketAddr) -> SocketAddr {
    let ipv4 = match peer {
        SocketAddr::V6(peer) => peer.ip().to_ipv4_mapped(),
        SocketAddr::V4(_) => None,
    };
    ipv4.map_or(peer, |ip| (ip, peer.port()).into())
}

type Accepted = (OwnedFd, Option<SocketAddrAny>);

#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept_once(listener: impl AsFd, mode: BlockingMode) -> Result<Accepted, Errno> {
    net::acceptfrom_with(listener, flags(mode))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept_once(listener: impl AsFd, mode: BlockingMode) -> Result<Accepted, Errno> {
    let (socket, peer) = net::acceptfrom(listener)?;
    set_flags(&socket, mode)?;
    Ok((socket, peer))
}

fn wait_for_connection(listener: impl AsFd) -> io::Result<()> {
    retry_on_intr(|| poll(&mut [PollFd::new(&listener, PollFlags::IN)], None))?;
    Ok(())
}

/// A socket to [`connect`] to this address. It is armed, but Nagle's algorithm is on: see
/// [`WriteOptions`](crate::WriteOptions).
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use dataserver_common::tcp::{self, BlockingMode};
///
/// tcp::socket(&"127.0.0.1:8089".parse()?, BlockingMode::Never)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn socket(address: &SocketAddr, mode: BlockingMode) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = new_socket(family, mode)?;
    socket::raise_no_signal(&socket)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    if mode == BlockingMode::Briefly {
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(BRIEF_TIMEOUT))?;
    }
    Ok(socket)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn new_socket(family: AddressFamily, mode: BlockingMode) -> Result<OwnedFd, Errno> {
    net::socket_with(family, SocketType::STREAM, flags(mode), None)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn new_socket(family: AddressFamily, mode: BlockingMode) -> Result<OwnedFd, Errno> {
    let socket = net::socket(family, SocketType::STREAM, None)?;
    set_flags(&socket, mode)?;
    Ok(socket)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn flags(mode: BlockingMode) -> SocketFlags {
    match mode {
        BlockingMode::Never => SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        BlockingMode::Briefly => SocketFlags::CLOEXEC,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_flags(socket: &OwnedFd, _mode: BlockingMode) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)
}

/// Connects, and waits for that if the socket blocks. Call it again when the socket is writable: then it
/// returns the result.
///
/// # Errors
/// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) until the result is known, or the error of the system.
///
/// ```
/// use dataserver_common::tcp::{self, BlockingMode};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let socket = tcp::socket(&address, BlockingMode::Never)?;
/// while let Err(error) = tcp::connect(&socket, &address, BlockingMode::Never) {
///     assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect(socket: impl AsFd, address: &SocketAddr, mode: BlockingMode) -> io::Result<()> {
    // A second connect(2) returns the reason of a failure on Linux. On other systems it may not.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    sockopt::socket_error(&socket)??;
    let connected = match net::connect(&socket, address) {
        // To a peer on the same machine it is done by now, and needs no waiting.
        Err(Errno::INPROGRESS) if mode == BlockingMode::Never => net::connect(&socket, address),
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

/// Stops listening at once, and wakes the threads that wait for a connection. Further clients are refused,
/// and those in the accept queue are reset.
///
/// This works on Linux. On other systems a listener must be closed instead: macOS does nothing, FreeBSD wakes
/// one thread, and both return an error.
///
/// # Errors
/// Returns an error if the socket does not listen.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// dataserver_common::tcp::stop_listening(&listener)?;
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
/// use dataserver_common::tcp::AcceptError;
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn listener_on_all_interfaces_takes_ipv4_where_the_default_is_ipv6_alone() {
        let socket = new_socket(AddressFamily::INET6, BlockingMode::Briefly).unwrap();
        sockopt::set_ipv6_v6only(&socket, true).unwrap();
        let listener = listen_dual_stack(Ok(socket), 0).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), Ipv6Addr::UNSPECIFIED);
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn listener_on_all_interfaces_is_ipv4_on_a_system_without_ipv6() {
        let listener = listen_dual_stack(Err(Errno::AFNOSUPPORT), 0).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::UNSPECIFIED);
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn listener_on_all_interfaces_is_not_ipv4_for_another_reason() {
        let error = listen_dual_stack(Err(Errno::MFILE), 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
        let taken = listen_on_all_interfaces(0).unwrap();
        let error = listen_on_all_interfaces(taken.local_addr().unwrap().port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
