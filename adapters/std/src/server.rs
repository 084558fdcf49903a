//! The server: threads that accept, and serve what they accepted.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use dataserver_adapter::tcp::{self, AcceptError};
use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Entry};
use rustix::net::Shutdown;

use crate::handlers::Handlers;
use crate::object::{Receiver, Sender};
use crate::stream::{Signal, Socket};

/// How many connections are served at once, unless [`Server::max_connections`] says otherwise.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long to leave the listener alone when the system has no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

type Report = dyn Fn(io::Result<Receipt>) + Send + Sync;

/// A TCP server. [`run`](Self::run) serves until a [`StopHandle`] ends it.
///
/// Each connection has a thread while it lasts. Threads are kept for the next ones, and there are at
/// most [`max_connections`](Self::max_connections) of them: further clients wait, unaccepted.
///
/// ```
/// use std::io;
/// use dataserver_std::{Client, Key, Server, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_put(packet, |object| io::copy(object, &mut io::sink()))?;
///
/// let (address, stop) = (server.local_addr()?, server.stop_handle());
/// let running = std::thread::spawn(move || server.run());
/// assert_eq!(Client::new(address).put(packet)?.send(b"hello, world")?.bytes, 12);
///
/// stop.stop(std::time::Duration::from_secs(5));
/// running.join().unwrap()?;
/// # Ok::<(), io::Error>(())
/// ```
pub struct Server {
    handlers: Handlers,
    config: Config,
    max_connections: NonZeroUsize,
    report: Option<Box<Report>>,
    shared: Arc<Shared>,
}

struct Shared {
    listener: TcpListener,
    state: Mutex<State>,
    /// A thread has ended, or the server is to stop.
    changed: Condvar,
    /// Raised when what still runs is to be reset.
    reset: Arc<Signal>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// Those of the threads that wait for a connection.
    idle: usize,
    /// The system had no descriptor for the last connection.
    short: bool,
    stop: Option<Stopping>,
    /// Why the listener gave up.
    fatal: Option<io::Error>,
}

/// What still runs may end by itself until then; `None` for as long as it takes.
struct Stopping {
    deadline: Option<Instant>,
}

impl Server {
    /// Listens at this address. Port 0 lets the system choose one: see
    /// [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    /// What the system says, such as that the address is in use.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::from_listener(TcpListener::bind(address)?)
    }

    /// Serves a listener that is there already. Stopping the server shuts the listener down, also
    /// for others that may hold it.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let server = dataserver_std::Server::from_listener(listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_listener(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        tcp::prepare(&listener)?;
        let shared = Shared {
            listener,
            state: Mutex::default(),
            changed: Condvar::new(),
            reset: Arc::new(Signal::new()?),
        };
        Ok(Self {
            handlers: Handlers::default(),
            config: Config::default(),
            max_connections: MAX_CONNECTIONS,
            report: None,
            shared: Arc::new(shared),
        })
    }

    /// Other chunks, limits and timeouts than the default.
    ///
    /// ```
    /// use dataserver_std::{Config, Server};
    ///
    /// let config = Config { limit: 1 << 30, ..Config::default() }; // puts of at most 1 GiB
    /// let server = Server::bind("127.0.0.1:0")?.config(config);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// How many connections are served at once, and so how many threads there are at most. Further
    /// clients wait until one is free. Default 1024.
    ///
    /// ```
    /// let few = std::num::NonZeroUsize::new(16).unwrap();
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?.max_connections(few);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn max_connections(self, max_connections: NonZeroUsize) -> Self {
        Self { max_connections, ..self }
    }

    /// Tells how each connection ended, from the thread that served it: for a log.
    ///
    /// [`Error::Accept`] tells, once, that the system has no descriptor for the next connection.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?.report(|outcome| match outcome {
    ///     Ok(receipt) => println!("{receipt}"),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn report(self, report: impl Fn(io::Result<Receipt>) + Send + Sync + 'static) -> Self {
        Self { report: Some(Box::new(report)), ..self }
    }

    /// [`Handlers::on_put`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_std::{Key, Server, StartPacket};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.on_put(StartPacket::put(Key::from_name("start")), |object| {
    ///     std::io::copy(object, &mut std::io::sink())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_put<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(&mut Receiver) -> io::Result<T> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_put(entry, handler)
    }

    /// [`Handlers::on_get`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_std::{Key, Server, StartPacket};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// server.on_get(packet, |object| object.send(b"hello, world"))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_get<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(&mut Sender) -> io::Result<T> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.handlers.on_get(entry, handler)
    }

    /// The table that this server serves from, to register and remove entries while it runs.
    ///
    /// ```
    /// let handlers = dataserver_std::Server::bind("127.0.0.1:0")?.handlers().clone();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// Where this server listens.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.listener.local_addr()
    }

    /// What stops this server, from any thread.
    ///
    /// ```
    /// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// server.stop_handle().stop(std::time::Duration::ZERO);
    /// server.run()?; // returns at once
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until it is stopped, and returns when all its threads have ended.
    ///
    /// # Errors
    /// What the system says of the listener, if that is why it ended.
    ///
    /// ```no_run
    /// dataserver_std::Server::bind("127.0.0.1:8089")?.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn run(self) -> io::Result<()> {
        thread::scope(|scope| {
            self.shared.lock().threads = 1;
            thread::Builder::new().spawn_scoped(scope, || self.work(scope))?;
            self.shared.wait_for_the_end()
        })
    }

    /// Serves one connection after another.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        while let Some((stream, peer)) =
            self.shared.accept(|error| self.report_end(Err(error.into())))
        {
            if self.shared.needs_another(self.max_connections) {
                let another = thread::Builder::new().spawn_scoped(scope, || self.work(scope));
                if another.is_err() {
                    self.shared.thread_ended(); // this one goes on accepting when it is done
                }
            }
            // A panic here is one of the application's report: it must not cost a thread.
            let _reported = catch_unwind(AssertUnwindSafe(|| {
                self.report_end(self.serve(stream, peer));
            }));
        }
        self.shared.thread_ended();
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<Receipt> {
        let socket = stream
            .set_nonblocking(true)
            .and_then(|()| Socket::armed(stream.into(), peer, Some(Arc::clone(&self.shared.reset))))
            .map_err(|source| Error::Accept { source: Arc::new(source) })?;
        self.handlers.serve(socket, &self.config)
    }

    fn report_end(&self, outcome: io::Result<Receipt>) {
        if let Some(report) = &self.report {
            report(outcome);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next connection. `None` when the server is to stop.
    fn accept(&self, report: impl Fn(Error)) -> Option<(TcpStream, SocketAddr)> {
        self.lock().idle += 1;
        loop {
            let accepted = self.listener.accept();
            let mut state = self.lock();
            let error = match accepted {
                Ok(accepted) => {
                    state.idle -= 1;
                    state.short = false;
                    return Some(accepted);
                }
                Err(error) => error,
            };
            if state.stop.is_some() {
                return None;
            }
            match AcceptError::from(&error) {
                AcceptError::Next => {}
                AcceptError::Later => {
                    if !mem::replace(&mut state.short, true) {
                        drop(state);
                        report(Error::Accept { source: Arc::new(error) });
                        state = self.lock();
                    }
                    drop(self.changed.wait_timeout(state, PAUSE));
                }
                AcceptError::Fatal => {
                    state.fatal = Some(error);
                    self.stop(state, Stopping { deadline: None });
                    return None;
                }
            }
        }
    }

    /// Whether nobody is left to accept, though there may be more threads: counts one in.
    fn needs_another(&self, limit: NonZeroUsize) -> bool {
        let mut state = self.lock();
        let needed = state.idle == 0 && state.threads < limit.get() && state.stop.is_none();
        state.threads += usize::from(needed);
        needed
    }

    fn thread_ended(&self) {
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// Stops accepting: wakes the threads that wait in `accept`.
    fn stop(&self, mut state: MutexGuard<'_, State>, stopping: Stopping) {
        if state.stop.replace(stopping).is_none() {
            if let Err(error) = rustix::net::shutdown(&self.listener, Shutdown::Both) {
                state.fatal.get_or_insert(error.into());
            }
        }
        self.changed.notify_all();
    }

    fn wait_for_the_end(&self) -> io::Result<()> {
        let mut state = self.lock();
        while state.threads > 0 {
            let deadline = state.stop.as_ref().and_then(|stop| stop.deadline);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.reset.raise()?;
            }
            let left = left.filter(|left| !left.is_zero()).unwrap_or(Duration::MAX);
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.fatal.take().map_or(Ok(()), Err)
    }
}

/// Stops a [`Server`]; from [`Server::stop_handle`].
///
/// ```
/// use std::time::Duration;
///
/// let server = dataserver_std::Server::bind("127.0.0.1:0")?;
/// let stop = server.stop_handle();
/// let running = std::thread::spawn(|| server.run());
/// stop.stop(Duration::from_secs(30));
/// running.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

impl StopHandle {
    /// Stops accepting at once, lets the transfers that run end by themselves for so long, and then
    /// resets them. [`Server::run`] returns when all threads have ended: a handler that waits for
    /// something else than its object is waited for.
    ///
    /// Said again, the last word counts.
    ///
    /// ```
    /// # let server = dataserver_std::Server::bind("127.0.0.1:0")?;
    /// server.stop_handle().stop(std::time::Duration::from_secs(30));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(&self, grace: Duration) {
        let deadline = Instant::now().checked_add(grace);
        self.shared.stop(self.shared.lock(), Stopping { deadline });
    }
}
