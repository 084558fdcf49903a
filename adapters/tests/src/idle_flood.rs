//! A flood of idle clients. They are a process of their own, since descriptors are counted by process,
//! and connect from addresses of their own, since ports are counted by address.

use std::cell::Cell;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use std::{io, mem};

use dataserver_common::tcp::{self, BlockingMode};
use dataserver_core::Key;
use rustix::net::bind;
use smol::future::{block_on, or};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor, Timer};

use crate::kernel;
use crate::process::{Process, entry};
use crate::raw::start_for;

/// The time between two bytes of a slow start packet.
const BYTE_INTERVAL: Duration = Duration::from_millis(200);

/// The delay before a client whose connection was refused tries again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Clients that send nothing, and others that send a start packet byte by byte and never its last byte.
/// A client that is disconnected connects again. They are gone when this is dropped.
#[derive(Debug)]
pub struct IdleFlood {
    process: Process,
}

impl IdleFlood {
    /// Starts the clients.
    ///
    /// # Panics
    /// Panics if their process does not start.
    pub fn start(program: &str, address: SocketAddr, silent: usize, slow: usize) -> Self {
        let (silent, slow) = (silent.to_string(), slow.to_string());
        let arguments = ["flood", &address.to_string(), &silent, &slow];
        Self { process: Process::start(program, &arguments) }
    }

    /// Waits until each client has connected at least once.
    ///
    /// # Panics
    /// Panics if they do not.
    #[track_caller]
    pub fn wait_until_connected(&self) {
        self.process.wait_for_line("connected");
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Runs in the process, until it is killed. Prints `connected`.
pub(crate) fn run(address: &str, silent: &str, slow: &str) {
    kernel::limit_descriptors(None);
    let address = address.parse().expect("an address");
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let (silent, slow) = (number(silent), number(slow));
    let missing = Rc::new(Cell::new(silent + slow));
    let executor = LocalExecutor::new();
    for number in 0..silent + slow {
        let is_slow = number >= silent;
        let client = IdleClient { number, is_slow, address, missing: Rc::clone(&missing) };
        executor.spawn(client.run()).detach();
    }
    block_on(executor.run(pending::<()>()));
}

struct IdleClient {
    number: usize,
    is_slow: bool,
    address: SocketAddr,
    /// How many clients have not connected yet.
    missing: Rc<Cell<usize>>,
}

impl IdleClient {
    async fn run(self) {
        let mut is_new = true;
        loop {
            let Ok(stream) = self.connect().await else {
                Timer::after(RETRY_DELAY).await;
                continue;
            };
            if mem::take(&mut is_new) {
                self.missing.set(self.missing.get() - 1);
                if self.missing.get() == 0 {
                    println!("connected");
                }
            }
            if self.is_slow {
                or(send_slowly(&stream), wait_until_closed(&stream)).await;
            } else {
                wait_until_closed(&stream).await;
            }
        }
    }

    /// Connects from an address that only a quarter of the clients use.
    async fn connect(&self) -> io::Result<Async<TcpStream>> {
        let socket = tcp::socket(&self.address, BlockingMode::Never)?;
        let from = Ipv4Addr::new(127, 0, 0, 2 + (self.number % 4) as u8);
        bind(&socket, &SocketAddr::from((from, 0)))?;
        let stream = Async::new(TcpStream::from(socket))?;
        stream
            .write_with(|stream| tcp::connect(stream, &self.address, BlockingMode::Never))
            .await?;
        Ok(stream)
    }
}

/// Sends all bytes of a start packet but the last.
async fn send_slowly(mut stream: &Async<TcpStream>) {
    let packet = start_for(0, -1, Key::from_name(entry::PUT));
    for byte in &packet[..24] {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        Timer::after(BYTE_INTERVAL).await;
    }
}

async fn wait_until_closed(mut stream: &Async<TcpStream>) {
    _ = stream.read(&mut [0]).await; // an end, or a reset
}
