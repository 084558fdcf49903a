//! How a connection can fail, by whose fault it was.

use core::fmt;

use crate::start_packet::StartPacket;
use crate::time::Timer;

/// Why a connection failed. Where it did, the driver resets the stream.
///
/// ```
/// use dataserver_core::{Error, PeerError};
///
/// let error = Error::Peer(PeerError::Truncated { received: 5, expected: 9 });
/// assert_eq!(error.to_string(), "the peer ended the object after 5 of 9 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The peer did what the protocol does not allow, or went away.
    Peer(PeerError),
    /// This side did: its application, or its driver.
    Local(LocalError),
    /// This timer ran out.
    TimedOut(Timer),
    /// This side refused the start packet. What the peer sees of it is a reset, whatever the reason.
    Refused(Refusal),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::Local(error) => error.fmt(f),
            Self::TimedOut(timer) => write!(f, "the {timer} timeout ran out"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

impl core::error::Error for Error {}

/// What the peer did wrong. Sizes are in bytes.
///
/// ```
/// use dataserver_core::{Malformed, PeerError};
///
/// let error = PeerError::Malformed(Malformed::Type(7));
/// assert_eq!(error.to_string(), "malformed start packet: type 7, expected 0 (put) or 1 (get)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerError {
    /// Its 25 bytes are not a start packet.
    Malformed(Malformed),
    /// It ended the stream within the start packet.
    TruncatedStartPacket {
        /// How many of the 25 bytes had come.
        received: usize,
    },
    /// It ended the object before the declared size.
    Truncated {
        /// How many bytes had come.
        received: u64,
        /// How many it had declared.
        expected: u64,
    },
    /// It sent more than it had declared.
    LongerThanDeclared {
        /// The declared size.
        declared: u64,
    },
    /// It sent more, of an object of unknown size, than this side takes.
    LongerThanAllowed {
        /// The most that this side takes.
        limit: u64,
    },
    /// It is the receiver, and sent something.
    NotSilent,
    /// It is the receiver, and ended the stream before it had the object.
    ClosedEarly {
        /// How many bytes of the object had been sent.
        moved: u64,
    },
    /// The connection was reset, or the transport failed.
    Reset {
        /// How many bytes of the object had moved.
        moved: u64,
    },
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "malformed start packet: {malformed}"),
            Self::TruncatedStartPacket { received } => {
                let expected = StartPacket::LEN;
                write!(f, "the peer ended the start packet after {received} of {expected} bytes")
            }
            Self::Truncated { received, expected } => {
                write!(f, "the peer ended the object after {received} of {expected} bytes")
            }
            Self::LongerThanDeclared { declared } => {
                write!(f, "the peer declared {declared} bytes and sent more")
            }
            Self::LongerThanAllowed { limit } => {
                write!(f, "the peer sent more than the {limit} bytes that are allowed")
            }
            Self::NotSilent => f.write_str("the peer sent bytes where it only receives"),
            Self::ClosedEarly { moved } => {
                write!(f, "the peer closed when {moved} bytes of the object had been sent")
            }
            Self::Reset { moved } => {
                write!(f, "the peer reset the connection when {moved} bytes had moved")
            }
        }
    }
}

/// What is wrong with 25 bytes that are no start packet.
///
/// ```
/// use dataserver_core::{Malformed, StartPacket};
///
/// let error = StartPacket::parse([2; 25]).unwrap_err();
/// assert_eq!(error.to_string(), "type 2, expected 0 (put) or 1 (get)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The type byte is neither 0 nor 1.
    Type(u8),
    /// The object size is below -1.
    Size(i64),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(value) => write!(f, "type {value}, expected 0 (put) or 1 (get)"),
            Self::Size(value) => write!(f, "object size {value}, expected -1 (unknown) or more"),
        }
    }
}

impl core::error::Error for Malformed {}

/// A size that the start packet cannot hold: above 2^63 - 1 bytes.
///
/// ```
/// use dataserver_core::{ObjectSize, SizeOutOfRange};
///
/// assert_eq!(ObjectSize::new(u64::MAX), Err(SizeOutOfRange(u64::MAX)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SizeOutOfRange(pub u64);

impl fmt::Display for SizeOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object size {}, expected at most {}", self.0, i64::MAX)
    }
}

impl core::error::Error for SizeOutOfRange {}

/// What this side did wrong. Sizes are in bytes.
///
/// ```
/// use dataserver_core::LocalError;
///
/// let error = LocalError::Aborted { reason: "the disk is full" };
/// assert_eq!(error.to_string(), "aborted: the disk is full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalError {
    /// The object ended before its declared size.
    ShorterThanDeclared {
        /// How many bytes were sent.
        sent: u64,
        /// How many were declared.
        declared: u64,
    },
    /// The object goes on behind its declared size.
    LongerThanDeclared {
        /// The declared size.
        declared: u64,
    },
    /// The driver reported more bytes than the step allowed.
    Overrun {
        /// What it reported.
        reported: usize,
        /// What the step allowed.
        max: usize,
    },
    /// The driver reported what the step did not ask for.
    Misuse {
        /// The method that was called.
        verb: &'static str,
        /// The step that was due.
        step: &'static str,
    },
    /// The application gave up.
    Aborted {
        /// What it gave as its reason.
        reason: &'static str,
    },
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShorterThanDeclared { sent, declared } => {
                write!(f, "the object ended after {sent} of the {declared} bytes declared for it")
            }
            Self::LongerThanDeclared { declared } => {
                write!(f, "the object is longer than the {declared} bytes declared for it")
            }
            Self::Overrun { reported, max } => {
                write!(f, "the driver moved {reported} bytes where at most {max} were allowed")
            }
            Self::Misuse { verb, step } => {
                write!(f, "the driver called `{verb}` where `{step}` was due")
            }
            Self::Aborted { reason } => write!(f, "aborted: {reason}"),
        }
    }
}

/// Why a start packet was refused. For the log of this side only: the peer sees the same reset.
///
/// ```
/// use dataserver_core::Refusal;
///
/// let refusal = Refusal::TooLarge { declared: 9, limit: 5 };
/// assert_eq!(refusal.to_string(), "9 bytes declared, at most 5 allowed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is registered for it: never was, or not any more.
    NotRegistered,
    /// Another connection holds what is registered for it.
    InUse,
    /// It declares more bytes than are allowed.
    TooLarge {
        /// The declared size.
        declared: u64,
        /// The most that is allowed.
        limit: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegistered => f.write_str("nothing is registered for this start packet"),
            Self::InUse => f.write_str("another connection is using this registration"),
            Self::TooLarge { declared, limit } => {
                write!(f, "{declared} bytes declared, at most {limit} allowed")
            }
        }
    }
}

impl core::error::Error for Refusal {}

macro_rules! into_error {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

into_error!(Peer(PeerError), Local(LocalError), TimedOut(Timer), Refused(Refusal));
