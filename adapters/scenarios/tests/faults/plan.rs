//! What a seed makes of a run.

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dataserver_core::{Config, Direction, StartPacket, Timeouts};
use dataserver_scenarios::{
    Act, Any, At, Do, Fault, Gate, Orders, Smol, Std, Way, get, patient, put,
};
use fastrand::Rng;

/// Shorter than a connection may be silent where the relay keeps it so.
const SHORT: Duration = Duration::from_millis(300);

const CHUNKS: [u32; 6] = [1, 21, 25, 1000, 65_536, 262_144];

/// One object that one client puts to, or gets from, one server through a relay.
pub(crate) struct Plan {
    pub(crate) server: Any,
    pub(crate) client: Any,
    pub(crate) direction: Direction,
    pub(crate) size: usize,
    pub(crate) declared: bool,
    /// Of the client, and of the server.
    pub(crate) chunks: [u32; 2],
    pub(crate) wrong: Option<Wrong>,
    pub(crate) orders: Orders,
    /// One of [`Do::ways_to_send`], with a wait for this gate where there is one.
    way_to_send: usize,
    gate: Option<Gate>,
    way_to_receive: usize,
}

/// For messages: without the cuts and pauses, which are many.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, size, declared, chunks: [ours, theirs], .. } = self;
        let (client, server) = (self.client.name(), self.server.name());
        write!(f, "{direction:?} of {size} bytes, declared: {declared}, from a {client} client ")?;
        write!(f, "(chunk {ours}) at a {server} server (chunk {theirs}), ")?;
        write!(f, "tells: {}, wrong: {:?}", self.orders.tells, self.wrong)
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// On the object's way, or on the receipt's.
    pub(crate) with_the_object: bool,
    pub(crate) kind: Kind,
    pub(crate) at: At,
}

/// An [`Act`], without what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    End,
    Garbage,
    Reset,
    Stall,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let direction = if rng.bool() { Direction::Put } else { Direction::Get };
        let chunks = [chunk(rng), chunk(rng)];
        let size = size(rng, chunks);
        let [object, receipt] = lengths(direction, size);
        let wrong = if rng.usize(..5) == 0 { None } else { Some(wrong(rng, object, receipt)) };
        let gate = wrong.filter(|wrong| wrong.is_early_receipt(receipt)).map(|_| Gate::new());
        let mut ways = [way(rng, object), way(rng, receipt)];
        if let Some(wrong) = wrong {
            ways[usize::from(!wrong.with_the_object)].fault = Some(wrong.fault(rng, gate.clone()));
        }
        if direction == Direction::Get {
            ways.reverse();
        }
        let [to_server, to_client] = ways;
        Self {
            server: adapter(rng),
            client: adapter(rng),
            direction,
            size,
            declared: rng.bool(),
            chunks,
            wrong,
            orders: Orders { to_server, to_client, tells: rng.usize(..4) > 0 },
            way_to_send: rng.usize(..5),
            gate,
            way_to_receive: rng.usize(..4),
        }
    }

    pub(crate) fn packet(&self) -> StartPacket {
        let size = Some(self.size as u64).filter(|_| self.declared);
        match self.direction {
            Direction::Put => put(size),
            Direction::Get => get(size),
        }
    }

    /// What the sending application does.
    pub(crate) fn sending(&self, object: &[u8], file: &Path) -> Vec<Do> {
        let mut script = Do::ways_to_send(object, file)[self.way_to_send].clone();
        if let Some(gate) = &self.gate {
            let behind_the_first = script.len() - 1; // or before all, where that is all
            script.insert(behind_the_first.min(1), Do::Wait(gate.clone()));
        }
        script
    }

    /// What the receiving application does: it tells when it has stored the object, and only then
    /// commits.
    pub(crate) fn receiving(&self, file: &Path, stored: Sender<Vec<u8>>) -> Vec<Do> {
        let mut script = match self.way_to_receive {
            0 => vec![Do::ReadToEnd],
            1 => vec![Do::Read(self.size / 3), Do::ReadToEnd],
            _ => vec![Do::ReceiveFile(file.into())],
        };
        script.push(Do::Tell(stored));
        if self.direction == Direction::Get {
            script.push(Do::Commit); // a handler leaves that to the server
        }
        script
    }

    pub(crate) fn stores_in_a_file(&self) -> bool {
        self.way_to_receive > 1
    }

    /// Whether somebody has to run into a timer, since the relay says nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.wrong.is_some_and(|wrong| wrong.kind == Kind::Stall || !self.orders.tells)
    }

    /// The configuration of the client, and of the server.
    pub(crate) fn configs(&self) -> [Config; 2] {
        let short = Timeouts { start: SHORT, idle: SHORT, end: SHORT, ..Timeouts::default() };
        let timeouts = if self.is_silent() { short } else { patient().timeouts };
        self.chunks.map(|chunk| Config {
            chunk: NonZeroU32::new(chunk).expect("a chunk"),
            timeouts,
            ..Config::default()
        })
    }
}

impl Wrong {
    /// An end on the receipt's way behind all that has to pass there. What makes it one that the
    /// sender must see through is that it has not ended its object: see that it has not.
    fn is_early_receipt(&self, receipt: u64) -> bool {
        !self.with_the_object && self.kind == Kind::End && self.at == At::Byte(receipt)
    }

    fn fault(&self, rng: &mut Rng, gate: Option<Gate>) -> Fault {
        let act = match self.kind {
            Kind::End => Act::End(gate),
            Kind::Garbage => {
                let length = rng.usize(1..100);
                Act::Garbage((0..length).map(|_| rng.u8(..)).collect())
            }
            Kind::Reset => Act::Reset,
            Kind::Stall => Act::Stall,
        };
        Fault { at: self.at, act }
    }
}

/// How many bytes there are on the object's way, and on the receipt's.
fn lengths(direction: Direction, size: usize) -> [u64; 2] {
    let start_packet = StartPacket::LEN as u64;
    match direction {
        Direction::Put => [start_packet + size as u64, 0],
        Direction::Get => [size as u64, start_packet],
    }
}

fn adapter(rng: &mut Rng) -> Any {
    if rng.bool() { &Std } else { &Smol }
}

fn chunk(rng: &mut Rng) -> u32 {
    CHUNKS[rng.usize(..CHUNKS.len())]
}

/// Around the boundaries of one side's chunk, but not so large that it takes many thousand chunks.
fn size(rng: &mut Rng, chunks: [u32; 2]) -> usize {
    let [smaller, larger] = [chunks[0].min(chunks[1]), chunks[0].max(chunks[1])];
    let chunk = if rng.bool() { smaller } else { larger } as usize;
    let size = match rng.usize(..8) {
        0 => 0,
        1 => 1,
        2 => chunk - 1,
        3 => chunk,
        4 => chunk + 1,
        5 => rng.usize(..3 * chunk),
        _ => rng.usize(..400_000),
    };
    size.min(2000 * smaller as usize)
}

/// How the bytes of a way are cut and delayed.
fn way(rng: &mut Rng, length: u64) -> Way {
    let longest = [1, 2, 25, 1000, 100_000][rng.usize(..5)];
    let pieces = (0..1000).map(|_| rng.usize(1..=longest)).collect();
    let pause = |_| (byte(rng, length), Duration::from_millis(rng.u64(1..10)));
    let mut pauses: Vec<_> = (0..3).map(pause).collect();
    pauses.sort_unstable();
    Way { pieces, pauses: pauses.into(), fault: None }
}

/// Some byte of a way, with a liking for the boundaries.
fn byte(rng: &mut Rng, length: u64) -> u64 {
    match rng.usize(..5) {
        0 => 0,
        1 => length.min(StartPacket::LEN as u64),
        2 => length,
        _ => rng.u64(..=length),
    }
}

fn wrong(rng: &mut Rng, object: u64, receipt: u64) -> Wrong {
    let with_the_object = rng.bool();
    let length = if with_the_object { object } else { receipt };
    let (kind, at) = match rng.usize(..4) {
        // What is ended where it ends is not ended early.
        0 if with_the_object && object > 0 => (Kind::End, At::Byte(byte(rng, object - 1))),
        0 if !with_the_object => (Kind::End, At::Byte(byte(rng, receipt))),
        0 | 1 if rng.bool() => (Kind::Garbage, At::Byte(length)),
        0 | 1 => (Kind::Garbage, At::End),
        kind => {
            let at = if rng.usize(..3) == 0 { At::End } else { At::Byte(byte(rng, length)) };
            (if kind == 2 { Kind::Reset } else { Kind::Stall }, at)
        }
    };
    Wrong { with_the_object, kind, at }
}
