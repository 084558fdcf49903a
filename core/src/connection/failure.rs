//! How a connection fails, and what it then tells the peer.

use super::{Connection, Next, State};
use crate::error::{Cause, LocalError, PeerError};
use crate::frame::{AbortReason, Frame, FrameParser};
use crate::output::Output;

/// How many bytes are dropped after a failure at most: 16 MiB.
const MAX_DROPPED: u64 = 16 << 20;

impl Connection {
    /// Fails the connection at once, unless it has ended. The first error stays.
    pub(super) fn fail(&mut self, cause: impl Into<Cause>) {
        if self.state != State::Done {
            self.failure.get_or_insert(cause.into());
            self.enter(State::Done);
        }
    }

    /// Fails the connection, and tells the peer why if it can.
    pub(super) fn give_up(&mut self, cause: impl Into<Cause>) {
        match self.may_abort() {
            true => self.write_abort(cause.into()),
            false => self.fail(cause),
        }
    }

    /// Whether this side may write an ABORT (rule 12 of the framed format).
    fn may_abort(&self) -> bool {
        let is_due = match &self.state {
            State::Decide | State::Commit | State::ReadDigest => true,
            // Behind an ABORT this side reads frames, and the rest of this one would not be a frame.
            State::ReadOpen(parser) => matches!(parser.missing(), 0 | Frame::LEN),
            State::Offer | State::Resume => self.output.left() == 0,
            State::Write(Next::Body) => self.output.is_unwritten_frame(),
            State::Write(Next::ReadFrame) => !self.sends() && self.output.is_unwritten_frame(),
            State::ReadFrame(_) | State::Body | State::Digest => !self.sends(),
            _ => false,
        };
        is_due && self.is_framed() && self.failure.is_none()
    }

    /// Writes an ABORT. After it, a sender looks for one of the peer, and a receiver drops what comes.
    pub(super) fn write_abort(&mut self, cause: Cause) {
        let next = if self.sends() { Next::ReadFrame } else { Next::AwaitEnd };
        self.output = Output::frame(&Frame::Abort(cause.abort_reason()));
        self.enter(State::Write(next));
        self.failure = Some(cause);
        self.body_left = MAX_DROPPED;
    }

    /// Ends a session between two objects.
    pub(super) fn end_session(&mut self) {
        match self.state {
            State::ReadPacket { .. } => {
                self.output = Output::frame(&Frame::Abort(AbortReason::Closing));
                self.enter(State::Write(Next::Done));
            }
            _ => self.enter(State::Done), // it could not be written
        }
    }

    /// The transport has failed. If that was in a write of the framed format, an ABORT of the peer may
    /// be there to be read.
    pub(super) fn lose(&mut self, error: PeerError) {
        if self.is_between_objects() {
            return self.enter(State::Done);
        }
        let may_tell = match &self.state {
            State::Write(next) => *next != Next::Done,
            State::Body => self.sends(),
            _ => false,
        };
        if may_tell && self.is_framed() && self.failure.is_none() {
            self.enter(State::ReadFrame(FrameParser::new()));
            self.failure = Some(error.into());
        } else {
            self.fail(error);
        }
    }

    pub(super) fn misuse(&mut self, verb: &'static str) {
        let step = self.step().name();
        self.fail(LocalError::Misuse { verb, step });
    }
}
