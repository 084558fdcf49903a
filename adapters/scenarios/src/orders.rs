//! What a [`Relay`](crate::Relay) is to do, as data: so that a seed can choose it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::script::Gate;

/// What a relay does to a connection.
#[derive(Clone, Debug)]
pub struct Orders {
    /// To what the client sends.
    pub to_server: Way,
    /// To what the server sends.
    pub to_client: Way,
    /// Whether one side is reset when the other has been. Or else the connection stays, silent.
    pub tells: bool,
}

/// What a relay does to the bytes that go one way, each counted from the connection's beginning.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// How long the writes are at most, from the first one on. Then as it comes.
    pub pieces: VecDeque<usize>,
    /// Behind how many bytes it pauses, in ascending order, and how long.
    pub pauses: VecDeque<(u64, Duration)>,
    /// What goes wrong, if anything does.
    pub fault: Option<Fault>,
}

/// Something that goes wrong, once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When.
    pub at: At,
    /// And what.
    pub act: Act,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// When so many bytes have been passed on, whether more have come or not.
    Byte(u64),
    /// When all bytes have been passed on and the source has ended: instead of saying so, or before.
    End,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Act {
    /// This way ends early and in order. What still comes is thrown away, and once the end has
    /// arrived, the gate is opened.
    End(Option<Gate>),
    /// There is more than was sent. Then it goes on.
    Garbage(Vec<u8>),
    /// A reset in the direction of this way, and of the other if the relay tells.
    Reset,
    /// Nothing more is passed on this way, neither bytes nor an end.
    Stall,
}
