//! Which objects are transferred, and which problems occur.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{Config, Direction, Key, Refusal, StartPacket, Timeouts};

use super::choices::Choices;

#[derive(Debug)]
pub(super) struct Scenario {
    /// The objects, one after the other. After one that fails, the stream is closed.
    pub(super) objects: Vec<Object>,
    pub(super) parties: [Party; 2],
    /// Whether timers run. Without them, everything must end by the stream alone.
    pub(super) timers: bool,
    pub(super) link: Link,
}

#[derive(Debug)]
pub(super) struct Object {
    direction: Direction,
    /// The length of the source, which is not always what was declared.
    pub(super) length: u64,
    declared: Option<u64>,
    /// What the server decides: its limit, or a refusal.
    pub(super) decision: Result<Option<u64>, Refusal>,
    pub(super) commit_fails: bool,
}

/// The client or the server. Also the direction of the stream that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

#[derive(Debug)]
pub(super) struct Party {
    chunk: NonZeroU32,
    /// Reads more than the step asks for, and keeps it.
    pub(super) reads_ahead: bool,
    /// The application gives up in this turn.
    pub(super) gives_up_at: Option<u64>,
    /// The driver cancels the write of this turn, and does not know how much of it has left.
    pub(super) cancels_at: Option<u64>,
    /// The driver gets no turn for some time, from this turn on.
    pub(super) stalls: Option<(u64, Duration)>,
    /// What happens to the bytes that it writes.
    pub(super) fault: Option<Fault>,
}

/// The behavior of the stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) fragments: bool,
    /// How many bytes can be in flight, at least one frame.
    pub(super) capacity: usize,
    /// When one direction ends, the other one ends, too.
    pub(super) closes_both: bool,
    /// The reset of a side that has not read everything overtakes what this side has written.
    pub(super) reset_overtakes: bool,
}

/// A fault of one direction, after this many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Of what is in flight at most `keeps` bytes arrive, and then the stream ends or fails.
    Cut { at: u64, keeps: usize },
    /// Nothing arrives any more, not even the end.
    Blackhole { at: u64 },
    /// Bytes arrive that nobody has written. Most laws do not hold then, but everything ends.
    Garbage { at: u64 },
}

impl Scenario {
    pub(super) fn choose(choices: &mut Choices<'_>) -> Self {
        let objects = (0..1 + choices.below(3)).map(|_| Object::choose(choices)).collect();
        let mut parties = Role::BOTH.map(|_| Party::choose(choices));
        let link = Link {
            fragments: choices.flip(),
            capacity: choices.pick(&[1_000, 12, 13, 30]),
            closes_both: choices.flip(),
            reset_overtakes: choices.flip(),
        };
        // After a canceled write, the peer waits for the rest, and this side for the reason.
        let cancels = parties.iter().any(|party| party.cancels_at.is_some());
        let mut timers = choices.flip() || cancels;
        if choices.flip() {
            let (at, role) = (choices.below(150), choices.below(2) as usize);
            let fault = match choices.below(6) {
                0..=3 => Fault::Cut { at, keeps: choices.pick(&[1_000, 0, 1, 13]) },
                4 => Fault::Blackhole { at },
                _ => Fault::Garbage { at },
            };
            timers |= !matches!(fault, Fault::Cut { .. }); // only they end it
            parties[role].fault = Some(fault);
        }
        Self { objects, parties, timers, link }
    }

    pub(super) fn config(&self, role: Role) -> Config {
        let timeouts = match self.timers {
            true => Timeouts::default(),
            false => Timeouts::default()
                .start(None)
                .idle(None)
                .receipt(None)
                .keep_alive(None)
                .total(None),
        };
        Config::default().chunk(self.parties[role as usize].chunk).timeouts(timeouts)
    }

    pub(super) fn has_fault(&self, is: impl Fn(Fault) -> bool) -> bool {
        self.parties.iter().filter_map(|party| party.fault).any(is)
    }

    /// Whether something can fail that neither application has caused.
    pub(super) fn is_disturbed(&self) -> bool {
        let stalls = self.parties.iter().any(|party| party.stalls.is_some());
        self.has_fault(|_| true) || (stalls && self.timers)
    }

    pub(super) fn gives_up(&self) -> bool {
        self.parties.iter().any(|party| party.gives_up_at.is_some())
    }
}

impl Object {
    fn choose(choices: &mut Choices<'_>) -> Self {
        let length = choices.below(40);
        let declared = match choices.below(8) {
            0..=3 => None,
            4..=6 => Some(length),
            _ => Some((length + choices.below(3)).saturating_sub(1)),
        };
        let decision = match choices.below(12) {
            0..=8 => Ok(None),
            9 => Ok(Some(choices.below(40))),
            10 => Err(Refusal::NotRegistered),
            _ => Err(Refusal::InUse),
        };
        let direction = if choices.flip() { Direction::Get } else { Direction::Put };
        Self { direction, length, declared, decision, commit_fails: choices.one_in(12) }
    }

    pub(super) fn sender(&self) -> Role {
        match self.direction {
            Direction::Put => Role::Client,
            Direction::Get => Role::Server,
        }
    }

    /// The key has the index of the object.
    pub(super) fn packet(&self, index: usize) -> StartPacket {
        let key = Key::from_bytes([index as u8; 16]);
        let packet = match self.direction {
            Direction::Put => StartPacket::put(key),
            Direction::Get => StartPacket::get(key),
        };
        match self.declared {
            Some(size) => packet.with_size(size).expect("a small size").framed(),
            None => packet.framed(),
        }
    }

    /// Misplaced bytes differ, also from those of other objects.
    pub(super) fn bytes(&self, index: usize) -> Vec<u8> {
        let byte = |position: u64| (position * 31 + index as u64 * 101 + 7) as u8;
        (0..self.length).map(byte).collect()
    }

    pub(super) fn succeeds(&self) -> bool {
        let is_allowed = match (self.decision, self.direction) {
            (Ok(Some(limit)), Direction::Put) => self.length <= limit,
            (decision, _) => decision.is_ok(),
        };
        is_allowed && self.declared.is_none_or(|size| size == self.length) && !self.commit_fails
    }
}

impl Party {
    fn choose(choices: &mut Choices<'_>) -> Self {
        let chunk = NonZeroU32::new(choices.pick(&[10, 1, 3, 100])).expect("not zero");
        let turn =
            |choices: &mut Choices<'_>, times| choices.one_in(times).then(|| choices.below(60));
        Self {
            chunk,
            reads_ahead: choices.flip(),
            gives_up_at: turn(choices, 4),
            cancels_at: turn(choices, 8),
            stalls: turn(choices, 4)
                .map(|turn| (turn, Duration::from_secs(choices.pick(&[1, 200])))),
            fault: None,
        }
    }
}

impl Role {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub(super) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
