//! Why the tool failed, and what it exits with.

use std::fmt::Display;
use std::io;

use dataserver_std::Error;
use dataserver_std::core::{Error as Cause, LocalError, PeerError, SizeOutOfRange};

/// One line to say, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

/// As `help.txt` documents them.
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
    pub(crate) fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Connect { .. } => Status::Connect,
            Error::AlreadyRegistered(_) => Status::Usage,
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
                | PeerError::LongerThanDeclared { .. }
                | PeerError::LongerThanAllowed { .. },
            )
            | Cause::Local(
                LocalError::ShorterThanDeclared { .. } | LocalError::LongerThanDeclared { .. },
            ) => Self::Size,
            Cause::Local(LocalError::Aborted { .. }) => Self::File,
            Cause::TimedOut(_) => Self::TimedOut,
            _ => Self::Reset,
        }
    }
}

/// An error that is not the adapter's is a file's.
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

impl From<SizeOutOfRange> for Failure {
    fn from(error: SizeOutOfRange) -> Self {
        Self::new(Status::Usage, error)
    }
}
