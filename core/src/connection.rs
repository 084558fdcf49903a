//! One connection, from the start packet to its end, as client or server.

use core::time::Duration;

use crate::config::Config;
use crate::error::{Cause, LocalError, PeerError, Refusal};
use crate::frame::{AbortReason, Frame, FrameParser, MalformedFrame};
use crate::output::Output;
use crate::start_packet::{Direction, Malformed, ObjectSize, StartPacket, StartPacketParser};
use crate::step::Step;
use crate::time::{Instant, Timer};
use crate::transfer::{Side, Transfer};

/// One object on one stream: the start packet, the object in one direction, then the receipt.
///
/// Ask [`step`](Self::step) what to do, do it, report what happened, and ask again. The
/// [crate page](crate) has the whole loop. Reports on the transport and on time are named `handle_*`;
/// the others are what the application decided or did. The methods by purpose:
///
/// - begin: [`server`](Self::server), [`client`](Self::client), [`next_server`](Self::next_server),
///   [`next_client`](Self::next_client);
/// - ask: [`step`](Self::step), [`deadline`](Self::deadline), [`outcome`](Self::outcome),
///   [`packet`](Self::packet), [`side`](Self::side), [`moved`](Self::moved);
/// - report on the transport: [`handle_read`](Self::handle_read), [`handle_moved`](Self::handle_moved),
///   [`handle_blocked`](Self::handle_blocked), [`handle_end_of_stream`](Self::handle_end_of_stream),
///   [`handle_still_open`](Self::handle_still_open), [`handle_shutdown`](Self::handle_shutdown),
///   [`handle_reset`](Self::handle_reset);
/// - report on the application: [`declare`](Self::declare), [`accept`](Self::accept),
///   [`refuse`](Self::refuse), [`offer`](Self::offer), [`committed`](Self::committed),
///   [`abort`](Self::abort), [`abort_with_code`](Self::abort_with_code);
/// - report on time: [`handle_timeout`](Self::handle_timeout).
///
/// A report that the step did not ask for fails the connection with [`LocalError::Misuse`]. After
/// [`Step::Done`] nothing changes: the first error stays.
///
/// ```
/// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
///
/// // A client sends three bytes in the framed format, and gets its receipt.
/// let packet = StartPacket::put(Key::from_name("start")).framed();
/// let mut client = Connection::client(Config::default(), packet, Instant::default());
///
/// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
/// client.offer(3, true); // the application has three bytes, which are all
/// let Step::Write { bytes, payload: 3 } = client.step() else { panic!() };
/// assert_eq!(bytes.len(), 25 + 12); // the start packet and a header
/// client.handle_moved(25 + 12 + 3);
/// assert_eq!(client.step(), Step::Read { max: 12 });
/// client.handle_read(&Frame::Receipt { size: 3 }.to_bytes());
/// assert_eq!(client.step(), Step::Done(Ok(3)));
/// ```
///
/// The same in the bare format, which is the default, with a declared size:
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
///
/// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
/// let mut client = Connection::client(Config::default(), packet, Instant::default());
///
/// assert_eq!(client.step(), Step::Write { bytes: packet.as_bytes(), payload: 3 });
/// client.handle_moved(25);
/// assert_eq!(client.step(), Step::Send { max: 3 });
/// client.handle_moved(3);
/// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
/// client.offer(0, true); // the application has no more
/// assert_eq!(client.step(), Step::Peek);
/// client.handle_still_open(); // the peer has not closed early
/// assert_eq!(client.step(), Step::Shutdown);
/// client.handle_shutdown();
/// assert_eq!(client.step(), Step::AwaitEnd);
/// client.handle_end_of_stream();
/// assert_eq!(client.step(), Step::Done(Ok(3)));
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    state: State,
    /// Why the connection has failed. An ABORT may still be on its way to the peer, or from it.
    failure: Option<Cause>,
    /// The start packet, as far as it has come. A client has the whole one.
    packet: StartPacketParser,
    /// What a step writes, or wrote last.
    output: Output,
    transfer: Transfer,
    /// How many bytes of the body of the current frame are left, and whether the object ends with it.
    body_left: u64,
    body_is_last: bool,
    /// A server's side of an object that is not the first on its stream.
    is_later: bool,
    /// How many bytes were dropped after a failure.
    dropped: u32,
    /// How many tries are left at `retry`. The wait ends with the last one.
    tries: u8,
    /// When to try the transport again, while the driver waits for the peer.
    retry: Option<Instant>,
    total: Total,
    idle: Duration,
    receipt: Duration,
}

/// Until the start packet has passed, server and client differ; after it, sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    ReadPacket {
        start: Duration,
    },
    Decide,
    /// What is unwritten of the output. Then the next state.
    Write(Next),
    /// Bare: the object, without any frame.
    Object,
    /// Bare: the sender has sent the declared size.
    OfferEnd,
    Peek,
    Shutdown,
    /// Bare: the sender awaits its receipt. Framed: a receiver drops what comes after its ABORT.
    AwaitEnd,
    /// Framed: a sender may write a header, behind what is unwritten of the start packet.
    Offer,
    ReadFrame(FrameParser),
    /// Framed: the body of a frame.
    Body,
    Commit,
    Done,
}

/// What follows when the output has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Bare: the object.
    Object,
    /// The next frame of a sender.
    Offer,
    /// The body of the frame.
    Body,
    ReadFrame,
    AwaitEnd,
    Done,
}

/// The total timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Total {
    /// It begins when the first byte of the start packet has been read.
    NotBegun(Duration),
    Ends(Instant),
}

/// To begin.
impl Connection {
    /// A server's side of a connection that was accepted at `now`.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Step};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.step(), Step::Read { max: 25 });
    /// ```
    pub fn server(config: Config, now: Instant) -> Self {
        let start = or_forever(config.timeouts.start);
        let mut server = Self::new(State::ReadPacket { start }, config, now);
        // Bytes do not put this one off.
        server.retry = Some(now.saturating_add(start));
        server.tries = 1;
        server
    }

    /// A client's side of a connection that was made at `now`.
    ///
    /// A get that declares more than [`Config::max_object_size`] fails at once
    /// ([`Refusal::TooLarge`]).
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let connection = Connection::client(Config::default(), packet, Instant::default());
    /// assert_eq!(connection.step(), Step::Write { bytes: packet.as_bytes(), payload: 0 });
    /// ```
    pub fn client(config: Config, packet: StartPacket, now: Instant) -> Self {
        let state = match (packet.is_framed(), packet.direction()) {
            (false, _) => State::Write(Next::Object),
            (true, Direction::Put) => State::Offer,
            (true, Direction::Get) => State::Write(Next::ReadFrame),
        };
        let mut client = Self::new(state, config, now);
        client.packet = packet.into();
        client.output = Output::start_packet(&packet);
        let limit = config.max_object_size.unwrap_or(u64::MAX);
        client.take_side(packet.size(), packet.direction() == Direction::Put, limit);
        client
    }

    /// A server's side of the next object on the stream of `self`, which has succeeded, at `now`.
    ///
    /// It waits for the next start packet until the keep-alive timeout, and then ends the session. A
    /// session that ends is [`Step::Done`] with `Ok(0)` and has no [`packet`](Self::packet): close the
    /// stream gracefully. To end it earlier, call [`abort`](Self::abort) before a byte of the next start
    /// packet has been read.
    ///
    /// Only the framed format has a next object. If `self` is not such a connection, or has not
    /// succeeded, the new one has failed with [`LocalError::Misuse`].
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
    ///
    /// let (config, now) = (Config::default(), Instant::default());
    /// let mut first = Connection::server(config, now);
    /// first.handle_read(StartPacket::get(Key::from_name("empty")).framed().as_bytes());
    /// first.accept(None);
    /// first.offer(0, true);
    /// first.handle_moved(12);
    /// first.handle_read(&Frame::Receipt { size: 0 }.to_bytes());
    /// assert_eq!(first.step(), Step::Done(Ok(0)));
    ///
    /// let mut next = Connection::next_server(&first, config, now);
    /// assert_eq!(next.step(), Step::Read { max: 25 });
    /// next.handle_end_of_stream(); // the client is done
    /// assert_eq!((next.step(), next.packet()), (Step::Done(Ok(0)), None));
    /// ```
    #[must_use]
    pub fn next_server(&self, config: Config, now: Instant) -> Self {
        if !self.may_continue() {
            return self.misused("next_server", config, now);
        }
        let start = or_forever(config.timeouts.start);
        let mut server = Self::new(State::ReadPacket { start }, config, now);
        server.is_later = true;
        server.total = Total::NotBegun(or_forever(config.timeouts.total));
        server.retry = Some(now.saturating_add(or_forever(config.timeouts.keep_alive)));
        server.tries = 1;
        server
    }

    /// A client's side of the next object on the stream of `self`, which has succeeded, at `now`.
    ///
    /// Before that, the driver checks that nothing has arrived on the idle stream, not even its end. If
    /// something has, the server has ended the session, and the object needs a new connection. If the
    /// server ends it at the same moment, the object fails with [`AbortReason::Closing`], or with the end
    /// of the stream.
    ///
    /// Only the framed format has a next object. If `self` or the packet has another format, or `self`
    /// has not succeeded, the new connection has failed with [`LocalError::Misuse`].
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
    ///
    /// let (config, now) = (Config::default(), Instant::default());
    /// let packet = StartPacket::put(Key::from_name("start")).framed();
    /// let mut first = Connection::client(config, packet, now);
    /// first.offer(0, true);
    /// first.handle_moved(25 + 12);
    /// first.handle_read(&Frame::Receipt { size: 0 }.to_bytes());
    ///
    /// let next = first.next_client(config, packet, now);
    /// assert_eq!(next, Connection::client(config, packet, now)); // nothing else survives
    /// ```
    #[must_use]
    pub fn next_client(&self, config: Config, packet: StartPacket, now: Instant) -> Self {
        match self.may_continue() && packet.is_framed() {
            true => Self::client(config, packet, now),
            false => self.misused("next_client", config, now),
        }
    }

    /// Whether the stream can carry another object.
    fn may_continue(&self) -> bool {
        self.is_framed() && self.state == State::Done && self.failure.is_none()
    }

    /// A connection that has failed, because `verb` was called on this one.
    fn misused(&self, verb: &'static str, config: Config, now: Instant) -> Self {
        let mut failed = Self::new(State::Done, config, now);
        failed.failure = Some(LocalError::Misuse { verb, step: self.step().name() }.into());
        failed
    }

    fn new(state: State, config: Config, now: Instant) -> Self {
        let Config { chunk, max_object_size, timeouts } = config;
        let limit = max_object_size.unwrap_or(u64::MAX);
        Self {
            state,
            failure: None,
            packet: StartPacketParser::new(),
            output: Output::NONE,
            // Until the start packet is known.
            transfer: Transfer::new(Side::Receiver, ObjectSize::UNKNOWN, limit, chunk),
            body_left: 0,
            body_is_last: false,
            is_later: false,
            dropped: 0,
            tries: 0,
            retry: None,
            total: Total::Ends(now.saturating_add(or_forever(timeouts.total))),
            idle: or_forever(timeouts.idle),
            receipt: or_forever(timeouts.receipt),
        }
    }

    /// Sets up the accounting once the direction is known.
    fn take_side(&mut self, size: ObjectSize, sends: bool, limit: u64) {
        let chunk = self.transfer.chunk();
        if sends {
            self.transfer = Transfer::sender(size, chunk);
            return;
        }
        match Transfer::receiver(size, limit, chunk) {
            Ok(transfer) => self.transfer = transfer,
            Err(refusal) => self.give_up(refusal),
        }
    }
}

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
            (State::ReadFrame(parser), _) => Step::Read { max: parser.missing() },
            (State::Decide, Some(packet)) => Step::Decide(packet),
            (State::OfferEnd, _) => Step::Offer { max: self.transfer.chunk_len() },
            (State::Peek, _) => Step::Peek,
            (State::Commit, _) => Step::Commit,
            (State::Shutdown, _) => Step::Shutdown,
            (State::AwaitEnd, _) => Step::AwaitEnd,
            (State::Done, _) => Step::Done(match self.failure {
                Some(cause) => Err(cause),
                None => Ok(self.moved()),
            }),
            _ => Step::Read { max: self.packet.missing() },
        }
    }

    /// How the connection has ended, or will end: `Some` at [`Step::Done`], and as soon as it has failed.
    ///
    /// In the framed format a failure takes more steps, in which this side tells the peer its reason, or
    /// reads that of the peer. The driver follows them to [`Step::Done`]. An application learns the failure
    /// now, and a server releases its lease now: before the peer knows. The first error stays, except that
    /// the reason of the peer replaces [`PeerError::Reset`] and [`PeerError::ClosedEarly`].
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
            (None, State::Done) => Some(Ok(self.moved())),
            (None, _) => None,
        }
    }

    /// When a driver that waits for the peer at `now` should try the step again at the latest. `None` if
    /// there is no limit.
    ///
    /// A driver that sleeps until the transport is ready or until this time, and then tries the step
    /// again, neither hangs nor spins. Any report may change the deadline. While the connection waits for
    /// its own application, ignore it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let now = Instant::new(Duration::from_secs(1));
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.deadline(now), Some(Instant::new(Duration::from_secs(5))));
    /// ```
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let retry = match (self.retry, self.wait_for_peer()) {
            (Some(retry), _) => retry,
            (None, Some((_, timeout))) => self.first_retry(now, timeout),
            (None, None) => FOREVER,
        };
        let total = match self.total {
            Total::NotBegun(_) if self.is_between_objects() => FOREVER,
            Total::NotBegun(timeout) => now.saturating_add(timeout),
            Total::Ends(deadline) => deadline,
        };
        match self.state {
            State::Done => None,
            _ => Some(retry.min(total)).filter(|deadline| *deadline < FOREVER),
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

    /// How many bytes of the object have moved.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.moved(), 0);
    /// ```
    pub fn moved(&self) -> u64 {
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

    fn sends(&self) -> bool {
        self.transfer.side() == Side::Sender
    }

    fn is_framed(&self) -> bool {
        self.packet().is_some_and(|packet| packet.is_framed())
    }

    /// Whether a server waits for a later object on its stream, or tells the peer that it does not.
    fn is_between_objects(&self) -> bool {
        let is_unread = self.packet.missing() == StartPacket::LEN;
        self.is_later && is_unread && self.failure.is_none() && self.state != State::Done
    }

    /// The most bytes that the next step may move of the body of a frame, whose length was checked.
    fn body_max(&self) -> usize {
        let chunk = self.transfer.chunk_len();
        if self.body_left < chunk as u64 { self.body_left as usize } else { chunk }
    }

    /// How many bytes of the object may share a write.
    fn payload(&self, next: Next) -> usize {
        match next {
            Next::Object if self.sends() => self.transfer.max(),
            Next::Body => self.body_max(),
            _ => 0,
        }
    }

    /// The timer that runs in this state, if the driver waits for the peer in it.
    fn wait_for_peer(&self) -> Option<(Timer, Duration)> {
        match self.state {
            State::Decide
            | State::OfferEnd
            | State::Offer
            | State::Peek
            | State::Commit
            | State::Done => None,
            _ if self.failure.is_some() => Some((Timer::Idle, self.idle)),
            State::ReadPacket { start } => Some((Timer::Start, start)),
            State::AwaitEnd => Some((Timer::Receipt, self.receipt)),
            State::ReadFrame(_) if self.awaits_application() => {
                Some((Timer::Receipt, self.receipt))
            }
            State::Write(_)
            | State::Object
            | State::Shutdown
            | State::ReadFrame(_)
            | State::Body => Some((Timer::Idle, self.idle)),
        }
    }

    /// Whether the frame that is due is one that the peer's application must do something for: the
    /// receipt, or the first of a get.
    fn awaits_application(&self) -> bool {
        let is_get = self.packet().is_some_and(|packet| packet.direction() == Direction::Get);
        self.sends() || (is_get && self.moved() == 0)
    }

    /// When a wait that begins `now` has its first retry: see [`WRITER_TRIES`].
    fn first_retry(&self, now: Instant, timeout: Duration) -> Instant {
        now.saturating_add(if self.is_writing() { eighth(timeout) } else { timeout })
    }

    /// Whether the driver waits for room to write. After a failure it has one timeout, whatever it does.
    fn is_writing(&self) -> bool {
        let writes = match self.state {
            State::Write(_) | State::Shutdown => true,
            State::Object | State::Body => self.sends(),
            _ => false,
        };
        writes && self.failure.is_none()
    }
}

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
            _ => {
                self.misuse("handle_read");
                0
            }
        }
    }

    /// `n` bytes have moved, as the step asked: written ([`Step::Write`]), received or sent.
    ///
    /// In [`Step::AwaitEnd`] and [`Step::Peek`], bytes are an error of the peer.
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

    /// The transport was not ready for the step, in an attempt that began at `now`.
    ///
    /// The first such report starts the idle timer, or the receipt timer while the receipt is due.
    /// Progress stops it. The timer ends the connection only if an attempt fails that began when the
    /// timer had run out. So bytes that arrived in time are never late.
    ///
    /// A writer sees its peer's progress late and in steps: a socket can have room for a long time before
    /// it counts as writable, and a slow receiver opens its window only when a whole buffer is free. So
    /// a writer gets a [`deadline`](Self::deadline) each eighth of the idle timeout, and is given up at
    /// the eleventh: a peer is cut at most 1.5 idle timeouts after its last progress.
    ///
    /// A slow application does not count against the peer: if a step needs both, ask the application
    /// first, then try the transport. A driver that stops working on a connection because others should
    /// have their turn does not report this.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Cause, Instant, Key, StartPacket, Step, Timer};
    ///
    /// let at = |seconds| Instant::new(Duration::from_secs(seconds));
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, at(0));
    /// client.handle_moved(25);
    ///
    /// client.handle_blocked(at(60));
    /// assert_eq!(client.deadline(at(60)), Some(at(65)));
    /// client.handle_moved(1);
    /// client.handle_blocked(at(65)); // the idle timer starts again
    /// client.handle_blocked(at(70));
    /// assert_eq!(client.step(), Step::Done(Err(Cause::TimedOut(Timer::Idle))));
    /// ```
    pub fn handle_blocked(&mut self, now: Instant) {
        self.handle_timeout(now);
        let Some((timer, timeout)) = self.wait_for_peer() else {
            return; // it is the application's turn
        };
        match self.retry {
            None => {
                self.tries = if self.is_writing() { WRITER_TRIES } else { 1 };
                self.retry = Some(self.first_retry(now, timeout));
            }
            Some(retry) if now < retry || retry == FOREVER => {}
            Some(_) if self.tries <= 1 => self.time_out(timer),
            Some(retry) => {
                self.tries = self.tries.saturating_sub(1);
                self.retry = Some(retry.saturating_add(eighth(timeout)));
            }
        }
    }

    /// The peer has shut down its write half: no more bytes will come.
    ///
    /// Report it in steps that read or peek. A sender may report it earlier: the peer has closed before
    /// it could have the object. In [`Step::Decide`] and [`Step::Commit`] nothing is read: leave it in the
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
            State::ReadFrame(_) if self.sends() => self.fail(PeerError::NoReceipt { sent: moved }),
            State::ReadFrame(_) | State::Body if !self.sends() => {
                self.fail(
                    self.transfer
                        .finish()
                        .err()
                        .unwrap_or_else(|| PeerError::Unfinished { received: moved }.into()),
                );
            }
            State::Write(Next::Done) => self.misuse("handle_end_of_stream"),
            State::Write(_)
            | State::Object
            | State::Body
            | State::OfferEnd
            | State::Offer
            | State::Peek => self.lose(PeerError::ClosedEarly { moved }),
            State::Shutdown if self.sends() => self.lose(PeerError::ClosedEarly { moved }),
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
            (Frame::Data { len }, None) if !self.sends() => self.begin_body(len, false),
            (Frame::Last { len }, None) if !self.sends() => self.begin_body(len, true),
            (Frame::Receipt { size }, None) if self.sends() && size == self.moved() => {
                self.enter(State::Done);
            }
            (Frame::Receipt { size }, None) if self.sends() => {
                self.fail(PeerError::WrongReceipt { size, sent: self.moved() });
            }
            (frame, None) => self.give_up(PeerError::UnexpectedFrame(frame)),
        }
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
            Next::AwaitEnd => self.enter(State::AwaitEnd),
            Next::Done => self.enter(State::Done),
        }
    }

    fn begin_object(&mut self) {
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
            (0, Side::Receiver, true) => State::Commit,
            (0, ..) => State::ReadFrame(FrameParser::new()),
        });
    }

    /// After a failure: these bytes of the peer are of no use.
    fn drop_bytes(&mut self, n: usize) {
        self.dropped = self.dropped.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        if self.dropped >= MAX_DROPPED {
            self.enter(State::Done);
        }
    }
}

/// To report on the application.
impl Connection {
    /// Accepts the start packet. A put may have at most `limit` bytes, and at most
    /// [`Config::max_object_size`]. If the packet declares more, the connection fails
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

    /// Sender: the application has `n` more bytes of the object, and the object ends with them if
    /// `last`. Only this ends an object, whether its size is declared or not.
    ///
    /// In the framed format the offer becomes a frame, and the bytes of its body follow in
    /// [`Step::Write`] and [`Step::Send`]. Of more than the chunk, only the chunk is taken, and the rest is
    /// offered next. `(0, false)` sends a start packet that has not left yet, and nothing else. An offer
    /// that does not agree with the declared size fails the connection.
    ///
    /// In the bare format an offer is due in [`Step::Send`] only as `(0, true)`, which ends the object. In
    /// [`Step::Offer`] the declared size has been sent, so a further byte fails the connection.
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
                self.output.add_frame(&Frame::Receipt { size: self.moved() });
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
    /// ([`AbortReason::Failed`]), if one can be written now; the driver
    /// follows the steps to [`Step::Done`]. Otherwise the peer sees a reset. Between two objects this ends the
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

/// To report on time.
impl Connection {
    /// Ends the connection if the total timer is due at `now`. Progress does not extend it, so a driver
    /// calls this after progress. [`handle_blocked`](Self::handle_blocked) includes it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Cause, Instant, Step, Timeouts, Timer};
    ///
    /// let config = Config::default().timeouts(Timeouts::default().total(Duration::from_secs(60)));
    /// let mut server = Connection::server(config, Instant::default());
    /// server.handle_timeout(Instant::new(Duration::from_secs(59)));
    /// assert_eq!(server.step(), Step::Read { max: 25 });
    /// server.handle_timeout(Instant::new(Duration::from_secs(60)));
    /// assert_eq!(server.step(), Step::Done(Err(Cause::TimedOut(Timer::Total))));
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin_absolute_timer(now);
        match self.total {
            _ if self.state == State::Done || self.is_between_objects() => {}
            Total::NotBegun(timeout) => self.total = Total::Ends(now.saturating_add(timeout)),
            Total::Ends(deadline) if now >= deadline && deadline < FOREVER => {
                self.total = Total::Ends(FOREVER); // an ABORT may follow, within an idle timeout
                self.time_out(Timer::Total);
            }
            Total::Ends(_) => {}
        }
    }
}

impl Connection {
    /// Bytes do not put off the start timer of a later object, nor what follows a failure. Both begin with
    /// the first report of time.
    fn begin_absolute_timer(&mut self, now: Instant) {
        let timeout = match self.state {
            State::Done => return,
            _ if self.failure.is_some() => self.idle,
            State::ReadPacket { start } if !self.is_between_objects() => start,
            _ => return,
        };
        match self.retry {
            None => {
                self.retry = Some(now.saturating_add(timeout));
                self.tries = 1;
            }
            Some(retry) if self.failure.is_some() && now >= retry && retry < FOREVER => {
                self.enter(State::Done);
            }
            Some(_) => {}
        }
    }
}

const FOREVER: Instant = Instant::new(Duration::MAX);

fn or_forever(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(Duration::MAX)
}

/// How often a writer tries again, each eighth of the idle timeout, before its peer is idle. It notices
/// progress up to an eighth late, which makes 12 eighths at most. With 5 s the 11 eighths are longer than
/// the 6.6 s that a peer at 20 kB/s takes for the 128 KiB of Linux's default receive buffer.
const WRITER_TRIES: u8 = 11;

/// An eighth of this timeout; no limit stays no limit.
fn eighth(timeout: Duration) -> Duration {
    match timeout {
        Duration::MAX => timeout,
        _ => timeout.checked_div(8).unwrap_or(timeout),
    }
}

/// How many bytes are dropped after a failure at most: 16 MiB.
const MAX_DROPPED: u32 = 16 << 20;

impl Connection {
    fn enter(&mut self, state: State) {
        self.state = state;
        self.progress();
    }

    /// Ends a wait, except after a failure: what follows it has one timeout in all.
    fn progress(&mut self) {
        if self.failure.is_none() {
            self.retry = None;
        }
    }

    /// Fails the connection at once, unless it has ended. The first error stays.
    fn fail(&mut self, cause: impl Into<Cause>) {
        if self.state != State::Done {
            self.failure.get_or_insert(cause.into());
            self.enter(State::Done);
        }
    }

    /// Fails the connection, and tells the peer why if it can.
    fn give_up(&mut self, cause: impl Into<Cause>) {
        match self.may_abort() {
            true => self.write_abort(cause.into()),
            false => self.fail(cause),
        }
    }

    /// Whether this side may write an ABORT (rule 12 of the framed format).
    fn may_abort(&self) -> bool {
        let is_due = match &self.state {
            State::Decide | State::Commit => true,
            State::Offer => self.output.left() == 0,
            State::Write(Next::Body) => self.output.is_unwritten_frame(),
            State::ReadFrame(_) | State::Body => !self.sends(),
            _ => false,
        };
        is_due && self.is_framed() && self.failure.is_none()
    }

    /// Writes an ABORT. After it, a sender looks for one of the peer, and a receiver drops what comes.
    fn write_abort(&mut self, cause: Cause) {
        let next = if self.sends() { Next::ReadFrame } else { Next::AwaitEnd };
        self.output.add_frame(&Frame::Abort(cause.abort_reason()));
        self.enter(State::Write(next));
        self.failure = Some(cause);
    }

    /// Ends a session between two objects.
    fn end_session(&mut self) {
        match self.state {
            State::ReadPacket { .. } => {
                self.output.add_frame(&Frame::Abort(AbortReason::Closing));
                self.enter(State::Write(Next::Done));
            }
            _ => self.enter(State::Done), // it could not be written
        }
    }

    /// The transport has failed. If that was in a write of the framed format, an ABORT of the peer may
    /// be there to be read.
    fn lose(&mut self, error: PeerError) {
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

    fn time_out(&mut self, timer: Timer) {
        match self.state {
            _ if self.is_between_objects() => self.end_session(),
            // A part may have left. And who is slow to commit may have done so.
            State::Write(_) | State::Commit => self.fail(timer),
            _ => self.give_up(timer),
        }
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = self.step().name();
        self.fail(LocalError::Misuse { verb, step });
    }
}
