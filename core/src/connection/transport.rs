//! What a driver reports on the transport.

use super::{Connection, Next, State};
use crate::error::{LocalError, PeerError};
use crate::frame::{Frame, FrameParser, MalformedFrame};
use crate::start_packet::{Direction, Malformed, ObjectSize, StartPacket};
use crate::transfer::{Side, Transfer};

/// To report on the transport.
impl Connection {
    /// Takes bytes of the start packet that were read from the transport, and returns how many it took.
    ///
    /// The other bytes belong to what follows. The driver keeps them, and uses them before it reads from
    /// the transport again.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(server.handle_read(&packet.as_bytes()[..10]), 10);
    /// assert_eq!(server.step(), Step::Read { max: 15 });
    /// assert_eq!(server.handle_read(&packet.as_bytes()[10..]), 15);
    /// assert_eq!(server.step(), Step::Decide(packet));
    /// ```
    pub fn handle_read(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        match &mut self.state {
            State::ReadPacket { .. } => {
                if self.is_between_objects() {
                    self.retry = None; // the start timer begins, in place of the keep-alive timer
                }
                let taken = self.packet.feed(bytes);
                if let Some(packet) = self.packet.packet() {
                    self.packet_has_come(packet);
                }
                taken
            }
            State::ReadFrame(parser) => {
                let taken = parser.feed(bytes);
                match parser.frame() {
                    Some(frame) => self.frame_has_come(frame),
                    None if self.failure.is_none() && !self.awaits_application() => {
                        self.retry = None;
                    }
                    None => {}
                }
                taken
            }
            State::ReadOpen(parser) => {
                let taken = parser.feed(bytes);
                if let Some(frame) = parser.frame() {
                    self.frame_has_come(frame);
                }
                taken
            }
            State::ReadDigest => self.compare_digest(bytes),
            _ => {
                self.misuse("handle_read");
                0
            }
        }
    }

    /// `n` bytes have moved, as the step asked: written ([`Step::Write`](crate::Step::Write)), received or sent.
    ///
    /// In [`Step::AwaitEnd`](crate::Step::AwaitEnd) and [`Step::Peek`](crate::Step::Peek), bytes are an error of the peer.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25 + 7); // the start packet and 7 bytes of the object, in one write
    /// assert_eq!(client.moved(), 7);
    /// ```
    pub fn handle_moved(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        match self.state {
            State::Write(next) => match self.output.left() {
                left if n < left => {
                    self.output.advance(n);
                    self.progress();
                }
                left => self.has_written(next, left, n.saturating_sub(left)),
            },
            State::Object => self.count(n),
            State::Body => match self.body_max() {
                max if n > max => self.fail(LocalError::Overrun { reported: n, max }),
                _ => self.count_body(n),
            },
            State::AwaitEnd if self.failure.is_some() => self.drop_bytes(n),
            State::Peek | State::AwaitEnd => self.fail(PeerError::NotSilent),
            _ => self.misuse("handle_moved"),
        }
    }

    /// The peer has shut down its write half: no more bytes will come.
    ///
    /// Report it in steps that read or peek. A sender may report it earlier: the peer has closed before
    /// it could have the object. In [`Step::Decide`](crate::Step::Decide) and [`Step::Commit`](crate::Step::Commit) nothing is read: leave it in the
    /// transport.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, PeerError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(&[0; 24]);
    /// server.handle_end_of_stream();
    /// let error = Cause::Peer(PeerError::TruncatedStartPacket { received: 24 });
    /// assert_eq!(server.step(), Step::Done(Err(error)));
    /// ```
    pub fn handle_end_of_stream(&mut self) {
        let moved = self.moved();
        match &self.state {
            _ if self.failure.is_some() => self.enter(State::Done), // nothing more can be learned
            State::ReadPacket { .. } if self.is_between_objects() => self.enter(State::Done),
            State::ReadPacket { .. } => {
                let received = StartPacket::LEN.saturating_sub(self.packet.missing());
                self.fail(PeerError::TruncatedStartPacket { received });
            }
            State::Object if !self.sends() => match self.transfer.finish() {
                Ok(_) => self.enter(State::Commit),
                Err(error) => self.fail(error),
            },
            State::AwaitEnd => self.enter(State::Done),
            State::ReadFrame(_) if self.sends() => {
                self.fail(PeerError::NoReceipt { sent: self.position() });
            }
            State::ReadFrame(_) | State::Body | State::ReadDigest if !self.sends() => {
                let received = self.position();
                self.fail(
                    self.transfer
                        .finish()
                        .err()
                        .unwrap_or_else(|| PeerError::Unfinished { received }.into()),
                );
            }
            State::Write(Next::Done) => self.misuse("handle_end_of_stream"),
            State::Write(_)
            | State::Object
            | State::Body
            | State::OfferEnd
            | State::Offer
            | State::ReadOpen(_)
            | State::Peek => self.lose(PeerError::ClosedEarly { moved }),
            State::Shutdown | State::Digest if self.sends() => {
                self.lose(PeerError::ClosedEarly { moved });
            }
            _ => self.misuse("handle_end_of_stream"),
        }
    }

    /// The peer has not ended the stream, as far as the transport can tell.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25);
    /// client.offer(0, true);
    /// assert_eq!(client.step(), Step::Peek);
    /// client.handle_still_open();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// ```
    pub fn handle_still_open(&mut self) {
        match self.state {
            State::Peek => self.enter(State::Shutdown),
            _ => self.misuse("handle_still_open"),
        }
    }

    /// The write half was shut down.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25);
    /// client.offer(0, true);
    /// client.handle_still_open();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// client.handle_shutdown();
    /// assert_eq!(client.step(), Step::AwaitEnd);
    /// ```
    pub fn handle_shutdown(&mut self) {
        match self.state {
            State::Shutdown if self.sends() => self.enter(State::AwaitEnd),
            State::Shutdown => self.enter(State::Done),
            _ => self.misuse("handle_shutdown"),
        }
    }

    /// The peer has reset the connection, or the transport has failed in another way.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, PeerError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_reset();
    /// assert_eq!(server.step(), Step::Done(Err(Cause::Peer(PeerError::Reset { moved: 0 }))));
    /// ```
    pub fn handle_reset(&mut self) {
        self.lose(PeerError::Reset { moved: self.moved() });
    }

    fn packet_has_come(&mut self, packet: Result<StartPacket, Malformed>) {
        let is_framed = self.packet.is_framed();
        match packet {
            Ok(_) if self.is_later && !is_framed => {
                self.write_abort(PeerError::BareInSession.into());
            }
            Ok(packet) => {
                let side = match packet.direction() {
                    Direction::Put => Side::Receiver,
                    Direction::Get => Side::Sender,
                };
                let (limit, chunk) = (self.transfer.bound(), self.transfer.chunk());
                self.transfer = Transfer::new(side, ObjectSize::UNKNOWN, limit, chunk);
                self.enter(State::Decide);
            }
            // A client that asks for frames can read one.
            Err(malformed) if is_framed => {
                self.write_abort(PeerError::Malformed(malformed).into());
            }
            Err(malformed) => self.fail(PeerError::Malformed(malformed)),
        }
    }

    fn frame_has_come(&mut self, frame: Result<Frame, MalformedFrame>) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(malformed) => return self.give_up(PeerError::MalformedFrame(malformed)),
        };
        match (frame, self.failure) {
            (Frame::Abort(reason), failure) => {
                let reason = PeerError::Aborted(reason).into();
                let knows_why = failure.is_some_and(|failure| !failure.is_loss());
                self.failure = if knows_why { failure } else { Some(reason) };
                self.enter(State::Done);
            }
            (_, Some(failure)) if failure.is_loss() => self.enter(State::Done),
            (_, Some(_)) => {
                self.enter(State::ReadFrame(FrameParser::new()));
                self.drop_bytes(Frame::LEN);
            }
            (Frame::Open { offset }, None) if matches!(self.state, State::ReadOpen(_)) => {
                self.open_has_come(offset);
            }
            (frame, None) if matches!(self.state, State::ReadOpen(_)) => {
                self.give_up(PeerError::UnexpectedFrame(frame));
            }
            (Frame::Data { len }, None) if !self.sends() => self.begin_body(len, false),
            (Frame::Last { len }, None) if !self.sends() => self.begin_body(len, true),
            (Frame::Receipt { size }, None) if self.sends() && size == self.position() => {
                self.enter(State::Done);
            }
            (Frame::Receipt { size }, None) if self.sends() => {
                self.fail(PeerError::WrongReceipt { size, sent: self.position() });
            }
            (frame, None) => self.give_up(PeerError::UnexpectedFrame(frame)),
        }
    }

    /// A sender goes on where the receiver says.
    fn open_has_come(&mut self, offset: u64) {
        let size = self.transfer.bound();
        if offset > size {
            return self.give_up(PeerError::OffsetBeyondSize { offset, size });
        }
        self.resume_at(offset);
        self.enter(State::Offer);
    }

    /// Compares bytes of the digest of the sender with that of this side. The first that differs is enough.
    fn compare_digest(&mut self, bytes: &[u8]) -> usize {
        let own = self.output.unwritten();
        let taken = own.len().min(bytes.len());
        if own.iter().zip(bytes).any(|(own, peers)| own != peers) {
            self.give_up(PeerError::DigestMismatch);
            return taken;
        }
        self.output.advance(taken);
        if self.output.left() == 0 {
            self.enter(State::Commit);
        }
        taken
    }

    /// What was left of the output is written, and `n` bytes of the object behind it.
    fn has_written(&mut self, next: Next, left: usize, n: usize) {
        let max = self.payload(next);
        if n > max {
            let (reported, max) = (left.saturating_add(n), left.saturating_add(max));
            return self.fail(LocalError::Overrun { reported, max });
        }
        self.output.advance(left);
        match next {
            Next::Object => {
                self.begin_object();
                self.count(n);
            }
            Next::Body => self.count_body(n),
            Next::Offer => self.enter(State::Offer),
            Next::ReadFrame => self.enter(State::ReadFrame(FrameParser::new())),
            Next::ReadOpen => self.enter(State::ReadOpen(FrameParser::new())),
            Next::AwaitEnd => self.enter(State::AwaitEnd),
            Next::Done => self.enter(State::Done),
        }
    }

    pub(super) fn begin_object(&mut self) {
        self.enter(State::Object);
        self.count(0);
    }

    /// Counts bytes of the object. A sender that has sent the declared size asks for the end.
    fn count(&mut self, n: usize) {
        match self.transfer.advance(n) {
            Ok(()) if self.sends() && self.transfer.is_full() => self.enter(State::OfferEnd),
            Ok(()) => self.retry = None,
            Err(error) => self.fail(error),
        }
    }

    /// A receiver has read the header of a body.
    fn begin_body(&mut self, len: u64, is_last: bool) {
        if let Err(error) = self.transfer.check_body(len, is_last) {
            return self.give_up(error);
        }
        (self.body_left, self.body_is_last) = (len, is_last);
        self.count_body(0);
    }

    /// Counts bytes of the body of a frame, and goes on with the object.
    fn count_body(&mut self, n: usize) {
        self.transfer.count(n);
        self.body_left = self.body_left.wrapping_sub(n as u64); // which was checked
        self.enter(match (self.body_left, self.transfer.side(), self.body_is_last) {
            (1.., ..) => State::Body,
            (0, Side::Sender, false) => State::Offer,
            (0, Side::Receiver, false) => State::ReadFrame(FrameParser::new()),
            (0, _, true) => return self.end_last_body(),
        });
    }

    /// It is apart, because it is not for each chunk.
    #[cold]
    fn end_last_body(&mut self) {
        self.enter(match self.transfer.side() {
            _ if self.has_digest() => State::Digest,
            Side::Sender => State::ReadFrame(FrameParser::new()),
            Side::Receiver => State::Commit,
        });
    }

    /// After a failure: these bytes of the peer are of no use.
    fn drop_bytes(&mut self, n: usize) {
        self.body_left = self.body_left.saturating_sub(n as u64);
        if self.body_left == 0 {
            self.enter(State::Done);
        }
    }
}
