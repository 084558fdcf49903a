//! The client: connects, and hands over one object.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use dataserver_adapter::{Address, Error};
use dataserver_core::{Config, StartPacket};
use futures_lite::future;

use crate::object::{Receiver, Sender};
use crate::stream::Socket;

/// Where to connect to, and how. Each put and get is a connection of its own.
///
/// ```no_run
/// use std::fs::File;
/// use dataserver_smol::{Client, Key, StartPacket};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("127.0.0.1:8089");
/// let file = File::open("object")?;
/// let packet = StartPacket::put(Key::from_name("start")).with_size(file.metadata()?.len())?;
/// let receipt = client.put(packet).await?.send_file(&file).await?; // the server has committed
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    config: Config,
    connect_timeout: Duration,
}

impl Client {
    /// A client of the server at this address. Of several that a name stands for, the first that
    /// answers is taken.
    ///
    /// ```
    /// let client = dataserver_smol::Client::new(("localhost", 8089));
    /// ```
    pub fn new(address: impl Into<Address>) -> Self {
        let address = address.into();
        Self { address, config: Config::default(), connect_timeout: Duration::from_secs(5) }
    }

    /// Other chunks, limits and timeouts than the default.
    ///
    /// ```
    /// use dataserver_smol::{Client, Config};
    ///
    /// let config = Config { limit: 1 << 20, ..Config::default() }; // gets of at most 1 MiB
    /// let client = Client::new("127.0.0.1:8089").config(config);
    /// ```
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// How long to try each address before giving up. Default 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let client = dataserver_smol::Client::new("127.0.0.1:8089").connect_timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Connects to put an object. The start packet leaves with its first bytes.
    ///
    /// The connection is given up where this future is dropped.
    ///
    /// # Errors
    /// [`Error::Connect`], and [`Error::Direction`] for the start packet of a get.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key, StartPacket};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let receipt = Client::new("127.0.0.1:8089").put(packet).await?.send(b"hello, world").await?;
    /// assert_eq!(receipt.bytes, 12);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&self, packet: StartPacket) -> io::Result<Sender> {
        Sender::open(self.connect().await?, packet, &self.config)
    }

    /// Connects to get an object, and sends the start packet.
    ///
    /// The connection is reset where this future is dropped.
    ///
    /// # Errors
    /// [`Error::Connect`], and [`Error::Direction`] for the start packet of a put.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key, StartPacket};
    /// use futures_lite::AsyncReadExt;
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut object = Client::new("127.0.0.1:8089").get(packet).await?;
    /// let mut text = String::new();
    /// object.read_to_string(&mut text).await?;
    /// object.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, packet: StartPacket) -> io::Result<Receiver> {
        Receiver::open(self.connect().await?, packet, &self.config).await
    }

    async fn connect(&self) -> Result<Socket, Error> {
        let failed = |address, source| Error::Connect { address, source: Arc::new(source) };
        let unknown = |error| failed(self.address.to_string(), error);
        let addresses = match self.address.known() {
            Some(address) => vec![address],
            None => {
                let name = self.address.clone();
                blocking::unblock(move || name.resolve()).await.map_err(unknown)?
            }
        };
        let mut last = None;
        for address in addresses {
            match self.connect_to(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(failed(address.to_string(), error)),
            }
        }
        Err(last.unwrap_or_else(|| unknown(io::ErrorKind::NotFound.into())))
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<Socket> {
        let too_late = async {
            Timer::after(self.connect_timeout).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        future::or(Socket::connect(address), too_late).await
    }
}
