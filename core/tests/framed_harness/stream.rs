//! A stream in memory that delivers, in order, a prefix of what was written, and then ends or fails.

use std::collections::VecDeque;

use dataserver_core::{AbortReason, Frame, Instant};

use super::choices::Choices;
use super::scenario::{Fault, Link, Role, Scenario};

pub(super) struct Stream<'a> {
    pub(super) now: Instant,
    pub(super) choices: Choices<'a>,
    link: &'a Link,
    /// Indexed by the writer.
    halves: [Half; 2],
    is_closed: [bool; 2],
}

#[derive(Default)]
struct Half {
    in_flight: VecDeque<u8>,
    written: u64,
    /// What follows the bytes in flight.
    end: Option<End>,
    /// What is written is lost.
    discards: bool,
    fault: Option<Fault>,
}

/// A failure can look like a graceful end, and the other way round.
#[derive(Clone, Copy)]
pub(super) enum End {
    Graceful,
    Reset,
}

impl<'a> Stream<'a> {
    pub(super) fn new(scenario: &'a Scenario, choices: Choices<'a>) -> Self {
        let halves = Role::BOTH.map(|role| {
            let fault = scenario.parties[role as usize].fault;
            Half { fault, ..Half::default() }
        });
        Self {
            now: Instant::default(),
            choices,
            link: &scenario.link,
            halves,
            is_closed: [false; 2],
        }
    }

    /// Returns what has arrived, how the stream has ended, or `None` if there is nothing yet.
    pub(super) fn read(&mut self, role: Role, max: usize) -> Option<Result<Vec<u8>, End>> {
        let half = &mut self.halves[role.peer() as usize];
        let most = max.min(half.in_flight.len());
        let n = if self.link.fragments { self.choices.up_to(most) } else { most };
        match half.in_flight.is_empty() {
            true => half.end.map(Err),
            false => Some(Ok(half.in_flight.drain(..n).collect())),
        }
    }

    /// Returns how many bytes were taken, `None` if there is no room, or that the write failed.
    pub(super) fn write(&mut self, role: Role, bytes: &[u8]) -> Option<Result<usize, End>> {
        let discards = self.halves[role as usize].discards;
        if self.is_closed[role.peer() as usize] || (discards && self.choices.one_in(4)) {
            // The kernel takes some before the failure shows.
            return Some(match self.choices.below(3) {
                0 => Err(End::Reset),
                1 => Err(End::Graceful),
                _ => Ok(bytes.len()),
            });
        }
        if discards {
            return Some(Ok(bytes.len()));
        }
        let room = self.link.capacity.saturating_sub(self.halves[role as usize].in_flight.len());
        let most = room.min(bytes.len());
        let n = if self.link.fragments { self.choices.up_to(most) } else { most };
        if n == 0 {
            return None;
        }
        let half = &mut self.halves[role as usize];
        half.in_flight.extend(&bytes[..n]);
        half.written += n as u64;
        self.trigger_fault(role);
        Some(Ok(n))
    }

    /// This side closes.
    pub(super) fn close(&mut self, role: Role, gracefully: bool) {
        self.is_closed[role as usize] = true;
        let has_unread = !self.halves[role.peer() as usize].in_flight.is_empty();
        if has_unread && !gracefully && self.link.reset_overtakes {
            self.halves[role as usize].in_flight.clear();
        }
        self.end(role);
    }

    fn end(&mut self, role: Role) {
        let end = if self.choices.flip() { End::Reset } else { End::Graceful };
        self.halves[role as usize].end.get_or_insert(end);
    }

    fn trigger_fault(&mut self, role: Role) {
        let half = &mut self.halves[role as usize];
        match half.fault {
            Some(Fault::Cut { at, keeps }) if at <= half.written => {
                half.in_flight.truncate(keeps);
                half.discards = true;
                self.end(role);
                if self.link.closes_both {
                    self.halves[role.peer() as usize].discards = true;
                    self.end(role.peer());
                }
            }
            Some(Fault::Blackhole { at }) if at <= half.written => half.discards = true,
            Some(Fault::Garbage { at }) if at <= half.written => {
                half.fault = None;
                half.in_flight.extend(garbage(&mut self.choices));
            }
            _ => {}
        }
    }
}

/// A frame that nobody has written, or any bytes.
fn garbage(choices: &mut Choices<'_>) -> Vec<u8> {
    let value = choices.below(50);
    let frame = match choices.below(5) {
        0 => Frame::Data { len: value + 1 },
        1 => Frame::Last { len: value },
        2 => Frame::Receipt { size: value },
        3 => Frame::Abort(AbortReason::new(choices.below(10) as u16, value)),
        _ => return (0..=value).map(|_| choices.below(256) as u8).collect(),
    };
    frame.to_bytes().to_vec()
}
