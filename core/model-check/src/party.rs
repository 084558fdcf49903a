//! One end of a connection: the connection, its driver, and its application.

use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{Config, Connection, Delivery, Instant, Refusal, Step, Timeouts};

use super::stream::{Incoming, Stream};
use super::{CommitTime, EndChecks, Role, Setup};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Party {
    state: State,
    socket: Socket,
    /// Whether the application has committed the object.
    pub(super) committed: bool,
    pub(super) lease: Lease,
}

/// A connection that is done is replaced by its outcome, so that equal outcomes are equal states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Runs(Box<Running>),
    Done(Result<u64, Failed>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Failed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running(pub(super) Connection);

/// Hashes the `Debug` text, which shows all fields.
impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        struct Into<'a, H>(&'a mut H);
        impl<H: Hasher> Write for Into<'_, H> {
            fn write_str(&mut self, shown: &str) -> fmt::Result {
                self.0.write(shown.as_bytes());
                Ok(())
            }
        }
        write!(Into(state), "{:?}", self.0).expect("a hasher accepts all bytes");
    }
}

impl From<Connection> for State {
    fn from(connection: Connection) -> Self {
        match connection.step() {
            Step::Done(result) => Self::Done(result.map_err(|_| Failed)),
            _ => Self::Runs(Box::new(Running(connection))),
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

/// The claim of the handler of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lease {
    None,
    Held,
    Released(Delivery),
}

impl Party {
    pub(super) fn new(setup: &Setup, role: Role) -> Self {
        let none = Timeouts::default().start(None).idle(None).receipt(None).total(None);
        let config = Config::default()
            .chunk(NonZeroU32::new(setup.chunk).expect("a chunk is not empty"))
            .timeouts(if setup.timers { Timeouts::default() } else { none });
        Self {
            state: match role {
                Role::Client => Connection::client(config, setup.packet(), NOW).into(),
                Role::Server => Connection::server(config, NOW).into(),
            },
            socket: Socket::Open,
            committed: false,
            lease: Lease::None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket == Socket::Open
    }

    pub(super) fn is_deciding(&self) -> bool {
        self.connection().is_some_and(|connection| matches!(connection.step(), Step::Decide(_)))
    }

    /// The outcome, if the connection is done.
    pub(super) fn result(&self) -> Option<Result<u64, Failed>> {
        match self.state {
            State::Done(result) => Some(result),
            State::Runs(_) => None,
        }
    }

    /// Whether it is not done and has not ended the object.
    pub(super) fn may_send(&self) -> bool {
        let end_checks =
            |connection: &Connection| matches!(connection.step(), Step::Shutdown | Step::AwaitEnd);
        self.connection().is_some_and(|connection| !end_checks(connection))
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Runs(running) => Some(&running.0),
            State::Done(_) => None,
        }
    }

    /// Returns the numbers of bytes with which the step can be performed now. There are none if it has
    /// to wait. A step that moves no bytes is performed with 0.
    pub(super) fn amounts(&self, setup: &Setup, role: Role, stream: &Stream) -> Vec<usize> {
        match self.socket {
            Socket::Open => {}
            Socket::Closed if self.commits_late(setup, role) => return vec![0],
            Socket::Closed | Socket::Crashed => return vec![],
        }
        let Some(connection) = self.connection() else { return vec![0] };
        let left = setup.size.saturating_sub(connection.moved());
        let room = setup.window.saturating_sub(stream.payload_from(role));
        let most = |max: usize, there: u64| max.min(usize::try_from(there).unwrap_or(max));
        match (connection.step(), stream.incoming(role)) {
            (Step::Decide(_) | Step::Offer { .. } | Step::Commit | Step::Done(_), _) => vec![0],
            (Step::Resume | Step::Digest, _) => unreachable!("the bare format has no digest"),
            _ if stream.is_broken(role) => vec![0],
            (Step::Read { max }, Incoming::Header(there)) => boundaries(setup, max, there),
            (Step::Write { bytes, payload }, _) => {
                let shared = most(payload, room.min(setup.size));
                let beyond = (1..=shared).map(|n| bytes.len() + n);
                boundaries(setup, bytes.len(), bytes.len()).into_iter().chain(beyond).collect()
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

    /// Performs the step. [`decide`](Self::decide) makes the decision of a server.
    pub(super) fn step(&mut self, setup: &Setup, role: Role, n: usize, stream: &mut Stream) {
        if self.socket == Socket::Closed {
            self.committed = true; // after the close
            return;
        }
        if self.result().is_some() {
            self.socket = Socket::Closed;
            stream.close(role);
            return;
        }
        let commits_before_close = setup.commit_time == CommitTime::BeforeClose;
        let committed = self.committed;
        let mut commits_now = false;
        self.report(role, stream, |connection, stream| match connection.step() {
            Step::Commit if commits_before_close && !committed => commits_now = true,
            Step::Commit => connection.committed(),
            Step::Offer { .. } if setup.end_checks == EndChecks::PeekOnly => {
                connection.offer(0, true);
            }
            Step::Offer { max } => {
                let left = setup.size.saturating_sub(connection.moved());
                let n = usize::try_from(left).map_or(max, |left| left.min(max));
                connection.offer(n, left <= max as u64);
            }
            Step::Peek if setup.end_checks == EndChecks::OfferOnly => {
                connection.handle_still_open();
            }
            _ if stream.is_broken(role) => connection.handle_reset(),
            Step::Write { bytes, .. } => {
                let header = n.min(bytes.len());
                stream.write(role, header, (n - header) as u64);
                connection.handle_moved(n);
            }
            Step::Send { .. } if n > 0 => {
                stream.write(role, 0, n as u64);
                connection.handle_moved(n);
            }
            Step::Send { .. } => connection.offer(0, true),
            Step::Peek => match stream.incoming(role) {
                Incoming::End => connection.handle_end_of_stream(),
                _ => connection.handle_still_open(),
            },
            Step::Shutdown => {
                stream.shut_down(role);
                connection.handle_shutdown();
            }
            _ if n == 0 => connection.handle_end_of_stream(),
            Step::Read { max } => {
                stream.read_header(role, n);
                let packet = setup.packet();
                let from = packet.as_bytes().len() - max;
                let taken = connection.handle_read(&packet.as_bytes()[from..][..n]);
                assert_eq!(taken, n, "the read was larger than the step allowed");
            }
            _ => {
                stream.read_payload(role, n as u64);
                connection.handle_moved(n);
            }
        });
        self.committed |= commits_now;
    }

    /// Reports to the connection. If the connection fails, its end of the stream is reset.
    fn report(
        &mut self,
        role: Role,
        stream: &mut Stream,
        report: impl FnOnce(&mut Connection, &mut Stream),
    ) {
        let Some(mut connection) = self.connection().cloned() else { return };
        report(&mut connection, stream);
        self.state = connection.into();
        if let Some(Err(Failed)) = self.result() {
            self.socket = Socket::Closed;
            stream.reset(role);
        }
    }

    pub(super) fn decide(
        &mut self,
        role: Role,
        claim: Result<Option<u64>, Refusal>,
        stream: &mut Stream,
    ) {
        if claim.is_ok() {
            self.lease = Lease::Held;
        }
        self.report(role, stream, |connection, _| match claim {
            Ok(limit) => connection.accept(limit),
            Err(refusal) => connection.refuse(refusal),
        });
    }

    /// Whether the connection is over and the lease is held.
    pub(super) fn may_release(&self) -> bool {
        self.socket == Socket::Closed && self.lease == Lease::Held
    }

    /// Returns whether the transfer succeeded.
    pub(super) fn release(&mut self) -> Delivery {
        let delivery = match self.result() {
            Some(Ok(_)) => Delivery::Succeeded,
            _ => Delivery::Failed,
        };
        self.lease = Lease::Released(delivery);
        delivery
    }

    /// Whether a timer is running, or starts when this end waits.
    pub(super) fn may_time_out(&self) -> bool {
        let Some(mut waiting) = self.connection().cloned() else { return false };
        waiting.handle_blocked(NOW);
        waiting.deadline(NOW).is_some()
    }

    pub(super) fn time_out(&mut self, role: Role, stream: &mut Stream) {
        self.report(role, stream, |connection, _| {
            connection.handle_blocked(NOW);
            while let Some(retry) = connection.deadline(NOW) {
                connection.handle_blocked(retry);
            }
        });
    }

    pub(super) fn abort(&mut self, role: Role, stream: &mut Stream) {
        self.report(role, stream, |connection, _| connection.abort("canceled"));
    }

    pub(super) fn crash(&mut self) {
        self.socket = Socket::Crashed;
        if self.result().is_none() {
            self.state = State::Done(Err(Failed));
        }
    }

    fn commits_late(&self, setup: &Setup, role: Role) -> bool {
        let receives = role != setup.sender();
        let succeeded = self.result().is_some_and(|result| result.is_ok());
        receives && succeeded && !self.committed
    }
}

/// The time never changes: see the crate documentation.
const NOW: Instant = Instant::new(Duration::ZERO);

/// Returns how many bytes of the start packet can be moved at once, if `missing` are missing and `there`
/// are available.
fn boundaries(setup: &Setup, missing: usize, there: usize) -> Vec<usize> {
    let passed = 25 - missing;
    let pieces = setup.boundaries.iter().filter_map(|cut| cut.checked_sub(passed));
    pieces.filter(|piece| (1..=there).contains(piece)).collect()
}
