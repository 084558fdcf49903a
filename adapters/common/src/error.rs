//! Why a transfer, a server or a client failed, with all that a log needs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::{error, fmt, io};

use dataserver_core::{AbortReason, AlreadyRegistered, Cause, LocalError, PeerError, StartPacket};

use crate::address::{Address, InvalidAddress};
use crate::ticket_store::ClaimError;

/// Any error of an application: what its handlers may return.
pub type BoxError = Box<dyn error::Error + Send + Sync>;

/// An error of a handler, with a code for the peer, which gets it in the framed format
/// ([`AbortReason::Failed`]).
///
/// A handler that fails with another error sends the code 0.
///
/// ```
/// use std::io;
/// use dataserver_common::Failure;
///
/// let full = io::Error::from(io::ErrorKind::StorageFull);
/// let failure = Failure::new(28, full);
/// assert_eq!(failure.to_string(), "no storage space (code 28)");
/// ```
#[derive(Debug)]
pub struct Failure {
    code: u64,
    source: BoxError,
}

impl Failure {
    /// This error, with this code.
    ///
    /// ```
    /// let failure = dataserver_common::Failure::new(7, "the report is not ready yet");
    /// assert_eq!(failure.code(), 7);
    /// ```
    pub fn new(code: u64, source: impl Into<BoxError>) -> Self {
        Self { code, source: source.into() }
    }

    /// The code for the peer.
    ///
    /// ```
    /// assert_eq!(dataserver_common::Failure::new(7, "not yet").code(), 7);
    /// ```
    pub const fn code(&self) -> u64 {
        self.code
    }

    /// The code in any error of a handler, or 0.
    pub(crate) fn code_of(error: &BoxError) -> u64 {
        error.downcast_ref::<Self>().map_or(0, Self::code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.source, self.code)
    }
}

impl error::Error for Failure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.source()
    }
}

/// Why a transfer, a registration, a server or a client failed.
///
/// The text is one line that names the peer, the start packet, what was expected and what was received,
/// and includes the text of the [source](std::error::Error::source).
///
/// ```no_run
/// # fn example(error: dataserver_common::Error) {
/// eprintln!("{error}"); // 127.0.0.1:8089: put of 5 bytes, key ea2b…: the idle timeout ran out
/// if error.is_connect() {
///     eprintln!("no connection was made");
/// } else if let Some(reason) = error.abort_reason() {
///     eprintln!("the peer says why: {reason}"); // in the framed format
/// } else if error.is_reset() {
///     eprintln!("the peer refused, failed, or was killed");
/// } else if error.is_timeout() || error.is_truncated() {
///     eprintln!("the network or the peer may work again later");
/// } else if let Some(cause) = error.cause() {
///     eprintln!("{cause:?}"); // what went wrong, and on which side
/// }
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// The address of a server cannot be one.
    Address(InvalidAddress),
    /// No connection was made.
    Connect {
        /// The address of the server, as it was given to the client.
        address: String,
        /// The error of the system. If a name was looked up, the text has each address of the server with
        /// its error, and the kind is that of the last one.
        source: Arc<io::Error>,
    },
    /// The server cannot listen.
    Listen {
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The socket is not connected, or its options cannot be set.
    Socket {
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// A client did not complete the TLS handshake with this server.
    Handshake {
        /// The address of the client, if it has one.
        peer: Option<SocketAddr>,
        /// The error of the system or of TLS.
        source: Arc<io::Error>,
    },
    /// The server could not take a connection. It tries again.
    Accept {
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// Connections ended that were not reported one by one, because the application took the reports too
    /// slowly.
    Unreported {
        /// How many.
        connections: u64,
    },
    /// The connection was made, and failed.
    #[non_exhaustive]
    Transfer {
        /// The address of the peer, if it has one.
        peer: Option<SocketAddr>,
        /// The start packet of the connection, if it is known.
        packet: Option<StartPacket>,
        /// What went wrong, and on which side.
        cause: Cause,
        /// The error of the system or of the application.
        source: Option<Arc<dyn error::Error + Send + Sync>>,
    },
    /// The same start packets have an entry already.
    AlreadyRegistered(AlreadyRegistered),
}

impl Error {
    /// The error of this crate inside an [`io::Error`], such as one that a reader of an object returned.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// assert!(Error::of(&io::ErrorKind::NotFound.into()).is_none());
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    #[doc(hidden)]
    /// For an adapter: no connection to this server was made.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::{Address, Error};
    ///
    /// let error = Error::connect(&Address::from(("localhost", 1)), io::ErrorKind::NotFound.into());
    /// assert_eq!(error.to_string(), "cannot connect to localhost:1: entity not found");
    /// ```
    pub fn connect(server: &Address, source: io::Error) -> Self {
        Self::Connect { address: server.to_string(), source: Arc::new(source) }
    }

    #[doc(hidden)]
    /// For an adapter: the server cannot listen.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// let error = Error::listen(io::ErrorKind::AddrInUse.into());
    /// assert_eq!(error.to_string(), "cannot listen: address in use");
    /// ```
    pub fn listen(source: io::Error) -> Self {
        Self::Listen { source: Arc::new(source) }
    }

    #[doc(hidden)]
    /// For an adapter: the socket cannot be used.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// let error = Error::socket(io::ErrorKind::NotConnected.into());
    /// assert_eq!(error.to_string(), "cannot use the socket: not connected");
    /// ```
    pub fn socket(source: io::Error) -> Self {
        Self::Socket { source: Arc::new(source) }
    }

    #[doc(hidden)]
    /// For an adapter: this side gave the connection up, and its state is gone.
    ///
    /// ```
    /// let error = dataserver_common::Error::aborted(None, None, "the server is stopping", None);
    /// assert_eq!(error.to_string(), "aborted: the server is stopping");
    /// ```
    pub fn aborted(
        peer: Option<SocketAddr>,
        packet: Option<StartPacket>,
        reason: &'static str,
        source: Option<BoxError>,
    ) -> Self {
        let cause = LocalError::Aborted { reason, code: 0 }.into();
        Self::Transfer { peer, packet, cause, source: source.map(Into::into) }
    }

    /// Why the connection failed, in the words of the protocol; `None` if there was no connection.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// let source = io::Error::from(io::ErrorKind::ConnectionRefused).into();
    /// assert_eq!(Error::Connect { address: "127.0.0.1:1".into(), source }.cause(), None);
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Transfer { cause, .. } => Some(*cause),
            _ => None,
        }
    }

    /// Whether no connection was made.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// let source = io::Error::from(io::ErrorKind::ConnectionRefused).into();
    /// assert!(Error::Connect { address: "127.0.0.1:1".into(), source }.is_connect());
    /// ```
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Why the peer gave up, if it said so, which it does in the framed format.
    ///
    /// ```
    /// use dataserver_common::{Exchange, Request};
    /// use dataserver_core::{AbortReason, Config, Direction, Frame, Key};
    ///
    /// let request = Request::new(Key::from_name("start")).framed();
    /// let mut exchange = Exchange::client(Direction::Get, request, &Config::default());
    /// exchange.connection.handle_moved(25);
    /// exchange.connection.handle_read(&Frame::Abort(AbortReason::Busy).to_bytes());
    /// assert_eq!(exchange.error(None).abort_reason(), Some(AbortReason::Busy));
    /// ```
    pub fn abort_reason(&self) -> Option<AbortReason> {
        match self.cause() {
            Some(Cause::Peer(PeerError::Aborted(reason))) => Some(reason),
            _ => None,
        }
    }

    /// Whether **this side** refused the start packet: a server, or a client that asked for more than its own
    /// [`max_object_size`](dataserver_core::Config::max_object_size). A client whose request was refused by
    /// the server has the [reason](Self::abort_reason) in the framed format. In the bare one it sees a
    /// [reset](Self::is_reset), as for any other failure of the server.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, Refusal};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.connection.handle_read(&[0; 25]);
    /// exchange.connection.refuse(Refusal::NotRegistered);
    /// assert!(exchange.error(None).is_refused());
    /// ```
    pub fn is_refused(&self) -> bool {
        matches!(self.cause(), Some(Cause::Refused(_)))
    }

    /// Whether the bytes of the receiver are not the object of the sender, as the digest shows. The object, or what
    /// the receiver had of it from an earlier attempt, has changed. Another try sends the whole object.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, Frame, Key, AbortReason, StartPacket};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// let packet = StartPacket::get(Key::from_name("report")).with_digest();
    /// exchange.connection.handle_read(packet.as_bytes());
    /// exchange.connection.accept(None);
    /// exchange.connection.offer(0, true);
    /// exchange.connection.handle_moved(12);
    /// exchange.connection.digest([7; 32]);
    /// exchange.connection.handle_moved(32);
    /// exchange.connection.handle_read(&Frame::Abort(AbortReason::Mismatch).to_bytes());
    /// assert!(exchange.error(None).is_mismatch());
    /// ```
    pub fn is_mismatch(&self) -> bool {
        matches!(
            self.cause(),
            Some(Cause::Peer(
                PeerError::DigestMismatch
                    | PeerError::OffsetBeyondSize { .. }
                    | PeerError::Aborted(AbortReason::Mismatch)
            ))
        )
    }

    /// Whether a timeout ran out, of the connection or of the attempt to connect.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Error;
    ///
    /// let source = io::Error::from(io::ErrorKind::TimedOut).into();
    /// assert!(Error::Connect { address: "127.0.0.1:1".into(), source }.is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        self.kind() == io::ErrorKind::TimedOut
    }

    /// Whether the peer reset the connection: it refused, failed, or was killed.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.connection.handle_reset();
    /// assert!(exchange.error(None).is_reset());
    /// ```
    pub fn is_reset(&self) -> bool {
        matches!(self.cause(), Some(Cause::Peer(PeerError::Reset { .. })))
    }

    /// Whether the peer ended the stream before its object, or its start packet, was complete.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.connection.handle_end_of_stream();
    /// assert!(exchange.error(None).is_truncated());
    /// ```
    pub fn is_truncated(&self) -> bool {
        let Some(Cause::Peer(error)) = self.cause() else { return false };
        matches!(
            error,
            PeerError::Truncated { .. }
                | PeerError::TruncatedStartPacket { .. }
                | PeerError::Unfinished { .. }
        )
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Connect { source, .. }
            | Self::Accept { source }
            | Self::Listen { source }
            | Self::Handshake { source, .. }
            | Self::Socket { source } => source.kind(),
            Self::Address(_) => io::ErrorKind::InvalidInput,
            Self::Unreported { .. } => io::ErrorKind::Other,
            Self::AlreadyRegistered(_) => io::ErrorKind::AlreadyExists,
            Self::Transfer { cause, .. } => match cause {
                Cause::TimedOut(_) => io::ErrorKind::TimedOut,
                Cause::Refused(_) => io::ErrorKind::PermissionDenied,
                Cause::Peer(PeerError::Reset { .. }) => match self.io_source() {
                    // TLS: the end of the stream was not authenticated.
                    Some(source) if source.kind() == io::ErrorKind::UnexpectedEof => source.kind(),
                    _ => io::ErrorKind::ConnectionReset,
                },
                Cause::Peer(
                    PeerError::ClosedEarly { .. }
                    | PeerError::NoReceipt { .. }
                    | PeerError::Aborted(_),
                ) => io::ErrorKind::ConnectionAborted,
                Cause::Peer(
                    PeerError::Truncated { .. }
                    | PeerError::TruncatedStartPacket { .. }
                    | PeerError::Unfinished { .. },
                ) => io::ErrorKind::UnexpectedEof,
                Cause::Peer(_) => io::ErrorKind::InvalidData,
                _ => self.io_source().map_or(io::ErrorKind::Other, io::Error::kind),
            },
        }
    }

    /// The error of the system, if that is the source.
    fn io_source(&self) -> Option<&io::Error> {
        error::Error::source(self)?.downcast_ref()
    }
}

/// The same text as `Display`, since a `main` that returns an error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::Handshake { peer, source } => {
                write_peer(f, *peer)?;
                write!(f, "the TLS handshake failed: {source}")
            }
            Self::Accept { source } => write!(f, "cannot take a connection for now: {source}"),
            Self::Listen { source } => write!(f, "cannot listen: {source}"),
            Self::Socket { source } => write!(f, "cannot use the socket: {source}"),
            Self::Unreported { connections } => {
                write!(
                    f,
                    "{connections} connections ended without a report: reports are taken too slowly"
                )
            }
            Self::Transfer { peer, packet, cause, source } => {
                write_peer(f, *peer)?;
                if let Some(packet) = packet {
                    write!(f, "{packet}: ")?;
                }
                write_cause(f, cause, source.as_deref())
            }
            Self::AlreadyRegistered(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Accept { source }
            | Self::Listen { source }
            | Self::Handshake { source, .. }
            | Self::Socket { source } => Some(&**source),
            Self::Transfer { source: Some(source), .. } => Some(&**source),
            Self::Transfer { cause, .. } => Some(cause),
            Self::Address(_) | Self::AlreadyRegistered(_) | Self::Unreported { .. } => None,
        }
    }
}

impl From<AlreadyRegistered> for Error {
    fn from(error: AlreadyRegistered) -> Self {
        Self::AlreadyRegistered(error)
    }
}

impl From<InvalidAddress> for Error {
    fn from(error: InvalidAddress) -> Self {
        Self::Address(error)
    }
}

/// For what is an address already.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// What went wrong, and the error behind it.
pub(crate) fn write_cause(
    f: &mut fmt::Formatter<'_>,
    cause: &Cause,
    source: Option<&(dyn error::Error + Send + Sync + 'static)>,
) -> fmt::Result {
    match source {
        // The cause of the core is what the peer is told: the registration is in use.
        Some(source) if source.is::<ClaimError>() => write!(f, "refused: {source}"),
        Some(source) => write!(f, "{cause}: {source}"),
        None => write!(f, "{cause}"),
    }
}

pub(crate) fn write_peer(f: &mut fmt::Formatter<'_>, peer: Option<SocketAddr>) -> fmt::Result {
    match peer {
        Some(peer) => write!(f, "{peer}: "),
        None => Ok(()),
    }
}
