//! A stream in memory, of two halves, that does all that a stream may, and some that it should not.

use std::collections::VecDeque;

use core::time::Duration;

use dataserver_core::Instant;

use super::choices::Choices;
use super::object_byte;
use super::scenario::{AT_END, Fault, Fragments, Link, Role, Scenario, Trouble};

pub(super) struct Stream<'a> {
    pub(super) now: Instant,
    pub(super) choices: Choices<'a>,
    link: Link,
    /// By who writes.
    halves: [Half; 2],
    /// When this end learns that the connection is reset.
    reset: [Option<Instant>; 2],
    /// When this end last read something, and when there was last new room for what it writes.
    has_read: [Instant; 2],
    has_room: [Instant; 2],
}

/// What goes one way.
struct Half {
    under_way: VecDeque<(Instant, Segment)>,
    /// How many bytes were taken from the writer.
    taken: u64,
    /// How many of them are of the start packet.
    header: u64,
    fault: Option<Fault>,
    /// The fault has happened.
    tripped: bool,
}

#[derive(PartialEq)]
enum Segment {
    Bytes(VecDeque<u8>),
    End,
}

pub(super) enum Read {
    Bytes(Vec<u8>),
    End,
    Reset,
    NotReady,
}

pub(super) enum Write {
    Bytes(usize),
    Reset,
    NotReady,
}

pub(super) enum ShutDown {
    Done,
    Reset,
    NotReady,
}

impl<'a> Stream<'a> {
    pub(super) fn new(scenario: &Scenario, choices: Choices<'a>) -> Self {
        let halves = Role::BOTH.map(|role| Half {
            under_way: VecDeque::new(),
            taken: 0,
            header: scenario.header_of(role),
            fault: scenario.troubles.iter().find_map(|trouble| match trouble {
                Trouble::Stream { writer, fault } if *writer == role => Some(*fault),
                _ => None,
            }),
            tripped: false,
        });
        let (now, link) = (scenario.epoch, scenario.link);
        let (has_read, has_room) = ([now; 2], [now; 2]);
        let reset = [None, None];
        let mut stream = Self { now, choices, link, halves, reset, has_read, has_room };
        for role in Role::BOTH {
            stream.trip(role, 0);
        }
        stream
    }

    pub(super) fn read(&mut self, role: Role, max: usize) -> Read {
        let max = self.fragment(max);
        let is_reset = self.is_reset(role);
        let half = &mut self.halves[role.peer() as usize];
        match half.under_way.front_mut() {
            Some((due, segment)) if *due <= self.now && !(is_reset && self.link.overtakes) => {
                let Segment::Bytes(bytes) = segment else { return Read::End };
                let read = bytes.drain(..max.min(bytes.len())).collect();
                if bytes.is_empty() {
                    half.under_way.pop_front();
                }
                self.has_read[role as usize] = self.now;
                if !half.is_clogged() && half.len() < self.link.capacity {
                    self.has_room[role.peer() as usize] = self.now;
                }
                Read::Bytes(read)
            }
            _ if is_reset => Read::Reset,
            _ => Read::NotReady,
        }
    }

    pub(super) fn write(&mut self, role: Role, bytes: &[u8]) -> Write {
        if self.is_reset(role) {
            return Write::Reset;
        }
        let due = self.due();
        let capacity = self.link.capacity;
        let room = capacity - self.halves[role as usize].len().min(capacity);
        let n = self.fragment(room.min(bytes.len()));
        let half = &mut self.halves[role as usize];
        match room {
            _ if half.is_clogged() => return Write::NotReady,
            _ if half.is_cut() => return Write::Bytes(bytes.len()),
            0 => return Write::NotReady,
            _ => {}
        }
        let n = half.before_fault(n);
        half.push(due, &bytes[..n]);
        let taken = half.taken;
        self.trip(role, taken);
        Write::Bytes(n)
    }

    pub(super) fn shut_down(&mut self, role: Role) -> ShutDown {
        if self.is_reset(role) {
            return ShutDown::Reset;
        }
        let half = &self.halves[role as usize];
        let is_full = !half.is_cut() && half.len() >= self.link.capacity;
        if self.link.closes_with_a_byte && (half.is_clogged() || is_full) {
            return ShutDown::NotReady;
        }
        self.trip(role, AT_END);
        let due = self.due();
        let half = &mut self.halves[role as usize];
        if !half.is_cut() {
            half.under_way.push_back((half.after_all(due), Segment::End));
        }
        ShutDown::Done
    }

    /// This end resets the connection.
    pub(super) fn reset(&mut self, role: Role) {
        let half = &self.halves[role as usize];
        if half.tripped && matches!(half.fault, Some(Fault::Lost { .. })) {
            return;
        }
        let due = self.due();
        self.learns_of_reset(role.peer(), due);
    }

    /// Whether a look at the stream shows that it is at its end.
    pub(super) fn is_at_end(&self, role: Role) -> bool {
        let front = self.halves[role.peer() as usize].under_way.front();
        front.is_some_and(|(due, segment)| *due <= self.now && *segment == Segment::End)
    }

    /// When readiness shows something new at this end, if all else stays.
    pub(super) fn next_event(&self, role: Role) -> Option<Instant> {
        let arrival = self.halves[role.peer() as usize].under_way.front().map(|(due, _)| *due);
        let later = |due: &Instant| *due > self.now;
        arrival.into_iter().chain(self.reset[role as usize]).filter(later).min()
    }

    /// When this end learns that the connection is reset.
    pub(super) fn next_reset(&self, role: Role) -> Option<Instant> {
        self.reset[role as usize]
    }

    /// Whether readiness shows that there is room.
    pub(super) fn shows_room(&self) -> bool {
        !self.link.mute
    }

    /// When this end last read something.
    pub(super) fn has_read(&self, role: Role) -> Instant {
        self.has_read[role as usize]
    }

    /// When there was last new room for this end, whether readiness showed it or not.
    pub(super) fn has_room(&self, role: Role) -> Instant {
        self.has_room[role as usize]
    }

    pub(super) fn is_reset(&self, role: Role) -> bool {
        self.reset[role as usize].is_some_and(|due| due <= self.now)
    }

    fn learns_of_reset(&mut self, role: Role, due: Instant) {
        let half = &self.halves[role.peer() as usize];
        let due = if self.link.overtakes { due } else { half.after_all(due) };
        let earliest = self.reset[role as usize].map_or(due, |earlier| earlier.min(due));
        self.reset[role as usize] = Some(earliest);
    }

    /// Lets the fault of this half happen, if it is due now that so many bytes have been taken.
    fn trip(&mut self, role: Role, taken: u64) {
        let half = &mut self.halves[role as usize];
        let Some(fault) = half.fault.filter(|fault| !half.tripped && fault.at() <= taken) else {
            return;
        };
        half.tripped = true;
        match fault {
            Fault::Truncated { .. } => {
                half.under_way.push_back((half.after_all(self.now), Segment::End));
            }
            Fault::Overrun { by, .. } => {
                let from = half.taken.saturating_sub(half.header);
                let bytes = (from..from + by).map(object_byte).collect();
                half.under_way.push_back((half.after_all(self.now), Segment::Bytes(bytes)));
            }
            Fault::Reset { .. } => {
                for end in Role::BOTH {
                    self.learns_of_reset(end, self.now);
                }
            }
            Fault::Lost { .. } | Fault::Corrupt { .. } => {}
        }
    }

    fn fragment(&mut self, most: usize) -> usize {
        match self.link.fragments {
            Fragments::Whole => most,
            Fragments::Random => self.choices.up_to(most),
            Fragments::Single => most.min(1),
        }
    }

    fn due(&mut self) -> Instant {
        let delay = if self.link.delays { self.choices.below(4) * 10 } else { 0 };
        self.now.saturating_add(Duration::from_millis(delay))
    }
}

impl Half {
    /// How many bytes are under way.
    fn len(&self) -> usize {
        let len = |(_, segment): &(_, Segment)| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::End => 0,
        };
        self.under_way.iter().map(len).sum()
    }

    fn push(&mut self, due: Instant, bytes: &[u8]) {
        let mut bytes: VecDeque<u8> = bytes.iter().copied().collect();
        if let Some(Fault::Corrupt { byte, to }) = self.fault {
            let at = byte.checked_sub(self.taken).map(|at| at as usize);
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte = to;
            }
        }
        self.taken += bytes.len() as u64;
        let due = self.after_all(due);
        match self.under_way.back_mut() {
            Some((last, Segment::Bytes(before))) if *last == due => before.extend(bytes),
            _ => self.under_way.push_back((due, Segment::Bytes(bytes))),
        }
    }

    /// Nothing overtakes what is under way.
    fn after_all(&self, due: Instant) -> Instant {
        self.under_way.back().map_or(due, |(last, _)| due.max(*last))
    }

    /// As many of `n` bytes as come before the fault.
    fn before_fault(&self, n: usize) -> usize {
        let left = self.fault.map_or(AT_END, |fault| fault.at().saturating_sub(self.taken));
        if self.tripped { n } else { n.min(usize::try_from(left).unwrap_or(n)) }
    }

    /// Whether nothing can be written, ever.
    fn is_clogged(&self) -> bool {
        self.tripped && matches!(self.fault, Some(Fault::Lost { clogs: true, .. }))
    }

    /// Whether what is written is lost.
    fn is_cut(&self) -> bool {
        let cuts = |fault: Fault| !matches!(fault, Fault::Overrun { .. } | Fault::Corrupt { .. });
        self.tripped && self.fault.is_some_and(cuts)
    }
}

impl Fault {
    fn at(self) -> u64 {
        match self {
            Self::Truncated { at } | Self::Overrun { at, .. } => at,
            Self::Reset { at } | Self::Lost { at, .. } => at,
            Self::Corrupt { .. } => AT_END,
        }
    }
}
