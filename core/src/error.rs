//! Why a connection failed, and on which side.

use core::fmt;

use crate::frame::{AbortReason, Frame, MalformedFrame};
use crate::start_packet::{Malformed, StartPacket};
use crate::time::Timer;

/// Why a connection failed. At the end the driver closes the transport abortively.
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
    /// This side refused the start packet. The peer of a bare connection sees a reset, without the reason.
    Refused(Refusal),
}

impl Cause {
    /// What an ABORT tells the peer about it.
    pub(crate) const fn abort_reason(&self) -> AbortReason {
        match *self {
            Self::Peer(PeerError::LongerThanAllowed { limit })
            | Self::Refused(Refusal::TooLarge { limit, .. }) => AbortReason::TooLarge { limit },
            Self::Peer(PeerError::DigestMismatch | PeerError::OffsetBeyondSize { .. }) => {
                AbortReason::Mismatch
            }
            Self::Peer(_) | Self::Refused(Refusal::Unsupported) => AbortReason::Malformed,
            Self::Local(LocalError::Aborted { code, .. }) => AbortReason::Failed { code },
            Self::Local(_) => AbortReason::Failed { code: 0 },
            Self::TimedOut(_) => AbortReason::TimedOut,
            Self::Refused(Refusal::InUse) => AbortReason::Busy,
            Self::Refused(_) => AbortReason::Refused,
        }
    }

    /// Whether it is the loss of the transport, for which the peer may have given a reason.
    pub(crate) const fn is_loss(&self) -> bool {
        matches!(self, Self::Peer(PeerError::Reset { .. } | PeerError::ClosedEarly { .. }))
    }
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
/// assert_eq!(
///     error.to_string(),
///     "malformed start packet: type 7, expected 0 (put) or 1 (get), alone or plus 128 (framed), 160 (with a digest) or 224 (resumable)",
/// );
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
    /// It sent a start packet of the bare format behind a framed object.
    BareInSession,
    /// It ended the object, or the stream, before the declared size.
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
    /// Framed: it ended the stream before the object, whose size is unknown.
    Unfinished {
        /// How many bytes were received.
        received: u64,
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
    /// Framed: it sent 12 bytes that are not a frame.
    MalformedFrame(MalformedFrame),
    /// Framed: it sent a frame that is not due, or that is for the other side to send.
    UnexpectedFrame(Frame),
    /// Framed: it is the receiver, has the whole object, and ended the stream without a receipt. It may have
    /// committed the object.
    NoReceipt {
        /// The size of the object in bytes.
        sent: u64,
    },
    /// Framed: its receipt is for another size.
    WrongReceipt {
        /// The size in the receipt, in bytes.
        size: u64,
        /// The size of the object in bytes.
        sent: u64,
    },
    /// Framed: its digest is not that of the object that was received, a resumed part included.
    DigestMismatch,
    /// Framed: it is the receiver, and says that it has more bytes than the object.
    OffsetBeyondSize {
        /// How many bytes it says it has.
        offset: u64,
        /// The size of the object in bytes.
        size: u64,
    },
    /// Framed: it has given up, and says why. If it is the receiver, it has not committed the object.
    Aborted(AbortReason),
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
            Self::BareInSession => {
                f.write_str("the peer sent a bare start packet behind a framed object")
            }
            Self::Unfinished { received } => write!(
                f,
                "the peer closed the connection after {received} bytes, before the end of the object"
            ),
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
            Self::MalformedFrame(malformed) => write!(f, "malformed frame: {malformed}"),
            Self::UnexpectedFrame(frame) => {
                write!(f, "unexpected frame: {frame}, which is not due from the peer")
            }
            Self::NoReceipt { sent } => {
                write!(f, "the peer closed the connection without a receipt for the {sent} bytes")
            }
            Self::WrongReceipt { size, sent } => {
                write!(f, "the peer sent a receipt for {size} bytes, expected {sent}")
            }
            Self::DigestMismatch => {
                f.write_str("the digest of the peer is not that of the bytes that were received")
            }
            Self::OffsetBeyondSize { offset, size } => {
                write!(f, "the peer has {offset} bytes of an object of {size} bytes")
            }
            Self::Aborted(reason) => write!(f, "the peer gave up: {reason}"),
        }
    }
}

/// What this side did wrong. Sizes are in bytes.
///
/// ```
/// use dataserver_core::LocalError;
///
/// let error = LocalError::Aborted { reason: "the disk is full", code: 0 };
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
    /// The receiver has more bytes than were declared, or than it may receive.
    OffsetBeyondSize {
        /// How many bytes it has.
        offset: u64,
        /// The declared size, or the limit.
        size: u64,
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
        /// The code for the peer, or 0.
        code: u64,
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
            Self::OffsetBeyondSize { offset, size } => {
                write!(f, "{offset} bytes are there of an object of at most {size} bytes")
            }
            Self::Overrun { reported, max } => {
                write!(f, "the driver moved {reported} bytes where at most {max} were allowed")
            }
            Self::Misuse { verb, step } => {
                write!(f, "the driver called `{verb}` where `{step}` was due")
            }
            Self::Aborted { reason, code: 0 } => write!(f, "aborted: {reason}"),
            Self::Aborted { reason, code } => write!(f, "aborted: {reason} (code {code})"),
        }
    }
}

/// Why a start packet was refused. This is for the log of this side. The peer of a bare connection sees the
/// same reset in all cases, and that of a framed one an [`AbortReason`].
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
    /// The entry is for the framed format only.
    NotFramed,
    /// The entry is for objects with a digest only.
    WithoutDigest,
    /// It asks for a digest or for resume, which this side does not have.
    Unsupported,
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
            Self::NotFramed => f.write_str("this registration is for the framed format only"),
            Self::WithoutDigest => {
                f.write_str("this registration is for objects with a digest only")
            }
            Self::Unsupported => {
                f.write_str("this side does not have the features that it asks for")
            }
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
