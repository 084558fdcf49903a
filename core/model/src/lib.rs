//! Every run of a small client and server, exhaustively: the real [`Connection`]s and the real
//! registry, the stream between them, and all that can happen to any of them at any moment.
//!
//! - [`Setup`]: what is transferred, how often it is tried, and what may go wrong;
//! - [`World`]: a state: the connections of each attempt, and what the server has registered;
//! - [`Action`]: what can happen next. The checker tries every one of them in every state.
//!
//! There is no clock: a timer that runs may run out at any moment, whichever others run. That is
//! more than can happen, and so nothing that can happen is left out.
//!
//! [`Connection`]: dataserver_core::Connection

mod party;
mod properties;
mod reception;
mod stream;
mod termination;

use dataserver_core::{Direction, Key, StartPacket};
use stateright::{Model, Property};

use party::Party;
use reception::Reception;
use stream::Stream;
pub use termination::longest_path;

/// What is transferred, and what may go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which way the object goes.
    pub direction: Direction,
    /// How many bytes it has.
    pub size: u64,
    /// How many the start packet says that it has, if it says so.
    pub declared: Option<u64>,
    /// The most bytes that one step moves.
    pub chunk: u32,
    /// How many bytes of the object may be under way.
    pub window: u64,
    /// Where the start packet may be cut, and its length.
    pub cuts: &'static [usize],
    /// How the server has registered for it.
    pub uses: Uses,
    /// Whether it stands, in truth, whatever it should be. Wrong, to show that the check sees it.
    pub stands: bool,
    /// How many connections the clients make.
    pub attempts: usize,
    /// Whether they make them at any time, or each one after the one before has failed.
    pub parallel: bool,
    /// Whether the connections have timers.
    pub timers: bool,
    /// What the network tells of a process that was killed.
    pub crash: Crash,
    /// When a receiver makes the object last.
    pub commits: Commits,
    /// What a sender's driver does before it ends the object.
    pub ends: Ends,
}

/// How often the server's registration may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// By one connection.
    Once,
    /// By one at a time, until a transfer succeeds.
    UntilDelivered,
}

/// What the peer sees of a process that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A reset: the socket was armed.
    Reset,
    /// Nothing, ever: the machine has lost its power.
    Silence,
    /// An orderly end: the socket was not armed. Wrong, to show that the check sees it.
    Fin,
    /// An orderly end of a receiver that is killed before its sender has ended the object; else a reset.
    /// It is as wrong, but a sender that looks sees it.
    FinBeforeTheEnd,
}

/// What a sender's driver does before it ends the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It asks its application whether that is all, and looks whether the peer has closed.
    AskingAndLooking,
    /// It does not ask. Wrong, to show that the check sees it.
    WithoutAsking,
    /// It does not look. Wrong, to show that the check sees it.
    WithoutLooking,
}

/// When a receiver makes the object last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// When the step says so.
    BeforeClose,
    /// When all is over. Wrong, to show that the check sees it.
    AfterClose,
}

impl Setup {
    /// One put of one byte, where all may go wrong that can.
    pub const SMALL: Self = Self {
        direction: Direction::Put,
        size: 1,
        declared: Some(1),
        chunk: 1,
        window: 2,
        cuts: &[9, 25],
        uses: Uses::UntilDelivered,
        stands: false,
        attempts: 1,
        parallel: false,
        timers: true,
        crash: Crash::Reset,
        commits: Commits::BeforeClose,
        ends: Ends::AskingAndLooking,
    };

    fn packet(&self) -> StartPacket {
        let key = Key::new([7; 16]);
        let packet = match self.direction {
            Direction::Put => StartPacket::put(key),
            Direction::Get => StartPacket::get(key),
        };
        self.declared.map_or(packet, |bytes| packet.with_size(bytes).expect("a small size"))
    }

    /// Whether the start packet is wrong about the size.
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

/// An end of a connection; and so, the end of the stream that it has, and the half that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one that connects.
    Client,
    /// The one that has registered something.
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

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    attempts: Vec<Attempt>,
    reception: Reception,
    /// The processes that run: the client's and the server's.
    alive: [bool; 2],
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    parties: [Party; 2],
    stream: Stream,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client connects.
    Connect,
    /// This end of this connection does as the step says, with so many bytes.
    Step(usize, Role, usize),
    /// Its timer runs out.
    TimeOut(usize, Role),
    /// Its application gives up; where it is to commit, because it can not.
    Abort(usize, Role),
    /// It learns that the connection is reset.
    ResetArrives(usize, Role),
    /// The server's handler is done with this connection, and gives back what it had claimed.
    Release(usize),
    /// Something between the ends resets the connection.
    NetworkResets(usize),
    /// This process is killed, with all its connections.
    Crash(Role),
}

impl Action {
    /// Whether it comes about by itself, if nothing else does; the others may never happen.
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
        vec![World { attempts: Vec::new(), reception: Reception::default(), alive: [true, true] }]
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
                let delivered = next.attempts[at].parties[Role::Server as usize].release();
                next.reception.release(at, delivered);
            }
            Action::NetworkResets(at) => next.attempts[at].stream.reset_both(),
            Action::Crash(role) => next.crash(self, role),
        }
        for Attempt { parties, stream } in &mut next.attempts {
            if !parties.iter().any(Party::is_open) {
                *stream = Stream::default(); // nobody looks at it any more
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
            let claim = self.reception.claim(setup, at);
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
                    Crash::FinBeforeTheEnd if is_early => stream.close(role),
                    Crash::Reset | Crash::FinBeforeTheEnd => stream.reset(role),
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
