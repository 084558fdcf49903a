//! The server: threads that accept, and serve what they accepted.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_adapter::tcp::AcceptError;
use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Entry};

use crate::handlers::Handlers;
use crate::listener::Listener;
use crate::object::{Receiver, Sender};
use crate::report::{Report, Reporter};
use crate::stream::{Signal, Socket};

/// How many connections are served at once, unless [`Server::max_connections`] says otherwise.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long to leave the listener alone when the system has no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// How many threads per processor wait for connections at most, and are enough as long as they keep
/// taking some: more would only take turns at the same processors.
const KEPT: usize = 4;

/// How long all threads may be busy before their progress is looked at.
const WATCH: Duration = Duration::from_millis(1);

/// A TCP server. [`run`](Self::run) serves until a [`StopHandle`] ends it.
///
/// Each connection has a thread while it lasts. A few threads are kept for the next ones; where all
/// are busy for longer than a moment, there will be more, up to
/// [`max_connections`](Self::max_connections): further clients wait, unaccepted.
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
    listener: Listener,
    /// [`KEPT`], for all processors.
    kept: usize,
    state: Mutex<State>,
    /// No thread is idle, one has ended, or the server is to stop.
    changed: Condvar,
    /// Raised when what still runs is to be reset.
    reset: Arc<Signal>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// Those of the threads that wait for a connection.
    idle: usize,
    /// How many connections have been taken.
    taken: u64,
    /// The supervisor need not be told that no thread is idle.
    watched: bool,
    /// When the system began to have no descriptor for the next connection.
    short_since: Option<Instant>,
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

    /// Serves a listener that is there already, and is the server's from now on: its options change,
    /// and stopping the server shuts it down, also for others that may hold it.
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
        let shared = Shared {
            listener: Listener::new(listener)?,
            kept: KEPT * thread::available_parallelism().map_or(1, NonZeroUsize::get),
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
    /// Whoever connects and says nothing has a place until the start timeout. Where more such peers may
    /// come than there are places, they keep the others out, and it takes more places: each is a thread
    /// that waits, and a descriptor, of which the system may have to grant more (`RLIMIT_NOFILE`).
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

    /// Tells how each connection ended, one after the other, from a thread of its own: for a log. No
    /// connection waits for it. If more than a thousand reports wait to be taken, further ones are
    /// counted, and [`Error::Unreported`] tells their number.
    ///
    /// [`Error::Accept`] tells, once, that the system has no descriptor or thread for the next
    /// connection.
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
        StopHandle { shared: Arc::downgrade(&self.shared) }
    }

    /// Serves until it is stopped, and returns when all its threads have ended.
    ///
    /// # Errors
    /// An [`Error::Listen`], if that is why it ended.
    ///
    /// ```no_run
    /// dataserver_std::Server::bind("127.0.0.1:8089")?.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn run(self) -> io::Result<()> {
        let Self { handlers, config, max_connections, report, shared } = self;
        let reporter = report.map(Reporter::start).transpose()?;
        let report = |outcome| {
            if let Some(reporter) = &reporter {
                reporter.report(outcome);
            }
        };
        // Serves one connection after another.
        let work = || {
            let _ended = ThreadEnd(&shared);
            while let Some((socket, peer)) = shared.accept(report) {
                let socket = Socket::armed(socket, peer, Some(Arc::clone(&shared.reset)));
                report(handlers.serve(socket, &config));
            }
        };
        let ended = thread::scope(|scope| {
            let spawn = || thread::Builder::new().spawn_scoped(scope, work).map(drop);
            shared.lock().threads = 1;
            spawn()?;
            shared.supervise(max_connections.get(), spawn, report)
        });
        drop(shared); // from here on, clients are refused
        if let Some(reporter) = reporter {
            reporter.finish();
        }
        ended
    }
}

/// A thread has ended, even if it panicked.
struct ThreadEnd<'a>(&'a Shared);

impl Drop for ThreadEnd<'_> {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next connection. `None` when the server is to stop.
    fn accept(&self, report: impl Fn(io::Result<Receipt>)) -> Option<(OwnedFd, SocketAddr)> {
        {
            let mut state = self.lock();
            if state.idle >= self.kept {
                return None;
            }
            state.idle += 1;
        }
        loop {
            let accepted = self.listener.accept();
            let mut state = self.lock();
            let error = match accepted {
                Ok(accepted) => {
                    state.idle -= 1;
                    state.taken += 1;
                    // A connection that was taken just before does not say that there are some again.
                    state.short_since.take_if(|since| since.elapsed() > PAUSE);
                    if state.idle == 0 && !mem::replace(&mut state.watched, true) {
                        self.changed.notify_all();
                    }
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
                    if state.short_since.is_none() {
                        state.short_since = Some(Instant::now());
                        drop(state);
                        report(Err(Error::Accept { source: Arc::new(error) }.into()));
                        state = self.lock();
                    }
                    drop(self.changed.wait_timeout(state, PAUSE));
                }
                AcceptError::Fatal => {
                    state.fatal = Some(Error::Listen { source: Arc::new(error) }.into());
                    self.stop(state, Stopping { deadline: None });
                    return None;
                }
            }
        }
    }

    fn thread_ended(&self) {
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// Stops accepting: wakes the threads that wait in `accept`.
    fn stop(&self, mut state: MutexGuard<'_, State>, stopping: Stopping) {
        if state.stop.replace(stopping).is_none() {
            self.listener.stop();
        }
        self.changed.notify_all();
    }

    /// Adds threads where there are too few, and returns when all have ended.
    fn supervise(
        &self,
        limit: usize,
        spawn: impl Fn() -> io::Result<()>,
        report: impl Fn(io::Result<Receipt>),
    ) -> io::Result<()> {
        let mut more = 1;
        let mut no_thread = false; // could be made when one was wanted last
        let mut state = self.lock();
        while state.threads > 0 {
            let deadline = state.stop.as_ref().and_then(|stop| stop.deadline);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.reset.raise()?;
            }
            let left = left.filter(|left| !left.is_zero()).unwrap_or(Duration::MAX);
            let may_grow = state.stop.is_none() && state.threads < limit;
            let watch = may_grow && state.idle == 0;
            state.watched = watch || !may_grow;
            let taken = state.taken;
            let left = match (watch, no_thread) {
                (true, false) => WATCH,
                (true, true) => PAUSE,
                (false, _) => left,
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;

            // That all are busy is as it should be, unless they hardly get anything done.
            let busy = state.threads >= self.kept && state.taken - taken >= self.kept as u64;
            if !watch || state.idle > 0 || state.stop.is_some() || busy {
                more = 1;
                continue;
            }
            let wanted = more.min(limit - state.threads);
            state.threads += wanted;
            drop(state);
            let failed = (0..wanted).find_map(|made| spawn().err().map(|error| (made, error)));
            let had_no_thread = mem::replace(&mut no_thread, failed.is_some());
            more = (2 * more).min(64); // the longer it takes, the more they are
            if let Some((made, error)) = failed {
                (made..wanted).for_each(|_| self.thread_ended());
                more = 1;
                if !had_no_thread {
                    report(Err(Error::Accept { source: Arc::new(error) }.into()));
                }
            }
            state = self.lock();
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
    shared: Weak<Shared>,
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
        if let Some(shared) = self.shared.upgrade() {
            shared.stop(shared.lock(), Stopping { deadline });
        } // else the server is gone
    }
}
