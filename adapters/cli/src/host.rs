//! Where a server listens, and how others reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use dataserver_std::{Address, Key, Server};

use crate::failure::{Failure, Status};
use crate::ticket::{Fingerprint, Ticket};

/// Listens at this address.
pub(crate) fn listen(address: &Address) -> Result<Server, Failure> {
    let server = Server::bind(address.clone());
    server.map_err(|error| Failure::new(Status::Connect, format!("{address}: {error}")))
}

/// The ticket for an entry of this server.
pub(crate) fn ticket(
    server: &Server,
    host: Option<&str>,
    key: Key,
    certificate: Option<Fingerprint>,
) -> Ticket {
    let local = server.local_addr();
    let address = match host {
        Some(host) => Address::from((host.trim_matches(['[', ']']), local.port())),
        None => SocketAddr::new(reachable(local.ip()), local.port()).into(),
    };
    Ticket { address, key, certificate }
}

/// The address to print for a server that listens at this one. For a server that listens at all, it is the one
/// from which packets to other networks leave.
fn reachable(listening: IpAddr) -> IpAddr {
    if !listening.is_unspecified() {
        return listening;
    }
    // Addresses for documentation, to which nothing is sent: only the route is looked up.
    let ipv4 = source(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let ipv6 = || {
        source(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let found = match listening {
        IpAddr::V4(_) => ipv4,
        IpAddr::V6(_) => ipv4.or_else(ipv6),
    };
    found.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// The address from which packets to another one leave; `None` without a route.
fn source(any: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    Some(source).filter(|source| !source.is_unspecified())
}
