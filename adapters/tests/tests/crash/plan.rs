//! What is derived from a seed.

use std::fmt;
use std::time::Duration;

use dataserver_core::Direction;
use dataserver_tests::{DynAdapter, FaultPlan, Smol, Std};
use fastrand::Rng;

/// The transfer of a file, and the side that is killed.
pub(crate) struct Plan {
    pub(crate) server: DynAdapter,
    pub(crate) client: DynAdapter,
    pub(crate) direction: Direction,
    pub(crate) declared: bool,
    /// A framed object, through an intermediary.
    pub(crate) framed: Option<FaultPlan>,
    pub(crate) size: usize,
    /// Whether there is an older file under the target's name.
    pub(crate) replaces: bool,
    pub(crate) victim: Role,
    pub(crate) moment: Moment,
    /// Whether the transfer can be resumed. It then is, after the crash.
    pub(crate) resumable: bool,
}

/// The role of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// When the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This long after the client was started.
    Start(Duration),
    /// This long after the sender has written this many bytes of the object.
    Amid(usize, Duration),
    /// This long after the sender has written the last byte.
    Whole(Duration),
    /// After the end of the transfer.
    Over,
}

impl Plan {
    /// A bare object, over a direct connection.
    pub(crate) fn bare(seed: u64) -> Self {
        Self::new(&mut Rng::with_seed(seed))
    }

    /// A framed object, through an intermediary that makes a graceful end of the reset of a killed side.
    pub(crate) fn framed(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let plan = Self::new(rng);
        Self { framed: Some(FaultPlan::intermediary(rng.bool())), ..plan }
    }

    /// [`framed`](Self::framed), over TLS.
    pub(crate) fn over_tls(seed: u64) -> Self {
        let plan = Self::framed(seed);
        let over_tls = |adapter: DynAdapter| -> DynAdapter {
            if adapter.name() == "std" { &Std::TLS } else { &Smol::TLS }
        };
        Self { server: over_tls(plan.server), client: over_tls(plan.client), ..plan }
    }

    fn new(rng: &mut Rng) -> Self {
        let size = [rng.usize(1..1000), rng.usize(1..3_000_000)][rng.usize(..2)];
        Self {
            server: adapter(rng),
            client: adapter(rng),
            direction: if rng.bool() { Direction::Put } else { Direction::Get },
            declared: rng.bool(),
            framed: None,
            size,
            replaces: rng.bool(),
            victim: if rng.bool() { Role::Sender } else { Role::Receiver },
            moment: moment(rng, size),
            resumable: rng.bool(),
        }
    }

    /// Whether the server is killed.
    pub(crate) fn server_is_the_victim(&self) -> bool {
        let server = match self.direction {
            Direction::Put => Role::Receiver,
            Direction::Get => Role::Sender,
        };
        self.victim == server
    }

    /// The number of bytes after which the sender reports progress.
    pub(crate) fn notify_at(&self) -> usize {
        match self.moment {
            Moment::Amid(bytes, _) => bytes,
            _ => self.size,
        }
    }
}

fn adapter(rng: &mut Rng) -> DynAdapter {
    if rng.bool() { &Std::TCP } else { &Smol::TCP }
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
        let Self { direction, declared, size, replaces, victim, moment, resumable, .. } = self;
        let (client, server) = (self.client.name(), self.server.name());
        write!(f, "{direction:?} of {size} bytes, declared: {declared}, ")?;
        write!(f, "replaces: {replaces}, resumable: {resumable}, ")?;
        if let Some(FaultPlan { closes_both, .. }) = &self.framed {
            write!(f, "framed, through an intermediary, which closes both: {closes_both}, ")?;
        }
        write!(f, "from a {client} client at a {server} server, {victim:?} killed at {moment:?}")
    }
}
