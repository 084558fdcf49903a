//! One way through a [`Relay`](crate::Relay): which bytes, when, and what happens to them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::orders::{Act, At, Way};
use crate::relay::Stream;

/// One way through the relay.
pub(crate) struct Lane {
    way: Way,
    /// What has come, and not been passed on.
    pub(crate) buffer: VecDeque<u8>,
    /// What has been passed on.
    pub(crate) passed: Stream,
    pub(crate) state: State,
    paused: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// What comes is passed on.
    Flows,
    /// Nothing more will come, but not all has been passed on.
    Drains,
    /// It has been ended early: what still comes is thrown away.
    Discards,
    /// Nothing is read any more.
    Stalls,
    /// The source has ended, and the other side knows.
    Ended,
}

/// What is to be done next.
pub(crate) enum Next {
    /// Wait: for a pause to be over, or for nothing at all.
    Nothing,
    /// Read from the source.
    Read,
    /// Write so many bytes of the buffer.
    Write(usize),
    /// What the orders say.
    Act(Act),
    /// Say that the source has ended.
    End,
}

impl Lane {
    /// Nothing has come yet.
    pub(crate) fn new(way: Way) -> Self {
        let (buffer, passed) = Default::default();
        Self { way, buffer, passed, state: State::Flows, paused: None }
    }

    /// The next thing to do; a fault is given out once.
    pub(crate) fn next(&mut self) -> Next {
        let at = self.passed.bytes.len() as u64;
        match self.state {
            State::Stalls | State::Ended => return Next::Nothing,
            State::Discards => return Next::Read,
            State::Flows | State::Drains => {}
        }
        if let Some(fault) = self.way.fault.take_if(|fault| fault.at == At::Byte(at)) {
            return Next::Act(fault.act);
        }
        if let Some((_, pause)) = self.way.pauses.front().copied().filter(|(byte, _)| *byte <= at) {
            self.way.pauses.pop_front();
            self.paused = Some(Instant::now() + pause);
        }
        if self.pause_left().is_some() {
            return Next::Nothing;
        }
        if !self.buffer.is_empty() {
            return Next::Write(self.piece(at));
        }
        if self.state == State::Flows {
            return Next::Read;
        }
        match self.way.fault.take() {
            Some(fault) => Next::Act(fault.act),
            None => Next::End,
        }
    }

    /// How long the next piece is: up to where the orders say so, or something is to happen.
    fn piece(&self, at: u64) -> usize {
        let pause = self.way.pauses.front().map(|(byte, _)| *byte);
        let fault = self.way.fault.as_ref().and_then(|fault| match fault.at {
            At::Byte(byte) => Some(byte),
            At::End => None,
        });
        let marks = [pause, fault].into_iter().flatten().filter(|mark| *mark > at);
        let mark = marks.min().map_or(usize::MAX, |mark| (mark - at) as usize);
        let piece = self.way.pieces.front().copied().unwrap_or(usize::MAX);
        piece.min(mark).min(self.buffer.len()).min(16 * 1024)
    }

    /// How long it will not go on.
    pub(crate) fn pause_left(&self) -> Option<Duration> {
        let left = self.paused?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    /// Whether it waits for its source.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.state, State::Flows | State::Discards)
    }

    /// Whether it may write what it has.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.state, State::Flows | State::Drains) && self.pause_left().is_none()
    }

    /// The source has sent this, or ended.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        match (&self.state, bytes) {
            (State::Flows, []) => self.state = State::Drains,
            (State::Discards, []) => self.state = State::Ended,
            (State::Flows, bytes) => self.buffer.extend(bytes),
            _ => {}
        }
    }

    /// So many bytes have been passed on.
    pub(crate) fn passed(&mut self, n: usize) {
        self.passed.bytes.extend(self.buffer.drain(..n));
        if let Some(left) = self.way.pieces.front_mut() {
            *left -= n;
            if *left == 0 {
                self.way.pieces.pop_front();
            }
        }
    }
}
