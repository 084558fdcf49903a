//! The core in a readiness loop of one thread, with the `polling` crate and a slab of connections.
//!
//! ```text
//! cargo run --release --features event_loop --example event_loop
//!     tests the driver with correct and broken peers
//! cargo run --release --features event_loop --example event_loop -- --connections 10000
//!     the same, with 10,000 idle connections
//! cargo run --release --features event_loop --example event_loop -- --serve 127.0.0.1:8089
//!     serves until it is stopped
//! ```
//!
//! 10,000 connections need as many file descriptors in each of two processes: `ulimit -n 11000`.
//!
//! [`driver`] has the server and the client, and is the file to copy. The rest tests it.

mod driver;
mod idle;
#[cfg(test)]
#[path = "../driver_tests.rs"]
mod tests;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use dataserver_core::{AlreadyRegistered, Config, Direction, Entry, StartPacket};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use driver::EventLoop;
use lexopt::{Arg, ValueExt};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("event_loop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    match Task::from_arguments()? {
        Task::Test { connections } => {
            let (address, outcomes) = start(peers::impatient())?;
            peers::visit(address, &outcomes)?;
            peers::receive(transfer)?;
            idle::serve(connections)
        }
        Task::Serve { address } => serve(&address),
        Task::Connect { address, connections } => idle::connect(address, connections),
    }
}

/// Serves until the process is stopped, which may happen at any time: all connections are armed to reset.
fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let (sender, outcomes) = mpsc::channel();
    let mut server = EventLoop::new(Config::default(), sender)?;
    register(&mut server)?;
    let listener = TcpListener::bind(address)?;
    println!("listening on {}; put and get the key {KEY}", listener.local_addr()?);
    server.listen(listener)?;
    thread::spawn(move || {
        for outcome in outcomes {
            match outcome {
                Ok(bytes) => println!("{bytes} bytes"),
                Err(error) => println!("{error}"),
            }
        }
    });
    Ok(server.run()?)
}

/// A server in another thread.
fn start(config: Config) -> Result<(SocketAddr, Receiver<Outcome>), Box<dyn Error>> {
    let (sender, outcomes) = mpsc::channel();
    let mut server = EventLoop::new(config, sender)?;
    register(&mut server)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    server.listen(listener)?;
    thread::spawn(move || {
        if let Err(error) = server.run() {
            eprintln!("the server: {error}");
        }
    });
    Ok((address, outcomes))
}

/// Registers a put of any object up to a limit, and a get of the newest object.
fn register(server: &mut EventLoop) -> Result<(), AlreadyRegistered> {
    let now = server.now();
    let registry = &mut server.store().registry;
    registry.insert(Direction::Put, Entry::new(KEY).max_size(LIMIT), (), now)?;
    registry.insert(Direction::Get, KEY, (), now)?;
    Ok(())
}

/// One transfer, by a loop of its own.
fn transfer(
    address: SocketAddr,
    packet: StartPacket,
    object: &[u8],
) -> std::io::Result<(Outcome, Vec<u8>)> {
    let (sender, outcomes) = mpsc::channel();
    let mut client = EventLoop::new(peers::impatient(), sender)?;
    client.store().newest = object.into();
    client.open(address, packet)?;
    client.run()?;
    let outcome = outcomes.recv().map_err(std::io::Error::other)?;
    Ok((outcome, client.store().newest.to_vec()))
}

enum Task {
    Test {
        connections: usize,
    },
    Serve {
        address: String,
    },
    /// The clients in another process: one process may have too few file descriptors for both ends.
    Connect {
        address: SocketAddr,
        connections: usize,
    },
}

impl Task {
    fn from_arguments() -> Result<Self, lexopt::Error> {
        let mut arguments = lexopt::Parser::from_env();
        let mut connections = 200;
        let (mut serve, mut connect) = (None, None);
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("connections") => connections = arguments.value()?.parse()?,
                Arg::Long("serve") => serve = Some(arguments.value()?.string()?),
                Arg::Long("connect") => connect = Some(arguments.value()?.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(match (serve, connect) {
            (Some(address), _) => Self::Serve { address },
            (None, Some(address)) => Self::Connect { address, connections },
            (None, None) => Self::Test { connections },
        })
    }
}
