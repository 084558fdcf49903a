//! One connection, from the start packet to the end, on either side.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::error::{Error, LocalError, PeerError, Refusal};
use crate::start_packet::{Direction, ObjectSize, StartPacket, StartPacketParser};
use crate::time::{Instant, Timeouts, Timer};
use crate::transfer::{Side, Transfer};

/// What this side chooses for its connections. Nothing of it shows on the wire.
///
/// ```
/// use core::num::NonZeroU32;
/// use dataserver_core::Config;
///
/// let config = Config { chunk: NonZeroU32::new(21).unwrap(), ..Config::default() };
/// assert_eq!(config.limit, u64::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most bytes that one step moves. Default [`Transfer::DEFAULT_CHUNK`].
    pub chunk: NonZeroU32,
    /// The largest object that this side receives, in bytes. Default no limit.
    pub limit: u64,
    /// How long each part may take.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self { chunk: Transfer::DEFAULT_CHUNK, limit: u64::MAX, timeouts: Timeouts::default() }
    }
}

/// What a driver should do next, as [`Connection::step`] says.
///
/// Exhaustive on purpose: a new step must stop drivers from compiling.
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Step};
///
/// let connection = Connection::server(Config::default(), Instant::default());
/// assert_eq!(connection.step(), Step::Read { max: 25 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Read from the stream and hand it to [`feed`](Connection::feed). Whoever reads at most `max`
    /// bytes never takes payload; what `feed` leaves is the beginning of what follows.
    Read {
        /// How many bytes of the start packet are missing.
        max: usize,
    },
    /// Server: [`accept`](Connection::accept) this, or [`refuse`](Connection::refuse) it.
    Decide(StartPacket),
    /// Write `bytes` to the stream, then [`advance`](Connection::advance). The same vectored write
    /// may carry the beginning of the object behind them, and the same `advance` counts it.
    Write {
        /// What is left of the start packet.
        bytes: &'a [u8],
        /// How many bytes of the object may follow in the same write; 0 for a get.
        payload: usize,
    },
    /// Move bytes from the stream to the application, then [`advance`](Connection::advance); or the
    /// stream is at its end: [`end_of_stream`](Connection::end_of_stream).
    Receive {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Move bytes from the application to the stream, then [`advance`](Connection::advance). If the
    /// application has no more, the object ends here: [`offer(0, true)`](Connection::offer).
    ///
    /// Bytes that the peer sends during this step stay in the stream. A later step reads them.
    Send {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Sender: ask the application how much of the object is left, then
    /// [`offer`](Connection::offer) it.
    ///
    /// This step follows the last byte of a declared size. Only the application knows whether its
    /// object ends there too. If it has more, the declaration was wrong, and the connection fails
    /// instead of passing a part off as the whole.
    Offer {
        /// The most bytes that need to be offered: the chunk.
        max: usize,
    },
    /// Sender: look, without waiting, whether the peer has ended the stream already. If it has, it
    /// closed before it could commit: [`end_of_stream`](Connection::end_of_stream). If not, or if
    /// this stream cannot tell: [`still_open`](Connection::still_open).
    ///
    /// A driver may peek, or read: bytes that it took are reported to
    /// [`advance`](Connection::advance), and are the peer's error.
    Peek,
    /// Receiver: the object is whole. Make it durable, then [`commit`](Connection::commit).
    Commit,
    /// Shut down the write half, then [`shut_down`](Connection::shut_down). At a sender this ends the
    /// object. At a receiver it is the receipt.
    Shutdown,
    /// Read from the stream: it should be at its end ([`end_of_stream`](Connection::end_of_stream)).
    /// If bytes come instead, drop them and report how many to [`advance`](Connection::advance).
    AwaitEnd,
    /// The end, and the size of the object. `Ok`: close in an orderly way. `Err`: reset the stream.
    Done(Result<u64, Error>),
}

impl Step<'_> {
    /// The name of the step, without what it holds.
    const fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Decide(_) => "Decide",
            Self::Write { .. } => "Write",
            Self::Receive { .. } => "Receive",
            Self::Send { .. } => "Send",
            Self::Offer { .. } => "Offer",
            Self::Peek => "Peek",
            Self::Commit => "Commit",
            Self::Shutdown => "Shutdown",
            Self::AwaitEnd => "AwaitEnd",
            Self::Done(_) => "Done",
        }
    }
}

/// One connection: the start packet, then one object in one direction, then how it ended.
///
/// Ask [`step`](Self::step) what to do, do it, report what happened, and ask again; the
/// [crate page](crate) has the whole loop. By purpose:
///
/// - begin: [`server`](Self::server), [`client`](Self::client);
/// - ask: [`step`](Self::step), [`deadline`](Self::deadline), [`packet`](Self::packet),
///   [`side`](Self::side), [`moved`](Self::moved);
/// - report on the stream: [`feed`](Self::feed), [`advance`](Self::advance),
///   [`would_block`](Self::would_block), [`end_of_stream`](Self::end_of_stream),
///   [`still_open`](Self::still_open), [`shut_down`](Self::shut_down), [`reset`](Self::reset);
/// - report on the application: [`accept`](Self::accept), [`refuse`](Self::refuse),
///   [`offer`](Self::offer), [`commit`](Self::commit), [`abort`](Self::abort);
/// - report on time: [`handle_timeout`](Self::handle_timeout).
///
/// A report that the step did not ask for changes nothing but that the connection fails with
/// [`LocalError::Misuse`]. After [`Step::Done`] nothing changes at all: the first error wins.
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
///
/// // A client sends three bytes and is told that they have arrived.
/// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
/// let mut client = Connection::client(Config::default(), packet, Instant::default());
///
/// assert_eq!(client.step(), Step::Write { bytes: packet.as_bytes(), payload: 3 });
/// client.advance(25);
/// assert_eq!(client.step(), Step::Send { max: 3 });
/// client.advance(3);
/// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
/// client.offer(0, true); // the application has no more
/// assert_eq!(client.step(), Step::Peek);
/// client.still_open(); // the peer has not closed early
/// assert_eq!(client.step(), Step::Shutdown);
/// client.shut_down();
/// assert_eq!(client.step(), Step::AwaitEnd);
/// client.end_of_stream();
/// assert_eq!(client.step(), Step::Done(Ok(3)));
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    state: State,
    packet: Option<StartPacket>,
    transfer: Transfer,
    /// When the stream is to be tried again, while the driver waits for the peer.
    retry: Option<Instant>,
    /// How many tries are left then. With the last, the wait ends.
    tries: u8,
    transfer_deadline: Instant,
    idle: Duration,
    end: Duration,
}

/// Server and client differ until the start packet has passed, sender and receiver after it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    ReadPacket(StartPacketParser),
    Decide(StartPacket),
    WritePacket { packet: StartPacket, written: u8 },
    Object,
    Offer,
    Peek,
    Commit,
    Shutdown,
    AwaitReceipt,
    Done(Result<(), Error>),
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
        let mut server = Self::new(State::ReadPacket(StartPacketParser::new()), config, now);
        // Bytes do not put this one off.
        server.retry = Some(now.saturating_add(config.timeouts.start));
        server.tries = 1;
        server
    }

    /// A client's side of a connection that was made at `now`.
    ///
    /// It is refused at once ([`Refusal::TooLarge`]) where a get declares more than
    /// [`Config::limit`].
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let connection = Connection::client(Config::default(), packet, Instant::default());
    /// assert_eq!(connection.step(), Step::Write { bytes: packet.as_bytes(), payload: 0 });
    /// ```
    pub fn client(config: Config, packet: StartPacket, now: Instant) -> Self {
        let mut client = Self::new(State::WritePacket { packet, written: 0 }, config, now);
        client.packet = Some(packet);
        client.take_side(packet.size(), packet.direction() == Direction::Put, config.limit);
        client
    }

    fn new(state: State, config: Config, now: Instant) -> Self {
        let Config { chunk, limit, timeouts } = config;
        Self {
            state,
            packet: None,
            // Until a start packet says more: something of unknown size, to be received.
            transfer: Transfer::new(Side::Receiver, ObjectSize::UNKNOWN, limit, chunk),
            retry: None,
            tries: 0,
            transfer_deadline: now.saturating_add(timeouts.transfer),
            idle: timeouts.idle,
            end: timeouts.end,
        }
    }

    /// Sets up the accounting, now that it is known who sends what.
    fn take_side(&mut self, size: ObjectSize, sends: bool, limit: u64) {
        let chunk = self.transfer.chunk();
        if sends {
            self.transfer = Transfer::sender(size, chunk);
            return;
        }
        match Transfer::receiver(size, limit, chunk) {
            Ok(transfer) => self.transfer = transfer,
            Err(refusal) => self.fail(refusal),
        }
    }
}

/// To ask.
impl Connection {
    /// What to do next. The same until something is reported: asking takes nothing away.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.step(), connection.step());
    /// ```
    #[inline]
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::ReadPacket(parser) => Step::Read { max: parser.missing() },
            State::Decide(packet) => Step::Decide(*packet),
            State::WritePacket { packet, written } => Step::Write {
                bytes: packet.as_bytes().get(usize::from(*written)..).unwrap_or_default(),
                payload: if self.sends() { self.transfer.max() } else { 0 },
            },
            State::Object => match (self.transfer.side(), self.transfer.max()) {
                (Side::Sender, max) => Step::Send { max },
                (Side::Receiver, 0) => Step::AwaitEnd,
                (Side::Receiver, max) => Step::Receive { max },
            },
            State::Offer => Step::Offer { max: self.transfer.chunk_len() },
            State::Peek => Step::Peek,
            State::Commit => Step::Commit,
            State::Shutdown => Step::Shutdown,
            State::AwaitReceipt => Step::AwaitEnd,
            State::Done(result) => Step::Done(result.map(|()| self.moved())),
        }
    }

    /// When to try the step again at the latest, for a driver that waits for the peer at `now`.
    /// `None` if there is no limit.
    ///
    /// A driver that sleeps until the stream is ready or this time has come, and then tries the step
    /// again, neither hangs nor spins. Any report may change the deadline.
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
        match self.state {
            State::Done(_) => None,
            _ => Some(retry.min(self.transfer_deadline)).filter(|deadline| *deadline < FOREVER),
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
        self.packet
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
        self.packet.map(|_| self.transfer.side())
    }

    fn sends(&self) -> bool {
        self.transfer.side() == Side::Sender
    }

    /// The timer that runs while the driver waits for the peer, if this state does.
    fn wait_for_peer(&self) -> Option<(Timer, Duration)> {
        match self.state {
            State::ReadPacket(_) => Some((Timer::Start, Duration::MAX)), // from the beginning
            State::WritePacket { .. } | State::Object | State::Shutdown => {
                Some((Timer::Idle, self.idle))
            }
            State::AwaitReceipt => Some((Timer::End, self.end)),
            State::Decide(_) | State::Offer | State::Peek | State::Commit | State::Done(_) => None,
        }
    }

    /// When a wait that begins `now` has its first retry: see [`WRITER_TRIES`].
    fn first_retry(&self, now: Instant, timeout: Duration) -> Instant {
        now.saturating_add(if self.is_writing() { eighth(timeout) } else { timeout })
    }

    /// Whether the driver waits for room to write.
    fn is_writing(&self) -> bool {
        match self.state {
            State::WritePacket { .. } | State::Shutdown => true,
            State::Object => self.sends(),
            _ => false,
        }
    }
}

/// To report on the stream.
impl Connection {
    /// Takes start packet bytes that were read from the stream, and returns how many it took.
    ///
    /// The rest is the beginning of what the peer sent behind it: the driver keeps it and uses it
    /// up before it reads from the stream again.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(server.feed(&packet.as_bytes()[..10]), 10);
    /// assert_eq!(server.step(), Step::Read { max: 15 });
    /// assert_eq!(server.feed(&packet.as_bytes()[10..]), 15);
    /// assert_eq!(server.step(), Step::Decide(packet));
    /// ```
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let State::ReadPacket(parser) = &mut self.state else {
            self.misuse("feed");
            return 0;
        };
        let taken = parser.feed(bytes);
        match parser.packet() {
            None => {}
            Some(Ok(packet)) => {
                let side = match packet.direction() {
                    Direction::Put => Side::Receiver,
                    Direction::Get => Side::Sender,
                };
                let (limit, chunk) = (self.transfer.bound(), self.transfer.chunk());
                self.transfer = Transfer::new(side, ObjectSize::UNKNOWN, limit, chunk);
                self.packet = Some(packet);
                self.enter(State::Decide(packet));
            }
            Some(Err(malformed)) => self.fail(PeerError::Malformed(malformed)),
        }
        taken
    }

    /// `n` bytes have moved, as the step asked: written ([`Step::Write`]), received or sent.
    ///
    /// In [`Step::AwaitEnd`] and [`Step::Peek`], `n` bytes came where none were due: that is the
    /// peer's error.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25 + 7); // the start packet and 7 bytes of the object, in one write
    /// assert_eq!(client.moved(), 7);
    /// ```
    pub fn advance(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        match self.state {
            State::WritePacket { packet, written } => {
                let left = StartPacket::LEN.saturating_sub(usize::from(written));
                let payload = if self.sends() { self.transfer.max() } else { 0 };
                let max = left.saturating_add(payload);
                if n < left {
                    let written = written.saturating_add(n as u8); // below 25
                    self.enter(State::WritePacket { packet, written });
                } else if n <= max {
                    self.begin_object();
                    self.count(n.saturating_sub(left));
                } else {
                    self.fail(LocalError::Overrun { reported: n, max });
                }
            }
            State::Object => self.count(n),
            State::Peek | State::AwaitReceipt => self.fail(PeerError::NotSilent),
            _ => self.misuse("advance"),
        }
    }

    /// The stream was not ready for what the step asks, in an attempt that began at `now`.
    ///
    /// The first such report starts the idle timer, or the end timer while the receipt is due;
    /// progress stops it. The timer ends the connection only if this is reported when the timer has
    /// run out: so it takes an attempt that failed at that time or later, and bytes that came in time
    /// are never late.
    ///
    /// A writer sees its peer's progress late and in steps: a socket can have room for a long time before
    /// it counts as writable, and a slow receiver opens its window only when a whole buffer is free. So
    /// a writer gets a [`deadline`](Self::deadline) each eighth of the idle timeout, and is given up at
    /// the eleventh: a peer is cut at most 1.5 idle timeouts after its last progress.
    ///
    /// An application that is slow on its own side costs the peer nothing: where a step needs both,
    /// ask the application first, then try the stream. A driver that interrupts a connection because
    /// others should have their turn reports nothing.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Error, Instant, Key, StartPacket, Step, Timer};
    ///
    /// let at = |seconds| Instant::new(Duration::from_secs(seconds));
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, at(0));
    /// client.advance(25);
    ///
    /// client.would_block(at(60));
    /// assert_eq!(client.deadline(at(60)), Some(at(65)));
    /// client.advance(1);
    /// client.would_block(at(65)); // the idle timer starts again
    /// client.would_block(at(70));
    /// assert_eq!(client.step(), Step::Done(Err(Error::TimedOut(Timer::Idle))));
    /// ```
    pub fn would_block(&mut self, now: Instant) {
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
            Some(_) if self.tries <= 1 => self.fail(timer),
            Some(retry) => {
                self.tries = self.tries.saturating_sub(1);
                self.retry = Some(retry.saturating_add(eighth(timeout)));
            }
        }
    }

    /// The peer has shut down its write half: nothing more will come.
    ///
    /// It is due where a step reads or peeks. At a sender it is an early end before that. In
    /// [`Step::Decide`] and [`Step::Commit`] nothing is read: leave it in the stream.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, PeerError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.feed(&[0; 24]);
    /// server.end_of_stream();
    /// let error = Error::Peer(PeerError::TruncatedStartPacket { received: 24 });
    /// assert_eq!(server.step(), Step::Done(Err(error)));
    /// ```
    pub fn end_of_stream(&mut self) {
        match self.state {
            State::ReadPacket(parser) => {
                let received = StartPacket::LEN.saturating_sub(parser.missing());
                self.fail(PeerError::TruncatedStartPacket { received });
            }
            State::Object if !self.sends() => match self.transfer.finish() {
                Ok(_) => self.enter(State::Commit),
                Err(error) => self.fail(error),
            },
            State::AwaitReceipt => self.enter(State::Done(Ok(()))),
            State::WritePacket { .. } | State::Object | State::Offer | State::Peek => {
                self.closed_early();
            }
            State::Shutdown if self.sends() => self.closed_early(),
            _ => self.misuse("end_of_stream"),
        }
    }

    /// The peer has not ended the stream, as far as this stream can tell.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25);
    /// client.offer(0, true);
    /// assert_eq!(client.step(), Step::Peek);
    /// client.still_open();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// ```
    pub fn still_open(&mut self) {
        match self.state {
            State::Peek => self.enter(State::Shutdown),
            _ => self.misuse("still_open"),
        }
    }

    /// The write half is shut down.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25);
    /// client.offer(0, true);
    /// client.still_open();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// client.shut_down();
    /// assert_eq!(client.step(), Step::AwaitEnd);
    /// ```
    pub fn shut_down(&mut self) {
        match self.state {
            State::Shutdown if self.sends() => self.enter(State::AwaitReceipt),
            State::Shutdown => self.enter(State::Done(Ok(()))),
            _ => self.misuse("shut_down"),
        }
    }

    /// The peer has reset the connection, or the stream has failed otherwise.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, PeerError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.reset();
    /// assert_eq!(server.step(), Step::Done(Err(Error::Peer(PeerError::Reset { moved: 0 }))));
    /// ```
    pub fn reset(&mut self) {
        self.fail(PeerError::Reset { moved: self.moved() });
    }

    fn begin_object(&mut self) {
        self.enter(State::Object);
        self.count(0);
    }

    /// Counts bytes of the object. A sender that has sent the declared size is at its end.
    fn count(&mut self, n: usize) {
        match self.transfer.advance(n) {
            Ok(()) if self.sends() && self.transfer.is_full() => self.enter(State::Offer),
            Ok(()) => self.retry = None,
            Err(error) => self.fail(error),
        }
    }

    fn closed_early(&mut self) {
        self.fail(PeerError::ClosedEarly { moved: self.moved() });
    }
}

/// To report on the application.
impl Connection {
    /// Takes the start packet. `limit` is the most bytes that a put may have here; the smaller of
    /// it and [`Config::limit`] holds.
    ///
    /// Where the packet declares more, this is a refusal ([`Refusal::TooLarge`]).
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.feed(packet.as_bytes());
    /// server.accept(u64::MAX);
    /// assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
    /// ```
    pub fn accept(&mut self, limit: u64) {
        let State::Decide(packet) = self.state else {
            return self.misuse("accept");
        };
        let limit = limit.min(self.transfer.bound());
        self.take_side(packet.size(), self.sends(), limit);
        if let State::Decide(_) = self.state {
            self.begin_object();
        }
    }

    /// Does not take the start packet. The peer sees a reset, and learns no reason.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, Refusal, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.feed(&[0; 25]);
    /// server.refuse(Refusal::NotRegistered);
    /// assert_eq!(server.step(), Step::Done(Err(Error::Refused(Refusal::NotRegistered))));
    /// ```
    pub fn refuse(&mut self, reason: Refusal) {
        match self.state {
            State::Decide(_) => self.fail(reason),
            _ => self.misuse("refuse"),
        }
    }

    /// Sender: the application has `n` more bytes of the object, and the object ends with them if
    /// `last`. Only this ends an object, whether its size is declared or not.
    ///
    /// In [`Step::Send`] only the end needs to be offered, as `(0, true)`. In [`Step::Offer`], where
    /// a declared size has been sent, any byte more fails the connection. `(0, false)` changes
    /// nothing.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, Key, LocalError, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25 + 2);
    /// client.offer(0, true);
    /// let error = Error::Local(LocalError::ShorterThanDeclared { sent: 2, declared: 3 });
    /// assert_eq!(client.step(), Step::Done(Err(error)));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn offer(&mut self, n: usize, last: bool) {
        match self.state {
            State::Offer if n > 0 => {
                self.fail(LocalError::LongerThanDeclared { declared: self.transfer.bound() });
            }
            State::Offer => {}
            State::Object if self.sends() => {}
            _ => return self.misuse("offer"),
        }
        if n == 0 && last {
            match self.transfer.finish() {
                Ok(_) => self.enter(State::Peek),
                Err(error) => self.fail(error),
            }
        }
    }

    /// Receiver: the object is stored, for good. What follows tells the sender so.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
    ///
    /// let packet = StartPacket::get(Key::from_name("start")).with_size(0)?;
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25);
    /// client.end_of_stream();
    /// assert_eq!(client.step(), Step::Commit);
    /// client.commit();
    /// assert_eq!(client.step(), Step::Shutdown);
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn commit(&mut self) {
        match self.state {
            State::Commit => self.enter(State::Shutdown),
            _ => self.misuse("commit"),
        }
    }

    /// Gives up, for a reason that the log should show. The peer sees a reset.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, LocalError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.abort("the disk is full");
    /// let error = Error::Local(LocalError::Aborted { reason: "the disk is full" });
    /// assert_eq!(server.step(), Step::Done(Err(error)));
    /// ```
    pub fn abort(&mut self, reason: &'static str) {
        self.fail(LocalError::Aborted { reason });
    }
}

/// To report on time.
impl Connection {
    /// It is `now`: a transfer timer that is due ends the connection. Progress does not put it off, so
    /// a driver calls this after progress. [`would_block`](Self::would_block) includes it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Error, Instant, Step, Timeouts, Timer};
    ///
    /// let timeouts = Timeouts { transfer: Duration::from_secs(60), ..Timeouts::default() };
    /// let config = Config { timeouts, ..Config::default() };
    /// let mut server = Connection::server(config, Instant::default());
    /// server.handle_timeout(Instant::new(Duration::from_secs(59)));
    /// assert_eq!(server.step(), Step::Read { max: 25 });
    /// server.handle_timeout(Instant::new(Duration::from_secs(60)));
    /// assert_eq!(server.step(), Step::Done(Err(Error::TimedOut(Timer::Transfer))));
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.transfer_deadline && self.transfer_deadline < FOREVER {
            self.fail(Timer::Transfer);
        }
    }
}

const FOREVER: Instant = Instant::new(Duration::MAX);

/// How often a writer tries again, each eighth of the idle timeout, before its peer is idle. It notices
/// progress up to an eighth late, which makes 12 eighths at most. With 5 s the 11 eighths are longer than
/// the 6.6 s that a peer at 20 kB/s takes for the 128 KiB of Linux's default receive buffer.
const WRITER_TRIES: u8 = 11;

/// An eighth of for ever is for ever.
fn eighth(timeout: Duration) -> Duration {
    match timeout {
        Duration::MAX => timeout,
        _ => timeout.checked_div(8).unwrap_or(timeout),
    }
}

impl Connection {
    /// Goes on to a state in which nobody has waited yet.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.retry = None;
    }

    /// The first error wins, and nothing follows the end.
    fn fail(&mut self, error: impl Into<Error>) {
        if !matches!(self.state, State::Done(_)) {
            self.enter(State::Done(Err(error.into())));
        }
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = self.step().name();
        self.fail(LocalError::Misuse { verb, step });
    }
}
