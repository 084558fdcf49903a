//! What a seed makes of a run.

use std::fmt;
use std::time::Duration;

use dataserver_core::Direction;
use dataserver_scenarios::{Any, Smol, Std};
use fastrand::Rng;

/// A file that crosses, and a side that is killed meanwhile.
pub(crate) struct Plan {
    pub(crate) server: Any,
    pub(crate) client: Any,
    pub(crate) direction: Direction,
    pub(crate) declared: bool,
    pub(crate) size: usize,
    /// Whether there is an older file under the target's name.
    pub(crate) replaces: bool,
    pub(crate) victim: Role,
    pub(crate) moment: Moment,
}

/// A side of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// When the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long after the client has been set going.
    Start(Duration),
    /// So long after the sender has handed over so many bytes of the object to its system.
    Amid(usize, Duration),
    /// So long after it has handed over the last one.
    Whole(Duration),
    /// When all is over.
    Over,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let size = [rng.usize(1..1000), rng.usize(1..3_000_000)][rng.usize(..2)];
        Self {
            server: adapter(rng),
            client: adapter(rng),
            direction: if rng.bool() { Direction::Put } else { Direction::Get },
            declared: rng.bool(),
            size,
            replaces: rng.bool(),
            victim: if rng.bool() { Role::Sender } else { Role::Receiver },
            moment: moment(rng, size),
        }
    }

    /// Whether it is the server that is killed.
    pub(crate) fn server_is_the_victim(&self) -> bool {
        let server = match self.direction {
            Direction::Put => Role::Receiver,
            Direction::Get => Role::Sender,
        };
        self.victim == server
    }

    /// Behind how many bytes the sender tells.
    pub(crate) fn tell_at(&self) -> usize {
        match self.moment {
            Moment::Amid(bytes, _) => bytes,
            _ => self.size,
        }
    }
}

fn adapter(rng: &mut Rng) -> Any {
    if rng.bool() { &Std } else { &Smol }
}

fn moment(rng: &mut Rng, size: usize) -> Moment {
    let later = Duration::from_micros(rng.u64(..3000));
    let soon = Duration::from_micros(rng.u64(..100));
    match rng.usize(..8) {
        0 | 1 => Moment::Start(later),
        2 | 3 => Moment::Amid(rng.usize(..size), soon),
        4 => Moment::Whole(soon),
        5 | 6 => Moment::Whole(later),
        _ => Moment::Over,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, declared, size, replaces, victim, moment, .. } = self;
        let (client, server) = (self.client.name(), self.server.name());
        write!(f, "{direction:?} of {size} bytes, declared: {declared}, replaces: {replaces}, ")?;
        write!(f, "from a {client} client at a {server} server, {victim:?} killed at {moment:?}")
    }
}
