//! A driver that follows the steps of its connections, one object after the other.

use std::collections::{BTreeMap, VecDeque};

use dataserver_core::{Cause, Connection, Frame, Instant, PeerError, Refusal, Step};

use super::scenario::{Fault, Object, Role, Scenario};
use super::stream::{End, Stream};
use super::wire::Wire;

pub(super) struct Driver<'a> {
    scenario: &'a Scenario,
    pub(super) role: Role,
    connection: Connection,
    pub(super) wire: Wire,
    /// The index of the current object. A server knows it from the start packet.
    object: Option<usize>,
    /// What was read and not used yet.
    buffer: VecDeque<u8>,
    /// What was read of the current frame.
    header: Vec<u8>,
    received: Vec<u8>,
    pub(super) committed: BTreeMap<usize, Vec<u8>>,
    pub(super) results: Vec<Result<u64, Cause>>,
    /// The server has accepted these objects.
    pub(super) accepted: Vec<usize>,
    /// The server has ended the session between two objects.
    pub(super) has_closed_session: bool,
    pub(super) has_canceled: bool,
    turns: u64,
    busy_until: Instant,
    failed_at: Option<Instant>,
    is_closed: bool,
}

/// The outcome of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Progress,
    /// Sleeps until this time, or until the peer makes progress.
    Sleep(Option<Instant>),
    Finished,
}

/// The stream was not ready.
struct Blocked;

impl<'a> Driver<'a> {
    pub(super) fn new(scenario: &'a Scenario, role: Role) -> Self {
        let (config, now) = (scenario.config(role), Instant::default());
        let (connection, object) = match role {
            Role::Client => {
                let packet = scenario.objects[0].packet(0);
                (Connection::client(config, packet, now), Some(0))
            }
            Role::Server => (Connection::server(config, now), None),
        };
        Self {
            scenario,
            role,
            connection,
            wire: Wire::new(role),
            object,
            buffer: VecDeque::new(),
            header: Vec::new(),
            received: Vec::new(),
            committed: BTreeMap::new(),
            results: Vec::new(),
            accepted: Vec::new(),
            has_closed_session: false,
            has_canceled: false,
            turns: 0,
            busy_until: now,
            failed_at: None,
            is_closed: false,
        }
    }

    /// Performs one step, unless it has to wait.
    pub(super) fn turn(&mut self, stream: &mut Stream<'_>) -> Turn {
        if self.is_closed {
            return Turn::Finished;
        }
        let now = stream.now;
        if now < self.busy_until {
            return Turn::Sleep(Some(self.busy_until));
        }
        let party = &self.scenario.parties[self.role as usize];
        let is_well = self.connection.outcome().is_none();
        self.turns += 1;
        match party.stalls {
            Some((turn, duration)) if turn == self.turns && is_well => {
                self.busy_until = now.saturating_add(duration);
                return Turn::Sleep(Some(self.busy_until));
            }
            _ => {}
        }
        let done = match is_well && party.gives_up_at == Some(self.turns) {
            true => {
                self.give_up();
                Ok(())
            }
            false => self.act(stream),
        };
        if self.is_closed {
            return Turn::Progress;
        }
        self.check();
        let before = self.connection.clone();
        match done {
            Ok(()) => self.connection.handle_timeout(now),
            Err(Blocked) => self.connection.handle_blocked(now),
        }
        if matches!(self.connection.outcome(), Some(Err(_))) {
            self.failed_at.get_or_insert(now);
        }
        match done {
            Err(Blocked) if self.connection.step() == before.step() => {
                match self.connection.deadline(now) {
                    Some(due) if due <= now => Turn::Progress, // a late writer makes all its retries
                    due => Turn::Sleep(due),
                }
            }
            _ => Turn::Progress,
        }
    }

    fn act(&mut self, stream: &mut Stream<'_>) -> Result<(), Blocked> {
        match self.connection.step() {
            Step::Read { max } => {
                if let Some(bytes) = self.read(max, stream)? {
                    self.handle_read(&bytes);
                }
            }
            Step::Decide(packet) => {
                let index = usize::from(packet.key().as_bytes()[0]);
                let object = self.scenario.objects.get(index);
                let object = object.filter(|object| object.packet(index) == packet);
                self.object = object.map(|_| index);
                match object.map_or(Err(Refusal::NotRegistered), |object| object.decision) {
                    Ok(limit) => {
                        self.accepted.push(index);
                        self.connection.accept(limit);
                    }
                    Err(reason) => self.connection.refuse(reason),
                }
            }
            Step::Offer { max } => {
                let left = self.left();
                let n = stream.choices.up_to(left.len().min(max));
                match stream.choices.below(4) {
                    0 => self.connection.offer(left.len(), true),
                    1 if n < left.len() => self.connection.offer(n, false),
                    // The start packet leaves first, if it has not left yet.
                    2 => self.connection.offer(0, false),
                    _ => {
                        let last = left.is_empty() || stream.choices.flip();
                        self.connection.offer(left.len(), last);
                    }
                }
            }
            Step::Write { bytes, payload } => {
                let mut all = bytes.to_vec();
                let most = if stream.choices.flip() { payload } else { 0 };
                all.extend(self.left().iter().take(most));
                self.write(&all, stream)?;
            }
            Step::Send { max } => {
                let bytes: Vec<u8> = self.left().into_iter().take(max).collect();
                assert!(!bytes.is_empty(), "chunk: more is to be sent than was offered");
                self.write(&bytes, stream)?;
            }
            Step::Receive { max } => {
                if let Some(mut bytes) = self.read(max, stream)? {
                    let beyond = bytes.split_off(max.min(bytes.len()));
                    self.keep(beyond);
                    self.connection.handle_moved(bytes.len());
                    self.received.extend(bytes);
                }
            }
            Step::Commit => self.commit(),
            Step::AwaitEnd => {
                if let Some(bytes) = self.read(4096, stream)? {
                    self.connection.handle_moved(bytes.len());
                }
            }
            Step::Done(result) => self.finish(result, stream),
            step @ (Step::Peek | Step::Shutdown) => panic!("{step:?} in the framed format"),
            step @ (Step::Resume | Step::Digest) => panic!("{step:?} without a digest"),
        }
        Ok(())
    }

    fn current(&self) -> Option<(usize, &'a Object)> {
        self.object.map(|index| (index, &self.scenario.objects[index]))
    }

    /// What the application of a sender has not sent yet.
    fn left(&self) -> Vec<u8> {
        let bytes = self.current().map(|(index, object)| object.bytes(index));
        bytes.into_iter().flatten().skip(self.connection.moved() as usize).collect()
    }

    fn give_up(&mut self) {
        let is_between_objects = self.role == Role::Server
            && !self.results.is_empty()
            && self.connection.step() == Step::Read { max: 25 };
        let may_abort = self.wire.is_between_frames();
        self.connection.abort_with_code("canceled", 7);
        self.has_closed_session |= is_between_objects;
        if let Step::Write { .. } = self.connection.step() {
            assert!(may_abort, "R12: an ABORT inside something else");
        }
    }

    fn commit(&mut self) {
        let (index, object) = self.current().expect("an object was received");
        let received = core::mem::take(&mut self.received);
        if !self.scenario.has_fault(|fault| matches!(fault, Fault::Garbage { .. })) {
            assert_eq!(received, object.bytes(index), "wholeness: object {index}");
        }
        if object.commit_fails {
            self.connection.abort_with_code("cannot commit", 5);
            return;
        }
        assert!(self.committed.insert(index, received).is_none(), "object {index} again");
        self.connection.committed();
    }

    /// Reads from the buffer first, then from the stream. Returns `None` if something else was reported.
    fn read(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<Option<Vec<u8>>, Blocked> {
        if !self.buffer.is_empty() {
            let n = max.min(self.buffer.len());
            return Ok(Some(self.buffer.drain(..n).collect()));
        }
        let reads_ahead = self.scenario.parties[self.role as usize].reads_ahead;
        match stream.read(self.role, if reads_ahead { max.max(64) } else { max }) {
            Some(Ok(bytes)) => return Ok(Some(bytes)),
            Some(Err(End::Graceful)) => self.connection.handle_end_of_stream(),
            Some(Err(End::Reset)) => self.connection.handle_reset(),
            None => return Err(Blocked),
        }
        Ok(None)
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        bytes.into_iter().rev().for_each(|byte| self.buffer.push_front(byte));
    }

    /// Reason: an ABORT that a side reads before it has failed itself is what it reports.
    fn handle_read(&mut self, bytes: &[u8]) {
        let is_frame = self.connection.packet().is_some();
        let before = self.connection.outcome();
        let taken = self.connection.handle_read(bytes);
        self.keep(bytes[taken..].to_vec());
        if !is_frame {
            return;
        }
        self.header.extend(&bytes[..taken]);
        let Ok(header) = self.header.as_slice().try_into() else { return };
        self.header.clear();
        let is_lost = |cause| {
            matches!(cause, Cause::Peer(PeerError::Reset { .. } | PeerError::ClosedEarly { .. }))
        };
        let knew = matches!(before, Some(Err(cause)) if !is_lost(cause));
        if let (Ok(Frame::Abort(reason)), false) = (Frame::from_bytes(header), knew) {
            let aborted = Cause::Peer(PeerError::Aborted(reason));
            assert_eq!(self.connection.step(), Step::Done(Err(aborted)), "reason");
        }
    }

    fn write(&mut self, bytes: &[u8], stream: &mut Stream<'_>) -> Result<(), Blocked> {
        let cancels = self.scenario.parties[self.role as usize].cancels_at == Some(self.turns);
        match stream.write(self.role, bytes) {
            None => return Err(Blocked),
            Some(Err(end)) => {
                self.wire.give_up();
                let sends = self.current().is_some_and(|(_, object)| object.sender() == self.role);
                match end {
                    // A sender that watches for the end finds it before its write fails.
                    End::Graceful if sends => self.connection.handle_end_of_stream(),
                    _ => self.connection.handle_reset(),
                }
            }
            Some(Ok(n)) => {
                let object = self.current();
                let committed = object.and_then(|(index, _)| self.committed.get(&index));
                self.wire.write(&bytes[..n], object, committed.map(Vec::len));
                if cancels {
                    self.has_canceled = true;
                    self.wire.give_up();
                    self.connection.handle_reset();
                } else {
                    self.connection.handle_moved(n);
                }
            }
        }
        Ok(())
    }

    /// Goes on with the next object, or closes.
    fn finish(&mut self, result: Result<u64, Cause>, stream: &mut Stream<'_>) {
        self.check_end(stream.now);
        let is_end_of_session = result.is_ok() && self.connection.packet().is_none();
        if !is_end_of_session {
            self.results.push(result);
        }
        let config = self.scenario.config(self.role);
        let next = self.results.len();
        if result.is_err() || is_end_of_session {
            return self.close(result.is_ok(), stream);
        }
        match (self.role, self.scenario.objects.get(next)) {
            (Role::Client, None) => return self.close(true, stream),
            (Role::Client, Some(object)) => {
                self.connection =
                    self.connection.next_client(config, object.packet(next), stream.now);
                self.object = Some(next);
            }
            (Role::Server, _) => {
                self.connection = self.connection.next_server(config, stream.now);
                self.object = None;
            }
        }
        self.header.clear();
        self.received.clear();
        self.wire.begin_object();
    }

    fn close(&mut self, gracefully: bool, stream: &mut Stream<'_>) {
        stream.close(self.role, gracefully);
        self.is_closed = true;
    }

    /// Conservation and chunk.
    fn check(&self) {
        let chunk = self.scenario.config(self.role).chunk.get() as usize;
        match self.connection.step() {
            Step::Send { max } | Step::Receive { max } => {
                assert!((1..=chunk).contains(&max), "chunk");
            }
            Step::Write { payload: max, .. } => assert!(max <= chunk, "chunk"),
            Step::Offer { max } => assert_eq!(max, chunk, "chunk"),
            _ => {}
        }
        if let (Some((_, object)), Step::Receive { .. }) = (self.current(), self.connection.step())
        {
            assert_ne!(object.sender(), self.role, "a sender receives");
            assert_eq!(self.connection.moved(), self.received.len() as u64, "conservation");
        }
    }

    /// Finality, and time: what follows a failure takes at most one idle timeout.
    fn check_end(&self, now: Instant) {
        let mut changed = self.connection.clone();
        changed.abort("after the end");
        changed.handle_reset();
        changed.handle_end_of_stream();
        changed.handle_moved(1);
        assert_eq!(changed, self.connection, "finality");
        let idle = self.scenario.config(self.role).timeouts.idle;
        if let (Some(failed_at), Some(idle)) = (self.failed_at, idle) {
            assert!(now <= failed_at.saturating_add(idle), "time: failed at {failed_at:?}");
        }
    }
}

impl Turn {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Sleep(due) => *due,
            Self::Progress | Self::Finished => None,
        }
    }
}
