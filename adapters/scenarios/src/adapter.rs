//! What a scenario asks of an adapter.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Direction, Entry, StartPacket};

use crate::adapters::smol::Smol;
use crate::adapters::std::Std;
use crate::script::Do;
use crate::things::patient;

/// An adapter, in both roles. It blocks its caller, whatever it does inside.
pub trait Adapter: Send + Sync {
    /// What it is called in the arguments of a process.
    fn name(&self) -> &'static str;

    /// Whether a server that resets its connections waits for handlers that wait for something else.
    fn waits_for_handlers(&self) -> bool;

    /// Serves, on a thread of its own.
    fn serve(&self, setup: Setup) -> Box<dyn Running>;

    /// Serves one stream that is connected, until it ends.
    ///
    /// # Errors
    /// What the adapter says.
    fn serve_stream(&self, stream: Carrier, setup: Setup) -> io::Result<Receipt>;

    /// Connects and does as the script says, then drops the object.
    ///
    /// # Errors
    /// What the adapter says, or [`Do::Fail`].
    fn client(
        &self,
        address: SocketAddr,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome>;

    /// The same over a stream that is connected.
    ///
    /// # Errors
    /// What the adapter says, or [`Do::Fail`].
    fn client_over(
        &self,
        stream: Carrier,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome>;
}

/// Any adapter, for any thread.
pub type Any = &'static dyn Adapter;

/// The adapter of this name.
///
/// # Panics
/// There is none.
pub fn adapter(name: &str) -> Any {
    match name {
        "std" => &Std,
        "smol" => &Smol,
        _ => panic!("no adapter is called {name}"),
    }
}

/// A server that an adapter runs.
pub trait Running: Send + Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Registers a handler, with the method for this direction.
    ///
    /// # Errors
    /// What the adapter says.
    fn add(&self, direction: Direction, entry: Entry, script: Vec<Do>) -> Result<(), Error>;

    /// Takes an entry out. Whether there was one.
    fn remove(&self, entry: Entry) -> bool;

    /// Says stop.
    fn stop(&self, grace: Duration);

    /// Waits for `run` to return, and drops the server and all that belongs to it.
    ///
    /// # Errors
    /// What `run` says.
    fn join(self: Box<Self>) -> io::Result<()>;
}

/// What carries a transfer that somebody else connected.
#[derive(Debug)]
pub enum Carrier {
    /// A TCP stream.
    Tcp(TcpStream),
    /// A Unix stream.
    Unix(UnixStream),
}

/// What is told of each connection that ended.
pub type Report = Arc<dyn Fn(io::Result<Receipt>) + Send + Sync>;

/// What a server is to be.
pub struct Setup {
    /// What is registered, and what the handlers do.
    pub entries: Vec<(Entry, Vec<Do>)>,
    /// Patient unless said otherwise.
    pub config: Config,
    /// The adapter's default unless said otherwise.
    pub max_connections: Option<NonZeroUsize>,
    /// Hears how connections ended.
    pub report: Report,
    /// Where to listen: at a port of the system's choosing, unless said otherwise.
    pub listener: Option<TcpListener>,
}

impl Setup {
    /// Nothing registered, and nobody told.
    pub fn new() -> Self {
        let report = Arc::new(|_| {});
        Self {
            entries: Vec::new(),
            config: patient(),
            max_connections: None,
            report,
            listener: None,
        }
    }

    /// Registers a handler.
    #[must_use]
    pub fn on(mut self, entry: impl Into<Entry>, script: impl Into<Vec<Do>>) -> Self {
        self.entries.push((entry.into(), script.into()));
        self
    }

    /// Another configuration.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// At most so many connections at once.
    ///
    /// # Panics
    /// For none.
    #[must_use]
    pub fn max_connections(self, max: usize) -> Self {
        Self { max_connections: Some(NonZeroUsize::new(max).expect("at least one")), ..self }
    }

    /// Takes connections from this listener.
    #[must_use]
    pub fn listener(self, listener: TcpListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Tells this of every end.
    #[must_use]
    pub fn report(self, report: impl Fn(io::Result<Receipt>) + Send + Sync + 'static) -> Self {
        Self { report: Arc::new(report), ..self }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was read.
    pub bytes: Vec<u8>,
    /// What was got for it, or given.
    pub receipt: Option<Receipt>,
}
