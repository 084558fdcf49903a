//! Errors of the tool, and its exit statuses.

use std::fmt;
use std::io;

use dataserver_std::{AbortReason, Cause, Error, LocalError, PeerError};

/// A message of one line, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    message: String,
}

/// As documented in `help.txt`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Status {
    Usage = 2,
    Connect = 3,
    Reset = 4,
    Size = 5,
    TimedOut = 6,
    File = 7,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl fmt::Display) -> Self {
        Self { status, message: message.to_string() }
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
        let status = match &error {
            Error::Connect { .. } => Status::Connect,
            Error::Address(_) | Error::AlreadyRegistered(_) => Status::Usage,
            Error::Transfer { cause, .. } => Status::from(*cause),
            _ => Status::Reset,
        };
        Self::new(status, error)
    }
}

impl From<Cause> for Status {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Peer(
                PeerError::Truncated { .. }
                | PeerError::Unfinished { .. }
                | PeerError::Aborted(AbortReason::TooLarge { .. })
                | PeerError::LongerThanDeclared { .. }
                | PeerError::LongerThanAllowed { .. },
            )
            | Cause::Local(
                LocalError::ShorterThanDeclared { .. } | LocalError::LongerThanDeclared { .. },
            ) => Self::Size,
            Cause::Local(LocalError::Aborted { .. }) => Self::File,
            Cause::TimedOut(_) | Cause::Peer(PeerError::Aborted(AbortReason::TimedOut)) => {
                Self::TimedOut
            }
            _ => Self::Reset,
        }
    }
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

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::new(Status::Usage, format!("{error}; see --help"))
    }
}
