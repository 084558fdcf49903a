//! The client's side of a session: objects one after the other over one connection.

use std::fmt;
use std::io;

use dataserver_common::{Error, Home, Lent, Request, now};
use dataserver_core::{AbortReason, Config, Direction};

use crate::client::Client;
use crate::driver::Driver;
use crate::object::{ObjectReader, ObjectWriter};
use crate::transport::Transport;

/// Puts and gets objects one after the other over one connection, in the framed format.
///
/// The connection is made for the first object. A new one is made where the last one cannot be used: an
/// object has failed or is still being transferred, or the server has ended the session, which it does
/// after a few seconds without an object (its [`keep_alive`](crate::Timeouts::keep_alive) timeout).
///
/// A server may end the session at the same moment as the next object begins. It has then looked up nothing
/// ([`AbortReason::Closing`](crate::AbortReason::Closing)), and another try is safe. A get, and a put with
/// [`send`](ObjectWriter::send), try once more by themselves, over a new connection. Other puts fail with
/// that reason.
///
/// ```
/// use std::io::Read;
/// use dataserver_std::{Client, Key, Server};
///
/// const NOTE: Key = Key::from_name("note");
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_get(NOTE, |object| object.send(b"hello"))?;
/// let client = Client::new(server.local_addr())?;
/// let shutdown = server.shutdown_handle();
/// let running = std::thread::spawn(move || server.run());
///
/// let mut session = client.session();
/// for _ in 0..3 {
///     let mut object = session.get(NOTE)?;
///     let mut note = String::new();
///     object.read_to_string(&mut note)?;
///     assert_eq!(object.commit()?.bytes, 5);
/// }
/// drop(session);
/// # shutdown.shutdown(std::time::Duration::from_secs(5));
/// # running.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Session {
    /// Makes the connections, if it can make any.
    client: Option<Client>,
    config: Config,
    connection: Connection,
}

/// The connection of the last object.
enum Connection {
    None,
    /// No object has used it.
    Fresh(Box<Driver>),
    /// It comes back when its object is done.
    Used(Home<Box<Driver>>),
}

impl Session {
    pub(crate) fn of_client(client: &Client, config: &Config) -> Self {
        let client = Some(client.clone());
        Self { client, config: *config, connection: Connection::None }
    }

    /// A session over a transport that is connected already. When it cannot be used any more, the next
    /// object fails with [`Error::Socket`].
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Session, Socket};
    ///
    /// let (ours, _theirs) = UnixStream::pair()?;
    /// let session = Session::over(Socket::from_unix(ours)?, &Config::default());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn over(transport: impl Transport + Send + 'static, config: &Config) -> Self {
        let driver = Driver::server(transport, config, now()); // until the first object is known
        Self { client: None, config: *config, connection: Connection::Fresh(driver) }
    }

    /// Begins to put an object.
    ///
    /// # Errors
    /// Returns [`Error::Connect`] if a new connection is needed and cannot be made.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key};
    ///
    /// let mut session = Client::new("127.0.0.1:8089")?.session();
    /// for line in ["one", "two"] {
    ///     session.put(Key::from_name("line"))?.send(line.as_bytes())?;
    /// }
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn put(&mut self, request: impl Into<Request>) -> Result<ObjectWriter, Error> {
        let request = request.into();
        let driver = self.begin(Direction::Put, request)?;
        let retry = self.client.clone().map(|client| Box::new(Retry { client, request }));
        Ok(ObjectWriter { driver, retry })
    }

    /// Begins to get an object, and waits for the first bytes of it.
    ///
    /// # Errors
    /// Returns [`Error::Connect`] if a new connection is needed and cannot be made, and
    /// [`Error::Transfer`] if it fails.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key};
    ///
    /// let mut session = Client::new("127.0.0.1:8089")?.session();
    /// for name in ["one", "two"] {
    ///     session.get(Key::from_name(name))?.receive_to(name)?;
    /// }
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn get(&mut self, request: impl Into<Request>) -> Result<ObjectReader, Error> {
        let request = request.into();
        let driver = self.begin(Direction::Get, request)?;
        match ObjectReader::answered(driver) {
            Err(error) if self.client.is_some() && is_closing(&error) => {
                let driver = self.begin(Direction::Get, request)?;
                ObjectReader::answered(driver)
            }
            answered => answered,
        }
    }

    fn begin(
        &mut self,
        direction: Direction,
        request: Request,
    ) -> Result<Lent<Box<Driver>>, Error> {
        let request = request.framed();
        let earlier = match std::mem::replace(&mut self.connection, Connection::None) {
            Connection::None => None,
            Connection::Fresh(mut driver) => {
                driver.first_client(direction, request, &self.config);
                Some(driver)
            }
            Connection::Used(home) => home.take().and_then(|mut driver| {
                driver.next_client(direction, request, &self.config).then_some(driver)
            }),
        };
        let driver = match (earlier, &self.client) {
            (Some(driver), _) => driver,
            (None, Some(client)) => client.begin(direction, request)?,
            (None, None) => return Err(Error::socket(io::ErrorKind::NotConnected.into())),
        };
        let (driver, home) =
            Lent::while_wanted(driver, |driver| driver.exchange.has_ended_session());
        self.connection = Connection::Used(home);
        Ok(driver)
    }
}

/// Another try of a put, over a connection of its own.
pub(crate) struct Retry {
    client: Client,
    request: Request,
}

impl Retry {
    pub(crate) fn begin(self) -> Result<ObjectWriter, Error> {
        self.client.put(self.request.framed())
    }
}

/// Whether the server has ended the session without having looked up the start packet.
pub(crate) fn is_closing(error: &Error) -> bool {
    error.abort_reason() == Some(AbortReason::Closing)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("client", &self.client).finish_non_exhaustive()
    }
}
