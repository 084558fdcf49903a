//! Code that several examples share.

use std::env;
use std::io::{self, Write};

use dataserver_std::Server;

pub mod peers;
pub mod program;

/// The value of the only option of a program, such as `--listen ADDR`, or the default.
///
/// # Errors
/// Returns an error if the command line has other arguments.
pub fn address_option(name: &str, default: &str) -> Result<String, String> {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(default.to_owned()),
        (Some(option), Some(value), None) if option == name => {
            value.into_string().map_err(|value| format!("{value:?} is not an address"))
        }
        _ => Err(format!("expected no arguments, or {name} ADDR")),
    }
}

/// A server that listens at `address`.
///
/// # Errors
/// Returns an error that names the address if the system cannot listen there.
pub fn listen(address: &str) -> io::Result<Server> {
    Server::bind(address).map_err(|error| io::Error::other(format!("{address}: {error}")))
}

/// Prints `listening on ADDR`, for the program or person that started this server.
///
/// # Errors
/// Returns an error if standard output cannot be written.
pub fn announce(server: &Server) -> io::Result<()> {
    writeln!(io::stdout(), "listening on {}", server.local_addr())
}
