//! Where a client connects to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// A socket address, or a name and a port that are looked up when they are needed.
///
/// ```
/// use dataserver_adapter::Address;
///
/// assert!(Address::from("127.0.0.1:8089").known().is_some());
/// assert!(Address::from("localhost:8089").known().is_none());
/// assert_eq!(Address::from(("localhost", 8089)).to_string(), "localhost:8089");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Known(SocketAddr),
    Name(String),
}

impl Address {
    /// The socket address, where there is nothing to look up.
    ///
    /// ```
    /// use dataserver_adapter::Address;
    ///
    /// let address = ([127, 0, 0, 1], 8089).into();
    /// assert_eq!(Address::from(address).known(), Some(address));
    /// ```
    pub fn known(&self) -> Option<SocketAddr> {
        match self.0 {
            Kind::Known(address) => Some(address),
            Kind::Name(_) => None,
        }
    }

    /// The socket addresses that it stands for, at least one. Looking up a name may take long.
    ///
    /// # Errors
    /// What the system says of the name.
    ///
    /// ```
    /// let addresses = dataserver_adapter::Address::from("127.0.0.1:8089").resolve()?;
    /// assert_eq!(addresses.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = match &self.0 {
            Kind::Known(address) => vec![*address],
            Kind::Name(name) => name.to_socket_addrs()?.collect(),
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Known(address))
    }
}

/// `host:port`, as a name or in numbers.
impl From<&str> for Address {
    fn from(address: &str) -> Self {
        Self(address.parse().map_or_else(|_| Kind::Name(address.to_owned()), Kind::Known))
    }
}

/// `host:port`, as a name or in numbers.
impl From<String> for Address {
    fn from(address: String) -> Self {
        Self::from(&address[..])
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse() {
            Ok(ip) => Self(Kind::Known(SocketAddr::new(ip, port))),
            Err(_) => Self(Kind::Name(format!("{host}:{port}"))),
        }
    }
}

/// `host:port`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Known(address) => address.fmt(f),
            Kind::Name(name) => name.fmt(f),
        }
    }
}
