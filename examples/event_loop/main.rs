//! The core in an event loop of one's own: one thread, the `polling` crate, a slab of connections.
//!
//! ```text
//! cargo run --release --example event_loop                          shown to good and bad peers
//! cargo run --release --example event_loop -- --connections 10000   so many idle ones at once
//! cargo run --release --example event_loop -- --serve 127.0.0.1:8089
//! ```
//!
//! Ten thousand need as many descriptors in each of two processes: `ulimit -n 11000`.
//!
//! [`driver`] is all of the server and the client, and the file to copy. The rest is a show.

mod crowd;
mod driver;
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
        Task::Show { connections } => {
            let (address, outcomes) = start(peers::impatient())?;
            peers::visit(address, &outcomes)?;
            peers::receive(transfer)?;
            crowd::watch(connections)
        }
        Task::Serve { address } => serve(&address),
        Task::Crowd { address, connections } => crowd::visit(address, connections),
    }
}

/// Serves until ^C. That may come at any time: every connection is armed to reset.
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

/// A server in a thread of its own.
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

/// Any object may be put, up to a limit, and the newest be got.
fn register(server: &mut EventLoop) -> Result<(), AlreadyRegistered> {
    let now = server.now();
    let registry = &mut server.store().registry;
    registry.add(Entry::any_size(StartPacket::put(KEY), LIMIT), Direction::Put, now)?;
    registry.add(Entry::any_size(StartPacket::get(KEY), u64::MAX), Direction::Get, now)?;
    Ok(())
}

/// One transfer, by a loop that has nothing else to do.
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
    Show {
        connections: usize,
    },
    Serve {
        address: String,
    },
    /// What this program starts itself as: a process has too few descriptors for both ends.
    Crowd {
        address: SocketAddr,
        connections: usize,
    },
}

impl Task {
    fn from_arguments() -> Result<Self, lexopt::Error> {
        let mut arguments = lexopt::Parser::from_env();
        let mut connections = 200;
        let (mut serve, mut crowd) = (None, None);
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("connections") => connections = arguments.value()?.parse()?,
                Arg::Long("serve") => serve = Some(arguments.value()?.string()?),
                Arg::Long("crowd") => crowd = Some(arguments.value()?.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(match (serve, crowd) {
            (Some(address), _) => Self::Serve { address },
            (None, Some(address)) => Self::Crowd { address, connections },
            (None, None) => Self::Show { connections },
        })
    }
}
