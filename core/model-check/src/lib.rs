//! Checks all runs of a small client and server. The model has the real [`Connection`]s and the real
//! registry, the stream between them, and all events that can occur at any time.
//!
//! - [`Setup`]: what is transferred, the number of attempts, and which failures can occur
//! - [`World`]: a state: the connections of all attempts, and the registry of the server
//! - [`Action`]: an event. The checker tries each possible one in every state.
//!
//! There is no clock. A running timer can expire at any time, even before earlier ones. This allows more
//! runs than a clock would, and includes all runs with a clock.
//!
//! [`Connection`]: dataserver_core::Connection

pub mod framed;
mod party;
mod properties;
mod registry;
mod stream;
mod termination;

use dataserver_core::{Direction, Key, StartPacket};
use stateright::{Model, Property};

use party::Party;
use registry::RegistryLog;
use stream::Stream;
pub use termination::longest_run;

/// What is transferred, and which failures can occur.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The direction of the object.
    pub direction: Direction,
    /// The size of the object in bytes.
    pub size: u64,
    /// The size that the start packet declares, if any.
    pub declared: Option<u64>,
    /// The most bytes that one step moves.
    pub chunk: u32,
    /// How many bytes of the object can be in flight.
    pub window: u64,
    /// The positions at which the start packet can be divided, and its length.
    pub boundaries: &'static [usize],
    /// How often the entry of the server can be claimed.
    pub uses: Uses,
    /// Whether the entry is unlimited, in spite of `uses`. A deliberate error that the check must find.
    pub ignores_uses: bool,
    /// The number of connections that the clients make.
    pub attempts: usize,
    /// Whether they are made at any time, or each one after its predecessor has failed.
    pub parallel: bool,
    /// Whether the connections have timers.
    pub timers: bool,
    /// What the peer of a killed process sees.
    pub crash: Crash,
    /// When a receiver commits the object.
    pub commit_time: CommitTime,
    /// What the driver of a sender does before it ends the object.
    pub end_checks: EndChecks,
}

/// How often the entry of the server can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// By one connection.
    Once,
    /// By one connection at a time, until a transfer succeeds.
    UntilDelivered,
}

/// What the peer of a killed process sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A reset, because the socket was armed.
    Reset,
    /// Nothing, because the machine lost power.
    Silence,
    /// A graceful close, because the socket was not armed. A deliberate error that the check must find.
    Fin,
    /// A graceful close if a receiver is killed before its sender has ended the object, a reset if not.
    /// This is an error too, but a sender that peeks detects it.
    FinBeforeEnd,
}

/// What the driver of a sender does before it ends the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndChecks {
    /// It asks its application whether the object ends, and checks whether the peer has closed.
    OfferAndPeek,
    /// It does not ask its application. A deliberate error that the check must find.
    PeekOnly,
    /// It does not check the peer. A deliberate error that the check must find.
    OfferOnly,
}

/// When a receiver commits the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitTime {
    /// At the step for it.
    BeforeClose,
    /// After the connection has ended. A deliberate error that the check must find.
    AfterClose,
}

impl Setup {
    /// One put of one byte, with all failures.
    pub const SMALL: Self = Self {
        direction: Direction::Put,
        size: 1,
        declared: Some(1),
        chunk: 1,
        window: 2,
        boundaries: &[9, 25],
        uses: Uses::UntilDelivered,
        ignores_uses: false,
        attempts: 1,
        parallel: false,
        timers: true,
        crash: Crash::Reset,
        commit_time: CommitTime::BeforeClose,
        end_checks: EndChecks::OfferAndPeek,
    };

    fn packet(&self) -> StartPacket {
        let key = Key::from_bytes([7; 16]);
        let packet = match self.direction {
            Direction::Put => StartPacket::put(key),
            Direction::Get => StartPacket::get(key),
        };
        self.declared.map_or(packet, |bytes| packet.with_size(bytes).expect("a small size"))
    }

    /// Whether the start packet declares a wrong size.
    fn is_misdeclared(&self) -> bool {
        self.declared.is_some_and(|declared| declared != self.size)
    }

    fn sender(&self) -> Role {
        match self.direction {
            Direction::Put => Role::Client,
            Direction::Get => Role::Server,
        }
    }
}

/// An end of a connection, its end of the stream, and the half of the stream that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that connects.
    Client,
    /// The side with the registry.
    Server,
}

impl Role {
    const BOTH: [Self; 2] = [Self::Client, Self::Server];

    fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The state of everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    attempts: Vec<Attempt>,
    registry: RegistryLog,
    /// Whether the processes of the client and of the server are running.
    alive: [bool; 2],
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    parties: [Party; 2],
    stream: Stream,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client connects.
    Connect,
    /// This end of this connection performs its step, with this many bytes.
    Step(usize, Role, usize),
    /// Its timer expires.
    TimeOut(usize, Role),
    /// Its application aborts. At a commit, this is a failed commit.
    Abort(usize, Role),
    /// It learns that the connection is reset.
    ResetArrives(usize, Role),
    /// The handler of the server is done with this connection and releases its lease.
    Release(usize),
    /// The network resets the connection.
    NetworkResets(usize),
    /// This process is killed, with all its connections.
    Crash(Role),
}

impl Action {
    /// Whether the event occurs if no other event does. The others may never occur.
    fn is_certain(self) -> bool {
        match self {
            Self::Step(..) | Self::TimeOut(..) | Self::ResetArrives(..) | Self::Release(_) => true,
            Self::Connect | Self::Abort(..) | Self::NetworkResets(_) | Self::Crash(_) => false,
        }
    }
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World { attempts: Vec::new(), registry: RegistryLog::default(), alive: [true, true] }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let [client_lives, server_lives] = world.alive;
        if client_lives && server_lives && world.may_connect(self) {
            actions.push(Action::Connect);
        }
        for role in Role::BOTH.into_iter().filter(|role| world.alive[*role as usize]) {
            let is_open = |attempt: &Attempt| attempt.parties[role as usize].is_open();
            if world.attempts.iter().any(is_open) {
                actions.push(Action::Crash(role));
            }
        }
        for (at, attempt) in world.attempts.iter().enumerate() {
            for role in Role::BOTH {
                attempt.push_actions(self, at, role, actions);
            }
            if server_lives && attempt.parties[Role::Server as usize].may_release() {
                actions.push(Action::Release(at));
            }
            if attempt.parties.iter().all(Party::is_open) && !attempt.stream.is_reset() {
                actions.push(Action::NetworkResets(at));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Connect => next.attempts.push(Attempt::new(self)),
            Action::Step(at, role, n) => next.step(self, at, role, n),
            Action::TimeOut(at, role) => {
                let Attempt { parties, stream } = &mut next.attempts[at];
                parties[role as usize].time_out(role, stream);
            }
            Action::Abort(at, role) => {
                let Attempt { parties, stream } = &mut next.attempts[at];
                parties[role as usize].abort(role, stream);
            }
            Action::ResetArrives(at, role) => next.attempts[at].stream.reset_arrives(role),
            Action::Release(at) => {
                let delivery = next.attempts[at].parties[Role::Server as usize].release();
                next.registry.release(at, delivery);
            }
            Action::NetworkResets(at) => next.attempts[at].stream.reset_both(),
            Action::Crash(role) => next.crash(self, role),
        }
        for Attempt { parties, stream } in &mut next.attempts {
            if !parties.iter().any(Party::is_open) {
                *stream = Stream::default(); // no end uses it any more
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl World {
    fn may_connect(&self, setup: &Setup) -> bool {
        let has_failed = |attempt: &Attempt| {
            let client = &attempt.parties[Role::Client as usize];
            !client.is_open() && client.result().is_some_and(|result| result.is_err())
        };
        let is_free = setup.parallel || self.attempts.last().is_none_or(has_failed);
        is_free && self.attempts.len() < setup.attempts
    }

    fn step(&mut self, setup: &Setup, at: usize, role: Role, n: usize) {
        let Attempt { parties, stream } = &mut self.attempts[at];
        let party = &mut parties[role as usize];
        if party.is_deciding() {
            let claim = self.registry.claim(setup, at);
            party.decide(role, claim, stream);
        } else {
            party.step(setup, role, n, stream);
        }
    }

    fn crash(&mut self, setup: &Setup, role: Role) {
        self.alive[role as usize] = false;
        for Attempt { parties, stream } in &mut self.attempts {
            let sender = &parties[setup.sender() as usize];
            let is_early = role != setup.sender() && sender.may_send();
            let party = &mut parties[role as usize];
            if party.is_open() {
                party.crash();
                match setup.crash {
                    Crash::Fin => stream.close(role),
                    Crash::FinBeforeEnd if is_early => stream.close(role),
                    Crash::Reset | Crash::FinBeforeEnd => stream.reset(role),
                    Crash::Silence => stream.fall_silent(role),
                }
            }
        }
    }
}

impl Attempt {
    fn new(setup: &Setup) -> Self {
        Self { parties: Role::BOTH.map(|role| Party::new(setup, role)), stream: Stream::default() }
    }

    fn push_actions(&self, setup: &Setup, at: usize, role: Role, actions: &mut Vec<Action>) {
        let party = &self.parties[role as usize];
        let amounts = party.amounts(setup, role, &self.stream);
        actions.extend(amounts.into_iter().map(|n| Action::Step(at, role, n)));
        if !party.is_open() {
            return;
        }
        if party.may_time_out() {
            actions.push(Action::TimeOut(at, role));
        }
        if party.result().is_none() {
            actions.push(Action::Abort(at, role));
        }
        if self.stream.may_reset_arrive(role) {
            actions.push(Action::ResetArrives(at, role));
        }
    }
}
