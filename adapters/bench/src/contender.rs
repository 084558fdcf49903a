//! What is measured against what: anything that can serve and do the same transfers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Config, Direction, Key, StartPacket, Timeouts};

/// The key of every object here.
const KEY: Key = Key::from_name("bench");

/// An adapter, or bare sockets: both sides of a transfer.
pub trait Contender: Sync {
    /// How tables and the processes of servers call it.
    fn name(&self) -> String;

    /// Serves these transfers on this listener, until the process ends.
    ///
    /// # Errors
    /// What the system says.
    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()>;

    /// Does one transfer, as the client.
    ///
    /// # Errors
    /// The transfer failed.
    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()>;

    /// Does transfers, so many at a time, until the time is over. How many it did.
    ///
    /// # Errors
    /// One of them failed.
    fn crowd(
        &self,
        address: SocketAddr,
        job: &Job,
        at_once: usize,
        time: Duration,
    ) -> io::Result<u64> {
        crowd_of_threads(at_once, Instant::now() + time, || self.transfer(address, job))
    }

    /// Bare sockets on the same runtime, where that is more than the system's: what of the distance
    /// to bare sockets is the runtime's.
    fn runtime(&self) -> Option<&dyn Contender> {
        None
    }
}

/// Threads that each do one transfer after the other, until the end of the time. How many they did.
pub(crate) fn crowd_of_threads(
    at_once: usize,
    end: Instant,
    transfer: impl Fn() -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let client = || {
        let mut done = 0;
        while Instant::now() < end {
            transfer()?;
            done += 1;
        }
        Ok(done)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..at_once).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("clients do not panic")).sum()
    })
}

/// Where an object comes from, or goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A buffer, filled or sent again and again.
    Memory,
    /// A file, which is overwritten in place.
    File(PathBuf),
}

/// One kind of transfer.
#[derive(Clone, Debug)]
pub struct Job {
    /// Put or get.
    pub direction: Direction,
    /// The size of the object in bytes, which is declared.
    pub bytes: u64,
    /// What the sender has.
    pub source: End,
    /// What the receiver makes of it.
    pub sink: End,
    /// The size in bytes of the buffer that an application reads and writes with.
    pub buffer: usize,
    /// The most bytes that one step moves.
    pub chunk: NonZeroU32,
}

impl Job {
    /// An object from memory to memory, with the default chunk, and buffers of that size.
    pub fn new(direction: Direction, bytes: u64) -> Self {
        let chunk = Config::default().chunk;
        let (source, sink) = (End::Memory, End::Memory);
        Self { direction, bytes, source, sink, buffer: chunk.get() as usize, chunk }
    }

    /// How many bytes the next read or write of an application asks for.
    pub fn piece(&self) -> usize {
        usize::try_from(self.bytes).map_or(self.buffer, |bytes| bytes.clamp(1, self.buffer))
    }

    /// The start packet of these transfers.
    pub fn packet(&self) -> StartPacket {
        let packet = match self.direction {
            Direction::Put => StartPacket::put(KEY),
            Direction::Get => StartPacket::get(KEY),
        };
        packet.with_size(self.bytes).expect("objects here are smaller than 8 EiB")
    }

    /// Defaults, but for the chunk; and idle connections may stay.
    pub fn config(&self) -> Config {
        let timeouts = Timeouts { start: Duration::from_secs(3600), ..Timeouts::default() };
        Config { chunk: self.chunk, timeouts, ..Config::default() }
    }

    /// The job as the words of a command line.
    pub(crate) fn to_words(&self) -> Vec<String> {
        let end = |end: &End| match end {
            End::Memory => "-".to_owned(),
            End::File(path) => path.display().to_string(),
        };
        vec![
            self.direction.to_string(),
            self.bytes.to_string(),
            end(&self.source),
            end(&self.sink),
            self.buffer.to_string(),
            self.chunk.to_string(),
        ]
    }

    /// The job that these words are, as [`to_words`](Self::to_words) made them.
    pub(crate) fn from_words(words: &[String]) -> Option<Self> {
        let [direction, bytes, source, sink, buffer, chunk] = words else {
            return None;
        };
        let end = |word: &str| match word {
            "-" => End::Memory,
            path => End::File(path.into()),
        };
        Some(Self {
            direction: if direction == "put" { Direction::Put } else { Direction::Get },
            bytes: bytes.parse().ok()?,
            source: end(source),
            sink: end(sink),
            buffer: buffer.parse().ok()?,
            chunk: chunk.parse().ok()?,
        })
    }
}
