//! The address of a server.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A socket address, or a host name and a port that are looked up when they are needed.
///
/// ```
/// use dataserver_common::{Address, InvalidAddress};
///
/// assert!("127.0.0.1:8089".parse::<Address>()?.socket_addr().is_some());
/// assert!("localhost:8089".parse::<Address>()?.socket_addr().is_none());
/// assert_eq!(Address::from(("localhost", 8089)).to_string(), "localhost:8089");
/// assert!("localhost".parse::<Address>().is_err());
/// # Ok::<(), InvalidAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Socket(SocketAddr),
    Host { host: String, port: u16 },
}

impl Address {
    /// The socket address, if there is nothing to look up.
    ///
    /// ```
    /// use dataserver_common::Address;
    ///
    /// let address = ([127, 0, 0, 1], 8089).into();
    /// assert_eq!(Address::from(address).socket_addr(), Some(address));
    /// ```
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.0 {
            Kind::Socket(address) => Some(address),
            Kind::Host { .. } => None,
        }
    }

    /// The socket addresses, at least one. Looking up a name blocks.
    ///
    /// # Errors
    /// Returns an error if the name cannot be looked up, or has no address.
    ///
    /// ```
    /// let address: dataserver_common::Address = ("127.0.0.1", 8089).into();
    /// assert_eq!(address.resolve()?.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = match &self.0 {
            Kind::Socket(address) => vec![*address],
            Kind::Host { host, port } => (&host[..], *port).to_socket_addrs()?.collect(),
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Socket(address))
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse() {
            Ok(ip) => Self(Kind::Socket(SocketAddr::new(ip, port))),
            Err(_) => Self(Kind::Host { host: host.to_owned(), port }),
        }
    }
}

/// `host:port`, where the host is a name or an IP address.
impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self(Kind::Socket(address)));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !host.contains(':') => match port.parse() {
                Ok(port) => Ok(Self(Kind::Host { host: host.to_owned(), port })),
                Err(_) => Err(InvalidAddress(text.to_owned())),
            },
            _ => Err(InvalidAddress(text.to_owned())),
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = InvalidAddress;

    fn try_from(text: &str) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

/// `host:port`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Socket(address) => address.fmt(f),
            Kind::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The text is not the address of a server.
///
/// ```
/// use dataserver_common::Address;
///
/// let error = "localhost".parse::<Address>().unwrap_err();
/// assert_eq!(error.to_string(), "expected an address as host:port, got \"localhost\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddress(String);

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an address as host:port, got {:?}", self.0)
    }
}

impl std::error::Error for InvalidAddress {}
