//! Errors of the tool, and its exit statuses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use dataserver_std::{AbortReason, Cause, Error, LocalError, PeerError, Timer};

/// A message of one line, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// Whether another try can help.
    pub(crate) is_transient: bool,
    pub(crate) peer: Option<SocketAddr>,
    message: String,
}

/// As documented in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Success = 0,
    Usage = 2,
    Connect = 3,
    Peer = 4,
    Size = 5,
    TimedOut = 6,
    File = 7,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl fmt::Display) -> Self {
        Self { status, is_transient: false, peer: None, message: message.to_string() }
    }

    /// A local file or standard stream failed.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(Status::File, format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, is_transient) = match &error {
            Error::Connect { .. } => (Status::Connect, true),
            Error::Listen { .. } => (Status::Connect, false),
            Error::Address(_) | Error::AlreadyRegistered(_) => (Status::Usage, false),
            Error::Transfer { cause, .. } => (status(*cause), is_transient(*cause)),
            _ => (Status::Peer, false),
        };
        let peer = match &error {
            Error::Transfer { peer, .. } => *peer,
            _ => None,
        };
        let message = match error.cause().and_then(advice) {
            Some(advice) => format!("{error} ({advice})"),
            None => error.to_string(),
        };
        Self { status, is_transient, peer, message }
    }
}

fn status(cause: Cause) -> Status {
    match cause {
        Cause::Peer(
            PeerError::Truncated { .. }
            | PeerError::Unfinished { .. }
            | PeerError::Aborted(AbortReason::TooLarge { .. })
            | PeerError::LongerThanDeclared { .. }
            | PeerError::LongerThanAllowed { .. }
            | PeerError::DigestMismatch
            | PeerError::Aborted(AbortReason::Mismatch),
        )
        | Cause::Local(
            LocalError::ShorterThanDeclared { .. } | LocalError::LongerThanDeclared { .. },
        ) => Status::Size,
        Cause::Local(LocalError::Aborted { .. }) => Status::File,
        Cause::TimedOut(_) | Cause::Peer(PeerError::Aborted(AbortReason::TimedOut)) => {
            Status::TimedOut
        }
        _ => Status::Peer,
    }
}

fn is_transient(cause: Cause) -> bool {
    match cause {
        Cause::TimedOut(_) => true,
        Cause::Peer(error) => matches!(
            error,
            PeerError::Truncated { .. }
                | PeerError::Unfinished { .. }
                | PeerError::ClosedEarly { .. }
                | PeerError::NoReceipt { .. }
                | PeerError::Reset { .. }
                | PeerError::DigestMismatch
                | PeerError::Aborted(
                    AbortReason::Busy
                        | AbortReason::Closing
                        | AbortReason::Mismatch
                        | AbortReason::TimedOut
                )
        ),
        _ => false,
    }
}

/// What can be done about it, where that is known.
fn advice(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::TimedOut(Timer::Idle) => "--timeout sets how long the peer may pause",
        Cause::TimedOut(Timer::Receipt) => {
            "--receipt-timeout sets how long the peer may take to store the object"
        }
        Cause::Peer(PeerError::Aborted(AbortReason::TimedOut)) => {
            "its own timeout ran out: if it is this tool, --timeout there sets how long this side may pause"
        }
        Cause::Peer(PeerError::Aborted(AbortReason::Refused)) => {
            "the name or the ticket is wrong, or it has been used or has expired"
        }
        Cause::Peer(PeerError::Reset { .. }) => {
            "it refused, failed, waited longer than its own timeout, or is gone"
        }
        _ => return None,
    })
}

/// An error of this kind that is not the adapter's is that of a file.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match Error::of(&error) {
            Some(error) => error.clone().into(),
            None => Self::new(Status::File, error),
        }
    }
}
