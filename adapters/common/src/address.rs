//! The address of a server.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;

use crate::tcp;

/// A socket address, or a host name and a port that are looked up when they are needed.
///
/// | text | what it is |
/// |---|---|
/// | `192.0.2.1:8089`, `[2001:db8::1]:8089` | a socket address |
/// | `example.org:8089` | a host name |
/// | `[fe80::1%eth0]:8089`, `[fe80::1%2]:8089` | an IPv6 address with a zone: the name or the number of an interface |
/// | `:8089` | all interfaces, IPv6 and IPv4. Only a server can use it. |
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
    /// The host is a name, or an IPv6 address with a zone. It is not empty.
    Host {
        host: String,
        port: u16,
    },
    AllInterfaces {
        port: u16,
    },
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
            Kind::Host { .. } | Kind::AllInterfaces { .. } => None,
        }
    }

    #[doc(hidden)]
    /// For an adapter: the address, if a client can connect to it.
    ///
    /// # Errors
    /// Returns an error if it has no host.
    ///
    /// ```
    /// use dataserver_common::Address;
    ///
    /// let error = Address::from(("", 8089)).of_server().unwrap_err();
    /// assert_eq!(error.to_string(), "expected an address as host:port, got \":8089\"");
    /// ```
    pub fn of_server(self) -> Result<Self, InvalidAddress> {
        match self.0 {
            Kind::AllInterfaces { .. } => Err(InvalidAddress(self.to_string())),
            Kind::Socket(_) | Kind::Host { .. } => Ok(self),
        }
    }

    #[doc(hidden)]
    /// For an adapter: a listener at this address. If a name has several addresses, it is the first one
    /// where the system can listen.
    ///
    /// # Errors
    /// Returns an error if the name cannot be looked up, or the error of the system.
    ///
    /// ```
    /// let listener = dataserver_common::Address::from(("127.0.0.1", 0)).listen()?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn listen(&self) -> io::Result<TcpListener> {
        match self.0 {
            Kind::AllInterfaces { port } => tcp::listen_on_all_interfaces(port),
            Kind::Socket(_) | Kind::Host { .. } => TcpListener::bind(&self.resolve()?[..]),
        }
    }

    /// The socket addresses, at least one, in the order in which a client should try them: that of the
    /// system, but IPv6 and IPv4 alternate (RFC 8305, section 4). Looking up a name blocks. All interfaces
    /// are `[::]`.
    ///
    /// # Errors
    /// Returns an error if the name or the zone cannot be looked up, or has no address.
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
            Kind::AllInterfaces { port } => vec![(Ipv6Addr::UNSPECIFIED, *port).into()],
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(interleave(addresses))
    }
}

/// Makes the address families alternate. The first address stays the first, and each family keeps its order.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut ordered = Vec::with_capacity(addresses.len());
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (these, those): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut these, mut those) = (these.into_iter(), those.into_iter());
    loop {
        match (these.next(), those.next()) {
            (None, None) => return ordered,
            (this, that) => ordered.extend([this, that].into_iter().flatten()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Socket(address))
    }
}

/// The host is a name or an IP address, without brackets. An empty host stands for all interfaces.
impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        if host.is_empty() {
            return Self(Kind::AllInterfaces { port });
        }
        match host.parse() {
            Ok(ip) => Self(Kind::Socket(SocketAddr::new(ip, port))),
            Err(_) => Self(Kind::Host { host: host.to_owned(), port }),
        }
    }
}

/// `host:port`, as in the table of [`Address`].
impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self(Kind::Socket(address)));
        }
        let host_and_port = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|host| has_zone(host))?,
                None => Some(host).filter(|host| !host.contains([':', ']']))?,
            };
            Some((host, port.parse().ok()?))
        };
        host_and_port().map(Self::from).ok_or_else(|| InvalidAddress(text.to_owned()))
    }
}

/// Whether this is an IPv6 address with a zone (RFC 4007, section 11), which std cannot parse if it is a
/// name. The system looks it up.
fn has_zone(host: &str) -> bool {
    let parts = host.split_once('%');
    parts.is_some_and(|(ip, zone)| ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty())
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

/// As it is parsed.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Socket(address) => address.fmt(f),
            Kind::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Kind::Host { host, port } => write!(f, "{host}:{port}"),
            Kind::AllInterfaces { port } => write!(f, ":{port}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_displayed_alike() {
        for text in [
            "127.0.0.1:8089",
            "[::1]:8089",
            "[fe80::1%2]:8089",
            "[fe80::1%eth0]:8089",
            "example.org:8089",
            ":8089",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_has_no_host_and_port_is_no_address() {
        for text in [
            "",
            ":",
            "host",
            "host:",
            "host:port",
            "host:65536",
            "::1:8089",
            "fe80::1%eth0:8089",
            "[]:8089",
            "[host]:8089",
            "[host%eth0]:8089",
            "[fe80::1%]:8089",
            "[fe80::1%eth0:8089",
            "fe80::1%eth0]:8089",
            "[fe80::1%eth0]8089",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress(text.to_owned())));
        }
    }

    #[test]
    fn address_families_alternate_from_the_first_on() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [x, y] = [1, 2].map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        assert_eq!(interleave(vec![x, y, a, b, c]), [x, a, y, b, c]);
        assert_eq!(interleave(vec![a, b, c, x, y]), [a, x, b, y, c]);
        assert_eq!(interleave(vec![a, b]), [a, b]);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_zone_is_the_name_or_the_number_of_an_interface() {
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let index = index.trim_end();
        let expected = SocketAddr::V6(format!("[fe80::1%{index}]:8089").parse().unwrap());
        for zone in ["lo", index] {
            let parsed: Address = format!("[fe80::1%{zone}]:8089").parse().unwrap();
            assert_eq!(parsed.resolve().unwrap(), [expected]);
            let host = format!("fe80::1%{zone}");
            assert_eq!(Address::from((&host[..], 8089)).resolve().unwrap(), [expected]);
        }
        let unknown: Address = "[fe80::1%no-such-zone]:8089".parse().unwrap();
        unknown.resolve().unwrap_err();
    }
}
