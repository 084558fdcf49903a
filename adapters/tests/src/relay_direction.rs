//! One direction of a [`Relay`](crate::Relay): which bytes are forwarded, when, and with which fault.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::fault_plan::{DirectionPlan, FaultKind, FaultPoint};

/// What one side has received.
#[derive(Debug, Default)]
pub struct Delivered {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether a FIN followed them.
    pub ended: bool,
}

/// One direction of a relay.
pub(crate) struct RelayDirection {
    plan: DirectionPlan,
    /// What has arrived and was not forwarded yet.
    pub(crate) buffer: VecDeque<u8>,
    /// What was forwarded.
    pub(crate) delivered: Delivered,
    pub(crate) state: State,
    paused_until: Option<Instant>,
    /// The bits to flip in the next byte that arrives.
    flipped: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Forwards what arrives.
    Open,
    /// The source has ended, and some bytes were not forwarded yet.
    Draining,
    /// It was ended early: what arrives is dropped.
    Discarding,
    /// Reads nothing more.
    Stalled,
    /// The source has ended, and the other side knows.
    Ended,
}

/// What a relay does next.
pub(crate) enum Next {
    /// Wait, for the end of a pause if there is one.
    Nothing,
    /// Read from the source.
    Read,
    /// Write this many bytes of the buffer.
    Write(usize),
    /// Inject this fault.
    Inject(FaultKind),
    /// Forward the end of the source.
    End,
}

impl RelayDirection {
    /// A direction without bytes.
    pub(crate) fn new(plan: DirectionPlan) -> Self {
        let (buffer, delivered) = Default::default();
        Self { plan, buffer, delivered, state: State::Open, paused_until: None, flipped: 0 }
    }

    /// The next action. A fault is returned once.
    pub(crate) fn next(&mut self) -> Next {
        let at = self.delivered.bytes.len() as u64;
        match self.state {
            State::Stalled | State::Ended => return Next::Nothing,
            State::Discarding => return Next::Read,
            State::Open | State::Draining => {}
        }
        if let Some(fault) = self.plan.fault.take_if(|fault| fault.at == FaultPoint::Byte(at)) {
            return Next::Inject(fault.kind);
        }
        if let Some((_, pause)) = self.plan.pauses.front().copied().filter(|(byte, _)| *byte <= at)
        {
            self.plan.pauses.pop_front();
            self.paused_until = Some(Instant::now() + pause);
        }
        if self.pause_left().is_some() {
            return Next::Nothing;
        }
        if !self.buffer.is_empty() {
            return Next::Write(self.piece(at));
        }
        if self.state == State::Open {
            return Next::Read;
        }
        match self.plan.fault.take() {
            Some(fault) => Next::Inject(fault.kind),
            None => Next::End,
        }
    }

    /// The length of the next write, which ends where a pause or a fault is due.
    fn piece(&self, at: u64) -> usize {
        let pause = self.plan.pauses.front().map(|(byte, _)| *byte);
        let fault = self.plan.fault.as_ref().and_then(|fault| match fault.at {
            FaultPoint::Byte(byte) => Some(byte),
            FaultPoint::End => None,
        });
        let marks = [pause, fault].into_iter().flatten().filter(|mark| *mark > at);
        let mark = marks.min().map_or(usize::MAX, |mark| (mark - at) as usize);
        let piece = self.plan.pieces.front().copied().unwrap_or(usize::MAX);
        piece.min(mark).min(self.buffer.len()).min(16 * 1024)
    }

    /// How long the current pause lasts.
    pub(crate) fn pause_left(&self) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    /// Whether it waits for its source.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.state, State::Open | State::Discarding)
    }

    /// Whether it may write its buffer.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.state, State::Open | State::Draining) && self.pause_left().is_none()
    }

    /// The source has sent these bytes, or has ended if there are none.
    pub(crate) fn handle_read(&mut self, bytes: &[u8]) {
        match (&self.state, bytes) {
            (State::Open, []) => self.state = State::Draining,
            (State::Discarding, []) => self.state = State::Ended,
            (State::Open, bytes) => {
                let begin = self.buffer.len();
                self.buffer.extend(bytes);
                self.buffer[begin] ^= std::mem::take(&mut self.flipped);
            }
            _ => {}
        }
    }

    /// Flips these bits of the next byte that is forwarded.
    pub(crate) fn flip(&mut self, bits: u8) {
        match self.buffer.front_mut() {
            Some(next) => *next ^= bits,
            None => self.flipped = bits,
        }
    }

    /// This many bytes of the buffer were forwarded.
    pub(crate) fn handle_written(&mut self, n: usize) {
        self.delivered.bytes.extend(self.buffer.drain(..n));
        if let Some(left) = self.plan.pieces.front_mut() {
            *left -= n;
            if *left == 0 {
                self.plan.pieces.pop_front();
            }
        }
    }
}
