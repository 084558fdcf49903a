//! The interface between the tests and the adapters.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use dataserver_common::{Error, Receipt, Request};
use dataserver_core::{Config, Direction, Entry, StartPacket};

use crate::packets::long_timeouts;
use crate::script::Op;

/// An adapter, in both roles. Its calls block.
pub trait Adapter: Send + Sync {
    /// Its name in the arguments of a process.
    fn name(&self) -> &'static str;

    /// Whether a server that resets its connections waits for handlers that wait for something else.
    fn waits_for_handlers(&self) -> bool;

    /// Starts a server on a thread of its own.
    fn serve(&self, setup: Setup) -> Box<dyn RunningServer>;

    /// Serves one connected stream to its end.
    ///
    /// # Errors
    /// Returns the error of the adapter.
    fn serve_stream(&self, stream: ConnectedStream, setup: Setup) -> io::Result<Receipt>;

    /// Connects, sends exactly this start packet, runs the script, and drops the object.
    ///
    /// # Errors
    /// Returns the error of the adapter, or of [`Op::Fail`].
    fn client(
        &self,
        address: SocketAddr,
        packet: StartPacket,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome>;

    /// The same for a put whose size the sender declares itself, unless the request says otherwise.
    ///
    /// # Errors
    /// Returns the error of the adapter, or of [`Op::Fail`].
    fn put(
        &self,
        address: SocketAddr,
        request: Request,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome>;

    /// The same as [`client`](Self::client), over a connected stream.
    ///
    /// # Errors
    /// Returns the error of the adapter, or of [`Op::Fail`].
    fn client_over(
        &self,
        stream: ConnectedStream,
        packet: StartPacket,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome>;

    /// Transfers these objects one after the other over a session, with a script for each.
    fn session(
        &self,
        address: SocketAddr,
        config: Config,
        objects: &[(StartPacket, Vec<Op>)],
    ) -> Vec<io::Result<Outcome>>;
}

/// An adapter that is chosen at run time, and can be used on every thread.
pub type DynAdapter = &'static dyn Adapter;

/// A server that an adapter runs.
pub trait RunningServer: Send + Sync {
    /// The address that it listens on.
    fn address(&self) -> SocketAddr;

    /// Registers a handler for this direction.
    ///
    /// # Errors
    /// Returns the error of the adapter.
    fn add(&self, direction: Direction, entry: Entry, script: Vec<Op>) -> Result<(), Error>;

    /// Removes an entry, and returns whether there was one.
    fn remove(&self, direction: Direction, entry: Entry) -> bool;

    /// Starts a shutdown.
    fn stop(&self, grace: Duration);

    /// Waits until `run` returns, and drops the server.
    ///
    /// # Errors
    /// Returns the error of `run`.
    fn join(self: Box<Self>) -> Result<(), Error>;
}

/// A stream that was connected by the test.
#[derive(Debug)]
pub enum ConnectedStream {
    /// A TCP stream.
    Tcp(TcpStream),
    /// A Unix stream.
    Unix(UnixStream),
}

/// Receives the outcome of each connection.
pub type OnComplete = Arc<dyn Fn(Result<Receipt, Error>) + Send + Sync>;

/// The configuration of a server.
pub struct Setup {
    /// The entries, and the scripts of their handlers.
    pub entries: Vec<(Direction, Entry, Vec<Op>)>,
    /// [`long_timeouts`] by default.
    pub config: Config,
    /// The default of the adapter if it is `None`.
    pub max_connections: Option<NonZeroUsize>,
    /// Receives the outcomes.
    pub on_complete: OnComplete,
    /// A listener on a free port if it is `None`.
    pub listener: Option<TcpListener>,
}

impl Setup {
    /// No entries, and no receiver of outcomes.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            config: long_timeouts(),
            max_connections: None,
            on_complete: Arc::new(|_| {}),
            listener: None,
        }
    }

    /// Registers a handler for exactly this start packet.
    #[must_use]
    pub fn on(self, packet: StartPacket, script: impl Into<Vec<Op>>) -> Self {
        self.on_entry(packet.direction(), Entry::exact(packet), script)
    }

    /// Registers a handler of puts.
    #[must_use]
    pub fn on_put(self, entry: impl Into<Entry>, script: impl Into<Vec<Op>>) -> Self {
        self.on_entry(Direction::Put, entry, script)
    }

    /// Registers a handler of gets.
    #[must_use]
    pub fn on_get(self, entry: impl Into<Entry>, script: impl Into<Vec<Op>>) -> Self {
        self.on_entry(Direction::Get, entry, script)
    }

    /// Registers a handler for this direction.
    #[must_use]
    pub fn on_entry(
        mut self,
        direction: Direction,
        entry: impl Into<Entry>,
        script: impl Into<Vec<Op>>,
    ) -> Self {
        self.entries.push((direction, entry.into(), script.into()));
        self
    }

    /// Sets the configuration.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Sets how many connections are served at once.
    ///
    /// # Panics
    /// Panics if it is zero.
    #[must_use]
    pub fn max_connections(self, max: usize) -> Self {
        Self { max_connections: Some(NonZeroUsize::new(max).expect("at least one")), ..self }
    }

    /// Sets the listener.
    #[must_use]
    pub fn listener(self, listener: TcpListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Sets the receiver of outcomes.
    #[must_use]
    pub fn on_complete(
        self,
        on_complete: impl Fn(Result<Receipt, Error>) + Send + Sync + 'static,
    ) -> Self {
        Self { on_complete: Arc::new(on_complete), ..self }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The bytes that were read.
    pub bytes: Vec<u8>,
    /// The receipt, if the transfer succeeded.
    pub receipt: Option<Receipt>,
}
