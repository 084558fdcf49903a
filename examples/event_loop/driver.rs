//! A complete server, and a client, on one thread: this is the file to copy.
//!
//! A slab holds the connections, an ordered set their alarms, and all of them share one buffer. The core
//! says what each connection waits for, and the poller says when the socket is ready:
//!
//! | the step | wait for | then |
//! |---|---|---|
//! | `Read`, `Receive`, `AwaitEnd` | readable | read once, and report |
//! | `Write`, `Send` | writable | write once, and report |
//! | `Decide`, `Offer`, `Peek`, `Commit`, `Shutdown` | nothing | do it at once |
//! | `Done` | nothing | disarm after a success, and drop; or go on with the next framed object |
//!
//! A connection has a turn when its socket is ready, and when its alarm goes off. A turn always tries the
//! step. If the socket is not ready, the turn ends: the driver reports that to the core, registers the
//! socket with the poller, and sets the alarm to the core's deadline, since a socket can have room long
//! before it counts as writable. If a turn ends because other connections should have theirs, the driver
//! sets the alarm to the current time.
//!
//! Readiness is one-shot: an event removes the interest in a socket, and the driver registers it again
//! after the turn, for what its new step waits for. So there is at most one event for each connection, and
//! a busy connection receives no spurious events.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant as StdInstant};

use dataserver_common::socket;
use dataserver_common::tcp::{self, AcceptError, Backlog, BlockingMode};
use dataserver_core::{
    Cause, Config, Connection, Delivery, Direction, Instant, Lease, Refusal, Registry, StartPacket,
    Step,
};
use polling::{Event, Events, Poller};
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

/// The poller's key of the listener.
const LISTENER: usize = usize::MAX - 1; // polling reserves the largest

/// How many steps a connection may take in one turn. More than one, since a wait costs about as much as a
/// step, and not many, since all other connections wait.
const STEPS_PER_TURN: usize = 16;

const ACCEPTS_PER_TURN: usize = 64;

/// How long to wait before accepting again if the system is out of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The size of the buffer, which all connections share.
const BUFFER: usize = 64 * 1024;

pub(crate) struct EventLoop {
    poller: Poller,
    listener: Option<(TcpListener, Backlog)>,
    /// Whether the listener is registered with the poller.
    accepting: bool,
    max_connections: usize,
    config: Config,
    connections: Slab<Served>,
    /// When a connection has a turn although it is not ready. At most one for each; see `set_alarm`.
    alarms: BTreeSet<(Instant, usize)>,
    epoch: StdInstant,
    buffer: Box<[u8]>,
    store: Store,
    outcomes: Sender<Result<u64, Cause>>,
}

/// The application: a get returns the newest object.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) registry: Registry<()>,
    pub(crate) newest: Arc<[u8]>,
}

/// One connection. It has no buffer except its object.
struct Served {
    connection: Connection,
    stream: TcpStream,
    object: Object,
    is_server: bool,
    lease: Option<Lease>,
    /// Its entry among the alarms.
    alarm: Option<Instant>,
}

/// The memory of a connection, without its object and its alarm.
pub(crate) const SLOT: usize = size_of::<Served>();

enum Object {
    Undecided,
    Incoming(Vec<u8>),
    Outgoing(Arc<[u8]>),
}

impl EventLoop {
    pub(crate) fn new(config: Config, outcomes: Sender<Result<u64, Cause>>) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            listener: None,
            accepting: false,
            max_connections: 16_384,
            config,
            connections: Slab::new(),
            alarms: BTreeSet::new(),
            epoch: StdInstant::now(),
            buffer: vec![0; BUFFER].into(),
            store: Store::default(),
            outcomes,
        })
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The time for the core: since an arbitrary epoch.
    pub(crate) fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }

    /// Serves the clients of this listener.
    pub(crate) fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        // This also arms the listener: a client that is not accepted before the process ends sees a reset.
        let backlog = Backlog::of(&listener)?;
        register(&self.poller, &listener, LISTENER)?;
        self.poller.modify(&listener, Event::readable(LISTENER))?;
        self.listener = Some((listener, backlog));
        self.accepting = true;
        Ok(())
    }

    /// The client, in the same loop: puts the newest object, or gets an object, which becomes the newest.
    pub(crate) fn open(&mut self, address: SocketAddr, packet: StartPacket) -> io::Result<()> {
        let socket = tcp::socket(&address, BlockingMode::Never)?;
        match tcp::connect(&socket, &address, BlockingMode::Never) {
            // The socket is writable when it is connected. The first write fails if the connection failed.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        tcp::arm(&socket)?;
        let connection = Connection::client(self.config, packet, self.now());
        let object = match packet.direction() {
            Direction::Put => Object::Outgoing(Arc::clone(&self.store.newest)),
            Direction::Get => Object::Incoming(Vec::new()),
        };
        self.insert(socket.into(), connection, object, self.now())
    }

    /// Runs while there is a listener or a connection.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new();
        while self.listener.is_some() || !self.connections.is_empty() {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    /// Waits once, and gives each ready connection a turn.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let next = self.alarms.first().map(|(due, _)| due.saturating_since(self.now()));
        let retry = Some(ACCEPT_AGAIN_AFTER).filter(|_| self.is_out_of_descriptors());
        events.clear();
        self.poller.wait(events, next.into_iter().chain(retry).min())?;

        // The clock is read once: what was ready by now was ready in time, even if this loop takes long
        // to reach it.
        let now = self.now();
        for event in events.iter() {
            match event.key {
                LISTENER => self.accept(now)?,
                // No event is stale: a key is used again only after its connection has ended, which
                // happens during its one event, or in an alarm, and alarms come after all events.
                key => self.serve(key, now)?,
            }
        }
        self.sound_alarms(now)?;
        if self.is_out_of_descriptors() {
            self.accept(now)?;
        }
        Ok(())
    }

    /// Accepts up to the limits. Further clients wait in the accept queue.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        self.accepting = false;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some((listener, backlog)) = &self.listener else { return Ok(()) };
            if self.connections.len() >= self.max_connections {
                return Ok(()); // `remove` resumes
            }
            match backlog.accept(listener, BlockingMode::Never) {
                Ok((socket, _)) => {
                    let connection = Connection::server(self.config, now);
                    // A failure here is of this connection only, which is dropped.
                    self.insert(socket.into(), connection, Object::Undecided, now).ok();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => match AcceptError::from(&error) {
                    AcceptError::Next => {}
                    AcceptError::Later => return Ok(()), // `remove` or the next turn resumes
                    AcceptError::Fatal => return Err(error),
                },
            }
        }
        self.resume_accepting()
    }

    fn resume_accepting(&mut self) -> io::Result<()> {
        let Some((listener, _)) = self.listener.as_ref().filter(|_| !self.accepting) else {
            return Ok(());
        };
        self.poller.modify(listener, Event::readable(LISTENER))?;
        self.accepting = true;
        Ok(())
    }

    fn is_out_of_descriptors(&self) -> bool {
        let room = self.connections.len() < self.max_connections;
        self.listener.is_some() && !self.accepting && room
    }

    /// Adds a connection on an armed socket. Dropping the socket resets the connection.
    fn insert(
        &mut self,
        stream: TcpStream,
        connection: Connection,
        object: Object,
        now: Instant,
    ) -> io::Result<()> {
        dataserver_common::limit_unsent(&stream)?;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        register(&self.poller, &stream, key)?;
        let is_server = matches!(object, Object::Undecided);
        entry.insert(Served { connection, stream, object, is_server, lease: None, alarm: None });
        self.wait(key, now)
    }

    /// Gives a connection its turn, which began at `now`.
    fn serve(&mut self, key: usize, now: Instant) -> io::Result<()> {
        let served = &mut self.connections[key];
        for _ in 0..STEPS_PER_TURN {
            match served.step(&mut self.store, self.config.max_object_size, &mut self.buffer, now) {
                Ok(()) => served.connection.handle_timeout(now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        served.connection.handle_blocked(now);
                        return self.wait(key, now);
                    }
                    io::ErrorKind::Interrupted => {}
                    // After any other error nothing can be written. The peer may have said why.
                    _ => served.connection.handle_reset(),
                },
            }
            // Before the peer knows: it may try again at once.
            if let Some(outcome) = served.connection.outcome() {
                let delivery = if outcome.is_ok() { Delivery::Succeeded } else { Delivery::Failed };
                let lease = served.lease.take();
                lease.map(|lease| self.store.registry.release(lease, delivery));
            }
            if let Step::Done(outcome) = served.connection.step() {
                return self.done(key, outcome, now);
            }
        }
        // The connection does not wait for its peer, so nothing is reported. The alarm is later than `now`,
        // so the next turn comes after those of all ready connections.
        let soon = self.now();
        self.set_alarm(key, soon);
        Ok(())
    }

    /// Registers what the step waits for, and the deadline.
    fn wait(&mut self, key: usize, now: Instant) -> io::Result<()> {
        let Served { connection, stream, .. } = &self.connections[key];
        let interest = match connection.step() {
            Step::Done(outcome) => return self.done(key, outcome, now),
            Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd => Event::readable(key),
            _ => Event::writable(key),
        };
        self.poller.modify(stream, interest)?;
        if let Some(deadline) = connection.deadline(now) {
            self.set_alarm(key, deadline);
        }
        Ok(())
    }

    /// Makes sure that an alarm goes off at this time or earlier.
    ///
    /// Most deadlines are extended before they are due, at each step. An alarm that is too early is kept:
    /// when it goes off, the connection has a turn, and the alarm is set again. So a busy connection
    /// changes this set once per timeout, not once per step.
    fn set_alarm(&mut self, key: usize, due: Instant) {
        let alarm = &mut self.connections[key].alarm;
        if alarm.is_some_and(|alarm| alarm <= due) {
            return;
        }
        if let Some(later) = alarm.replace(due) {
            self.alarms.remove(&(later, key));
        }
        self.alarms.insert((due, key));
    }

    fn sound_alarms(&mut self, now: Instant) -> io::Result<()> {
        while let Some((_, key)) = self.alarms.first().copied().filter(|(due, _)| *due <= now) {
            self.alarms.pop_first();
            self.connections[key].alarm = None;
            self.serve(key, now)?;
        }
        Ok(())
    }

    /// An object has ended. Behind a framed one, the client may send the next.
    fn done(&mut self, key: usize, outcome: Result<u64, Cause>, now: Instant) -> io::Result<()> {
        let served = &mut self.connections[key];
        match served.connection.packet() {
            Some(packet) if packet.is_framed() && served.is_server && outcome.is_ok() => {
                self.outcomes.send(outcome).ok(); // the receiver may be gone
                served.connection = served.connection.next_server(self.config, now);
                served.object = Object::Undecided;
                self.wait(key, now)
            }
            Some(_) => self.remove(key, Some(outcome)),
            // A session that has ended behind its last object has no outcome of its own.
            None => self.remove(key, Some(outcome).filter(Result::is_err)),
        }
    }

    /// Closes a connection, and reports the outcome of its object.
    fn remove(&mut self, key: usize, outcome: Option<Result<u64, Cause>>) -> io::Result<()> {
        let Served { stream, alarm, .. } = self.connections.remove(key);
        self.poller.delete(&stream)?;
        if let Some(alarm) = alarm {
            self.alarms.remove(&(alarm, key));
        }
        if !matches!(outcome, Some(Err(_))) {
            // Dropping it is now a graceful close. This cannot fail on an open socket.
            tcp::disarm(&stream).ok();
        }
        drop(stream);
        if let Some(outcome) = outcome {
            self.outcomes.send(outcome).ok(); // the receiver may be gone
        }
        self.resume_accepting()
    }
}

impl Served {
    /// Does one step, and reports what happened. This is the whole protocol.
    fn step(
        &mut self,
        store: &mut Store,
        limit: Option<u64>,
        buffer: &mut [u8],
        now: Instant,
    ) -> io::Result<()> {
        let Self { connection, stream, object, lease, .. } = self;
        match connection.step() {
            // At most `max` bytes: the object stays in the kernel until `Receive`, and the driver need
            // not keep its beginning.
            Step::Read { max } => match stream.read(&mut buffer[..max])? {
                0 => connection.handle_end_of_stream(),
                n => _ = connection.handle_read(&buffer[..n]),
            },
            Step::Decide(packet) if packet.has_digest() => connection.refuse(Refusal::Unsupported),
            Step::Decide(packet) => match store.registry.claim(&packet, limit, now) {
                Ok(claim) => {
                    *lease = Some(claim.lease);
                    *object = match packet.direction() {
                        // Nothing is reserved: a declared size is only the peer's word.
                        Direction::Put => Object::Incoming(Vec::new()),
                        Direction::Get => Object::Outgoing(Arc::clone(&store.newest)),
                    };
                    connection.accept(claim.limit);
                }
                Err(refusal) => connection.refuse(refusal),
            },
            Step::Write { bytes, payload } => {
                let payload = object.rest(connection.moved(), payload);
                let n = stream.write_vectored(&[IoSlice::new(bytes), IoSlice::new(payload)])?;
                connection.handle_moved(n);
            }
            Step::Receive { max } => {
                let max = max.min(buffer.len());
                match stream.read(&mut buffer[..max])? {
                    0 => connection.handle_end_of_stream(),
                    n => {
                        object.extend(&buffer[..n]);
                        connection.handle_moved(n);
                    }
                }
            }
            Step::Send { max } => match object.rest(connection.moved(), max) {
                [] => connection.offer(0, true),
                rest => {
                    let n = stream.write(rest)?;
                    connection.handle_moved(n);
                }
            },
            Step::Offer { max } => {
                let left = object.rest(connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(&*stream)? {
                true => connection.handle_end_of_stream(),
                false => connection.handle_still_open(),
            },
            // A commit that takes long, such as that of a file, belongs on another thread: do not
            // register the socket until that thread has called `Poller::notify`. No timer runs then.
            Step::Commit => {
                store.newest = object.take();
                connection.committed();
            }
            Step::Resume | Step::Digest => connection.abort("no digest was agreed upon"),
            Step::Shutdown => {
                stream.shutdown(Shutdown::Write)?;
                connection.handle_shutdown();
            }
            Step::AwaitEnd => match stream.read(buffer)? {
                0 => connection.handle_end_of_stream(),
                n => connection.handle_moved(n),
            },
            Step::Done(_) => {}
        }
        Ok(())
    }
}

impl Object {
    /// At most `max` bytes of the object after the first `sent`.
    fn rest(&self, sent: u64, max: usize) -> &[u8] {
        let Self::Outgoing(bytes) = self else { return &[] };
        let rest = usize::try_from(sent).ok().and_then(|sent| bytes.get(sent..));
        let rest = rest.unwrap_or_default();
        &rest[..rest.len().min(max)]
    }

    fn extend(&mut self, bytes: &[u8]) {
        if let Self::Incoming(object) = self {
            object.extend_from_slice(bytes);
        }
    }

    fn take(&mut self) -> Arc<[u8]> {
        match mem::replace(self, Self::Undecided) {
            Self::Incoming(object) => object.into(),
            Self::Outgoing(object) => object,
            Self::Undecided => Arc::default(),
        }
    }
}

/// Registers a socket with the poller, without any interest.
///
/// `Poller::add` does the same on every system. It is unsafe, since a socket must not be dropped while it
/// is registered, which matters on systems other than Linux. This project has no unsafe code, and epoll
/// forgets a socket that is closed. Copy this, or write `unsafe { poller.add(…) }`.
fn register(poller: &Poller, socket: impl AsFd, key: usize) -> io::Result<()> {
    Ok(epoll::add(poller, socket, EventData::new_u64(key as u64), EventFlags::ONESHOT)?)
}
