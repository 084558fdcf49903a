//! Framed objects over any stream: what is written arrives in order, up to some point, and then the stream
//! ends or fails, as it likes.
//!
//! - [`Framed`]: which objects one client and one server transfer over one stream, one after the other
//! - [`Deviation`]: a deliberate error of the drivers, which the check must find
//!
//! There is no clock: a timer that runs can run out at any time.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{
    AbortReason, Cause, Config, Connection, Direction, Frame, Instant, Key, PeerError, Refusal,
    StartPacket, Step, Timeouts,
};
use stateright::{Model, Property};

use super::Role;
use super::party::Running;

/// One or more objects, and what can happen to their stream.
#[derive(Clone, Copy, Debug)]
pub struct Framed {
    /// The objects, one after the other.
    pub objects: &'static [Object],
    /// What the stream does.
    pub stream: Kind,
    /// Whether the format is the bare one, which does not hold over any stream.
    pub bare: bool,
    /// Whether timers can run out.
    pub timers: bool,
    /// Whether the applications can give up.
    pub aborts: bool,
    /// A deliberate error of the drivers.
    pub deviation: Option<Deviation>,
}

/// One object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its direction.
    pub direction: Direction,
    /// Its size in bytes.
    pub size: u8,
    /// The size that the start packet declares.
    pub declared: Option<u64>,
    /// Whether the server has a registration for it.
    pub registered: bool,
    /// What follows the object, or precedes it.
    pub features: Features,
    /// The sender computes the digest of the object, and sends other bytes: the source has changed.
    pub changes: bool,
}

/// The features of the framed format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// Neither a digest nor resume.
    None,
    /// A digest.
    Digest,
    /// A digest, and the receiver has these bytes of an earlier attempt. They may be any.
    Resume(&'static [u8]),
}

/// What a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It can be cut anywhere. A failure can look like a graceful end, and the other way round.
    Any,
    /// It delivers everything. But a side that closes with unread bytes destroys what is on its way from it.
    Tcp,
}

/// A rule that the drivers break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// R3: a sender ends its object at the declared size, without asking its application.
    LastAtDeclaredSize,
    /// R5: a sender takes the end of the stream for its receipt.
    EndIsReceipt,
    /// R6: a sender writes a byte behind its object.
    ByteAfterLast,
    /// R12: a sender writes ABORT inside a body.
    AbortInsideBody,
    /// R9: both sides compute the digest of what this connection has moved.
    DigestWithoutPart,
    /// R14: a side closes as soon as it has written ABORT.
    ClosesAfterAbort,
    /// R14: a sender that has written ABORT only drops what comes.
    DropsAfterAbort,
}

/// The state of everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    parties: [Party; 2],
    /// Indexed by the writer.
    pipes: [Pipe; 2],
    /// Something went wrong that the protocol does not cause.
    disturbed: bool,
    /// The server has ended the session before its next object.
    closing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Party {
    connection: Box<Running>,
    /// The index of the current object.
    object: usize,
    open: bool,
    /// The bytes of the current object that were received.
    received: Vec<u8>,
    committed: Vec<Option<Vec<u8>>>,
    results: Vec<Result<u64, Failed>>,
    /// The server has accepted these objects.
    accepted: Vec<usize>,
    /// Its application gave up, and ABORT was written whole.
    has_told: bool,
    /// It read an ABORT before it had failed, and reported something else.
    misreported: bool,
    extra_byte_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Failed {
    Aborted(u16),
    /// The application of this side gave up.
    GaveUp,
    /// This side refused, or found an error of its own.
    Own,
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pipe {
    bytes: Vec<u8>,
    /// Nothing follows the bytes.
    ended: bool,
    /// What is written is lost.
    cut: bool,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// This side does its step.
    Step(Role),
    /// The same, and a write takes one byte.
    StepByte(Role),
    /// This side finds that the stream has failed.
    Fails(Role),
    /// This side finds the end of the stream.
    Ends(Role),
    /// A timer runs out.
    TimesOut(Role),
    /// The application gives up.
    GivesUp(Role),
    /// The stream delivers only this many of the bytes that this side has written, and then ends.
    Cut(Role, usize),
}

/// The digest of a few bytes: they themselves, and how many they are.
fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[0] = 0xd0 | bytes.len() as u8;
    digest[1..=bytes.len()].copy_from_slice(bytes);
    digest
}

const NOW: Instant = Instant::new(Duration::ZERO);

fn config() -> Config {
    let chunk = NonZeroU32::new(2).expect("not zero");
    Config::default().chunk(chunk).timeouts(Timeouts::default().total(None))
}

impl Framed {
    fn packet(&self, object: usize) -> StartPacket {
        let Object { direction, declared, features, .. } = self.objects[object];
        let key = Key::from_bytes([object as u8; 16]);
        let packet = match direction {
            Direction::Put => StartPacket::put(key),
            Direction::Get => StartPacket::get(key),
        };
        let packet = declared.map_or(packet, |size| packet.with_size(size).expect("a small size"));
        match features {
            _ if self.bare => packet,
            Features::None => packet.framed(),
            Features::Digest => packet.with_digest(),
            Features::Resume(_) => packet.resumable(),
        }
    }

    /// The bytes of an object tell it from others, and from frames.
    fn bytes(&self, object: usize) -> Vec<u8> {
        let size = self.objects.get(object).map_or(0, |object| object.size);
        (0..size).map(|at| 0xa0 + 0x10 * object as u8 + at).collect()
    }

    /// What the sender sends.
    fn sent_bytes(&self, object: usize) -> Vec<u8> {
        let mut bytes = self.bytes(object);
        if let (Some(last), true) = (bytes.last_mut(), self.changes(object)) {
            *last ^= 1;
        }
        bytes
    }

    fn changes(&self, object: usize) -> bool {
        self.objects.get(object).is_some_and(|object| object.changes)
    }

    /// What the receiver has of an earlier attempt.
    fn part(&self, object: usize) -> &'static [u8] {
        match self.objects.get(object).map(|object| object.features) {
            Some(Features::Resume(part)) => part,
            _ => &[],
        }
    }

    fn sender(&self, object: usize) -> Role {
        match self.objects[object].direction {
            Direction::Put => Role::Client,
            Direction::Get => Role::Server,
        }
    }

    /// Whether this side sends this object. A server may wait for one more.
    fn sends(&self, role: Role, object: usize) -> bool {
        object < self.objects.len() && self.sender(object) == role
    }

    fn is(&self, deviation: Deviation) -> bool {
        self.deviation == Some(deviation)
    }
}

impl Model for Framed {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let client = Connection::client(config(), self.packet(0), NOW);
        let server = Connection::server(config(), NOW);
        let parties = [client, server].map(Party::new);
        vec![World { parties, pipes: Default::default(), disturbed: false, closing: false }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for role in Role::BOTH {
            let (party, pipe) = (&world.parties[role as usize], world.incoming(role));
            if self.stream == Kind::Any && !world.pipes[role as usize].cut {
                let len = world.pipes[role as usize].bytes.len();
                let mut keeps = [0, 13, len].map(|keep| keep.min(len)).to_vec();
                keeps.dedup();
                actions.extend(keeps.into_iter().map(|keep| Action::Cut(role, keep)));
            }
            if !party.open {
                continue;
            }
            if self.aborts && party.connection.0.outcome().is_none() && !party.has_given_up() {
                actions.push(Action::GivesUp(role));
            }
            let reads = match party.connection.0.step() {
                Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd => true,
                Step::Write { bytes, payload } => {
                    // The first byte alone, and then the rest.
                    if [12, 25, 32, 37].contains(&bytes.len()) && payload < 3 {
                        actions.push(Action::StepByte(role));
                    }
                    false
                }
                _ => false,
            };
            if !reads || !pipe.bytes.is_empty() {
                actions.push(Action::Step(role));
            } else if pipe.ended {
                actions.push(Action::Ends(role));
            }
            let peer_is_gone = !world.parties[role.peer() as usize].open;
            let may_fail = self.stream == Kind::Any || peer_is_gone;
            let writes =
                matches!(party.connection.0.step(), Step::Write { .. } | Step::Send { .. });
            let at_end = reads && pipe.bytes.is_empty() && pipe.ended;
            if may_fail
                && ((writes && (peer_is_gone || pipe.ended))
                    || (at_end && self.stream == Kind::Any))
            {
                actions.push(Action::Fails(role));
            }
            if self.timers && (reads || writes) {
                actions.push(Action::TimesOut(role));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Step(role) => next.step(self, role, usize::MAX),
            Action::StepByte(role) => next.step(self, role, 1),
            Action::Fails(role) => {
                next.parties[role as usize].connection.0.handle_reset();
            }
            Action::Ends(role) => next.end(self, role),
            Action::TimesOut(role) => {
                next.disturbed = true;
                let connection = &mut next.parties[role as usize].connection.0;
                let before = format!("{:?}", connection.step());
                connection.handle_blocked(NOW);
                while let Some(retry) = connection.deadline(NOW) {
                    connection.handle_blocked(retry);
                    if format!("{:?}", connection.step()) != before {
                        break;
                    }
                }
            }
            Action::GivesUp(role) => next.give_up(self, role),
            Action::Cut(role, keep) => {
                next.disturbed = true;
                let pipe = &mut next.pipes[role as usize];
                pipe.bytes.truncate(keep);
                (pipe.ended, pipe.cut) = (true, true);
            }
        }
        for role in Role::BOTH {
            next.settle(self, role);
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RECEIPT, |model: &Self, world: &World| {
                (0..model.objects.len()).all(|object| {
                    let [sender, receiver] = world.of(model, object);
                    let receipt = sender.results.get(object).is_some_and(Result::is_ok);
                    !receipt || receiver.committed.get(object) == Some(&Some(model.bytes(object)))
                })
            }),
            Property::always(WHOLE, |model: &Self, world: &World| {
                (0..model.objects.len()).all(|object| {
                    let [_, receiver] = world.of(model, object);
                    let committed = receiver.committed.get(object).cloned().flatten();
                    committed.is_none_or(|bytes| bytes == model.bytes(object))
                })
            }),
            Property::always(REASON, |_, world: &World| {
                world.parties.iter().all(|party| !party.misreported)
            }),
            Property::always(LOST, |model: &Self, world: &World| {
                let excused = world.disturbed || world.closing || model.bare;
                model.stream == Kind::Any || excused || !world.is_over() || {
                    let [client, server] = &world.parties;
                    [(client, server), (server, client)].iter().all(|(teller, other)| {
                        let failed = other.results.last().copied();
                        let knows = |failed| !matches!(failed, Failed::Other);
                        !teller.has_told || matches!(failed, Some(Err(failed)) if knows(failed))
                    })
                }
            }),
            Property::always(SUCCESS, |model: &Self, world: &World| {
                let gave_up = world.parties.iter().any(Party::has_given_up);
                let is_ended = world.disturbed || world.closing || gave_up;
                !world.is_over() || is_ended || {
                    let fits = |index: &usize| {
                        let object = &model.objects[*index];
                        let right =
                            object.declared.is_none_or(|size| size == u64::from(object.size));
                        let is_part = model.bytes(*index).starts_with(model.part(*index));
                        right && object.registered && is_part && !object.changes
                    };
                    let fit = (0..model.objects.len()).take_while(fits).count();
                    world.parties.iter().all(|party| {
                        party.results.iter().filter(|result| result.is_ok()).count() == fit
                    })
                }
            }),
            Property::always(CLOSING, |_, world: &World| {
                let [client, server] = &world.parties;
                let unclaimed = [AbortReason::Closing.code(), AbortReason::Busy.code()];
                match client.results.last() {
                    Some(Err(Failed::Aborted(code))) if unclaimed.contains(code) => {
                        !server.accepted.contains(&(client.results.len() - 1))
                    }
                    _ => true,
                }
            }),
            Property::always(DEADLOCK, |model: &Self, world: &World| {
                let mut actions = Vec::new();
                model.actions(world, &mut actions);
                let is_certain =
                    |action: &Action| !matches!(action, Action::Cut(..) | Action::GivesUp(_));
                world.is_over() || actions.iter().any(is_certain)
            }),
        ]
    }
}

/// The names of the properties.
pub const RECEIPT: &str = "a receipt implies the commit of this object";
/// See [`RECEIPT`].
pub const WHOLE: &str = "only the whole object is committed";
/// See [`RECEIPT`].
pub const REASON: &str = "an ABORT that is read is reported";
/// See [`RECEIPT`].
pub const LOST: &str = "no reason is lost without a fault of the stream";
/// See [`RECEIPT`].
pub const SUCCESS: &str = "without faults, every object succeeds";
/// See [`RECEIPT`].
pub const CLOSING: &str = "after `closing` or `busy`, nothing was claimed";
/// See [`RECEIPT`].
pub const DEADLOCK: &str = "a side that is not done can continue";

impl World {
    fn incoming(&self, role: Role) -> &Pipe {
        &self.pipes[role.peer() as usize]
    }

    fn is_over(&self) -> bool {
        self.parties.iter().all(|party| !party.open)
    }

    /// The sender and the receiver of an object.
    fn of(&self, model: &Framed, object: usize) -> [&Party; 2] {
        let sender = model.sender(object);
        [&self.parties[sender as usize], &self.parties[sender.peer() as usize]]
    }

    fn write(&mut self, role: Role, bytes: &[u8]) {
        let reader_is_open = self.parties[role.peer() as usize].open;
        let pipe = &mut self.pipes[role as usize];
        if !pipe.cut && reader_is_open {
            pipe.bytes.extend(bytes);
        }
    }

    fn read(&mut self, role: Role, max: usize) -> Vec<u8> {
        let bytes = &mut self.pipes[role.peer() as usize].bytes;
        let n = max.min(bytes.len());
        bytes.drain(..n).collect()
    }

    fn step(&mut self, model: &Framed, role: Role, most: usize) {
        let mut party = self.parties[role as usize].clone();
        let connection = &mut party.connection.0;
        let object = party.object;
        let has_failed = connection.outcome().is_some();
        match connection.step() {
            Step::Read { .. } if has_failed && model.is(Deviation::DropsAfterAbort) => {
                self.read(role, usize::MAX);
            }
            Step::Read { max } => {
                let bytes = self.read(role, max);
                connection.handle_read(&bytes);
                let is_abort = |bytes: &[u8]| {
                    let header = bytes.try_into().ok().map(Frame::from_bytes);
                    matches!(header, Some(Ok(Frame::Abort(_))))
                };
                if !has_failed && is_abort(&bytes) {
                    let outcome = connection.outcome();
                    let told = matches!(outcome, Some(Err(Cause::Peer(PeerError::Aborted(_)))));
                    party.misreported |= !told;
                }
            }
            Step::Decide(packet) => {
                let object = usize::from(packet.key().as_bytes()[0]);
                let is_known = object < model.objects.len() && packet == model.packet(object);
                if is_known && model.objects[object].registered {
                    party.accepted.push(object);
                    connection.accept(None);
                } else {
                    connection.refuse(Refusal::NotRegistered);
                }
            }
            Step::Offer { .. } if model.bare => connection.offer(0, true),
            Step::Offer { .. } => {
                let (size, position) = (model.bytes(object).len(), connection.position() as usize);
                let left = size.saturating_sub(position);
                match model.objects[object].declared {
                    Some(declared) if model.is(Deviation::LastAtDeclaredSize) => {
                        let left = left.min(declared as usize - position);
                        connection.offer(left, true);
                    }
                    _ if position > size => connection.reject_offset(size as u64),
                    _ => connection.offer(left, true),
                }
            }
            Step::Write { bytes, payload } => {
                let position = connection.position() as usize;
                let object = model.sent_bytes(object);
                let mut bytes = bytes.to_vec();
                // Without this, a side is never inside a body.
                let payload = if model.is(Deviation::AbortInsideBody) { 0 } else { payload };
                bytes.extend(object.iter().skip(position).take(payload));
                bytes.truncate(most);
                self.write(role, &bytes);
                connection.handle_moved(bytes.len());
                let is_told = !matches!(connection.step(), Step::Write { .. });
                party.has_told |= has_failed && is_told;
                let awaits_receipt = matches!(connection.step(), Step::Read { max: 12 })
                    && model.sends(role, party.object)
                    && !has_failed;
                if awaits_receipt && model.is(Deviation::ByteAfterLast) && !party.extra_byte_sent {
                    party.extra_byte_sent = true;
                    self.write(role, &[0x55]);
                }
            }
            Step::Send { .. } if connection.position() == model.bytes(object).len() as u64 => {
                connection.offer(0, true);
            }
            Step::Send { max } => {
                let position = connection.position() as usize;
                let bytes = model.sent_bytes(object);
                let bytes: Vec<_> = bytes.into_iter().skip(position).take(max).collect();
                self.write(role, &bytes);
                connection.handle_moved(bytes.len());
            }
            Step::Receive { max } => {
                let bytes = self.read(role, max);
                connection.handle_moved(bytes.len());
                party.received.extend(bytes);
            }
            Step::AwaitEnd => {
                let n = self.read(role, usize::MAX).len();
                connection.handle_moved(n);
            }
            Step::Commit => {
                let received = core::mem::take(&mut party.received);
                party.committed.resize(object, None);
                party.committed.push(Some(received));
                connection.committed();
            }
            Step::Resume => {
                party.received = model.part(object).to_vec();
                connection.resume(party.received.len() as u64);
            }
            Step::Digest => {
                let bytes = match model.sends(role, object) {
                    true => model.bytes(object),
                    false => party.received.clone(),
                };
                let from = match model.is(Deviation::DigestWithoutPart) {
                    true => (connection.position() - connection.moved()) as usize,
                    false => 0,
                };
                connection.digest(digest(&bytes[from..]));
            }
            Step::Peek => connection.handle_still_open(),
            Step::Shutdown => {
                self.pipes[role as usize].ended = true;
                connection.handle_shutdown();
            }
            Step::Done(_) => {}
        }
        let has_told = party.has_told && !matches!(party.connection.0.step(), Step::Done(_));
        self.parties[role as usize] = party;
        if has_told && model.is(Deviation::ClosesAfterAbort) {
            self.finish(model, role, Err(Failed::GaveUp));
        }
    }

    fn end(&mut self, model: &Framed, role: Role) {
        let party = &mut self.parties[role as usize];
        let awaits_receipt = matches!(party.connection.0.step(), Step::Read { .. })
            && model.sends(role, party.object)
            && party.connection.0.packet().is_some();
        if awaits_receipt && model.is(Deviation::EndIsReceipt) {
            let moved = party.connection.0.moved();
            return self.finish(model, role, Ok(moved));
        }
        party.connection.0.handle_end_of_stream();
    }

    fn give_up(&mut self, model: &Framed, role: Role) {
        let party = &mut self.parties[role as usize];
        let sends = matches!(party.connection.0.step(), Step::Send { .. });
        let waits = party.waits();
        party.connection.0.abort("the application gives up");
        match waits {
            true => self.closing = true,
            false => party.results.push(Err(Failed::GaveUp)),
        }
        if sends && model.is(Deviation::AbortInsideBody) {
            let abort = Frame::Abort(AbortReason::Failed { code: 0 }).to_bytes();
            self.write(role, &abort);
        }
    }

    /// A connection that is done goes on with the next object, or closes.
    fn settle(&mut self, model: &Framed, role: Role) {
        let party = &mut self.parties[role as usize];
        let Step::Done(result) = party.connection.0.step() else { return };
        if !party.open {
            return;
        }
        match result {
            Ok(_) if party.connection.0.packet().is_none() => self.close(model, role, true),
            Ok(bytes) => {
                party.results.push(Ok(bytes));
                party.object += 1;
                if model.bare {
                    self.close(model, role, true);
                } else if role == Role::Server {
                    party.connection.0 = party.connection.0.next_server(config(), NOW);
                } else if party.object < model.objects.len() {
                    let packet = model.packet(party.object);
                    party.connection.0 = party.connection.0.next_client(config(), packet, NOW);
                } else {
                    self.close(model, role, true);
                }
            }
            Err(cause) => {
                let failed = match cause {
                    Cause::Peer(PeerError::Aborted(reason)) => Failed::Aborted(reason.code()),
                    Cause::Peer(PeerError::DigestMismatch | PeerError::OffsetBeyondSize { .. }) => {
                        Failed::Own
                    }
                    Cause::Peer(_) => Failed::Other,
                    _ => Failed::Own,
                };
                self.finish(model, role, Err(failed));
            }
        }
    }

    fn finish(&mut self, model: &Framed, role: Role, result: Result<u64, Failed>) {
        let party = &mut self.parties[role as usize];
        if !party.has_given_up() {
            party.results.push(result);
        }
        self.close(model, role, false);
    }

    fn close(&mut self, model: &Framed, role: Role, gracefully: bool) {
        self.parties[role as usize].open = false;
        let has_unread = !self.incoming(role).bytes.is_empty();
        let pipe = &mut self.pipes[role as usize];
        if model.stream == Kind::Tcp && has_unread && !gracefully {
            pipe.bytes.clear();
        }
        pipe.ended = true;
        self.pipes[role.peer() as usize].bytes.clear();
    }
}

impl Party {
    fn new(connection: Connection) -> Self {
        Self {
            connection: Box::new(Running(connection)),
            object: 0,
            open: true,
            received: Vec::new(),
            committed: Vec::new(),
            results: Vec::new(),
            accepted: Vec::new(),
            has_told: false,
            misreported: false,
            extra_byte_sent: false,
        }
    }

    fn has_given_up(&self) -> bool {
        self.results.last() == Some(&Err(Failed::GaveUp))
    }

    /// Whether it is a server between two objects.
    fn waits(&self) -> bool {
        self.object > 0 && self.connection.0.step() == Step::Read { max: 25 }
    }
}
