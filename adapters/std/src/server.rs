//! The server: threads that accept connections and serve them.

use std::fmt;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_common::tcp::{self, AcceptError};
use dataserver_common::{
    Address, BoxError, Error, Receipt, TicketStore, drop_application_value, trace_server_error,
};
use dataserver_core::{Config, Entry};

use crate::handlers::Handlers;
use crate::listener::Listener;
use crate::object::{ObjectReader, ObjectWriter, TicketObject};
use crate::recall::Recall;
use crate::report::{Report, Reporter};
use crate::socket::{Signal, Socket};

/// How many connections are served at once, unless [`Server::max_connections`] says otherwise.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long to wait when the system has no descriptor or thread for another connection.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// How many threads per processor stay to wait for connections. While these make progress, more threads
/// would only compete for the same processors.
const IDLE_THREADS_PER_CPU: usize = 4;

/// How long all threads may be busy before another one is started.
const GROW_AFTER: Duration = Duration::from_millis(1);

/// A TCP server. [`run`](Self::run) serves until a [`ShutdownHandle`] ends it.
///
/// Each connection has a thread while it lasts. A few threads stay for the next connections. If all are
/// busy, more are started, up to [`max_connections`](Self::max_connections). Further clients wait in the
/// accept queue.
///
/// ```
/// use std::time::Duration;
/// use dataserver_std::{Client, Key, Server};
///
/// const GREETING: Key = Key::from_name("greeting");
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_get(GREETING, |object| object.send(b"hello, world"))?;
///
/// let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
/// let running = std::thread::spawn(move || server.run());
/// # let path = std::env::temp_dir().join(format!("dataserver-greeting-{}", std::process::id()));
/// let receipt = Client::new(address)?.get(GREETING)?.receive_to(&path)?;
/// # std::fs::remove_file(path).unwrap();
/// assert_eq!(receipt.bytes, 12);
///
/// shutdown.shutdown(Duration::from_secs(5));
/// running.join().unwrap()?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
pub struct Server {
    handlers: Handlers,
    config: Config,
    max_connections: NonZeroUsize,
    on_complete: Option<Box<Report>>,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    shared: Arc<Shared>,
}

struct Shared {
    listener: Listener,
    address: SocketAddr,
    /// [`IDLE_THREADS_PER_CPU`], for all processors.
    max_idle: usize,
    state: Mutex<State>,
    /// No thread is idle, one has ended, or the server is to shut down.
    changed: Condvar,
    /// Raised when the remaining connections are to be reset.
    reset: Arc<Signal>,
    recall: Arc<Recall>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// The threads that wait for a connection.
    idle: usize,
    /// How many connections have been accepted.
    accepted: u64,
    /// The supervisor knows that no thread is idle, or cannot start another one.
    supervised: bool,
    /// When the system began to have no descriptor for the next connection.
    out_of_fds_since: Option<Instant>,
    shutdown: Option<Shutdown>,
    /// Why the listener failed.
    listener_error: Option<Error>,
}

/// The remaining connections may end by themselves until then, or for as long as they take.
struct Shutdown {
    deadline: Option<Instant>,
}

impl Server {
    /// Listens at this address: `host:port`, `(host, port)`, or a socket address. `:port` listens on all
    /// interfaces, for IPv6 and IPv4; on a system without IPv6, for IPv4. With port 0 the system chooses
    /// one: see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    /// Returns [`Error::Address`] if the text is not an address, and [`Error::Listen`] if the system
    /// cannot listen there, for example because the address is in use.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// let on_all_interfaces = dataserver_std::Server::bind(":0")?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn bind<A>(address: A) -> Result<Self, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let listener = address.try_into()?.listen().map_err(Error::listen)?;
        Self::from_listener(listener)
    }

    /// Serves an existing listener, which belongs to the server from now on: its options change, and
    /// shutting the server down also shuts it down for other holders of the socket.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] if the options of the listener cannot be set.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// let server = dataserver_std::Server::from_listener(listener)?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        let shared = || {
            let listener = Listener::new(listener)?;
            Ok(Shared {
                address: listener.local_addr()?,
                listener,
                max_idle: IDLE_THREADS_PER_CPU
                    * thread::available_parallelism().map_or(1, NonZeroUsize::get),
                state: Mutex::default(),
                changed: Condvar::new(),
                reset: Arc::new(Signal::new()?),
                recall: Arc::new(Recall::new()?),
            })
        };
        Ok(Self {
            handlers: Handlers::new(),
            config: Config::default(),
            max_connections: MAX_CONNECTIONS,
            on_complete: None,
            #[cfg(feature = "rustls")]
            tls: None,
            shared: Arc::new(shared().map_err(Error::listen)?),
        })
    }

    /// Serves from these handlers instead of its own, which are dropped with what was registered for them.
    /// Other servers may share them. Handlers are removed through [`Handlers`].
    ///
    /// ```
    /// use dataserver_std::{Handlers, Key, Server};
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_get(Key::from_name("greeting"), |object| object.send(b"hello"))?;
    /// let ipv4 = Server::bind("127.0.0.1:0")?.handlers(handlers.clone());
    /// let other = Server::bind("127.0.0.1:0")?.handlers(handlers);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    #[must_use]
    pub fn handlers(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }

    /// Sets the chunk, the size limit and the timeouts.
    ///
    /// ```
    /// use dataserver_std::{Config, Server};
    ///
    /// let config = Config::default().max_object_size(1 << 30); // puts of at most 1 GiB
    /// let server = Server::bind("127.0.0.1:0")?.config(config);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Sets how many connections are served at once, and so how many threads there are at most. Further
    /// clients wait in the accept queue. Default 1024.
    ///
    /// A session that waits for its next object uses one of them too. At the limit the server ends such
    /// sessions, so that waiting sessions do not keep new clients out.
    ///
    /// A client that connects and sends nothing uses one of them until the start timeout. If more such
    /// clients may come than there are connections, they keep others out. More connections need more
    /// threads and descriptors, which the system may have to allow (`RLIMIT_NOFILE`).
    ///
    /// ```
    /// let few = std::num::NonZeroUsize::new(16).unwrap();
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?.max_connections(few);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    #[must_use]
    pub fn max_connections(self, max_connections: NonZeroUsize) -> Self {
        Self { max_connections, ..self }
    }

    /// Accepts TLS connections, and no others. The start timeout covers the handshake and the start packet
    /// together. A client without TLS, or with an unacceptable certificate, is reported as
    /// [`Error::Handshake`].
    ///
    /// A new certificate without a restart is the business of the
    /// [`cert_resolver`](rustls::ServerConfig::cert_resolver) of the configuration.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use dataserver_std::{Key, Server};
    ///
    /// # fn example(tls: Arc<rustls::ServerConfig>) -> Result<(), dataserver_std::Error> {
    /// let server = Server::bind("127.0.0.1:8089")?.tls(tls);
    /// server.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// server.run()
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn tls(self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self {
        Self { tls: Some(config.into()), ..self }
    }

    /// Calls this for each connection that has ended, one after the other, on a thread of its own. No
    /// connection waits for it. If more than a thousand calls wait, further ones are counted, and
    /// [`Error::Unreported`] gives their number.
    ///
    /// [`Error::Accept`] tells once that the system has no descriptor or thread for the next connection.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?.on_complete(|outcome| match outcome {
    ///     Ok(receipt) => println!("{receipt}"),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    #[must_use]
    pub fn on_complete(
        self,
        on_complete: impl Fn(Result<Receipt, Error>) + Send + Sync + 'static,
    ) -> Self {
        Self { on_complete: Some(Box::new(on_complete)), ..self }
    }

    /// [`Handlers::on_put`].
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_std::{Key, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_put<E: Into<BoxError>>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectReader) -> Result<Receipt, E> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_put(entry, handler)
    }

    /// [`Handlers::on_get`].
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_std::{Key, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_get(Key::from_name("report"), |object| object.send_path("report.csv"))?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_get<E: Into<BoxError>>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectWriter) -> Result<Receipt, E> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_get(entry, handler)
    }

    /// [`Handlers::on_tickets`].
    ///
    /// ```
    /// use dataserver_std::{Error, Server, TicketObject, TicketStore};
    ///
    /// fn serve<S>(tickets: S) -> Result<(), Error>
    /// where
    ///     S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    /// {
    ///     let server = Server::bind("127.0.0.1:0")?;
    ///     server.on_tickets(tickets, |object, _data| match object {
    ///         TicketObject::Put(object) => object.receive_to("report.csv"),
    ///         TicketObject::Get(object) => object.send_path("report.csv"),
    ///     });
    ///     server.run()
    /// }
    /// ```
    pub fn on_tickets<S, E: Into<BoxError>>(
        &self,
        store: S,
        handler: impl Fn(TicketObject, Vec<u8>) -> Result<Receipt, E> + Send + Sync + 'static,
    ) where
        S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    {
        self.handlers.on_tickets(store, handler);
    }

    /// The address at which this server listens.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr().port(), 0);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// A handle that shuts this server down from any thread.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// server.shutdown_handle().shutdown(std::time::Duration::ZERO);
    /// server.run()?; // returns at once
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle { shared: Arc::downgrade(&self.shared) }
    }

    /// Serves until the server is shut down, and returns when all its threads have ended.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] if the listener fails, or if no thread can be started.
    ///
    /// ```no_run
    /// dataserver_std::Server::bind("127.0.0.1:8089")?.run()?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn run(self) -> Result<(), Error> {
        #[cfg(feature = "rustls")]
        let tls = self.tls;
        let Self { handlers, config, max_connections, on_complete, shared, .. } = self;
        let reporter = on_complete.map(Reporter::start).transpose().map_err(Error::listen)?;
        let report = |outcome| match &reporter {
            Some(reporter) => reporter.report(outcome),
            None => drop_application_value(outcome),
        };
        let serve_connections = || {
            let _guard = ThreadGuard(&shared);
            while let Some(accepted) = shared.accept(max_connections.get(), report) {
                let (reset, recall) = (Arc::clone(&shared.reset), Arc::clone(&shared.recall));
                // Without it the connection lasts longer than it need, and is served all the same.
                _ = tcp::keep_alive_without_idle_timeout(&accepted.0, &config.timeouts);
                let socket = Socket::accepted(accepted, reset, recall);
                #[cfg(feature = "rustls")]
                if let Some(tls) = &tls {
                    handlers.serve_tls(socket, Arc::clone(tls), &config, report);
                    continue;
                }
                handlers.serve_session(socket, &config, report);
            }
        };
        let ended = thread::scope(|scope| {
            let spawn = || thread::Builder::new().spawn_scoped(scope, serve_connections).map(drop);
            shared.lock().threads = 1;
            spawn().map_err(Error::listen)?;
            shared.supervise(max_connections.get(), spawn, report)
        });
        drop(shared); // from here on, clients are refused
        if let Some(reporter) = reporter {
            reporter.finish();
        }
        ended
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr())
            .field("config", &self.config)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Counts a thread that has ended, even if it panicked.
struct ThreadGuard<'a>(&'a Shared);

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next connection. `None` if this thread is to end.
    fn accept(
        &self,
        max_threads: usize,
        report: impl Fn(Result<Receipt, Error>),
    ) -> Option<(OwnedFd, SocketAddr)> {
        {
            let mut state = self.lock();
            if state.idle >= self.max_idle {
                return None;
            }
            state.idle += 1;
            self.recall.set_crowded(false);
        }
        loop {
            let accepted = self.listener.accept();
            let mut state = self.lock();
            let error = match accepted {
                Ok(accepted) => {
                    state.idle -= 1;
                    state.accepted += 1;
                    let is_full = state.threads >= max_threads;
                    self.recall.set_crowded(state.idle == 0 && is_full);
                    // A connection accepted just before does not mean that there are descriptors again.
                    state.out_of_fds_since.take_if(|since| since.elapsed() > RETRY_DELAY);
                    if state.idle == 0 && !mem::replace(&mut state.supervised, true) {
                        self.changed.notify_all();
                    }
                    return Some(accepted);
                }
                Err(error) => error,
            };
            if state.shutdown.is_some() {
                return None;
            }
            match AcceptError::from(&error) {
                AcceptError::Next => {}
                AcceptError::Later => {
                    self.recall.set_crowded(true); // it needs descriptors
                    if state.out_of_fds_since.is_none() {
                        state.out_of_fds_since = Some(Instant::now());
                        drop(state);
                        let error = Error::Accept { source: Arc::new(error) };
                        report(Err(trace_server_error(error)));
                        state = self.lock();
                    }
                    drop(self.changed.wait_timeout(state, RETRY_DELAY));
                }
                AcceptError::Fatal => {
                    state.listener_error = Some(trace_server_error(Error::listen(error)));
                    self.shut_down(state, Shutdown { deadline: None });
                    return None;
                }
            }
        }
    }

    fn thread_ended(&self) {
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// Stops accepting, and wakes the threads that wait for a connection.
    fn shut_down(&self, mut state: MutexGuard<'_, State>, shutdown: Shutdown) {
        if state.shutdown.replace(shutdown).is_none() {
            self.listener.stop();
            self.recall.close();
        }
        self.changed.notify_all();
    }

    /// Starts threads if there are too few, and returns when all have ended.
    fn supervise(
        &self,
        limit: usize,
        spawn: impl Fn() -> io::Result<()>,
        report: impl Fn(Result<Receipt, Error>),
    ) -> Result<(), Error> {
        let mut batch = 1;
        let mut out_of_threads = false;
        let mut state = self.lock();
        while state.threads > 0 {
            let deadline = state.shutdown.as_ref().and_then(|shutdown| shutdown.deadline);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.reset.raise().map_err(Error::listen)?;
            }
            let left = left.filter(|left| !left.is_zero()).unwrap_or(Duration::MAX);
            let may_grow = state.shutdown.is_none() && state.threads < limit;
            let all_busy = may_grow && state.idle == 0;
            state.supervised = all_busy || !may_grow;
            let accepted_before = state.accepted;
            let wait = match (all_busy, out_of_threads) {
                (true, false) => GROW_AFTER,
                (true, true) => RETRY_DELAY,
                (false, _) => left,
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;

            // Busy threads are enough as long as they accept connections at a good rate.
            let accepted = state.accepted - accepted_before;
            let progress = state.threads >= self.max_idle && accepted >= self.max_idle as u64;
            if !all_busy || state.idle > 0 || state.shutdown.is_some() || progress {
                batch = 1;
                continue;
            }
            let wanted = batch.min(limit - state.threads);
            state.threads += wanted;
            drop(state);
            let failed = (0..wanted).find_map(|made| spawn().err().map(|error| (made, error)));
            let was_out_of_threads = mem::replace(&mut out_of_threads, failed.is_some());
            batch = (2 * batch).min(64); // the longer all are busy, the more are started
            if let Some((made, error)) = failed {
                (made..wanted).for_each(|_| self.thread_ended());
                batch = 1;
                if !was_out_of_threads {
                    let error = Error::Accept { source: Arc::new(error) };
                    report(Err(trace_server_error(error)));
                }
            }
            state = self.lock();
        }
        state.listener_error.take().map_or(Ok(()), Err)
    }
}

/// Shuts a [`Server`] down, for example from a signal handler; from [`Server::shutdown_handle`]. Take it before
/// [`Server::run`].
///
/// ```
/// use std::time::Duration;
///
/// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
/// let handle = server.shutdown_handle();
/// let running = std::thread::spawn(|| server.run());
/// handle.shutdown(Duration::from_secs(30));
/// running.join().unwrap()?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle {
    shared: Weak<Shared>,
}

impl ShutdownHandle {
    /// Stops accepting at once, lets running transfers end by themselves for this long, and then resets
    /// them. A handler that is busy with something other than its object (it sleeps, computes, or waits for a
    /// lock) cannot be interrupted: [`Server::run`] returns only when it has returned.
    ///
    /// If it is called again, the last grace period counts.
    ///
    /// ```
    /// # let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// server.shutdown_handle().shutdown(std::time::Duration::from_secs(30));
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn shutdown(&self, grace: Duration) {
        let deadline = Instant::now().checked_add(grace);
        if let Some(shared) = self.shared.upgrade() {
            shared.shut_down(shared.lock(), Shutdown { deadline });
        } // else the server has ended
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle").finish_non_exhaustive()
    }
}
