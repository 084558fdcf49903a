//! The server: accepts connections, and gives each one to an executor.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::{Async, Timer};
use async_lock::{Semaphore, SemaphoreGuardArc};
use dataserver_common::tcp::{self, AcceptError, Backlog, BlockingMode};
use dataserver_common::{
    Address, BoxError, Error, Goal, Receipt, TicketStore, Trace, catch_application_panic,
    drop_application_value, drop_panic_payload, now, trace_server_error,
};
use dataserver_core::{Config, Entry, StartPacket};
use futures_lite::{FutureExt, future};

use crate::driver::Driver;
use crate::handlers::{BoxFuture, Handlers, Kind, Local, LocalBoxFuture, Shared};
use crate::object::{ObjectReader, ObjectWriter, TicketObject};
use crate::recall::Recall;
use crate::socket::Socket;
#[cfg(feature = "rustls")]
use crate::tls::TlsStream;
#[cfg(feature = "rustls")]
use crate::transport::Transport;

/// How many connections are served at once, unless [`Server::max_connections`] says otherwise.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// How long to wait when the system has no descriptor for another connection.
const RETRY_DELAY: Duration = Duration::from_millis(100);

type OnComplete = dyn Fn(Result<Receipt, Error>) + Send + Sync;

/// A TCP server. [`run`](Self::run) accepts connections until a [`ShutdownHandle`] ends it, and hands each
/// one to an executor.
///
/// ```
/// use std::time::Duration;
/// use dataserver_smol::{Client, Key, Server};
/// use futures_lite::future;
///
/// const GREETING: Key = Key::from_name("greeting");
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_get(GREETING, |object| object.send(b"hello, world"))?;
///
/// let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
/// let executor = smol::Executor::new();
/// let run = server.run(|connection| executor.spawn(connection).detach());
/// # let path = std::env::temp_dir().join(format!("dataserver-greeted-{}", std::process::id()));
/// let get = async {
///     let receipt = Client::new(address)?.get(GREETING).await?.receive_to(&path).await?;
///     assert_eq!(receipt.bytes, 12);
///     shutdown.shutdown(Duration::from_secs(5));
///     Ok(())
/// };
/// smol::block_on(executor.run(future::try_zip(run, get)))?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
pub struct Server<K: Kind = Shared> {
    listener: Arc<Async<TcpListener>>,
    address: SocketAddr,
    backlog: Backlog,
    handlers: Handlers<K>,
    settings: Settings,
    shutdown: (Sender<Duration>, Receiver<Duration>),
}

/// What all connections share, beside the handlers.
struct Settings {
    config: Config,
    max_connections: NonZeroUsize,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    on_complete: Option<Box<OnComplete>>,
}

impl Drop for Settings {
    fn drop(&mut self) {
        drop_application_value(self.on_complete.take());
    }
}

/// Never sent: a channel of it tells by its end.
enum Never {}

impl Server {
    /// Listens at this address: `host:port`, `(host, port)`, or a socket address. `:port` listens on all
    /// interfaces, for IPv6 and IPv4; on a system without IPv6, for IPv4. With port 0 the system chooses
    /// one: see [`local_addr`](Self::local_addr). A name is looked up on this thread.
    ///
    /// # Errors
    /// Returns [`Error::Address`] if the text is not an address, and [`Error::Listen`] if the system
    /// cannot listen there, for example because the address is in use.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// let on_all_interfaces = dataserver_smol::Server::bind(":0")?;
    /// # Ok::<(), dataserver_smol::Error>(())
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
    /// let server = dataserver_smol::Server::from_listener(listener)?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        let settings = Settings {
            config: Config::default(),
            max_connections: MAX_CONNECTIONS,
            #[cfg(feature = "rustls")]
            tls: None,
            on_complete: None,
        };
        let prepare = || {
            let backlog = Backlog::of(&listener)?;
            let address = listener.local_addr()?;
            Ok((Arc::new(Async::new(listener)?), address, backlog))
        };
        let (listener, address, backlog) = prepare().map_err(Error::listen)?;
        let shutdown = async_channel::unbounded();
        Ok(Self { listener, address, backlog, handlers: Handlers::new(), settings, shutdown })
    }

    /// [`Handlers::on_put`].
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Key, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_put<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectReader) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.handlers.on_put(entry, handler)
    }

    /// [`Handlers::on_get`].
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Key, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_get(Key::from_name("report"), |object| object.send_path("report.csv"))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_get<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectWriter) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.handlers.on_get(entry, handler)
    }

    /// [`Handlers::on_tickets`].
    ///
    /// ```
    /// use dataserver_smol::{Error, Server, TicketObject, TicketStore};
    ///
    /// fn bind<S>(tickets: S) -> Result<Server, Error>
    /// where
    ///     S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    /// {
    ///     let server = Server::bind("127.0.0.1:0")?;
    ///     server.on_tickets(tickets, |object, _data| async {
    ///         match object {
    ///             TicketObject::Put(object) => object.receive_to("report.csv").await,
    ///             TicketObject::Get(object) => object.send_path("report.csv").await,
    ///         }
    ///     });
    ///     Ok(server)
    /// }
    /// ```
    pub fn on_tickets<S, F, E>(
        &self,
        store: S,
        handler: impl Fn(TicketObject, Vec<u8>) -> F + Send + Sync + 'static,
    ) where
        S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.handlers.on_tickets(store, handler);
    }

    /// Serves until the server is shut down, and is ready when all its connections have ended. `spawn` runs
    /// each connection as a task of its own, on any executor. Detach the task, or keep it: if it is dropped, its
    /// connection is reset, and [`on_complete`](Self::on_complete) is not called.
    ///
    /// # Cancel safety
    /// If this future is dropped, the server stops accepting, and resets its connections.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] if the listener fails.
    ///
    /// ```no_run
    /// let server = dataserver_smol::Server::bind("127.0.0.1:8089")?;
    /// smol::block_on(server.run(|connection| smol::spawn(connection).detach()))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub async fn run(self, spawn: impl Fn(BoxFuture<'static, ()>)) -> Result<(), Error> {
        self.accept_all(|accepted| spawn(Box::pin(accepted.serve()))).await
    }
}

impl Server<Local> {
    /// [`Server::run`], for handlers that stay on this thread.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] if the listener fails.
    ///
    /// ```no_run
    /// use dataserver_smol::{Handlers, Server};
    ///
    /// let server = Server::bind("127.0.0.1:8089")?.handlers(Handlers::local());
    /// let executor = smol::LocalExecutor::new();
    /// let run = server.run(|connection| executor.spawn(connection).detach());
    /// smol::block_on(executor.run(run))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub async fn run(self, spawn: impl Fn(LocalBoxFuture<'static, ()>)) -> Result<(), Error> {
        self.accept_all(|accepted| spawn(Box::pin(accepted.serve()))).await
    }
}

impl<K: Kind> Server<K> {
    /// Serves from these handlers instead of its own, which are dropped with what was registered for them.
    /// Other servers may share them, and they may be [local](Handlers::local). Handlers are removed through
    /// [`Handlers`].
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.handlers(Handlers::local());
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn handlers<L: Kind>(self, handlers: Handlers<L>) -> Server<L> {
        let Self { listener, address, backlog, settings, shutdown, .. } = self;
        Server { listener, address, backlog, handlers, settings, shutdown }
    }

    /// Sets the chunk, the size limit and the timeouts.
    ///
    /// ```
    /// use dataserver_smol::{Config, Server};
    ///
    /// let config = Config::default().max_object_size(1 << 30); // puts of at most 1 GiB
    /// let server = Server::bind("127.0.0.1:0")?.config(config);
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.settings.config = config;
        self
    }

    /// Sets how many connections are served at once. Further clients wait in the accept queue. Default
    /// 16,384.
    ///
    /// A session that waits for its next object uses one of them too. At the limit the server ends such
    /// sessions, so that waiting sessions do not keep new clients out.
    ///
    /// A client that connects and sends nothing uses one of them until the start timeout. If more such
    /// clients may come than there are connections, they keep others out. Each connection needs a
    /// descriptor, of which the system may have to allow more (`RLIMIT_NOFILE`).
    ///
    /// ```
    /// let few = std::num::NonZeroUsize::new(16).unwrap();
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?.max_connections(few);
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn max_connections(mut self, max_connections: NonZeroUsize) -> Self {
        self.settings.max_connections = max_connections;
        self
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
    /// use dataserver_smol::{Key, Server};
    ///
    /// # async fn example(tls: Arc<rustls::ServerConfig>) -> Result<(), dataserver_smol::Error> {
    /// let server = Server::bind("127.0.0.1:8089")?.tls(tls);
    /// server.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// server.run(|connection| smol::spawn(connection).detach()).await
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self {
        self.settings.tls = Some(config.into());
        self
    }

    /// Calls this for each connection that has ended, on the task that served it. Like all code on an
    /// executor, it must not block.
    ///
    /// [`Error::Accept`] tells once that the system has no descriptor for the next connection.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?.on_complete(|outcome| match outcome {
    ///     Ok(receipt) => println!("{receipt}"),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    #[must_use]
    pub fn on_complete(
        mut self,
        on_complete: impl Fn(Result<Receipt, Error>) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_complete = Some(Box::new(on_complete));
        self
    }

    /// The address at which this server listens.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr().port(), 0);
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle that shuts this server down from any thread.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// server.shutdown_handle().shutdown(std::time::Duration::ZERO);
    /// smol::block_on(server.run(|connection| smol::spawn(connection).detach()))?; // at once
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle {
            shutdown: self.shutdown.0.clone(),
            listener: Arc::downgrade(&self.listener),
        }
    }

    /// Accepts until the server is shut down, then waits for the connections, and at last resets them.
    async fn accept_all(self, serve: impl Fn(Accepted<K>)) -> Result<(), Error> {
        let Self { listener, backlog, handlers, settings, shutdown: (_open, shutdowns), .. } = self;
        let shutdown =
            || async { Event::Shutdown(shutdowns.recv().await.unwrap_or(Duration::MAX)) };
        let permits = Arc::new(Semaphore::new(settings.max_connections.get()));
        let (reset, resetting) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded(1);
        let recall = Recall::new();
        let shared = Arc::new(Serving { handlers, settings, resetting, recall });

        let mut out_of_fds = false;
        let (grace, end) = loop {
            let was_out_of_fds = mem::take(&mut out_of_fds);
            let accept = async {
                if was_out_of_fds {
                    Timer::after(RETRY_DELAY).await;
                }
                let permit = match permits.try_acquire_arc() {
                    Some(permit) => permit,
                    None => {
                        shared.recall.set_crowded(true);
                        permits.acquire_arc().await
                    }
                };
                shared.recall.set_crowded(was_out_of_fds);
                let mut tries = 0;
                let accept = |listener: &TcpListener| {
                    tries += 1;
                    backlog.accept(listener, BlockingMode::Never)
                };
                let accepted = listener.read_with(accept).await;
                Event::Accept { accepted, waited: tries > 1, permit }
            };
            match future::or(shutdown(), accept).await {
                Event::Accept { accepted: Ok((socket, peer)), waited, permit } => {
                    let timeouts = &shared.settings.config.timeouts;
                    // Without it the connection lasts longer than it need, and is served all the same.
                    _ = tcp::keep_alive_without_idle_timeout(&socket, timeouts);
                    let connection = shared.settings.open(Socket::armed(socket, peer));
                    let (shared, alive) = (Arc::clone(&shared), alive.clone());
                    serve(Accepted { connection, shared, _alive: alive, _permit: permit });
                    if waited {
                        // The accept queue was empty: the new connection should run first.
                        future::yield_now().await;
                    }
                }
                Event::Accept { accepted: Err(error), .. } => match AcceptError::from(&error) {
                    AcceptError::Next => {}
                    AcceptError::Later => {
                        out_of_fds = true;
                        if !was_out_of_fds {
                            let error = Error::Accept { source: Arc::new(error) };
                            shared.report(Err(trace_server_error(error)));
                        }
                    }
                    AcceptError::Fatal => match shutdowns.try_recv() {
                        Ok(grace) => break (grace, Ok(())), // the shutdown is why it failed
                        Err(_) => {
                            let error = trace_server_error(Error::listen(error));
                            break (Duration::MAX, Err(error));
                        }
                    },
                },
                Event::Shutdown(grace) => break (grace, Ok(())),
                Event::Deadline | Event::AllGone => {}
            }
        };

        drop((listener, alive));
        shared.recall.close();
        let mut deadline = Instant::now().checked_add(grace);
        loop {
            let all_gone = async {
                _ = gone.recv().await;
                Event::AllGone
            };
            let at_deadline = async {
                deadline.map_or_else(Timer::never, Timer::at).await;
                Event::Deadline
            };
            match future::or(all_gone, future::or(shutdown(), at_deadline)).await {
                Event::AllGone => return end,
                Event::Shutdown(grace) => deadline = Instant::now().checked_add(grace),
                Event::Deadline => {
                    reset.close();
                    deadline = None;
                }
                Event::Accept { .. } => {}
            }
        }
    }
}

impl<K: Kind> fmt::Debug for Server<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.address)
            .field("config", &self.settings.config)
            .field("max_connections", &self.settings.max_connections)
            .finish_non_exhaustive()
    }
}

enum Event {
    Accept {
        accepted: io::Result<(OwnedFd, SocketAddr)>,
        /// The accept queue was empty at the first try.
        waited: bool,
        permit: SemaphoreGuardArc,
    },
    Shutdown(Duration),
    Deadline,
    AllGone,
}

/// What the connections of a server share.
struct Serving<K: Kind> {
    handlers: Handlers<K>,
    settings: Settings,
    /// Closed when the remaining connections are to be reset.
    resetting: Receiver<Never>,
    recall: Recall,
}

/// What a connection does.
#[derive(Clone, Copy)]
enum Progress {
    /// It is served. The start packet may not be known yet.
    Object(Option<StartPacket>),
    /// It waits for its next object.
    Waits,
}

impl Progress {
    const fn of(packet: StartPacket) -> Self {
        Self::Object(Some(packet))
    }
}

/// A connection that is not served yet.
struct Accepted<K: Kind> {
    /// On the heap, so that the future of a connection is small.
    connection: Connection,
    shared: Arc<Serving<K>>,
    _alive: Sender<Never>,
    _permit: SemaphoreGuardArc,
}

/// A connection, as small as it can be while it waits for its start packet.
enum Connection {
    Open(Box<Driver>),
    #[cfg(feature = "rustls")]
    Handshake(Box<Handshake>),
}

#[cfg(feature = "rustls")]
struct Handshake {
    peer: Option<SocketAddr>,
    driver: BoxFuture<'static, io::Result<Box<Driver>>>,
}

impl Connection {
    fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Open(driver) => driver.transport.peer_addr(),
            #[cfg(feature = "rustls")]
            Self::Handshake(handshake) => handshake.peer,
        }
    }

    async fn driver(self) -> io::Result<Box<Driver>> {
        match self {
            Self::Open(driver) => Ok(driver),
            #[cfg(feature = "rustls")]
            Self::Handshake(handshake) => handshake.driver.await,
        }
    }
}

impl Settings {
    fn open(&self, socket: Socket) -> Connection {
        let (config, accepted_at) = (self.config, now());
        #[cfg(feature = "rustls")]
        if let Some(tls) = self.tls.clone() {
            let timeout = config.timeouts.start.unwrap_or(Duration::MAX);
            let peer = socket.peer_addr();
            let driver = Box::pin(async move {
                let stream = TlsStream::server(socket, tls, timeout).await?;
                Ok(Driver::server(stream, &config, accepted_at))
            });
            return Connection::Handshake(Box::new(Handshake { peer, driver }));
        }
        Connection::Open(Driver::server(socket, &config, accepted_at))
    }
}

impl<K: Kind> Accepted<K> {
    async fn serve(self) {
        let (shared, peer) = (&self.shared, self.connection.peer_addr());
        let trace = Trace::accepted(peer);
        let given_up_object = trace.object(); // for one whose own trace is dropped with its future
        let progress = Mutex::new(Progress::Object(None));
        // The block makes and drops what the application's futures hold. A panic there is the application's.
        let serve = async {
            let object = trace.object();
            let mut driver = match self.connection.driver().await {
                Ok(driver) => driver,
                Err(error) => {
                    let outcome = Err(Error::Handshake { peer, source: Arc::new(error) });
                    object.done(&outcome, None);
                    shared.report(outcome);
                    return None;
                }
            };
            let begun = driver.run(Goal::Start).await;
            // On the heap: a connection that waits for its start packet should not hold so much.
            let serve = shared.handlers.serve_begun(
                driver,
                begun,
                (&trace, object),
                &shared.settings.config,
                Some(&shared.recall),
                |packet| *lock(&progress) = packet.map_or(Progress::Waits, Progress::of),
                |outcome| shared.report(outcome),
            );
            Box::pin(trace.instrument(serve)).await;
            None
        };
        let reset = async {
            _ = shared.resetting.recv().await;
            Some("the server is stopping")
        };
        let served = AssertUnwindSafe(future::or(reset, serve)).catch_unwind().await;
        let given_up = served.unwrap_or_else(|payload| {
            drop_panic_payload(payload);
            Some("the application panicked")
        });
        let progress = *lock(&progress);
        if let (Some(reason), Progress::Object(packet)) = (given_up, progress) {
            let outcome = Err(Error::aborted(peer, packet, reason, None));
            given_up_object.done(&outcome, None);
            shared.report(outcome);
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kind> Serving<K> {
    fn report(&self, outcome: Result<Receipt, Error>) {
        match &self.settings.on_complete {
            Some(on_complete) => _ = catch_application_panic(|| on_complete(outcome)),
            None => drop_application_value(outcome),
        }
    }
}

/// Shuts a [`Server`] down, for example from a signal handler; from [`Server::shutdown_handle`]. Take it before
/// [`Server::run`].
///
/// ```
/// use std::time::Duration;
///
/// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
/// let handle = server.shutdown_handle();
/// let running = smol::spawn(server.run(|connection| smol::spawn(connection).detach()));
/// handle.shutdown(Duration::from_secs(30));
/// smol::block_on(running)?;
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    shutdown: Sender<Duration>,
    listener: Weak<Async<TcpListener>>,
}

impl ShutdownHandle {
    /// Stops accepting at once, lets running transfers end by themselves for this long, and then resets
    /// them and drops their handlers. [`Server::run`] is ready when all have ended.
    ///
    /// If it is called again, the last grace period counts.
    ///
    /// ```
    /// # let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// server.shutdown_handle().shutdown(std::time::Duration::from_secs(30));
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn shutdown(&self, grace: Duration) {
        // Both fail only if the server has ended, or is shutting down already.
        _ = self.shutdown.try_send(grace);
        _ = self.listener.upgrade().map(tcp::stop_listening);
    }
}
