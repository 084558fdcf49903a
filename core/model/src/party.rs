//! One end of a connection: the machine, and a driver and an application that do as it says.

use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{Config, Connection, Instant, Refusal, Step, Timeouts};

use super::stream::{Incoming, Stream};
use super::{Commits, Ends, Role, Setup};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Party {
    machine: Machine,
    socket: Socket,
    /// The application has made the object last.
    pub(super) stored: bool,
    pub(super) lease: Lease,
}

/// The machine, until it is done; then how it ended is all that matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Runs(Running),
    Done(Result<u64, Failed>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Failed;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Running(Connection);

/// By all that it shows of itself, which is all that it is.
impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        struct Into<'a, H>(&'a mut H);
        impl<H: Hasher> Write for Into<'_, H> {
            fn write_str(&mut self, shown: &str) -> fmt::Result {
                self.0.write(shown.as_bytes());
                Ok(())
            }
        }
        write!(Into(state), "{:?}", self.0).expect("a hasher takes everything");
    }
}

impl From<Connection> for Machine {
    fn from(connection: Connection) -> Self {
        match connection.step() {
            Step::Done(result) => Self::Done(result.map_err(|_| Failed)),
            _ => Self::Runs(Running(connection)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Socket {
    Open,
    Closed,
    /// The process was killed.
    Crashed,
}

/// What a server's handler has of the registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lease {
    None,
    Held,
    Released { delivered: bool },
}

impl Party {
    pub(super) fn new(setup: &Setup, role: Role) -> Self {
        let never = Duration::MAX;
        let none = Timeouts { start: never, idle: never, end: never, transfer: never };
        let config = Config {
            chunk: NonZeroU32::new(setup.chunk).expect("a chunk of some bytes"),
            timeouts: if setup.timers { Timeouts::default() } else { none },
            ..Config::default()
        };
        Self {
            machine: match role {
                Role::Client => Connection::client(config, setup.packet(), NOW).into(),
                Role::Server => Connection::server(config, NOW).into(),
            },
            socket: Socket::Open,
            stored: false,
            lease: Lease::None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket == Socket::Open
    }

    pub(super) fn is_deciding(&self) -> bool {
        self.connection().is_some_and(|connection| matches!(connection.step(), Step::Decide(_)))
    }

    /// How it ended, if it has.
    pub(super) fn result(&self) -> Option<Result<u64, Failed>> {
        match self.machine {
            Machine::Done(result) => Some(result),
            Machine::Runs(_) => None,
        }
    }

    /// Whether it has not ended the object yet.
    pub(super) fn may_send(&self) -> bool {
        let ends =
            |connection: &Connection| matches!(connection.step(), Step::Shutdown | Step::AwaitEnd);
        self.connection().is_some_and(|connection| !ends(connection))
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.machine {
            Machine::Runs(Running(connection)) => Some(connection),
            Machine::Done(_) => None,
        }
    }

    /// With how many bytes the step can be done now, in one go; none where it has to wait. What
    /// moves no bytes is done with 0.
    pub(super) fn amounts(&self, setup: &Setup, role: Role, stream: &Stream) -> Vec<usize> {
        match self.socket {
            Socket::Open => {}
            Socket::Closed if self.stores_late(setup, role) => return vec![0],
            Socket::Closed | Socket::Crashed => return vec![],
        }
        let Some(connection) = self.connection() else { return vec![0] };
        let left = setup.size.saturating_sub(connection.moved());
        let room = setup.window.saturating_sub(stream.payload_from(role));
        let most = |max: usize, there: u64| max.min(usize::try_from(there).unwrap_or(max));
        match (connection.step(), stream.incoming(role)) {
            (Step::Decide(_) | Step::Offer { .. } | Step::Commit | Step::Done(_), _) => vec![0],
            _ if stream.is_broken(role) => vec![0],
            (Step::Read { max }, Incoming::Header(there)) => cuts(setup, max, there),
            (Step::Write { bytes, payload }, _) => {
                let shared = most(payload, room.min(setup.size));
                let beyond = (1..=shared).map(|n| bytes.len() + n);
                cuts(setup, bytes.len(), bytes.len()).into_iter().chain(beyond).collect()
            }
            (Step::Send { .. }, _) if left == 0 => vec![0],
            (Step::Send { max }, _) => (1..=most(max, room.min(left))).collect(),
            (Step::Receive { max }, Incoming::Payload(there)) => (1..=most(max, there)).collect(),
            (Step::AwaitEnd, Incoming::Payload(there)) => vec![most(64, there)],
            (Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd, Incoming::End) => vec![0],
            (Step::Peek | Step::Shutdown, _) => vec![0],
            (Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd, _) => vec![],
        }
    }

    /// Does the step. What a server decides is `decide`.
    pub(super) fn step(&mut self, setup: &Setup, role: Role, n: usize, stream: &mut Stream) {
        if self.socket == Socket::Closed {
            self.stored = true; // too late
            return;
        }
        if self.result().is_some() {
            self.socket = Socket::Closed;
            stream.close(role);
            return;
        }
        let stores = setup.commits == Commits::BeforeClose;
        let stored = self.stored;
        let mut stores_now = false;
        self.report(role, stream, |connection, stream| match connection.step() {
            Step::Commit if stores && !stored => stores_now = true,
            Step::Commit => connection.commit(),
            Step::Offer { .. } if setup.ends == Ends::WithoutAsking => connection.offer(0, true),
            Step::Offer { max } => {
                let left = setup.size.saturating_sub(connection.moved());
                let n = usize::try_from(left).map_or(max, |left| left.min(max));
                connection.offer(n, left <= max as u64);
            }
            Step::Peek if setup.ends == Ends::WithoutLooking => connection.still_open(),
            _ if stream.is_broken(role) => connection.reset(),
            Step::Write { bytes, .. } => {
                let header = n.min(bytes.len());
                stream.write(role, header, (n - header) as u64);
                connection.advance(n);
            }
            Step::Send { .. } if n > 0 => {
                stream.write(role, 0, n as u64);
                connection.advance(n);
            }
            Step::Send { .. } => connection.offer(0, true),
            Step::Peek => match stream.incoming(role) {
                Incoming::End => connection.end_of_stream(),
                _ => connection.still_open(),
            },
            Step::Shutdown => {
                stream.shut_down(role);
                connection.shut_down();
            }
            _ if n == 0 => connection.end_of_stream(),
            Step::Read { max } => {
                stream.read_header(role, n);
                let packet = setup.packet();
                let from = packet.as_bytes().len() - max;
                let taken = connection.feed(&packet.as_bytes()[from..][..n]);
                assert_eq!(taken, n, "no more was read than the step allowed");
            }
            _ => {
                stream.read_payload(role, n as u64);
                connection.advance(n);
            }
        });
        self.stored |= stores_now;
    }

    /// Reports to the connection. If that makes it fail, its end of the stream is reset.
    fn report(
        &mut self,
        role: Role,
        stream: &mut Stream,
        report: impl FnOnce(&mut Connection, &mut Stream),
    ) {
        let Some(mut connection) = self.connection().cloned() else { return };
        report(&mut connection, stream);
        self.machine = connection.into();
        if let Some(Err(Failed)) = self.result() {
            self.socket = Socket::Closed;
            stream.reset(role);
        }
    }

    pub(super) fn decide(&mut self, role: Role, claim: Result<u64, Refusal>, stream: &mut Stream) {
        if claim.is_ok() {
            self.lease = Lease::Held;
        }
        self.report(role, stream, |connection, _| match claim {
            Ok(limit) => connection.accept(limit),
            Err(refusal) => connection.refuse(refusal),
        });
    }

    /// When the connection is over.
    pub(super) fn may_release(&self) -> bool {
        self.socket == Socket::Closed && self.lease == Lease::Held
    }

    /// Whether it was delivered.
    pub(super) fn release(&mut self) -> bool {
        let delivered = self.result().is_some_and(|result| result.is_ok());
        self.lease = Lease::Released { delivered };
        delivered
    }

    /// Whether a timer runs, now or as soon as this end waits.
    pub(super) fn may_time_out(&self) -> bool {
        let Some(mut waiting) = self.connection().cloned() else { return false };
        waiting.would_block(NOW);
        waiting.deadline(NOW).is_some()
    }

    pub(super) fn time_out(&mut self, role: Role, stream: &mut Stream) {
        self.report(role, stream, |connection, _| {
            connection.would_block(NOW);
            while let Some(retry) = connection.deadline(NOW) {
                connection.would_block(retry);
            }
        });
    }

    pub(super) fn abort(&mut self, role: Role, stream: &mut Stream) {
        self.report(role, stream, |connection, _| connection.abort("gives up"));
    }

    pub(super) fn crash(&mut self) {
        self.socket = Socket::Crashed;
        if self.result().is_none() {
            self.machine = Machine::Done(Err(Failed));
        }
    }

    fn stores_late(&self, setup: &Setup, role: Role) -> bool {
        let receives = role != setup.sender();
        let succeeded = self.result().is_some_and(|result| result.is_ok());
        receives && succeeded && !self.stored
    }
}

/// Time does not pass: see the page of the crate.
const NOW: Instant = Instant::new(Duration::ZERO);

/// How many bytes of a start packet of which `missing` are missing may pass in one go, where so many
/// are there.
fn cuts(setup: &Setup, missing: usize, there: usize) -> Vec<usize> {
    let passed = 25 - missing;
    let pieces = setup.cuts.iter().filter_map(|cut| cut.checked_sub(passed));
    pieces.filter(|piece| (1..=there).contains(piece)).collect()
}
