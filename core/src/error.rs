//! Why a connection failed, and on which side.

use core::fmt;

use crate::start_packet::{Malformed, StartPacket};
use crate::time::Timer;

/// Why a connection failed. The driver closes the transport abortively.
///
/// ```
/// use dataserver_core::{Cause, PeerError};
///
/// let error = Cause::Peer(PeerError::Truncated { received: 5, expected: 9 });
/// assert_eq!(error.to_string(), "the peer ended the object after 5 of 9 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The peer violated the protocol, or closed the connection.
    Peer(PeerError),
    /// The application or the driver of this side failed.
    Local(LocalError),
    /// A timeout ran out.
    TimedOut(Timer),
    /// This side refused the start packet. The peer sees a reset, without the reason.
    Refused(Refusal),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::Local(error) => error.fmt(f),
            Self::TimedOut(timer) => write!(f, "the {timer} timeout ran out"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

impl core::error::Error for Cause {}
impl core::error::Error for PeerError {}
impl core::error::Error for LocalError {}

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
    /// It sent 25 bytes that are not a start packet.
    Malformed(Malformed),
    /// It ended the stream within the start packet.
    TruncatedStartPacket {
        /// How many of the 25 bytes were received.
        received: usize,
    },
    /// It ended the object before the declared size.
    Truncated {
        /// How many bytes were received.
        received: u64,
        /// The declared size.
        expected: u64,
    },
    /// It sent more than it had declared.
    LongerThanDeclared {
        /// The declared size.
        declared: u64,
    },
    /// It sent more than the limit of this side, of an object of unknown size.
    LongerThanAllowed {
        /// The most bytes that this side receives.
        limit: u64,
    },
    /// It is the receiver, and sent bytes.
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
    /// The object is longer than its declared size.
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
    /// The driver called a method that the step does not allow.
    Misuse {
        /// The method that was called.
        verb: &'static str,
        /// The current step.
        step: &'static str,
    },
    /// The application gave the connection up.
    Aborted {
        /// The reason that it gave.
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

/// Why a start packet was refused. This is for the log of this side: the peer sees the same reset in all
/// cases.
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
    /// Nothing is registered for it, or not any more.
    NotRegistered,
    /// Another connection has a lease of the entry.
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
        impl From<$error> for Cause {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

into_error!(Peer(PeerError), Local(LocalError), TimedOut(Timer), Refused(Refusal));
