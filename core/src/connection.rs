//! One connection, from the start packet to its end, as client or server.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::error::{Cause, LocalError, PeerError, Refusal};
use crate::start_packet::{Direction, ObjectSize, StartPacket, StartPacketParser};
use crate::time::{Instant, Timeouts, Timer};
use crate::transfer::{Side, Transfer};

/// The settings of this side for its connections. The peer does not see them.
///
/// ```
/// use core::num::NonZeroU32;
/// use dataserver_core::{Config, Timeouts};
///
/// let config = Config::default()
///     .chunk(NonZeroU32::new(64 * 1024).unwrap())
///     .max_object_size(1 << 30)
///     .timeouts(Timeouts::default().idle(None));
/// assert_eq!(config.max_object_size, Some(1 << 30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The most bytes that one step moves. Default [`Transfer::DEFAULT_CHUNK`].
    pub chunk: NonZeroU32,
    /// The largest object that this side receives, in bytes. Default no limit.
    pub max_object_size: Option<u64>,
    /// How long each part may take.
    pub timeouts: Timeouts,
}

impl Config {
    /// Sets [`chunk`](Self::chunk).
    ///
    /// ```
    /// use core::num::NonZeroU32;
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Config::default().chunk(NonZeroU32::MIN).chunk.get(), 1);
    /// ```
    #[must_use]
    pub fn chunk(self, chunk: NonZeroU32) -> Self {
        Self { chunk, ..self }
    }

    /// Sets [`max_object_size`](Self::max_object_size).
    ///
    /// ```
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Config::default().max_object_size(9).max_object_size, Some(9));
    /// ```
    #[must_use]
    pub fn max_object_size(self, bytes: impl Into<Option<u64>>) -> Self {
        Self { max_object_size: bytes.into(), ..self }
    }

    /// Sets [`timeouts`](Self::timeouts).
    ///
    /// ```
    /// use dataserver_core::{Config, Timeouts};
    ///
    /// let timeouts = Timeouts::default().start(None);
    /// assert_eq!(Config::default().timeouts(timeouts).timeouts, timeouts);
    /// ```
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chunk: Transfer::DEFAULT_CHUNK,
            max_object_size: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// What a driver should do next, from [`Connection::step`].
///
/// The enum is exhaustive on purpose: a new step must stop drivers from compiling.
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Step};
///
/// let connection = Connection::server(Config::default(), Instant::default());
/// assert_eq!(connection.step(), Step::Read { max: 25 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Read from the transport, and pass the bytes to [`handle_read`](Connection::handle_read). A driver
    /// that reads at most `max` bytes never takes bytes of the object.
    Read {
        /// How many bytes of the start packet are missing.
        max: usize,
    },
    /// Server: [`accept`](Connection::accept) this start packet, or [`refuse`](Connection::refuse) it.
    Decide(StartPacket),
    /// Write `bytes` to the transport, then [`handle_moved`](Connection::handle_moved). The same vectored
    /// write may carry the beginning of the object behind them, and the same report counts it.
    Write {
        /// What is left of the start packet.
        bytes: &'a [u8],
        /// How many bytes of the object may follow in the same write; 0 for a get.
        payload: usize,
    },
    /// Move bytes from the transport to the application, then
    /// [`handle_moved`](Connection::handle_moved). At the end of the stream:
    /// [`handle_end_of_stream`](Connection::handle_end_of_stream).
    Receive {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Move bytes from the application to the transport, then
    /// [`handle_moved`](Connection::handle_moved). If the application has no more, the object ends here:
    /// [`offer(0, true)`](Connection::offer).
    ///
    /// Bytes that the peer sends during this step stay in the transport. A later step reads them.
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
    /// closed before it could commit: [`handle_end_of_stream`](Connection::handle_end_of_stream). If not,
    /// or if the transport cannot tell: [`handle_still_open`](Connection::handle_still_open).
    ///
    /// A driver may peek or read. Bytes that it has read are an error of the peer: report them to
    /// [`handle_moved`](Connection::handle_moved).
    Peek,
    /// Receiver: the object is complete. Make it durable, then [`committed`](Connection::committed).
    Commit,
    /// Shut down the write half, then [`handle_shutdown`](Connection::handle_shutdown). This ends the
    /// object of a sender, and is the receipt of a receiver.
    Shutdown,
    /// Read until the end of the stream, which is due:
    /// [`handle_end_of_stream`](Connection::handle_end_of_stream). If bytes come instead, drop them, and
    /// report how many to [`handle_moved`](Connection::handle_moved).
    AwaitEnd,
    /// The end. `Ok` has the size of the object: close gracefully. `Err`: close abortively.
    Done(Result<u64, Cause>),
}

impl Step<'_> {
    /// The name of the step, without its fields.
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

/// One connection: the start packet, then one object in one direction, then the receipt.
///
/// Ask [`step`](Self::step) what to do, do it, report what happened, and ask again. The
/// [crate page](crate) has the whole loop. Reports on the transport and on time are named `handle_*`;
/// the others are what the application decided or did. The methods by purpose:
///
/// - begin: [`server`](Self::server), [`client`](Self::client);
/// - ask: [`step`](Self::step), [`deadline`](Self::deadline), [`packet`](Self::packet),
///   [`side`](Self::side), [`moved`](Self::moved);
/// - report on the transport: [`handle_read`](Self::handle_read), [`handle_moved`](Self::handle_moved),
///   [`handle_blocked`](Self::handle_blocked), [`handle_end_of_stream`](Self::handle_end_of_stream),
///   [`handle_still_open`](Self::handle_still_open), [`handle_shutdown`](Self::handle_shutdown),
///   [`handle_reset`](Self::handle_reset);
/// - report on the application: [`declare`](Self::declare), [`accept`](Self::accept),
///   [`refuse`](Self::refuse), [`offer`](Self::offer), [`committed`](Self::committed), [`abort`](Self::abort);
/// - report on time: [`handle_timeout`](Self::handle_timeout).
///
/// A report that the step did not ask for fails the connection with [`LocalError::Misuse`]. After
/// [`Step::Done`] nothing changes: the first error stays.
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
///
/// // A client sends three bytes and gets its receipt.
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
    packet: Option<StartPacket>,
    transfer: Transfer,
    /// When to try the transport again, while the driver waits for the peer.
    retry: Option<Instant>,
    /// How many tries are left then. The wait ends with the last one.
    tries: u8,
    total_deadline: Instant,
    idle: Duration,
    receipt: Duration,
}

/// Until the start packet has passed, server and client differ; after it, sender and receiver.
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
    Done(Result<(), Cause>),
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
        server.retry = Some(now.saturating_add(or_forever(config.timeouts.start)));
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
        let mut client = Self::new(State::WritePacket { packet, written: 0 }, config, now);
        client.packet = Some(packet);
        let limit = config.max_object_size.unwrap_or(u64::MAX);
        client.take_side(packet.size(), packet.direction() == Direction::Put, limit);
        client
    }

    fn new(state: State, config: Config, now: Instant) -> Self {
        let Config { chunk, max_object_size, timeouts } = config;
        let limit = max_object_size.unwrap_or(u64::MAX);
        Self {
            state,
            packet: None,
            // Until the start packet is known.
            transfer: Transfer::new(Side::Receiver, ObjectSize::UNKNOWN, limit, chunk),
            retry: None,
            tries: 0,
            total_deadline: now.saturating_add(or_forever(timeouts.total)),
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
            Err(refusal) => self.fail(refusal),
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
        match self.state {
            State::Done(_) => None,
            _ => Some(retry.min(self.total_deadline)).filter(|deadline| *deadline < FOREVER),
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

    /// The timer that runs in this state, if the driver waits for the peer in it.
    fn wait_for_peer(&self) -> Option<(Timer, Duration)> {
        match self.state {
            State::ReadPacket(_) => Some((Timer::Start, Duration::MAX)), // from the beginning
            State::WritePacket { .. } | State::Object | State::Shutdown => {
                Some((Timer::Idle, self.idle))
            }
            State::AwaitReceipt => Some((Timer::Receipt, self.receipt)),
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
        let State::ReadPacket(parser) = &mut self.state else {
            self.misuse("handle_read");
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
            Some(_) if self.tries <= 1 => self.fail(timer),
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
            State::Shutdown if self.sends() => self.enter(State::AwaitReceipt),
            State::Shutdown => self.enter(State::Done(Ok(()))),
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
        self.fail(PeerError::Reset { moved: self.moved() });
    }

    fn begin_object(&mut self) {
        self.enter(State::Object);
        self.count(0);
    }

    /// Counts bytes of the object. A sender that has sent the declared size asks for the end.
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
        let State::Decide(packet) = self.state else {
            return self.misuse("accept");
        };
        let limit = limit.unwrap_or(u64::MAX).min(self.transfer.bound());
        self.take_side(packet.size(), self.sends(), limit);
        if let State::Decide(_) = self.state {
            self.begin_object();
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
        match self.state {
            State::WritePacket { packet, written: 0 } if self.sends() => {
                let packet = packet.with_object_size(size);
                self.packet = Some(packet);
                self.take_side(size, true, u64::MAX);
                self.enter(State::WritePacket { packet, written: 0 });
            }
            _ => self.misuse("declare"),
        }
    }

    /// Refuses the start packet. The peer sees a reset, without the reason.
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
            State::Decide(_) => self.fail(reason),
            _ => self.misuse("refuse"),
        }
    }

    /// Sender: the application has `n` more bytes of the object, and the object ends with them if
    /// `last`. Only this ends an object, whether its size is declared or not.
    ///
    /// In [`Step::Send`] only the end is offered, as `(0, true)`. In [`Step::Offer`] the declared size has
    /// been sent, so a further byte fails the connection. `(0, false)` changes nothing.
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
            State::Commit => self.enter(State::Shutdown),
            _ => self.misuse("committed"),
        }
    }

    /// Gives the connection up, for this reason. The peer sees a reset.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Cause, Instant, LocalError, Step};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.abort("the disk is full");
    /// let error = Cause::Local(LocalError::Aborted { reason: "the disk is full" });
    /// assert_eq!(server.step(), Step::Done(Err(error)));
    /// ```
    pub fn abort(&mut self, reason: &'static str) {
        self.fail(LocalError::Aborted { reason });
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
        if now >= self.total_deadline && self.total_deadline < FOREVER {
            self.fail(Timer::Total);
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

impl Connection {
    /// Enters a state, in which no wait has begun yet.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.retry = None;
    }

    /// Fails the connection, unless it has ended.
    fn fail(&mut self, error: impl Into<Cause>) {
        if !matches!(self.state, State::Done(_)) {
            self.enter(State::Done(Err(error.into())));
        }
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = self.step().name();
        self.fail(LocalError::Misuse { verb, step });
    }
}
