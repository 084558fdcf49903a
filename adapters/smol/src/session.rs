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
/// # Cancel safety
/// If the future of an object is dropped, its connection is aborted, and the next object gets a new one.
///
/// ```
/// use std::time::Duration;
/// use dataserver_smol::{Client, Error, Key, Server};
/// use futures_lite::{AsyncReadExt, future};
///
/// const NOTE: Key = Key::from_name("note");
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_get(NOTE, |object| object.send(b"hello"))?;
/// let mut session = Client::new(server.local_addr())?.session();
/// let shutdown = server.shutdown_handle();
/// let executor = smol::Executor::new();
/// let run = server.run(|connection| executor.spawn(connection).detach());
/// let get = async {
///     for _ in 0..3 {
///         let mut object = session.get(NOTE).await?;
///         let mut note = String::new();
///         object.read_to_string(&mut note).await.unwrap();
///         assert_eq!(object.commit().await?.bytes, 5);
///     }
///     drop(session);
///     shutdown.shutdown(Duration::from_secs(5));
///     Ok(())
/// };
/// smol::block_on(executor.run(future::try_zip(run, get)))?;
/// # Ok::<(), Error>(())
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
    /// use dataserver_smol::{Config, Session, Socket};
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
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let mut session = Client::new("127.0.0.1:8089")?.session();
    /// for line in ["one", "two"] {
    ///     session.put(Key::from_name("line")).await?.send(line).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&mut self, request: impl Into<Request>) -> Result<ObjectWriter, Error> {
        let request = request.into();
        let driver = self.begin(Direction::Put, request).await?;
        let retry = self.client.clone().map(|client| Box::new(Retry { client, request }));
        let mut writer = ObjectWriter::of(driver);
        writer.retry = retry;
        Ok(writer)
    }

    /// Begins to get an object, and waits for the first bytes of it.
    ///
    /// # Errors
    /// Returns [`Error::Connect`] if a new connection is needed and cannot be made, and
    /// [`Error::Transfer`] if it fails.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let mut session = Client::new("127.0.0.1:8089")?.session();
    /// for name in ["one", "two"] {
    ///     session.get(Key::from_name(name)).await?.receive_to(name).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&mut self, request: impl Into<Request>) -> Result<ObjectReader, Error> {
        let request = request.into();
        let driver = self.begin(Direction::Get, request).await?;
        match ObjectReader::answered(driver).await {
            Err(error) if self.client.is_some() && is_closing(&error) => {
                let driver = self.begin(Direction::Get, request).await?;
                ObjectReader::answered(driver).await
            }
            answered => answered,
        }
    }

    async fn begin(
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
            (None, Some(client)) => client.begin(direction, request).await?,
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
    pub(crate) async fn begin(self) -> Result<ObjectWriter, Error> {
        self.client.put(self.request.framed()).await
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
