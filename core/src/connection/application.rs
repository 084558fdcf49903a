//! What an application decided or did.

use super::{Connection, Next, State};
use crate::error::{LocalError, PeerError, Refusal};
use crate::frame::{Frame, FrameParser, MAX_VALUE};
use crate::output::Output;
use crate::start_packet::ObjectSize;

/// To report on the application.
impl Connection {
    /// Accepts the start packet. A put may have at most `limit` bytes, and at most
    /// [`Config::max_object_size`](crate::Config::max_object_size). If the packet declares more, the connection fails
    /// ([`Refusal::TooLarge`]).
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(packet.as_bytes());
    /// server.accept(None);
    /// assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
    /// ```
    pub fn accept(&mut self, limit: Option<u64>) {
        let (State::Decide, Some(packet)) = (&self.state, self.packet()) else {
            return self.misuse("accept");
        };
        let limit = limit.unwrap_or(u64::MAX).min(self.transfer.bound());
        self.take_side(packet.size(), self.sends(), limit);
        match self.state {
            State::Decide if !packet.is_framed() => self.begin_object(),
            State::Decide if packet.is_resumable() && self.sends() => {
                self.enter(State::ReadOpen(FrameParser::new()));
            }
            State::Decide if packet.is_resumable() => self.enter(State::Resume),
            State::Decide if self.sends() => self.enter(State::Offer),
            State::Decide => self.enter(State::ReadFrame(FrameParser::new())),
            _ => {} // it was too large
        }
    }

    /// Client: declares the size of the object of a put, as long as no byte has been written.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, ObjectSize, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.declare(ObjectSize::new(3)?);
    /// assert_eq!(client.packet(), Some(packet.with_size(3)?));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn declare(&mut self, size: ObjectSize) {
        let is_due = matches!(self.state, State::Write(_) | State::Offer);
        let is_unsent = is_due && self.output.is_unwritten_start_packet();
        let Some(packet) = self.packet().filter(|_| is_unsent && self.sends()) else {
            return self.misuse("declare");
        };
        let packet = packet.with_object_size(size);
        self.packet = packet.into();
        self.output = Output::start_packet(&packet);
        self.take_side(size, true, u64::MAX);
        self.progress();
    }

    /// Refuses the start packet. In the framed format the peer is told with an ABORT, in the bare format it
    /// sees a reset, without the reason.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, Refusal, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(&[0; 25]);
    /// server.refuse(Refusal::NotRegistered);
    /// assert_eq!(server.step(), Step::Done(Err(Cause::Refused(Refusal::NotRegistered))));
    /// ```
    pub fn refuse(&mut self, reason: Refusal) {
        match self.state {
            State::Decide => self.give_up(reason),
            _ => self.misuse("refuse"),
        }
    }

    /// Receiver of a resumable transfer: these many bytes of the object are there, from an earlier attempt. The
    /// sender sends the rest.
    ///
    /// If they are more than were declared or are allowed, the connection fails
    /// ([`LocalError::OffsetBeyondSize`]). The digest shows at the end whether they are bytes of this object.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).resumable();
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(packet.as_bytes());
    /// server.accept(None);
    /// assert_eq!(server.step(), Step::Resume);
    /// server.resume(7);
    /// let open = Frame::Open { offset: 7 }.to_bytes();
    /// assert_eq!(server.step(), Step::Write { bytes: &open, payload: 0 });
    /// ```
    pub fn resume(&mut self, offset: u64) {
        if self.state != State::Resume {
            return self.misuse("resume");
        }
        let size = self.transfer.bound().min(MAX_VALUE);
        if offset > size {
            return self.give_up(LocalError::OffsetBeyondSize { offset, size });
        }
        self.resume_at(offset);
        self.output.add_frame(&Frame::Open { offset });
        self.enter(State::Write(Next::ReadFrame));
    }

    /// Sender of a resumable transfer, in its first [`Step::Offer`](crate::Step::Offer): the object has only
    /// these many bytes, which are fewer than the receiver says it has ([`position`](Self::position)).
    ///
    /// The connection fails, and the receiver discards its bytes. Where the size is declared, this is noticed
    /// without it.
    ///
    /// ```
    /// use dataserver_core::{Cause, Config, Connection, Frame, Instant, Key, PeerError, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).resumable();
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25);
    /// client.handle_read(&Frame::Open { offset: 7 }.to_bytes());
    /// client.reject_offset(5);
    /// let error = Cause::Peer(PeerError::OffsetBeyondSize { offset: 7, size: 5 });
    /// assert_eq!(client.outcome(), Some(Err(error)));
    /// ```
    pub fn reject_offset(&mut self, size: u64) {
        match self.state {
            State::Offer if size < self.resumed && self.moved() == 0 => {
                self.give_up(PeerError::OffsetBeyondSize { offset: self.resumed, size });
            }
            _ => self.misuse("reject_offset"),
        }
    }

    /// The transfer goes on behind these many bytes, which are within the bound.
    pub(super) fn resume_at(&mut self, offset: u64) {
        self.resumed = offset;
        self.transfer.resume(offset);
    }

    /// With a digest: this is the BLAKE3 digest of the whole object, as it was sent or is stored.
    ///
    /// The core does not compute it. A sender writes it. A receiver compares it with that of the sender, and
    /// if they differ, the connection fails ([`PeerError::DigestMismatch`]).
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_digest();
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.offer(3, true);
    /// client.handle_moved(25 + 12 + 3);
    /// assert_eq!(client.step(), Step::Digest);
    /// client.digest([7; 32]);
    /// assert_eq!(client.step(), Step::Write { bytes: &[7; 32], payload: 0 });
    /// ```
    pub fn digest(&mut self, digest: [u8; 32]) {
        if self.state != State::Digest {
            return self.misuse("digest");
        }
        self.output = Output::digest(&digest);
        self.enter(match self.sends() {
            true => State::Write(Next::ReadFrame),
            false => State::ReadDigest,
        });
    }

    /// Sender: the application has `n` more bytes of the object, and the object ends with them if
    /// `last`. Only this ends an object, whether its size is declared or not.
    ///
    /// In the framed format the offer becomes a frame, and the bytes of its body follow in
    /// [`Step::Write`](crate::Step::Write) and [`Step::Send`](crate::Step::Send). Of more than the chunk, only the chunk is taken, and the rest is
    /// offered next. `(0, false)` sends a start packet that has not left yet, and nothing else. An offer
    /// that does not agree with the declared size fails the connection.
    ///
    /// In the bare format an offer is due in [`Step::Send`](crate::Step::Send) only as `(0, true)`, which ends the object. In
    /// [`Step::Offer`](crate::Step::Offer) the declared size has been sent, so a further byte fails the connection.
    /// `(0, false)` changes nothing.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, Key, LocalError, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25 + 2);
    /// client.offer(0, true);
    /// let error = Cause::Local(LocalError::ShorterThanDeclared { sent: 2, declared: 3 });
    /// assert_eq!(client.step(), Step::Done(Err(error)));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn offer(&mut self, n: usize, last: bool) {
        if self.state == State::Offer {
            return self.offer_body(n, last);
        }
        match self.state {
            State::OfferEnd if n > 0 => {
                self.fail(LocalError::LongerThanDeclared { declared: self.transfer.bound() });
            }
            State::OfferEnd if last => self.end_object(),
            State::Object if self.sends() && n == 0 && last => self.end_object(),
            State::OfferEnd => {}
            State::Object if self.sends() => {}
            _ => self.misuse("offer"),
        }
    }

    /// Bare: the object ends here.
    fn end_object(&mut self) {
        match self.transfer.finish() {
            Ok(_) => self.enter(State::Peek),
            Err(error) => self.fail(error),
        }
    }

    /// Framed: the header of the next frame, behind the start packet if that has not left yet.
    fn offer_body(&mut self, n: usize, last: bool) {
        if n == 0 && !last {
            if self.output.left() > 0 {
                self.enter(State::Write(Next::Offer));
            }
            return;
        }
        if let Err(error) = self.transfer.check_body(n as u64, last) {
            return self.give_up(error);
        }
        let len = n.min(self.transfer.chunk_len());
        self.body_left = len as u64;
        self.body_is_last = last && len == n;
        let header = match self.body_is_last {
            true => Frame::Last { len: len as u64 },
            false => Frame::Data { len: len as u64 },
        };
        self.output.add_frame(&header);
        self.enter(State::Write(Next::Body));
    }

    /// Receiver: the application has committed the object. The receipt follows.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::get(Key::from_name("start")).with_size(0)?;
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.handle_moved(25);
    /// client.handle_end_of_stream();
    /// assert_eq!(client.step(), Step::Commit);
    /// client.committed();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn committed(&mut self) {
        match self.state {
            State::Commit if self.is_framed() => {
                self.output = Output::frame(&Frame::Receipt { size: self.position() });
                self.enter(State::Write(Next::Done));
            }
            State::Commit => self.enter(State::Shutdown),
            _ => self.misuse("committed"),
        }
    }

    /// Gives the connection up, for this reason: [`abort_with_code`](Self::abort_with_code) with the code 0.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, LocalError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.abort("the disk is full");
    /// let error = Cause::Local(LocalError::Aborted { reason: "the disk is full", code: 0 });
    /// assert_eq!(server.step(), Step::Done(Err(error)));
    /// ```
    pub fn abort(&mut self, reason: &'static str) {
        self.abort_with_code(reason, 0);
    }

    /// Gives the connection up, for this reason, with a code of the application's own.
    ///
    /// In the framed format the peer gets the code in an ABORT
    /// ([`AbortReason::Failed`](crate::AbortReason::Failed)), if one can be written now; the driver
    /// follows the steps to [`Step::Done`](crate::Step::Done). Otherwise the peer sees a reset. Between two objects this ends the
    /// session ([`next_server`](Self::next_server)), which is not a failure.
    ///
    /// A driver that has canceled a write does not know how much of it has left: it calls
    /// [`handle_reset`](Self::handle_reset) instead.
    ///
    /// ```
    /// use dataserver_core::{AbortReason, Config, Connection, Frame, Instant, Key, StartPacket, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_read(StartPacket::get(Key::from_name("report")).framed().as_bytes());
    /// server.accept(None);
    /// server.abort_with_code("the disk is damaged", 5);
    /// let abort = Frame::Abort(AbortReason::Failed { code: 5 }).to_bytes();
    /// assert_eq!(server.step(), Step::Write { bytes: &abort, payload: 0 });
    /// ```
    pub fn abort_with_code(&mut self, reason: &'static str, code: u64) {
        match self.is_between_objects() {
            true => self.end_session(),
            false => self.give_up(LocalError::Aborted { reason, code }),
        }
    }
}
