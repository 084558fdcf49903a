//! The client: connects, and transfers one object over each connection.

#[cfg(feature = "rustls")]
use std::sync::Arc;
use std::time::Duration;

use dataserver_common::{Address, Error, Lent, Request, tcp};
use dataserver_core::{Config, Direction};

use crate::connect::connect;
use crate::driver::Driver;
use crate::object::{ObjectReader, ObjectWriter};
use crate::session::Session;
use crate::socket::Socket;
#[cfg(feature = "rustls")]
use crate::tls::TlsStream;

/// The address of a server, and how to connect. Each put and get is a connection of its own.
///
/// ```no_run
/// use dataserver_smol::{Client, Key};
///
/// const REPORT: Key = Key::from_name("report");
///
/// # async fn example() -> Result<(), dataserver_smol::Error> {
/// let client = Client::new("127.0.0.1:8089")?;
/// client.put(REPORT).await?.send_path("report.csv").await?; // the server has committed it
/// client.get(REPORT).await?.receive_to("copy.csv").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    config: Config,
    connect_timeout: Duration,
    #[cfg(feature = "rustls")]
    tls: Option<Tls>,
}

/// How to make TLS of a connection.
#[cfg(feature = "rustls")]
#[derive(Clone, Debug)]
struct Tls {
    config: Arc<rustls::ClientConfig>,
    name: rustls::pki_types::ServerName<'static>,
}

impl Client {
    /// A client of the server at this address: `host:port`, `(host, port)`, or a socket address.
    ///
    /// If a name has several addresses, the first one that answers is used. IPv6 and IPv4 alternate, and
    /// the next attempt begins when the one before it has failed or is 250 ms old (RFC 8305).
    ///
    /// # Errors
    /// Returns [`Error::Address`] if the text is not an address, or has no host.
    ///
    /// ```
    /// use dataserver_smol::Client;
    ///
    /// let client = Client::new(("localhost", 8089))?;
    /// assert!(Client::new("localhost").is_err());
    /// assert!(Client::new(":8089").is_err());
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn new<A>(address: A) -> Result<Self, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address = address.try_into()?.of_server()?;
        Ok(Self {
            address,
            config: Config::default(),
            connect_timeout: Duration::from_secs(5),
            #[cfg(feature = "rustls")]
            tls: None,
        })
    }

    /// Sets the chunk, the size limit and the timeouts.
    ///
    /// ```
    /// use dataserver_smol::{Client, Config};
    ///
    /// let config = Config::default().max_object_size(1 << 20); // gets of at most 1 MiB
    /// let client = Client::new("127.0.0.1:8089")?.config(config);
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Sets how long to try each address of the server. Default 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dataserver_smol::Client;
    ///
    /// let client = Client::new("127.0.0.1:8089")?.connect_timeout(Duration::from_secs(1));
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Uses TLS, for which the server must have a certificate with this name. Its handshake may take as long
    /// as an attempt to connect. Requests are [framed](Request::framed), unless they are [`Request::bare`].
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example(tls: Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("example.org:8089")?.tls(tls, "example.org".try_into()?);
    /// client.put(Key::from_name("report")).await?.send_path("report.csv").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn tls(
        self,
        config: impl Into<Arc<rustls::ClientConfig>>,
        name: rustls::pki_types::ServerName<'static>,
    ) -> Self {
        Self { tls: Some(Tls { config: config.into(), name }), ..self }
    }

    /// Connects to put an object. The start packet leaves with the first bytes of the object. The server
    /// allows 5 s for that by default, so prepare the object first.
    ///
    /// # Cancel safety
    /// If this future is dropped, the attempt to connect is given up.
    ///
    /// # Errors
    /// Returns [`Error::Connect`] if no connection can be made.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let client = Client::new("127.0.0.1:8089")?;
    /// let receipt = client.put(Key::from_name("greeting")).await?.send(b"hello, world").await?;
    /// assert_eq!(receipt.bytes, 12);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&self, request: impl Into<Request>) -> Result<ObjectWriter, Error> {
        let driver = self.begin(Direction::Put, request.into()).await?;
        Ok(ObjectWriter::of(Lent::owned(driver)))
    }

    /// Connects to get an object, and sends the start packet.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns [`Error::Connect`] if no connection can be made, and [`Error::Transfer`] if it fails.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let client = Client::new("127.0.0.1:8089")?;
    /// client.get(Key::from_name("report")).await?.receive_to("report.csv").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, request: impl Into<Request>) -> Result<ObjectReader, Error> {
        let driver = self.begin(Direction::Get, request.into()).await?;
        ObjectReader::start(Lent::owned(driver)).await
    }

    /// Puts and gets objects one after the other over one connection, in the framed format.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let mut session = Client::new("127.0.0.1:8089")?.session();
    /// session.put(Key::from_name("line")).await?.send("one").await?;
    /// session.put(Key::from_name("line")).await?.send("two").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn session(&self) -> Session {
        Session::of_client(self, &self.config)
    }

    /// Connects for an object.
    pub(crate) async fn begin(
        &self,
        direction: Direction,
        request: Request,
    ) -> Result<Box<Driver>, Error> {
        let socket = self.connect().await?;
        #[cfg(feature = "rustls")]
        if let Some(Tls { config, name }) = self.tls.clone() {
            let request = request.framed_by_default();
            let stream = TlsStream::client(socket, config, name, self.connect_timeout)
                .await
                .map_err(|error| Error::connect(&self.address, error))?;
            return Ok(Driver::client(stream, direction, request, &self.config));
        }
        Ok(Driver::client(socket, direction, request, &self.config))
    }

    async fn connect(&self) -> Result<Socket, Error> {
        let socket = self.connect_to_any().await?;
        tcp::keep_alive_without_idle_timeout(&socket, &self.config.timeouts)
            .map_err(Error::socket)?;
        Ok(socket)
    }

    async fn connect_to_any(&self) -> Result<Socket, Error> {
        let addresses = match self.address.socket_addr() {
            Some(address) => vec![address],
            None => {
                let name = self.address.clone();
                let unknown = |error| Error::connect(&self.address, error);
                blocking::unblock(move || name.resolve()).await.map_err(unknown)?
            }
        };
        connect(&self.address, addresses, self.connect_timeout).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use futures_lite::future;
    use rustix::net::sockopt::socket_keepalive;

    use super::*;

    #[test]
    fn a_connection_without_an_idle_timeout_has_tcp_keep_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap()).unwrap();
        let connect = |client: &Client| future::block_on(client.connect()).unwrap();
        assert!(!socket_keepalive(connect(&client)).unwrap());
        let timeouts = client.config.timeouts.idle(None);
        let client = client.config(Config::default().timeouts(timeouts));
        assert!(socket_keepalive(connect(&client)).unwrap());
    }
}
