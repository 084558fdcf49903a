//! A stream in memory. Its two halves behave like a socket, and can have faults.

use std::collections::VecDeque;

use core::time::Duration;

use dataserver_core::Instant;

use super::choices::Choices;
use super::object_byte;
use super::scenario::{AT_END, Fault, Fragments, Link, Problem, Role, Scenario};

pub(super) struct Stream<'a> {
    pub(super) now: Instant,
    pub(super) choices: Choices<'a>,
    link: Link,
    /// Indexed by the writer.
    halves: [Half; 2],
    /// When each end learns that the connection is reset.
    reset: [Option<Instant>; 2],
    /// When each end last read something, and when it was last able to write more than before.
    last_read: [Instant; 2],
    last_room: [Instant; 2],
}

/// One direction of the stream.
struct Half {
    in_flight: VecDeque<(Instant, Segment)>,
    /// The number of bytes accepted from the writer.
    taken: u64,
    /// How many of them belong to the start packet.
    header: u64,
    fault: Option<Fault>,
    /// Whether the fault has occurred.
    triggered: bool,
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

pub(super) enum Shutdown {
    Done,
    Reset,
    NotReady,
}

impl<'a> Stream<'a> {
    pub(super) fn new(scenario: &Scenario, choices: Choices<'a>) -> Self {
        let halves = Role::BOTH.map(|role| Half {
            in_flight: VecDeque::new(),
            taken: 0,
            header: scenario.header_of(role),
            fault: scenario.problems.iter().find_map(|problem| match problem {
                Problem::StreamFault { writer, fault } if *writer == role => Some(*fault),
                _ => None,
            }),
            triggered: false,
        });
        let (now, link) = (scenario.epoch, scenario.link);
        let (last_read, last_room) = ([now; 2], [now; 2]);
        let reset = [None, None];
        let mut stream = Self { now, choices, link, halves, reset, last_read, last_room };
        for role in Role::BOTH {
            stream.trigger_fault(role, 0);
        }
        stream
    }

    pub(super) fn read(&mut self, role: Role, max: usize) -> Read {
        let max = self.fragment(max);
        let is_reset = self.is_reset(role);
        let half = &mut self.halves[role.peer() as usize];
        match half.in_flight.front_mut() {
            Some((due, segment))
                if *due <= self.now && !(is_reset && self.link.reset_discards_data) =>
            {
                let Segment::Bytes(bytes) = segment else { return Read::End };
                let read = bytes.drain(..max.min(bytes.len())).collect();
                if bytes.is_empty() {
                    half.in_flight.pop_front();
                }
                self.last_read[role as usize] = self.now;
                if !half.rejects_writes() && half.len() < self.link.capacity {
                    self.last_room[role.peer() as usize] = self.now;
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
            _ if half.rejects_writes() => return Write::NotReady,
            _ if half.discards_writes() => return Write::Bytes(bytes.len()),
            0 => return Write::NotReady,
            _ => {}
        }
        let n = half.before_fault(n);
        half.push(due, &bytes[..n]);
        let taken = half.taken;
        self.trigger_fault(role, taken);
        Write::Bytes(n)
    }

    pub(super) fn shut_down(&mut self, role: Role) -> Shutdown {
        if self.is_reset(role) {
            return Shutdown::Reset;
        }
        let half = &self.halves[role as usize];
        let is_full = !half.discards_writes() && half.len() >= self.link.capacity;
        if self.link.shutdown_needs_room && (half.rejects_writes() || is_full) {
            return Shutdown::NotReady;
        }
        self.trigger_fault(role, AT_END);
        let due = self.due();
        let half = &mut self.halves[role as usize];
        if !half.discards_writes() {
            half.in_flight.push_back((half.after_all(due), Segment::End));
        }
        Shutdown::Done
    }

    /// This end resets the connection.
    pub(super) fn reset(&mut self, role: Role) {
        let half = &self.halves[role as usize];
        if half.triggered && matches!(half.fault, Some(Fault::Blackhole { .. })) {
            return;
        }
        let due = self.due();
        self.schedule_reset(role.peer(), due);
    }

    /// Whether a peek at this end shows the end of the stream.
    pub(super) fn is_at_end(&self, role: Role) -> bool {
        let front = self.halves[role.peer() as usize].in_flight.front();
        front.is_some_and(|(due, segment)| *due <= self.now && *segment == Segment::End)
    }

    /// The next time at which readiness changes at this end, if nothing else happens.
    pub(super) fn next_event(&self, role: Role) -> Option<Instant> {
        let arrival = self.halves[role.peer() as usize].in_flight.front().map(|(due, _)| *due);
        let later = |due: &Instant| *due > self.now;
        arrival.into_iter().chain(self.reset[role as usize]).filter(later).min()
    }

    /// When this end learns that the connection is reset.
    pub(super) fn next_reset(&self, role: Role) -> Option<Instant> {
        self.reset[role as usize]
    }

    /// Whether readiness shows that a write is possible.
    pub(super) fn signals_writability(&self) -> bool {
        !self.link.hides_writability
    }

    /// When this end last read something.
    pub(super) fn last_read(&self, role: Role) -> Instant {
        self.last_read[role as usize]
    }

    /// When this end was last able to write more than before, even if readiness did not show it.
    pub(super) fn last_room(&self, role: Role) -> Instant {
        self.last_room[role as usize]
    }

    pub(super) fn is_reset(&self, role: Role) -> bool {
        self.reset[role as usize].is_some_and(|due| due <= self.now)
    }

    fn schedule_reset(&mut self, role: Role, due: Instant) {
        let half = &self.halves[role.peer() as usize];
        let due = if self.link.reset_discards_data { due } else { half.after_all(due) };
        let earliest = self.reset[role as usize].map_or(due, |earlier| earlier.min(due));
        self.reset[role as usize] = Some(earliest);
    }

    /// Triggers the fault of this half, if it is due after this many bytes.
    fn trigger_fault(&mut self, role: Role, taken: u64) {
        let half = &mut self.halves[role as usize];
        let Some(fault) = half.fault.filter(|fault| !half.triggered && fault.at() <= taken) else {
            return;
        };
        half.triggered = true;
        match fault {
            Fault::Truncated { .. } => {
                half.in_flight.push_back((half.after_all(self.now), Segment::End));
            }
            Fault::Overrun { by, .. } => {
                let from = half.taken.saturating_sub(half.header);
                let bytes = (from..from + by).map(object_byte).collect();
                half.in_flight.push_back((half.after_all(self.now), Segment::Bytes(bytes)));
            }
            Fault::Reset { .. } => {
                for end in Role::BOTH {
                    self.schedule_reset(end, self.now);
                }
            }
            Fault::Blackhole { .. } | Fault::Corrupt { .. } => {}
        }
    }

    fn fragment(&mut self, most: usize) -> usize {
        match self.link.fragments {
            Fragments::Whole => most,
            Fragments::Random => self.choices.up_to(most),
            Fragments::SingleBytes => most.min(1),
        }
    }

    fn due(&mut self) -> Instant {
        let delay = if self.link.delays { self.choices.below(4) * 10 } else { 0 };
        self.now.saturating_add(Duration::from_millis(delay))
    }
}

impl Half {
    /// The number of bytes in flight.
    fn len(&self) -> usize {
        let len = |(_, segment): &(_, Segment)| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::End => 0,
        };
        self.in_flight.iter().map(len).sum()
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
        match self.in_flight.back_mut() {
            Some((last, Segment::Bytes(before))) if *last == due => before.extend(bytes),
            _ => self.in_flight.push_back((due, Segment::Bytes(bytes))),
        }
    }

    /// Bytes arrive in order.
    fn after_all(&self, due: Instant) -> Instant {
        self.in_flight.back().map_or(due, |(last, _)| due.max(*last))
    }

    /// Returns how many of `n` bytes precede the fault.
    fn before_fault(&self, n: usize) -> usize {
        let left = self.fault.map_or(AT_END, |fault| fault.at().saturating_sub(self.taken));
        if self.triggered { n } else { n.min(usize::try_from(left).unwrap_or(n)) }
    }

    /// Whether no write is ever possible.
    fn rejects_writes(&self) -> bool {
        self.triggered && matches!(self.fault, Some(Fault::Blackhole { rejects_writes: true, .. }))
    }

    /// Whether written bytes are lost.
    fn discards_writes(&self) -> bool {
        let cuts = |fault: Fault| !matches!(fault, Fault::Overrun { .. } | Fault::Corrupt { .. });
        self.triggered && self.fault.is_some_and(cuts)
    }
}

impl Fault {
    fn at(self) -> u64 {
        match self {
            Self::Truncated { at } | Self::Overrun { at, .. } => at,
            Self::Reset { at } | Self::Blackhole { at, .. } => at,
            Self::Corrupt { .. } => AT_END,
        }
    }
}
