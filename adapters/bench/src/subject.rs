//! What is measured: an adapter or a baseline, which do the same transfers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Config, Direction, Key, StartPacket, Timeouts};

/// The key of all objects.
const KEY: Key = Key::from_name("bench");

/// An adapter or a baseline: both sides of a transfer.
pub trait Subject: Sync {
    /// Its name in tables and on the command line of child processes.
    fn name(&self) -> String;

    /// Serves these transfers on this listener, until the process ends.
    ///
    /// # Errors
    /// Returns an error if the listener fails.
    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()>;

    /// Does one transfer, as the client.
    ///
    /// # Errors
    /// Returns an error if the transfer fails.
    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()>;

    /// Does transfers, `at_once` at a time, for the given time. Returns how many.
    ///
    /// # Errors
    /// Returns an error if one of them fails.
    fn transfer_concurrently(
        &self,
        address: SocketAddr,
        job: &Job,
        at_once: usize,
        time: Duration,
    ) -> io::Result<u64> {
        transfer_on_threads(at_once, Instant::now() + time, || self.transfer(address, job))
    }

    /// Plain sockets on the same async runtime, if there is one. They show which part of the difference to
    /// the baseline is due to the runtime.
    fn runtime(&self) -> Option<&dyn Subject> {
        None
    }

    /// Whether it can do a job over TLS.
    fn has_tls(&self) -> bool {
        false
    }
}

/// Does transfers on `at_once` threads until `end`. Returns how many.
pub(crate) fn transfer_on_threads(
    at_once: usize,
    end: Instant,
    transfer: impl Fn() -> io::Result<()> + Sync,
) -> io::Result<u64> {
    on_threads(at_once, || {
        let mut done = 0;
        while Instant::now() < end {
            transfer()?;
            done += 1;
        }
        Ok(done)
    })
}

/// Runs a client on each of `at_once` threads. Returns how many transfers they did.
///
/// # Errors
/// Returns an error if one of them fails.
///
/// # Panics
/// Panics if a client does.
pub fn on_threads(at_once: usize, client: impl Fn() -> io::Result<u64> + Sync) -> io::Result<u64> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..at_once).map(|_| scope.spawn(&client)).collect();
        clients.into_iter().map(|client| client.join().expect("clients do not panic")).sum()
    })
}

/// The source or the sink of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A buffer that is reused.
    Memory,
    /// A file, which is overwritten in place.
    File(PathBuf),
}

/// How objects are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bare, over a connection each.
    Bare,
    /// Framed, over a connection each.
    Framed,
    /// Framed, one after the other over a connection that is kept.
    Session,
}

/// One kind of transfer.
#[derive(Clone, Debug)]
pub struct Job {
    /// Put or get.
    pub direction: Direction,
    /// The size of the object in bytes, which is declared.
    pub bytes: u64,
    /// The source at the sender.
    pub source: End,
    /// The sink at the receiver.
    pub sink: End,
    /// The size in bytes of the buffer that an application reads and writes with.
    pub buffer: usize,
    /// The most bytes that one step moves.
    pub chunk: NonZeroU32,
    /// How objects are transferred.
    pub format: Format,
    /// Whether the connections use TLS. The plain sockets ignore it.
    pub tls: bool,
}

impl Job {
    /// From memory to memory, with the default chunk, and buffers of that size.
    pub fn new(direction: Direction, bytes: u64) -> Self {
        let chunk = Config::default().chunk;
        let (source, sink) = (End::Memory, End::Memory);
        let (buffer, format) = (chunk.get() as usize, Format::Bare);
        Self { direction, bytes, source, sink, buffer, chunk, format, tls: false }
    }

    /// The same in another format.
    #[must_use]
    pub fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// The same over TLS.
    #[must_use]
    pub fn over_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// The size of the reads and writes of the application.
    pub fn piece(&self) -> usize {
        usize::try_from(self.bytes).map_or(self.buffer, |bytes| bytes.clamp(1, self.buffer))
    }

    /// The start packet of these transfers.
    pub fn packet(&self) -> StartPacket {
        let packet = match self.direction {
            Direction::Put => StartPacket::put(KEY),
            Direction::Get => StartPacket::get(KEY),
        };
        let packet = packet.with_size(self.bytes).expect("objects here are smaller than 8 EiB");
        if self.format == Format::Bare { packet } else { packet.framed() }
    }

    /// The default configuration, except for the chunk and a start timeout of one hour for idle connections.
    pub fn config(&self) -> Config {
        let timeouts = Timeouts::default().start(Duration::from_secs(3600));
        Config::default().chunk(self.chunk).timeouts(timeouts)
    }

    /// The job as arguments of a command line.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
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
            format!("{:?}", self.format),
            self.tls.to_string(),
        ]
    }

    /// Parses the arguments of [`to_arguments`](Self::to_arguments).
    pub(crate) fn from_arguments(arguments: &[String]) -> Option<Self> {
        let [direction, bytes, source, sink, buffer, chunk, format, tls] = arguments else {
            return None;
        };
        let end = |argument: &str| match argument {
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
            format: match &format[..] {
                "Framed" => Format::Framed,
                "Session" => Format::Session,
                _ => Format::Bare,
            },
            tls: tls.parse().ok()?,
        })
    }
}
