//! The stream of a connection: two halves, and what is under way in each.

use super::Role;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    /// By who writes.
    halves: [Half; 2],
    /// The connection is reset, and this end knows.
    broken: [bool; 2],
}

/// What goes one way. Bytes arrive in order, so that it is enough to count them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Half {
    /// Of the start packet; before all others.
    header: usize,
    /// Of the object.
    payload: u64,
    /// Behind all bytes, once the writer has shut down.
    end: bool,
    /// Under way, and faster than all else.
    reset: bool,
    writer: Writer,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Writer {
    #[default]
    Open,
    /// There is nobody any more. What comes there is answered with a reset.
    Closed,
    /// There is no machine any more. Nothing is answered.
    Silent,
}

/// What a look at the stream shows.
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

    /// How many bytes of the object are under way from here.
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

    /// This end closes in order, or a process that was not armed is gone.
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

    /// The network resets the connection, for both ends.
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

    /// What was still to be read is lost.
    pub(super) fn reset_arrives(&mut self, role: Role) {
        self.broken[role as usize] = true;
        self.forget_incoming(role);
    }

    fn forget_incoming(&mut self, role: Role) {
        let half = &mut self.halves[role.peer() as usize];
        (half.header, half.payload) = (0, 0);
    }
}
