//! A complete server, and a client, on one thread: this is the file to copy.
//!
//! One slab has all connections, one ordered set their alarms, and one buffer serves them all. The
//! core says what each connection needs; the poller says when it can have it:
//!
//! | the step | wait for | then |
//! |---|---|---|
//! | `Read`, `Receive`, `AwaitEnd` | readable | read once, report; again |
//! | `Write`, `Send` | writable | write once, report; again |
//! | `Decide`, `Offer`, `Peek`, `Commit`, `Shutdown` | nothing | do it at once |
//! | `Done` | nothing | disarm if it is good, drop |
//!
//! A connection has a turn when its socket is ready, and when its alarm goes off. A turn always tries
//! the step. A turn that ends because the socket is not ready tells the core so, has the poller watch
//! the socket, and sets the alarm to the core's deadline: a socket can have room again long before it
//! counts as writable. A turn that ends because others should have theirs sets the alarm to the
//! present.
//!
//! Readiness is one-shot: an event disarms its socket, and the socket is armed again, for what its
//! step then needs, once its turn is over. So there is never more than one event for a connection,
//! and a busy connection gets no event that nobody wants.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant as StdInstant};

use dataserver_adapter::socket;
use dataserver_adapter::tcp::{self, AcceptError, Backlog, Waits};
use dataserver_core::{
    Claim, Config, Connection, Direction, Error, Instant, Lease, Registry, StartPacket, Step,
};
use polling::{Event, Events, Poller};
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

/// What the listener's events are told from those of connections by.
const LISTENER: usize = usize::MAX - 1; // polling keeps the largest for itself

/// How many steps a connection has in one turn, before the others have theirs: more than one, since
/// a wait costs about as much, and not many, since all others wait.
const STEPS_PER_TURN: usize = 16;

const ACCEPTS_PER_TURN: usize = 64;

/// How long to wait where the system is out of descriptors and no connection of ours can end.
const PAUSE: Duration = Duration::from_millis(100);

/// How many bytes one read may take: of all connections together, since the buffer is one.
const BUFFER: usize = 64 * 1024;

pub(crate) struct EventLoop {
    poller: Poller,
    listener: Option<(TcpListener, Backlog)>,
    /// Whether the listener waits for an event; not while it could not take a connection.
    accepting: bool,
    max_connections: usize,
    config: Config,
    connections: Slab<Served>,
    /// When which connection has a turn, also if it is not ready. At most one for each; see `set_alarm`.
    alarms: BTreeSet<(Instant, usize)>,
    epoch: StdInstant,
    buffer: Box<[u8]>,
    store: Store,
    outcomes: Sender<Result<u64, Error>>,
}

/// The application: what may be put and got. The newest object is what a get returns.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) registry: Registry<Direction>,
    pub(crate) newest: Arc<[u8]>,
}

/// One connection. It has no buffer of its own but the object that it is about.
struct Served {
    connection: Connection,
    stream: TcpStream,
    object: Object,
    lease: Option<Lease>,
    /// The alarm that is set for it.
    alarm: Option<Instant>,
}

/// How much memory each connection costs, beside its object and its entry among the alarms.
pub(crate) const SLOT: usize = size_of::<Served>();

enum Object {
    Undecided,
    Incoming(Vec<u8>),
    Outgoing(Arc<[u8]>),
}

impl EventLoop {
    pub(crate) fn new(config: Config, outcomes: Sender<Result<u64, Error>>) -> io::Result<Self> {
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

    /// The time, as the core takes it: since an epoch of our choosing.
    pub(crate) fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }

    /// Serves whoever connects here.
    pub(crate) fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        // Also armed: a client that is not accepted before this process ends sees a reset.
        let backlog = Backlog::of(&listener)?;
        register(&self.poller, &listener, LISTENER)?;
        self.poller.modify(&listener, Event::readable(LISTENER))?;
        self.listener = Some((listener, backlog));
        self.accepting = true;
        Ok(())
    }

    /// The other role, in the same loop: puts the newest object, or gets one that becomes it.
    pub(crate) fn open(&mut self, address: SocketAddr, packet: StartPacket) -> io::Result<()> {
        let socket = tcp::socket(&address, Waits::Never)?;
        match tcp::connect(&socket, &address, Waits::Never) {
            // It is writable once it is connected; the first write tells if that has failed.
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

    /// Goes on while there is something to wait for. With a listener, that is for ever.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new();
        while self.listener.is_some() || !self.connections.is_empty() {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    /// Waits once, and does all that has become possible.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let next = self.alarms.first().map(|(due, _)| due.saturating_since(self.now()));
        let retry = Some(PAUSE).filter(|_| self.is_short_of_descriptors());
        events.clear();
        self.poller.wait(events, next.into_iter().chain(retry).min())?;

        // One look at the clock for all that is ready now: whatever came before it, came in time,
        // however long this loop takes to get to it.
        let now = self.now();
        for event in events.iter() {
            match event.key {
                LISTENER => self.accept(now)?,
                // No event is stale: a key is given anew only after its connection is gone, and
                // that had its one event before, or has none since alarms come after all events.
                key => self.serve(key, now)?,
            }
        }
        self.sound_alarms(now)?;
        if self.is_short_of_descriptors() {
            self.accept(now)?;
        }
        Ok(())
    }

    /// Accepts a few, and no more than there may be: further clients wait in the backlog.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        self.accepting = false;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some((listener, backlog)) = &self.listener else { return Ok(()) };
            if self.connections.len() >= self.max_connections {
                return Ok(()); // `remove` goes on
            }
            match backlog.accept(listener, Waits::Never) {
                Ok((socket, _)) => {
                    let connection = Connection::server(self.config, now);
                    // What fails here is of this connection alone, and drops it.
                    self.insert(socket.into(), connection, Object::Undecided, now).ok();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => match AcceptError::from(&error) {
                    AcceptError::Next => {}
                    AcceptError::Later => return Ok(()), // `remove` goes on, or the next turn
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

    fn is_short_of_descriptors(&self) -> bool {
        let room = self.connections.len() < self.max_connections;
        self.listener.is_some() && !self.accepting && room
    }

    /// Takes over an armed socket: whatever drops it from here on resets the connection.
    fn insert(
        &mut self,
        stream: TcpStream,
        connection: Connection,
        object: Object,
        now: Instant,
    ) -> io::Result<()> {
        tcp::limit_unsent(&stream)?;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        register(&self.poller, &stream, key)?;
        entry.insert(Served { connection, stream, object, lease: None, alarm: None });
        self.wait(key, now)
    }

    /// A connection's turn, which began at `now`: as many steps as it can take, but not more than is
    /// fair.
    fn serve(&mut self, key: usize, now: Instant) -> io::Result<()> {
        let served = &mut self.connections[key];
        for _ in 0..STEPS_PER_TURN {
            match served.step(&mut self.store, self.config.limit, &mut self.buffer, now) {
                Ok(()) => served.connection.handle_timeout(now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        served.connection.would_block(now);
                        return self.wait(key, now);
                    }
                    io::ErrorKind::Interrupted => {}
                    // Whatever the system says, the stream is of no more use.
                    _ => served.connection.reset(),
                },
            }
            if let Step::Done(outcome) = served.connection.step() {
                return self.remove(key, outcome);
            }
        }
        // Nobody is waited for, and the core is told nothing. The time is later than `now`, so the next
        // turn comes after those of all that are ready.
        let at_once = self.now();
        self.set_alarm(key, at_once);
        Ok(())
    }

    /// Waits for what the step needs, and for the deadline.
    fn wait(&mut self, key: usize, now: Instant) -> io::Result<()> {
        let Served { connection, stream, .. } = &self.connections[key];
        let interest = match connection.step() {
            Step::Done(outcome) => return self.remove(key, outcome),
            Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd => Event::readable(key),
            _ => Event::writable(key),
        };
        self.poller.modify(stream, interest)?;
        if let Some(deadline) = connection.deadline(now) {
            self.set_alarm(key, deadline);
        }
        Ok(())
    }

    /// Sees to it that an alarm goes off at this time, or before it.
    ///
    /// Most deadlines are put off before they are due, at each step. An alarm that is set too early
    /// is left alone: when it goes off, the connection has a turn, and it is set again. So a busy
    /// connection costs this set one change in a timeout, and not one in a step.
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

    fn remove(&mut self, key: usize, outcome: Result<u64, Error>) -> io::Result<()> {
        let Served { stream, lease, alarm, .. } = self.connections.remove(key);
        self.poller.delete(&stream)?;
        if let Some(alarm) = alarm {
            self.alarms.remove(&(alarm, key));
        }
        // The lease before the stream: a peer that sees a reset may come again at once.
        if let Some(lease) = lease {
            self.store.registry.release(lease, outcome.is_ok());
        }
        if outcome.is_ok() {
            // Dropping it is an orderly end. This cannot fail on a socket that is open.
            tcp::disarm(&stream).ok();
        }
        drop(stream);
        self.outcomes.send(outcome).ok(); // nobody may want to know
        self.resume_accepting()
    }
}

impl Served {
    /// Does what the core asks, once, and tells it what happened. All of the protocol is here.
    fn step(
        &mut self,
        store: &mut Store,
        limit: u64,
        buffer: &mut [u8],
        now: Instant,
    ) -> io::Result<()> {
        let Self { connection, stream, object, lease, .. } = self;
        match connection.step() {
            // Not a byte more than `max`: what follows the start packet then still is in the
            // kernel, and nobody has to keep it, or to hand it to the application, out of turn.
            Step::Read { max } => match stream.read(&mut buffer[..max])? {
                0 => connection.end_of_stream(),
                n => _ = connection.feed(&buffer[..n]),
            },
            Step::Decide(packet) => match store.registry.claim(&packet, limit, now) {
                Ok(claim) => {
                    let Claim { handler, limit, lease: claimed } = claim;
                    *lease = Some(claimed);
                    *object = match handler {
                        // Not as large as it is declared: that is only what the peer says.
                        Direction::Put => Object::Incoming(Vec::new()),
                        Direction::Get => Object::Outgoing(Arc::clone(&store.newest)),
                    };
                    connection.accept(limit);
                }
                Err(refusal) => connection.refuse(refusal),
            },
            Step::Write { bytes, payload } => {
                let payload = object.rest(0, payload);
                let n = stream.write_vectored(&[IoSlice::new(bytes), IoSlice::new(payload)])?;
                connection.advance(n);
            }
            Step::Receive { max } => {
                let max = max.min(buffer.len());
                match stream.read(&mut buffer[..max])? {
                    0 => connection.end_of_stream(),
                    n => {
                        object.extend(&buffer[..n]);
                        connection.advance(n);
                    }
                }
            }
            Step::Send { max } => match object.rest(connection.moved(), max) {
                [] => connection.offer(0, true),
                rest => {
                    let n = stream.write(rest)?;
                    connection.advance(n);
                }
            },
            Step::Offer { max } => {
                let left = object.rest(connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(&*stream)? {
                true => connection.end_of_stream(),
                false => connection.still_open(),
            },
            // A commit that takes long, such as one of a file, belongs to another thread: leave the
            // socket unarmed until that thread has called `Poller::notify`. No timer runs meanwhile.
            Step::Commit => {
                store.newest = object.take();
                connection.commit();
            }
            Step::Shutdown => {
                stream.shutdown(Shutdown::Write)?;
                connection.shut_down();
            }
            Step::AwaitEnd => match stream.read(buffer)? {
                0 => connection.end_of_stream(),
                n => connection.advance(n),
            },
            Step::Done(_) => {}
        }
        Ok(())
    }
}

impl Object {
    /// At most `max` bytes of what is to be sent behind the first `sent`.
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

/// Makes a socket known to the poller, waiting for nothing yet.
///
/// `Poller::add` does the same on every system, but is unsafe: elsewhere than on Linux, a socket
/// that is dropped while it is registered may be trouble. This project has no unsafe code, and epoll
/// forgets a socket that is closed. Copy this, or write `unsafe { poller.add(…) }`.
fn register(poller: &Poller, socket: impl AsFd, key: usize) -> io::Result<()> {
    Ok(epoll::add(poller, socket, EventData::new_u64(key as u64), EventFlags::ONESHOT)?)
}
