//! Why a ticket was not issued, shown or revoked.

use std::{error, fmt};

use redis::RedisError;

/// Why a call failed.
///
/// ```
/// use dataserver_redis::Error;
///
/// assert_eq!(Error::AlreadyIssued.to_string(), "there is a ticket for this key and direction already");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is a ticket for this key and direction already.
    AlreadyIssued,
    /// The application's bytes are too long.
    DataTooLong {
        /// How many bytes they are. At most 65,536 are allowed.
        len: usize,
    },
    /// The ticket in Redis is malformed.
    Malformed {
        /// The field that has no such value.
        field: String,
    },
    /// Redis failed a short while ago, or another thread is looking for it. It is not asked for some moments.
    Away,
    /// All connections were in use for the time of the timeout.
    NoConnection,
    /// The error of Redis, of the connection to it, or of a URL.
    Redis(RedisError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyIssued => {
                f.write_str("there is a ticket for this key and direction already")
            }
            Self::DataTooLong { len } => {
                write!(f, "{len} bytes of the application, at most 65536 allowed")
            }
            Self::Malformed { field } => {
                write!(
                    f,
                    "the ticket is malformed: its field `{field}` has no value that is allowed"
                )
            }
            Self::Away => f.write_str("Redis has failed, and is not asked again for some moments"),
            Self::NoConnection => f.write_str("all connections to Redis are in use"),
            Self::Redis(error) => write!(f, "Redis: {error}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Redis(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}
