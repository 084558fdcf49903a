//! How a transfer ended, with all that a log needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{error, fmt, io};

use dataserver_core::{
    AlreadyRegistered, Direction, Entry, Error as Cause, PeerError, StartPacket,
};

/// The object has crossed, the receiver has made it last, and both sides know.
///
/// ```
/// use dataserver_adapter::Receipt;
/// use dataserver_core::{Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let receipt = Receipt { peer: Some(([127, 0, 0, 1], 8089).into()), packet, bytes: 5 };
/// assert_eq!(
///     receipt.to_string(),
///     "127.0.0.1:8089: put of unknown size, key ea2b2676c28c0db26d39331a336c6b92: 5 bytes",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The other end, where it has an address.
    pub peer: Option<SocketAddr>,
    /// What the connection was for.
    pub packet: StartPacket,
    /// The size of the object in bytes.
    pub bytes: u64,
}

/// One line for a log: the peer, the start packet, and the size of the object.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_peer(f, self.peer)?;
        write!(f, "{}: {} bytes", self.packet, self.bytes)
    }
}

fn write_peer(f: &mut fmt::Formatter<'_>, peer: Option<SocketAddr>) -> fmt::Result {
    match peer {
        Some(peer) => write!(f, "{peer}: "),
        None => f.write_str("the peer: "),
    }
}

/// Why there is no receipt, or no registration.
///
/// Its text is one line that names the peer, the start packet, what was expected and what came.
/// Where a method returns [`io::Error`], this is inside; [`Error::of`] finds it.
///
/// ```
/// use dataserver_adapter::Error;
/// use dataserver_core::{Error as Cause, Key, StartPacket, Timer};
///
/// let error = Error::Transfer {
///     peer: Some(([127, 0, 0, 1], 8089).into()),
///     packet: Some(StartPacket::put(Key::from_name("start")).with_size(5)?),
///     cause: Cause::TimedOut(Timer::Idle),
///     source: None,
/// };
/// assert_eq!(
///     error.to_string(),
///     "127.0.0.1:8089: put of 5 bytes, key ea2b2676c28c0db26d39331a336c6b92: \
///      the idle timeout ran out",
/// );
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No connection was made.
    Connect {
        /// Where to: the last address that was tried, or the name that has none.
        address: String,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The server could not take a connection; it tries again.
    Accept {
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The listener has failed, for good.
    Listen {
        /// Why.
        source: Arc<io::Error>,
    },
    /// Connections ended that were not reported one by one, because the application did not take the
    /// reports as fast as they came.
    Unreported {
        /// How many.
        connections: u64,
    },
    /// The connection was made, and reset.
    Transfer {
        /// The other end, where it has an address.
        peer: Option<SocketAddr>,
        /// What the connection was for, where that is known.
        packet: Option<StartPacket>,
        /// What went wrong, and by whose fault.
        cause: Cause,
        /// What the system, or the application, said of it.
        source: Option<Arc<io::Error>>,
    },
    /// A put was given where a get is needed, or the other way round.
    Direction {
        /// What was given.
        entry: Entry,
        /// What is needed.
        expected: Direction,
    },
    /// The same start packets have an entry already.
    AlreadyRegistered(AlreadyRegistered),
}

impl Error {
    /// The error of this crate that an [`io::Error`] holds.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_adapter::Error;
    ///
    /// assert!(Error::of(&io::ErrorKind::NotFound.into()).is_none());
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Checks that a start packet is for this direction.
    ///
    /// # Errors
    /// [`Error::Direction`] where it is not.
    ///
    /// ```
    /// use dataserver_adapter::Error;
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert!(Error::check_direction(packet, Direction::Put).is_ok());
    /// assert!(Error::check_direction(packet, Direction::Get).is_err());
    /// ```
    pub fn check_direction(entry: impl Into<Entry>, expected: Direction) -> Result<Entry, Self> {
        let entry = entry.into();
        if entry.direction() != expected {
            return Err(Self::Direction { entry, expected });
        }
        Ok(entry)
    }

    /// What the core says of a connection that failed; `None` where there was no connection.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_adapter::Error;
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

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Connect { source, .. } | Self::Accept { source } | Self::Listen { source } => {
                source.kind()
            }
            Self::Unreported { .. } => io::ErrorKind::Other,
            Self::Direction { .. } => io::ErrorKind::InvalidInput,
            Self::AlreadyRegistered(_) => io::ErrorKind::AlreadyExists,
            Self::Transfer { cause, source, .. } => match cause {
                Cause::TimedOut(_) => io::ErrorKind::TimedOut,
                Cause::Refused(_) => io::ErrorKind::PermissionDenied,
                Cause::Peer(PeerError::Reset { .. }) => match source {
                    // TLS: the end of the stream was not authenticated.
                    Some(source) if source.kind() == io::ErrorKind::UnexpectedEof => source.kind(),
                    _ => io::ErrorKind::ConnectionReset,
                },
                Cause::Peer(PeerError::ClosedEarly { .. }) => io::ErrorKind::ConnectionAborted,
                Cause::Peer(
                    PeerError::Truncated { .. } | PeerError::TruncatedStartPacket { .. },
                ) => io::ErrorKind::UnexpectedEof,
                Cause::Peer(_) => io::ErrorKind::InvalidData,
                _ => source.as_ref().map_or(io::ErrorKind::Other, |source| source.kind()),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::Accept { source } => write!(f, "cannot take a connection for now: {source}"),
            Self::Listen { source } => write!(f, "the listener failed: {source}"),
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
                write!(f, "{cause}")?;
                source.iter().try_for_each(|source| write!(f, ": {source}"))
            }
            Self::Direction { entry, expected } => write!(f, "expected a {expected}, got {entry}"),
            Self::AlreadyRegistered(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {}

impl From<AlreadyRegistered> for Error {
    fn from(error: AlreadyRegistered) -> Self {
        Self::AlreadyRegistered(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
