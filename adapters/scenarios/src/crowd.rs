//! A crowd of clients that want nothing: a process of its own, as descriptors are counted by process,
//! and at addresses of its own, as ports are counted by address.

use std::cell::Cell;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use std::{io, mem};

use dataserver_adapter::tcp::{self, Waits};
use dataserver_core::Key;
use rustix::net::bind;
use smol::future::{block_on, or};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor, Timer};

use crate::process::{self, Process, entry};
use crate::raw::start_for;

/// How long a client that drips waits between two bytes.
const DRIP: Duration = Duration::from_millis(200);

/// How long one waits that was turned away.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that say nothing, and others that say one byte of a start packet at a time and never
/// the last. Whoever is dropped comes again. They are gone when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    process: Process,
}

impl Crowd {
    /// Begins to gather at this address.
    ///
    /// # Panics
    /// There is no process.
    pub fn gather(program: &str, address: SocketAddr, idle: usize, dripping: usize) -> Self {
        let (idle, dripping) = (idle.to_string(), dripping.to_string());
        let arguments = ["crowd", &address.to_string(), &idle, &dripping];
        Self { process: Process::start(program, &arguments) }
    }

    /// Waits until all have been connected, each at least once.
    ///
    /// # Panics
    /// They have not.
    #[track_caller]
    pub fn is_there(&self) {
        self.process.told("gathered");
    }

    /// Which process it is.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The process's end, until it is killed. Tells `gathered`.
pub(crate) fn main(address: &str, idle: &str, dripping: &str) {
    process::limit_descriptors(None);
    let address = address.parse().expect("an address");
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let (idle, dripping) = (number(idle), number(dripping));
    let missing = Rc::new(Cell::new(idle + dripping));
    let executor = LocalExecutor::new();
    for n in 0..idle + dripping {
        let member = Member { n, drips: n >= idle, address, missing: Rc::clone(&missing) };
        executor.spawn(member.come_again()).detach();
    }
    block_on(executor.run(pending::<()>()));
}

struct Member {
    n: usize,
    drips: bool,
    address: SocketAddr,
    missing: Rc<Cell<usize>>,
}

impl Member {
    async fn come_again(self) {
        let mut new = true;
        loop {
            let Ok(stream) = self.connect().await else {
                Timer::after(PAUSE).await;
                continue;
            };
            if mem::take(&mut new) {
                self.missing.set(self.missing.get() - 1);
                if self.missing.get() == 0 {
                    println!("gathered");
                }
            }
            if self.drips {
                or(drip(&stream), until_dropped(&stream)).await;
            } else {
                until_dropped(&stream).await;
            }
        }
    }

    /// From an address that only some of the others have.
    async fn connect(&self) -> io::Result<Async<TcpStream>> {
        let socket = tcp::socket(&self.address, Waits::Never)?;
        let from = Ipv4Addr::new(127, 0, 0, 2 + (self.n % 4) as u8);
        bind(&socket, &SocketAddr::from((from, 0)))?;
        let stream = Async::new(TcpStream::from(socket))?;
        stream.write_with(|stream| tcp::connect(stream, &self.address, Waits::Never)).await?;
        Ok(stream)
    }
}

/// All but the last byte.
async fn drip(mut stream: &Async<TcpStream>) {
    let packet = start_for(0, -1, Key::from_name(entry::PUT));
    for byte in &packet[..24] {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        Timer::after(DRIP).await;
    }
}

async fn until_dropped(mut stream: &Async<TcpStream>) {
    let _an_end_or_a_reset = stream.read(&mut [0]).await;
}
