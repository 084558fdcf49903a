//! The client: connects, and hands over one object.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dataserver_adapter::{Address, Error};
use dataserver_core::{Config, StartPacket};

use crate::object::{Receiver, Sender};
use crate::stream::Socket;

/// Where to connect to, and how. Each put and get is a connection of its own.
///
/// ```no_run
/// use std::fs::File;
/// use dataserver_std::{Client, Key, StartPacket};
///
/// let key = Key::from_name("start");
/// let client = Client::new("127.0.0.1:8089");
///
/// let file = File::open("object")?;
/// let packet = StartPacket::put(key).with_size(file.metadata()?.len()).map_err(std::io::Error::other)?;
/// let receipt = client.put(packet)?.send_file(&file)?; // the server has committed
/// # Ok::<(), std::io::Error>(())
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
    /// let client = dataserver_std::Client::new(("localhost", 8089));
    /// ```
    pub fn new(address: impl Into<Address>) -> Self {
        let address = address.into();
        Self { address, config: Config::default(), connect_timeout: Duration::from_secs(5) }
    }

    /// Other chunks, limits and timeouts than the default.
    ///
    /// ```
    /// use dataserver_std::{Client, Config};
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
    /// let client = dataserver_std::Client::new("127.0.0.1:8089").connect_timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Connects to put an object. The start packet leaves with its first bytes.
    ///
    /// # Errors
    /// [`Error::Connect`], and [`Error::Direction`] for the start packet of a get.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let receipt = Client::new("127.0.0.1:8089").put(packet)?.send(b"hello, world")?;
    /// assert_eq!(receipt.bytes, 12);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn put(&self, packet: StartPacket) -> io::Result<Sender> {
        Sender::open(self.connect()?, packet, &self.config)
    }

    /// Connects to get an object, and sends the start packet.
    ///
    /// # Errors
    /// [`Error::Connect`], and [`Error::Direction`] for the start packet of a put.
    ///
    /// ```no_run
    /// use std::io::Read;
    /// use dataserver_std::{Client, Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut object = Client::new("127.0.0.1:8089").get(packet)?;
    /// let mut text = String::new();
    /// object.read_to_string(&mut text)?;
    /// object.commit()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get(&self, packet: StartPacket) -> io::Result<Receiver> {
        Receiver::open(self.connect()?, packet, &self.config)
    }

    fn connect(&self) -> Result<Socket, Error> {
        let failed = |address, source| Error::Connect { address, source: Arc::new(source) };
        let unknown = |error| failed(self.address.to_string(), error);
        let mut last = None;
        for address in self.address.resolve().map_err(unknown)? {
            match Socket::connect(address, self.connect_timeout) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(failed(address.to_string(), error)),
            }
        }
        Err(last.unwrap_or_else(|| unknown(io::ErrorKind::NotFound.into())))
    }
}
