//! The server: accepts, and gives each connection to an executor.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver as Inbox, Sender as Outbox};
use async_io::{Async, Timer};
use async_lock::{Semaphore, SemaphoreGuardArc};
use dataserver_adapter::tcp::{self, AcceptError, Backlog, Waits};
use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Entry, LocalError};
use futures_lite::{FutureExt, future};

use crate::handlers::{BoxFuture, Handlers, Kind, Local, LocalBoxFuture, Shared};
use crate::object::{Receiver, Sender};
use crate::stream::{Socket, Stream};

/// How many connections are served at once, unless [`Server::max_connections`] says otherwise.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// How long to leave the listener alone when the system has no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

type Report = dyn Fn(io::Result<Receipt>) + Send + Sync;

/// A TCP server. [`run`](Self::run) accepts until a [`StopHandle`] ends it, and hands each
/// connection to an executor, whichever that is.
///
/// ```
/// use dataserver_smol::{Client, Key, Server, StartPacket};
/// use futures_lite::{future, io};
/// use std::time::Duration;
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_put(packet, |object| Box::pin(io::copy(object, io::sink())))?;
///
/// let (address, stop) = (server.local_addr()?, server.stop_handle());
/// let executor = smol::Executor::new();
/// let run = server.run(|connection| executor.spawn(connection).detach());
/// let put = async {
///     let receipt = Client::new(address).put(packet).await?.send(b"hello, world").await?;
///     assert_eq!(receipt.bytes, 12);
///     stop.stop(Duration::from_secs(5));
///     Ok(())
/// };
/// smol::block_on(executor.run(future::try_zip(run, put)))?;
/// # Ok::<(), io::Error>(())
/// ```
pub struct Server<K: Kind = Shared> {
    listener: Arc<Async<TcpListener>>,
    backlog: Backlog,
    handlers: Handlers<K>,
    settings: Settings,
    stop: (Outbox<Grace>, Inbox<Grace>),
}

/// What all connections share, beside the handlers.
struct Settings {
    config: Config,
    max_connections: NonZeroUsize,
    report: Option<Box<Report>>,
}

/// How long running transfers may go on once the server is to stop.
type Grace = Duration;

/// Nothing is ever sent through it: it is the end of the channel that tells.
enum Never {}

impl Server {
    /// Listens at this address. Port 0 lets the system choose one: see
    /// [`local_addr`](Self::local_addr). A name is looked up on this thread.
    ///
    /// # Errors
    /// What the system says, such as that the address is in use.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::from_listener(TcpListener::bind(address)?)
    }

    /// Serves a listener that is there already, and is the server's from now on: its options change,
    /// and stopping the server shuts it down, also for others that may hold it.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let server = dataserver_smol::Server::from_listener(listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_listener(listener: TcpListener) -> io::Result<Self> {
        Self::with_handlers(listener, Handlers::new())
    }

    /// [`Handlers::on_put`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_smol::{Key, Server, StartPacket};
    /// use futures_lite::io;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_put(StartPacket::put(Key::from_name("start")), |object| {
    ///     Box::pin(io::copy(object, io::sink()))
    /// })?;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn on_put<T: 'static>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Receiver) -> BoxFuture<'a, io::Result<T>>
        + Send
        + Sync
        + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_put(entry, handler)
    }

    /// [`Handlers::on_get`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_smol::{Key, Server, StartPacket};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// server.on_get(packet, |object| Box::pin(object.send(b"hello, world")))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_get<T: 'static>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Sender) -> BoxFuture<'a, io::Result<T>> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_get(entry, handler)
    }

    /// Serves until it is stopped, and is ready when all its connections have ended. `spawn` runs
    /// each connection, as a task of its own on any executor.
    ///
    /// Where this future is dropped, the server stops accepting, and resets the connections it has.
    ///
    /// # Errors
    /// An [`Error::Listen`], if that is why it ended.
    ///
    /// ```no_run
    /// let server = dataserver_smol::Server::bind("127.0.0.1:8089")?;
    /// smol::block_on(server.run(|connection| smol::spawn(connection).detach()))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn run(self, spawn: impl Fn(BoxFuture<'static, ()>)) -> io::Result<()> {
        self.accept_all(|accepted| spawn(Box::pin(accepted.serve()))).await
    }
}

impl Server<Local> {
    /// [`Server::run`] for handlers that stay on this thread.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```no_run
    /// use dataserver_smol::{Handlers, Server};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:8089")?;
    /// let server = Server::with_handlers(listener, Handlers::local())?;
    /// let executor = smol::LocalExecutor::new();
    /// let run = server.run(|connection| executor.spawn(connection).detach());
    /// smol::block_on(executor.run(run))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn run(self, spawn: impl Fn(LocalBoxFuture<'static, ()>)) -> io::Result<()> {
        self.accept_all(|accepted| spawn(Box::pin(accepted.serve()))).await
    }
}

impl<K: Kind> Server<K> {
    /// Serves a listener from a table that is there already, such as one of
    /// [local](Handlers::local) handlers.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Server};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let server = Server::with_handlers(listener, Handlers::local())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_handlers(listener: TcpListener, handlers: Handlers<K>) -> io::Result<Self> {
        let backlog = Backlog::of(&listener)?;
        let settings =
            Settings { config: Config::default(), max_connections: MAX_CONNECTIONS, report: None };
        let listener = Arc::new(Async::new(listener)?);
        Ok(Self { listener, backlog, handlers, settings, stop: async_channel::unbounded() })
    }

    /// Other chunks, limits and timeouts than the default.
    ///
    /// ```
    /// use dataserver_smol::{Config, Server};
    ///
    /// let config = Config { limit: 1 << 30, ..Config::default() }; // puts of at most 1 GiB
    /// let server = Server::bind("127.0.0.1:0")?.config(config);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.settings.config = config;
        self
    }

    /// How many connections are served at once. Further clients wait, unaccepted. Default 16,384.
    ///
    /// Whoever connects and says nothing has a place until the start timeout. Where more such peers may
    /// come than there are places, they keep the others out. Each takes a descriptor, of which the
    /// system may have to grant more than it does (`RLIMIT_NOFILE`).
    ///
    /// ```
    /// let few = std::num::NonZeroUsize::new(16).unwrap();
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?.max_connections(few);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn max_connections(mut self, max_connections: NonZeroUsize) -> Self {
        self.settings.max_connections = max_connections;
        self
    }

    /// Tells how each connection ended, from the task that served it: for a log. Like all code on an
    /// executor, it must not block.
    ///
    /// [`Error::Accept`] tells, once, that the system has no descriptor for the next connection.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?.report(|outcome| match outcome {
    ///     Ok(receipt) => println!("{receipt}"),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn report(mut self, report: impl Fn(io::Result<Receipt>) + Send + Sync + 'static) -> Self {
        self.settings.report = Some(Box::new(report));
        self
    }

    /// The table that this server serves from, to register and remove entries while it runs.
    ///
    /// ```
    /// let handlers = dataserver_smol::Server::bind("127.0.0.1:0")?.handlers().clone();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handlers(&self) -> &Handlers<K> {
        &self.handlers
    }

    /// Where this server listens.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// What stops this server, from any thread.
    ///
    /// ```
    /// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// server.stop_handle().stop(std::time::Duration::ZERO);
    /// smol::block_on(server.run(|connection| smol::spawn(connection).detach()))?; // at once
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { stop: self.stop.0.clone(), listener: Arc::downgrade(&self.listener) }
    }

    /// Accepts until it is to stop, then waits for the connections, and at last resets them.
    async fn accept_all(self, serve: impl Fn(Accepted<K>)) -> io::Result<()> {
        let Self { listener, backlog, handlers, settings, stop: (_open, stops) } = self;
        let stop = || async { Event::Stop(stops.recv().await.unwrap_or(Grace::MAX)) };
        let permits = Arc::new(Semaphore::new(settings.max_connections.get()));
        let (reset, resetting) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded(1);
        let shared = Arc::new(Serving { handlers, settings, resetting });

        let mut short = false; // of descriptors
        let (grace, end) = loop {
            let was_short = mem::take(&mut short);
            let accept = async {
                if was_short {
                    Timer::after(PAUSE).await;
                }
                let permit = permits.acquire_arc().await;
                let mut tries = 0;
                let accept = |listener: &TcpListener| {
                    tries += 1;
                    backlog.accept(listener, Waits::Never)
                };
                let accepted = listener.read_with(accept).await;
                Event::Accept { accepted, waited: tries > 1, permit }
            };
            match future::or(stop(), accept).await {
                Event::Accept { accepted: Ok((socket, peer)), waited, permit } => {
                    let socket = Socket::armed(socket, peer);
                    let (shared, alive) = (Arc::clone(&shared), alive.clone());
                    serve(Accepted { socket, shared, _alive: alive, _permit: permit });
                    if waited {
                        // Nobody else came before it, nor is likely to have since: it goes first.
                        future::yield_now().await;
                    }
                }
                Event::Accept { accepted: Err(error), .. } => match AcceptError::from(&error) {
                    AcceptError::Next => {}
                    AcceptError::Later => {
                        short = true;
                        if !was_short {
                            shared.report(Err(Error::Accept { source: Arc::new(error) }.into()));
                        }
                    }
                    AcceptError::Fatal => match stops.try_recv() {
                        Ok(grace) => break (grace, Ok(())), // said since: that is why it failed
                        Err(_) => {
                            let error = Error::Listen { source: Arc::new(error) };
                            break (Grace::MAX, Err(error.into()));
                        }
                    },
                },
                Event::Stop(grace) => break (grace, Ok(())),
                Event::TooLate | Event::AllGone => {}
            }
        };

        drop((listener, alive));
        let mut deadline = Instant::now().checked_add(grace);
        loop {
            let all_gone = async {
                _ = gone.recv().await;
                Event::AllGone
            };
            let too_late = async {
                deadline.map_or_else(Timer::never, Timer::at).await;
                Event::TooLate
            };
            match future::or(all_gone, future::or(stop(), too_late)).await {
                Event::AllGone => return end,
                Event::Stop(grace) => deadline = Instant::now().checked_add(grace),
                Event::TooLate => {
                    reset.close();
                    deadline = None;
                }
                Event::Accept { .. } => {}
            }
        }
    }
}

enum Event {
    Accept {
        accepted: io::Result<(OwnedFd, SocketAddr)>,
        /// For the peer: none was there at the first try.
        waited: bool,
        permit: SemaphoreGuardArc,
    },
    Stop(Grace),
    TooLate,
    AllGone,
}

/// What the connections of a server share.
struct Serving<K: Kind> {
    handlers: Handlers<K>,
    settings: Settings,
    /// Closed when what still runs is to be reset.
    resetting: Inbox<Never>,
}

/// A connection that nobody serves yet.
struct Accepted<K: Kind> {
    socket: Socket,
    shared: Arc<Serving<K>>,
    _alive: Outbox<Never>,
    _permit: SemaphoreGuardArc,
}

impl<K: Kind> Accepted<K> {
    async fn serve(self) {
        let (shared, peer) = (&self.shared, self.socket.peer());
        let serve = shared.handlers.serve(self.socket, &shared.settings.config);
        let reset = async {
            _ = shared.resetting.recv().await;
            let cause = LocalError::Aborted { reason: "the server is stopping" }.into();
            Err(Error::Transfer { peer, packet: None, cause, source: None }.into())
        };
        // The block drops what the application's futures hold, in which a panic is the application's.
        let served =
            AssertUnwindSafe(async { future::or(reset, serve).await }).catch_unwind().await;
        shared.report(served.unwrap_or_else(|_panic| {
            let cause = LocalError::Aborted { reason: "the application panicked" }.into();
            Err(Error::Transfer { peer, packet: None, cause, source: None }.into())
        }));
    }
}

impl<K: Kind> Serving<K> {
    fn report(&self, outcome: io::Result<Receipt>) {
        if let Some(report) = &self.settings.report {
            // A panic in there is the application's, and must not cost the executor.
            _ = catch_unwind(AssertUnwindSafe(|| report(outcome)));
        }
    }
}

/// Stops a [`Server`]; from [`Server::stop_handle`].
///
/// ```
/// use std::time::Duration;
///
/// let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
/// let stop = server.stop_handle();
/// let running = smol::spawn(server.run(|connection| smol::spawn(connection).detach()));
/// stop.stop(Duration::from_secs(30));
/// smol::block_on(running)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopHandle {
    stop: Outbox<Grace>,
    listener: Weak<Async<TcpListener>>,
}

impl StopHandle {
    /// Stops accepting at once, lets the transfers that run end by themselves for so long, and then
    /// resets them, wherever their handlers are. [`Server::run`] is ready when all have ended.
    ///
    /// Said again, the last word counts.
    ///
    /// ```
    /// # let server = dataserver_smol::Server::bind("127.0.0.1:0")?;
    /// server.stop_handle().stop(std::time::Duration::from_secs(30));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(&self, grace: Duration) {
        // These can only fail where the server is gone, or stopping, already.
        _ = self.stop.try_send(grace);
        _ = self.listener.upgrade().map(tcp::stop_listening);
    }
}
