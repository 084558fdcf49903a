//! What more than one of the examples needs.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use dataserver_std::Server;

pub mod peers;

/// A server that listens at `address`: `host:port`, or Go's `:port` for all interfaces.
///
/// # Errors
/// What the system says, with the address.
pub fn listen(address: &str) -> io::Result<Server> {
    let server = match address.strip_prefix(':').map(str::parse) {
        // The IPv6 socket takes IPv4 too. Where the system has no IPv6, the other one must do.
        Some(Ok(port)) => {
            let all = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            Server::bind(&all.map(|ip| SocketAddr::new(ip, port))[..])
        }
        _ => Server::bind(address),
    };
    server.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Prints `listening on ADDR`, for whoever started this server and waits for it.
///
/// # Errors
/// What the system says.
pub fn announce(server: &Server) -> io::Result<()> {
    writeln!(io::stdout(), "listening on {}", server.local_addr()?)
}
