//! The stream of a connection: two halves, and the bytes in flight in each.

use super::Role;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    /// Indexed by the writer.
    halves: [Half; 2],
    /// Whether each end has learned that the connection is reset.
    broken: [bool; 2],
}

/// One direction. Bytes arrive in order, so it is enough to count them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Half {
    /// The bytes of the start packet in flight. They precede the object.
    header: usize,
    /// The bytes of the object in flight.
    payload: u64,
    /// Whether the writer has shut down. The end follows all bytes.
    end: bool,
    /// Whether a reset is in flight. It can overtake everything else.
    reset: bool,
    writer: Writer,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Writer {
    #[default]
    Open,
    /// The socket is closed. Bytes that arrive there are answered with a reset.
    Closed,
    /// The machine is down. Nothing is answered.
    Silent,
}

/// What a read at this end would find.
pub(super) enum Incoming {
    Header(usize),
    Payload(u64),
    End,
    Nothing,
}

impl Stream {
    pub(super) fn is_broken(&self, role: Role) -> bool {
        self.broken[role as usize]
    }

    pub(super) fn incoming(&self, role: Role) -> Incoming {
        match self.halves[role.peer() as usize] {
            Half { header: 1.., .. } => Incoming::Header(self.halves[role.peer() as usize].header),
            Half { payload: 1.., .. } => {
                Incoming::Payload(self.halves[role.peer() as usize].payload)
            }
            Half { end: true, .. } => Incoming::End,
            _ => Incoming::Nothing,
        }
    }

    /// The number of bytes of the object in flight from this end.
    pub(super) fn payload_from(&self, role: Role) -> u64 {
        self.halves[role as usize].payload
    }

    pub(super) fn read_header(&mut self, role: Role, n: usize) {
        self.halves[role.peer() as usize].header -= n;
    }

    pub(super) fn read_payload(&mut self, role: Role, n: u64) {
        self.halves[role.peer() as usize].payload -= n;
    }

    pub(super) fn write(&mut self, role: Role, header: usize, payload: u64) {
        match self.halves[role.peer() as usize].writer {
            Writer::Open => {
                self.halves[role as usize].header += header;
                self.halves[role as usize].payload += payload;
            }
            Writer::Closed => self.halves[role.peer() as usize].reset = true,
            Writer::Silent => {}
        }
    }

    pub(super) fn shut_down(&mut self, role: Role) {
        self.halves[role as usize].end = true;
    }

    /// This end closes gracefully, or its process was killed with an unarmed socket.
    pub(super) fn close(&mut self, role: Role) {
        self.halves[role as usize].end = true;
        self.halves[role as usize].writer = Writer::Closed;
        self.forget_incoming(role);
    }

    /// This end resets the connection.
    pub(super) fn reset(&mut self, role: Role) {
        let peer_hears = !self.broken[role.peer() as usize];
        self.halves[role as usize].reset |= peer_hears;
        self.halves[role as usize].writer = Writer::Closed;
        self.forget_incoming(role);
    }

    pub(super) fn fall_silent(&mut self, role: Role) {
        self.halves[role as usize].writer = Writer::Silent;
        self.forget_incoming(role);
    }

    /// The network resets the connection for both ends.
    pub(super) fn reset_both(&mut self) {
        for half in &mut self.halves {
            half.reset = true;
        }
    }

    pub(super) fn is_reset(&self) -> bool {
        self.broken.contains(&true) || self.halves.iter().any(|half| half.reset)
    }

    pub(super) fn may_reset_arrive(&self, role: Role) -> bool {
        self.halves[role.peer() as usize].reset && !self.broken[role as usize]
    }

    /// Unread bytes are lost.
    pub(super) fn reset_arrives(&mut self, role: Role) {
        self.broken[role as usize] = true;
        self.forget_incoming(role);
    }

    fn forget_incoming(&mut self, role: Role) {
        let half = &mut self.halves[role.peer() as usize];
        (half.header, half.payload) = (0, 0);
    }
}
