//! What a connection answers: the next step, and what has happened so far.

use super::{Connection, Next, State};
use crate::error::Cause;
use crate::start_packet::StartPacket;
use crate::step::Step;
use crate::transfer::Side;

/// To ask.
impl Connection {
    /// What to do next. Asking changes nothing: the step stays the same until something is reported.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.step(), connection.step());
    /// ```
    #[inline(always)]
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::Object => match (self.transfer.side(), self.transfer.max()) {
                (Side::Sender, max) => Step::Send { max },
                (Side::Receiver, 0) => Step::AwaitEnd,
                (Side::Receiver, max) => Step::Receive { max },
            },
            State::Offer => Step::Offer { max: self.transfer.chunk_len() },
            State::Write(next) => {
                Step::Write { bytes: self.output.unwritten(), payload: self.payload(*next) }
            }
            State::Body => match (self.transfer.side(), self.body_max()) {
                (Side::Sender, max) => Step::Send { max },
                (Side::Receiver, max) => Step::Receive { max },
            },
            _ => self.step_between_chunks(),
        }
    }

    /// The steps that are not taken for each chunk. They are apart, so that the compiler inlines the others.
    fn step_between_chunks(&self) -> Step<'_> {
        match (&self.state, self.packet()) {
            (State::ReadFrame(parser) | State::ReadOpen(parser), _) => {
                Step::Read { max: parser.missing() }
            }
            (State::ReadDigest, _) => Step::Read { max: self.output.left() },
            (State::Resume, _) => Step::Resume,
            (State::Digest, _) => Step::Digest,
            (State::Decide, Some(packet)) => Step::Decide(packet),
            (State::OfferEnd, _) => Step::Offer { max: self.transfer.chunk_len() },
            (State::Peek, _) => Step::Peek,
            (State::Commit, _) => Step::Commit,
            (State::Shutdown, _) => Step::Shutdown,
            (State::AwaitEnd, _) => Step::AwaitEnd,
            (State::Done, _) => Step::Done(match self.failure {
                Some(cause) => Err(cause),
                None => Ok(self.position()),
            }),
            _ => Step::Read { max: self.packet.missing() },
        }
    }

    /// How the connection has ended, or will end: `Some` at [`Step::Done`], and as soon as it has failed.
    ///
    /// In the framed format a failure takes more steps, in which this side tells the peer its reason, or
    /// reads that of the peer. The driver follows them to [`Step::Done`]. An application learns the failure
    /// now, and a server releases its lease now: before the peer knows. The first error stays, except that
    /// the reason of the peer replaces [`PeerError::Reset`](crate::PeerError::Reset) and [`PeerError::ClosedEarly`](crate::PeerError::ClosedEarly).
    ///
    /// ```
    /// use dataserver_core::{Cause, Config, Connection, Instant, Key, Refusal, StartPacket, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(StartPacket::put(Key::from_name("start")).framed().as_bytes());
    /// assert_eq!(server.outcome(), None);
    /// server.refuse(Refusal::InUse);
    /// assert_eq!(server.outcome(), Some(Err(Cause::Refused(Refusal::InUse))));
    /// assert!(matches!(server.step(), Step::Write { .. })); // an ABORT
    /// ```
    pub fn outcome(&self) -> Option<Result<u64, Cause>> {
        match (self.failure, &self.state) {
            (Some(cause), _) => Some(Err(cause)),
            (None, State::Done) => Some(Ok(self.position())),
            (None, _) => None,
        }
    }

    /// The start packet, once it is known.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.packet(), None);
    /// ```
    pub fn packet(&self) -> Option<StartPacket> {
        self.packet.packet()?.ok()
    }

    /// How many bytes of the object have moved over this connection.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.moved(), 0);
    /// ```
    pub fn moved(&self) -> u64 {
        self.position().saturating_sub(self.resumed)
    }

    /// The place in the object in bytes: what has [`moved`](Self::moved), and what the receiver had before.
    ///
    /// In the first [`Step::Offer`] of a resumable transfer it is the place from which the sender goes on.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).resumable();
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25);
    /// client.handle_read(&Frame::Open { offset: 7 }.to_bytes());
    /// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
    /// assert_eq!((client.position(), client.moved()), (7, 0));
    /// ```
    pub fn position(&self) -> u64 {
        self.transfer.moved()
    }

    /// Which end of the object this side is, once the start packet is known.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, Side, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let client = Connection::client(Config::default(), packet, Instant::default());
    /// assert_eq!(client.side(), Some(Side::Sender));
    /// let server = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(server.side(), None);
    /// ```
    pub fn side(&self) -> Option<Side> {
        self.packet().map(|_| self.transfer.side())
    }

    pub(super) fn sends(&self) -> bool {
        self.transfer.side() == Side::Sender
    }

    pub(super) fn has_digest(&self) -> bool {
        self.packet().is_some_and(|packet| packet.has_digest())
    }

    pub(super) fn is_framed(&self) -> bool {
        self.packet().is_some_and(|packet| packet.is_framed())
    }

    /// Whether a server waits for a later object on its stream, or tells the peer that it does not.
    pub(super) fn is_between_objects(&self) -> bool {
        let is_unread = self.packet.missing() == StartPacket::LEN;
        self.is_later && is_unread && self.failure.is_none() && self.state != State::Done
    }

    /// The most bytes that the next step may move of the body of a frame, whose length was checked.
    pub(super) fn body_max(&self) -> usize {
        let chunk = self.transfer.chunk_len();
        if self.body_left < chunk as u64 { self.body_left as usize } else { chunk }
    }

    /// How many bytes of the object may share a write.
    pub(super) fn payload(&self, next: Next) -> usize {
        match next {
            Next::Object if self.sends() => self.transfer.max(),
            Next::Body => self.body_max(),
            _ => 0,
        }
    }
}
