//! Why a connection failed, beyond what the core knows of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{error, fmt, io};

use dataserver_core::{Connection, LocalError, Step};

use crate::error::Error;

/// What the stream, or the application, said when it failed: the first word counts, as in the core.
///
/// ```
/// use std::io;
/// use dataserver_adapter::Failure;
/// use dataserver_core::{Config, Connection, Error, Instant, PeerError};
///
/// let mut connection = Connection::server(Config::default(), Instant::default());
/// let mut failure = Failure::default();
/// failure.of_stream(&mut connection, io::ErrorKind::ConnectionReset.into());
/// let error = failure.error(&connection, None);
/// assert_eq!(error.cause(), Some(Error::Peer(PeerError::Reset { moved: 0 })));
/// ```
#[derive(Debug, Default)]
pub struct Failure {
    source: Option<Arc<io::Error>>,
}

impl Failure {
    /// The stream failed: that is a reset, or an [`Abort`] which the error holds.
    ///
    /// ```
    /// # use dataserver_adapter::{Abort, Failure};
    /// # use dataserver_core::{Config, Connection, Error, Instant, LocalError};
    /// # let mut connection = Connection::server(Config::default(), Instant::default());
    /// let mut failure = Failure::default();
    /// failure.of_stream(&mut connection, Abort::wrap("the server is stopping", None));
    /// let aborted = LocalError::Aborted { reason: "the server is stopping" };
    /// assert_eq!(failure.error(&connection, None).cause(), Some(Error::Local(aborted)));
    /// ```
    pub fn of_stream(&mut self, connection: &mut Connection, error: io::Error) {
        match error.downcast::<Abort>() {
            Ok(Abort { reason, source }) => self.of_application(connection, reason, source),
            Err(error) => {
                connection.reset();
                self.keep(error);
            }
        }
    }

    /// The application failed, unless the connection had before.
    ///
    /// ```
    /// # use std::io;
    /// # use dataserver_adapter::Failure;
    /// # use dataserver_core::{Config, Connection, Instant};
    /// # let mut connection = Connection::server(Config::default(), Instant::default());
    /// let mut failure = Failure::default();
    /// let full = io::ErrorKind::StorageFull.into();
    /// failure.of_application(&mut connection, "the handler failed", Some(full));
    /// ```
    pub fn of_application(
        &mut self,
        connection: &mut Connection,
        reason: &'static str,
        source: Option<io::Error>,
    ) {
        // If the connection failed first, what the application returns is mostly that very error.
        let failed_before = matches!(connection.step(), Step::Done(Err(_)));
        connection.abort(reason);
        source.filter(|_| !failed_before).into_iter().for_each(|source| self.keep(source));
    }

    /// All that is known of a connection that failed. One that had succeeded before its application
    /// failed counts as failed here.
    ///
    /// ```
    /// # use dataserver_adapter::Failure;
    /// # use dataserver_core::{Config, Connection, Instant};
    /// # let mut connection = Connection::server(Config::default(), Instant::default());
    /// connection.reset();
    /// let error = Failure::default().error(&connection, Some(([127, 0, 0, 1], 8089).into()));
    /// assert!(error.to_string().starts_with("127.0.0.1:8089: "));
    /// ```
    pub fn error(&self, connection: &Connection, peer: Option<SocketAddr>) -> Error {
        let cause = match connection.step() {
            Step::Done(Err(cause)) => cause,
            _ => LocalError::Aborted { reason: "the application failed after the end" }.into(),
        };
        Error::Transfer { peer, packet: connection.packet(), cause, source: self.source.clone() }
    }

    fn keep(&mut self, source: io::Error) {
        self.source.get_or_insert_with(|| Arc::new(source));
    }
}

/// In an [`io::Error`] of a stream: it is not the stream that failed. The connection is aborted for
/// this reason, and not taken for one that the peer has reset.
///
/// ```
/// use std::io;
/// use dataserver_adapter::Abort;
///
/// let full = io::ErrorKind::StorageFull.into();
/// let error = Abort::wrap("the object cannot be written", Some(full));
/// assert_eq!(error.to_string(), "the object cannot be written: no storage space");
/// ```
#[derive(Debug)]
pub struct Abort {
    reason: &'static str,
    source: Option<io::Error>,
}

impl Abort {
    /// An error for this reason, with what the system said of it.
    ///
    /// ```
    /// let error = dataserver_adapter::Abort::wrap("the server is stopping", None);
    /// ```
    pub fn wrap(reason: &'static str, source: Option<io::Error>) -> io::Error {
        io::Error::other(Self { reason, source })
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        self.source.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

impl error::Error for Abort {}
