//! What a [`Relay`](crate::Relay) does to a connection, as data: so that it can be derived from a seed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::script::Gate;

/// What a relay does to a connection.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// What it does to the bytes of the client.
    pub to_server: DirectionPlan,
    /// What it does to the bytes of the server.
    pub to_client: DirectionPlan,
    /// What happens to the other side when one is reset.
    pub on_reset: OnReset,
    /// Whether the first end of a direction ends the other one, too, and drops what it still has.
    pub closes_both: bool,
    /// Whether the connection is over when one side has gone and the other has ended its direction. In the
    /// bare format that side still waits for the end of the stream.
    pub ends_alone: bool,
}

impl FaultPlan {
    /// Forwards everything, as proxies and tunnels do: the reset of a side becomes a graceful end, and an end
    /// of one direction ends the other one, if this intermediary `closes_both`.
    pub fn intermediary(closes_both: bool) -> Self {
        let (to_server, to_client) = Default::default();
        Self { to_server, to_client, on_reset: OnReset::End, closes_both, ends_alone: true }
    }
}

/// What happens to the other side when one is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReset {
    /// It is reset.
    Reset,
    /// It stays open and silent.
    Silence,
    /// It ends gracefully, as proxies and tunnels do.
    End,
}

/// What a relay does to the bytes of one direction. Positions count from the beginning of the connection.
#[derive(Clone, Debug, Default)]
pub struct DirectionPlan {
    /// The maximum lengths of the first writes. Further ones are not limited.
    pub pieces: VecDeque<usize>,
    /// After how many bytes it pauses, in ascending order, and for how long.
    pub pauses: VecDeque<(u64, Duration)>,
    /// The fault of this direction.
    pub fault: Option<Fault>,
}

/// A fault that is injected once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When it is injected.
    pub at: FaultPoint,
    /// The fault to inject.
    pub kind: FaultKind,
}

/// When a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// When this many bytes have been forwarded, whether or not more have arrived.
    Byte(u64),
    /// When all bytes have been forwarded and the source has ended. The end is forwarded after the fault,
    /// if the fault allows that.
    End,
}

/// The kind of a fault.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Ends this direction early and gracefully. Further bytes are dropped. When the end has arrived, the
    /// gate is opened.
    End(Option<Gate>),
    /// Inserts these bytes before the next one, and goes on.
    Garbage(Vec<u8>),
    /// Flips these bits of the next byte, and goes on.
    Flip(u8),
    /// Resets the side that this direction leads to, and also the other one if resets are propagated.
    Reset,
    /// Forwards nothing more in this direction, neither bytes nor an end.
    Stall,
}
