//! What is derived from a seed.

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dataserver_core::{Config, Direction, Frame, StartPacket, Timeouts};
use dataserver_tests::{
    DirectionPlan, DynAdapter, Fault, FaultKind, FaultPlan, FaultPoint, Gate, OnReset, Op, Smol,
    Std, get, long_timeouts, put,
};
use fastrand::Rng;

/// Shorter than a relay without propagated resets keeps a connection silent.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// More than the bytes of a handshake in either direction.
const HANDSHAKE: u64 = 1500;

const CHUNKS: [u32; 6] = [1, 21, 25, 1000, 65_536, 262_144];

/// The transfer of one object through a relay.
pub(crate) struct Plan {
    pub(crate) server: DynAdapter,
    pub(crate) client: DynAdapter,
    pub(crate) direction: Direction,
    pub(crate) size: usize,
    pub(crate) declared: bool,
    pub(crate) framed: bool,
    /// Those of the client and of the server.
    pub(crate) chunks: [u32; 2],
    pub(crate) wrong: Option<Wrong>,
    pub(crate) fault_plan: FaultPlan,
    /// An index into [`Op::ways_to_send`]. If there is a gate, the sender waits for it.
    way_to_send: usize,
    gate: Option<Gate>,
    way_to_receive: usize,
}

/// For messages, without the fragmentation and the pauses.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, size, declared, chunks: [ours, theirs], .. } = self;
        let (client, server) = (self.client.name(), self.server.name());
        write!(
            f,
            "{direction:?} of {size} bytes, declared: {declared}, framed: {}, ",
            self.framed
        )?;
        write!(f, "from a {client} client ")?;
        write!(f, "(chunk {ours}) at a {server} server (chunk {theirs}), ")?;
        let FaultPlan { on_reset, closes_both, .. } = self.fault_plan;
        write!(f, "{on_reset:?} on reset, closes both: {closes_both}, wrong: {:?}", self.wrong)
    }
}

/// The fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Whether it has the direction of the object, or that of the receipt.
    pub(crate) with_the_object: bool,
    pub(crate) kind: Kind,
    pub(crate) at: FaultPoint,
}

/// No kind of a frame begins with these bytes.
const NO_FRAME: [u8; 2] = [9, 9];

/// A [`FaultKind`] without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    End,
    Garbage,
    Reset,
    Stall,
}

impl Plan {
    /// A bare object, through a relay that does not change how a connection ends.
    pub(crate) fn bare(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut plan = Self::new(rng, false);
        plan.fault_plan.on_reset =
            if rng.usize(..4) > 0 { OnReset::Reset } else { OnReset::Silence };
        plan
    }

    /// A framed object, through a relay that may do so, as proxies and tunnels do.
    pub(crate) fn framed(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut plan = Self::new(rng, true);
        let kinds = [OnReset::Reset, OnReset::Silence, OnReset::End, OnReset::End];
        plan.fault_plan.on_reset = kinds[rng.usize(..4)];
        plan.fault_plan.closes_both = rng.bool();
        plan
    }

    /// An object in either format over TLS, through any relay. The fault is anywhere, the handshake included.
    pub(crate) fn over_tls(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let framed = rng.bool();
        let mut plan = Self::new(rng, framed);
        (plan.server, plan.client) = (over_tls(rng), over_tls(rng));
        plan.gate = None;
        let FaultPlan { to_server, to_client, .. } = &mut plan.fault_plan;
        for fault in [to_server, to_client].into_iter().filter_map(|it| it.fault.as_mut()) {
            if let FaultPoint::Byte(byte) = &mut fault.at {
                *byte += rng.u64(..HANDSHAKE);
            }
            if let FaultKind::End(gate) = &mut fault.kind {
                *gate = None;
            }
        }
        let kinds = [OnReset::Reset, OnReset::Silence, OnReset::End, OnReset::End];
        plan.fault_plan.on_reset = kinds[rng.usize(..4)];
        plan.fault_plan.closes_both = rng.bool();
        plan.fault_plan.ends_alone = true;
        plan
    }

    fn new(rng: &mut Rng, framed: bool) -> Self {
        let direction = if rng.bool() { Direction::Put } else { Direction::Get };
        let chunks = [chunk(rng), chunk(rng)];
        let size = size(rng, chunks);
        let [object, receipt] = lengths(direction, size, framed);
        let wrong = if rng.usize(..5) == 0 { None } else { Some(wrong(rng, object, receipt)) };
        // Bytes that are inserted within an object make another one, in the framed format, too.
        let wrong = wrong.map(|wrong| match wrong.kind {
            Kind::Garbage if framed => wrong.before_the_first_frame(direction),
            _ => wrong,
        });
        // A framed receipt has bytes, and a sender that waits for its end would wait for them.
        let is_early = |wrong: &Wrong| !framed && wrong.is_early_receipt(receipt);
        let gate = wrong.filter(is_early).map(|_| Gate::new());
        let mut directions = [direction_plan(rng, object), direction_plan(rng, receipt)];
        if let Some(wrong) = wrong {
            directions[usize::from(!wrong.with_the_object)].fault =
                Some(wrong.fault(rng, framed, gate.clone()));
        }
        if direction == Direction::Get {
            directions.reverse();
        }
        let [to_server, to_client] = directions;
        Self {
            server: adapter(rng),
            client: adapter(rng),
            direction,
            size,
            declared: rng.bool(),
            framed,
            chunks,
            wrong,
            fault_plan: FaultPlan {
                to_server,
                to_client,
                on_reset: OnReset::Reset,
                closes_both: false,
                ends_alone: framed,
            },
            way_to_send: rng.usize(..6),
            gate,
            way_to_receive: rng.usize(..4),
        }
    }

    pub(crate) fn packet(&self) -> StartPacket {
        let size = Some(self.size as u64).filter(|_| self.declared);
        let packet = match self.direction {
            Direction::Put => put(size),
            Direction::Get => get(size),
        };
        if self.framed { packet.framed() } else { packet }
    }

    /// The script of the sending application.
    pub(crate) fn sending(&self, object: &[u8], file: &Path) -> Vec<Op> {
        let mut script = Op::ways_to_send(object, file)[self.way_to_send].clone();
        if let Some(gate) = &self.gate {
            let behind_the_first = script.len() - 1; // or 0 if there is only one operation
            script.insert(behind_the_first.min(1), Op::Wait(gate.clone()));
        }
        script
    }

    /// The script of the receiving application, which notifies when it has stored the object, and
    /// commits after that.
    pub(crate) fn receiving(&self, file: &Path, stored: Sender<Vec<u8>>) -> Vec<Op> {
        let mut script = match self.way_to_receive {
            0 => vec![Op::ReadToEnd],
            1 => vec![Op::Read(self.size / 3), Op::ReadToEnd],
            _ => vec![Op::ReceiveFile(file.into())],
        };
        script.push(Op::Notify(stored));
        if self.direction == Direction::Get {
            script.push(Op::Commit); // a handler commits at the end of its script
        }
        script
    }

    pub(crate) fn stores_in_a_file(&self) -> bool {
        self.way_to_receive > 1
    }

    /// Whether a side must run into a timer because the relay is silent.
    pub(crate) fn is_silent(&self) -> bool {
        let is_silent = self.fault_plan.on_reset == OnReset::Silence;
        self.wrong.is_some_and(|wrong| match wrong.kind {
            Kind::Stall => true,
            // In the length of a record, they make one that never becomes whole.
            Kind::Garbage if self.server.name().ends_with("-tls") => true,
            _ => is_silent,
        })
    }

    /// The configurations of the client and of the server.
    pub(crate) fn configs(&self) -> [Config; 2] {
        let short = Timeouts::default().start(SHORT).idle(SHORT).receipt(SHORT).keep_alive(SHORT);
        let timeouts = if self.is_silent() { short } else { long_timeouts().timeouts };
        self.chunks.map(|chunk| {
            let chunk = NonZeroU32::new(chunk).expect("a chunk");
            Config::default().chunk(chunk).timeouts(timeouts)
        })
    }
}

impl Wrong {
    /// A FIN in the direction of the receipt, after all bytes of that direction. It is an early one
    /// only if the sender has not ended its object, so the sender has to wait.
    fn is_early_receipt(&self, receipt: u64) -> bool {
        !self.with_the_object && self.kind == Kind::End && self.at == FaultPoint::Byte(receipt)
    }

    fn before_the_first_frame(self, direction: Direction) -> Self {
        let is_from_the_client = (direction == Direction::Put) == self.with_the_object;
        let start_packet = if is_from_the_client { StartPacket::LEN as u64 } else { 0 };
        Self { at: FaultPoint::Byte(start_packet), ..self }
    }

    fn fault(&self, rng: &mut Rng, framed: bool, gate: Option<Gate>) -> Fault {
        let kind = match self.kind {
            Kind::End => FaultKind::End(gate),
            Kind::Garbage if framed => FaultKind::Garbage(NO_FRAME.into()),
            Kind::Garbage => {
                let length = rng.usize(1..100);
                FaultKind::Garbage((0..length).map(|_| rng.u8(..)).collect())
            }
            Kind::Reset => FaultKind::Reset,
            Kind::Stall => FaultKind::Stall,
        };
        Fault { at: self.at, kind }
    }
}

/// The number of bytes in the direction of the object and in that of the receipt.
fn lengths(direction: Direction, size: usize, framed: bool) -> [u64; 2] {
    let start_packet = StartPacket::LEN as u64;
    let frame = if framed { Frame::LEN as u64 } else { 0 }; // at least one each way
    match direction {
        Direction::Put => [start_packet + frame + size as u64, frame],
        Direction::Get => [frame + size as u64, start_packet + frame],
    }
}

fn adapter(rng: &mut Rng) -> DynAdapter {
    if rng.bool() { &Std::TCP } else { &Smol::TCP }
}

fn over_tls(rng: &mut Rng) -> DynAdapter {
    if rng.bool() { &Std::TLS } else { &Smol::TLS }
}

fn chunk(rng: &mut Rng) -> u32 {
    CHUNKS[rng.usize(..CHUNKS.len())]
}

/// A size around a multiple of a chunk, with a limited number of chunks.
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

/// The fragmentation and the pauses of a direction.
fn direction_plan(rng: &mut Rng, length: u64) -> DirectionPlan {
    let longest = [1, 2, 25, 1000, 100_000][rng.usize(..5)];
    let pieces = (0..1000).map(|_| rng.usize(1..=longest)).collect();
    let pause = |_| (byte(rng, length), Duration::from_millis(rng.u64(1..10)));
    let mut pauses: Vec<_> = (0..3).map(pause).collect();
    pauses.sort_unstable();
    DirectionPlan { pieces, pauses: pauses.into(), fault: None }
}

/// A position in a direction. Boundaries are preferred.
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
        // An end at the end of the bytes is not early.
        0 if with_the_object && object > 0 => (Kind::End, FaultPoint::Byte(byte(rng, object - 1))),
        0 if !with_the_object => (Kind::End, FaultPoint::Byte(byte(rng, receipt))),
        0 | 1 if rng.bool() => (Kind::Garbage, FaultPoint::Byte(length)),
        0 | 1 => (Kind::Garbage, FaultPoint::End),
        kind => {
            let at = if rng.usize(..3) == 0 {
                FaultPoint::End
            } else {
                FaultPoint::Byte(byte(rng, length))
            };
            (if kind == 2 { Kind::Reset } else { Kind::Stall }, at)
        }
    };
    Wrong { with_the_object, kind, at }
}
