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
    /// Move bytes from the application to the stream, then [`advance`](Connection::advance); or the
    /// object is at its end: [`end_of_object`](Connection::end_of_object).
    ///
    /// What the peer may send meanwhile stays in the stream, until [`AwaitEnd`](Self::AwaitEnd)
    /// reads it.
    Send {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Receiver: the object is whole. Make it last, then [`commit`](Connection::commit).
    Commit,
    /// Shut down the write half, then [`shut_down`](Connection::shut_down). What follows a sender's
    /// object is its end; what follows a receiver's commit is the receipt.
    ///
    /// A sender is asked to as soon as it has sent a declared size. If its application has more,
    /// the declaration was wrong: report how much to [`advance`](Connection::advance), and a part is
    /// not passed off as the whole. And if its peer has closed already, there is no receiver that
    /// could have committed: where the stream can tell, look before, and report it
    /// ([`end_of_stream`](Connection::end_of_stream)).
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
///   [`end_of_stream`](Self::end_of_stream), [`shut_down`](Self::shut_down),
///   [`reset`](Self::reset);
/// - report on the application: [`accept`](Self::accept), [`refuse`](Self::refuse),
///   [`end_of_object`](Self::end_of_object), [`commit`](Self::commit), [`abort`](Self::abort);
/// - report on time: [`wait`](Self::wait), [`handle_timeout`](Self::handle_timeout).
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
    /// The start timer until the start packet has passed; then that of the wait for the peer.
    timer: Option<Instant>,
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
        Self::new(State::ReadPacket(StartPacketParser::new()), config, now)
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
            timer: Some(now.saturating_add(timeouts.start)),
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
            State::Commit => Step::Commit,
            State::Shutdown => Step::Shutdown,
            State::AwaitReceipt => Step::AwaitEnd,
            State::Done(result) => Step::Done(result.map(|()| self.moved())),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` for never.
    ///
    /// Any report may change it. A driver that sleeps until then, and no longer, neither hangs nor
    /// spins.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.deadline(), Some(Instant::new(Duration::from_secs(5))));
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.next_timer().map(|(_, due)| due)
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

    /// The timer that runs out first, and when.
    fn next_timer(&self) -> Option<(Timer, Instant)> {
        let timer = match self.state {
            State::Done(_) => return None,
            State::ReadPacket(_) | State::WritePacket { .. } => Timer::Start,
            State::AwaitReceipt => Timer::End,
            _ => Timer::Idle,
        };
        let whole = (Timer::Transfer, self.transfer_deadline);
        let first = match self.timer {
            Some(due) if due <= self.transfer_deadline => (timer, due),
            _ => whole,
        };
        Some(first).filter(|(_, due)| due.since_epoch() < Duration::MAX)
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
    /// In [`Step::AwaitEnd`], `n` bytes came where the end was due: that is the peer's error. After
    /// the last byte of a declared size, `n` more that the application has are the application's.
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
                    self.state = State::WritePacket { packet, written };
                } else if n <= max {
                    self.begin_object();
                    self.count(n.saturating_sub(left));
                } else {
                    self.fail(LocalError::Overrun { reported: n, max });
                }
            }
            State::Object => self.count(n),
            State::Shutdown if self.sends() && self.transfer.is_full() => self.count(n),
            State::AwaitReceipt => self.fail(PeerError::NotSilent),
            _ => self.misuse("advance"),
        }
    }

    /// The peer has shut down its write half: nothing more will come.
    ///
    /// It is due where a step reads; and at a sender also before that, where it is the end. In
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
            State::WritePacket { .. } | State::Object => self.closed_early(),
            State::Shutdown if self.sends() => self.closed_early(),
            _ => self.misuse("end_of_stream"),
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
    /// client.end_of_object();
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
            Ok(()) if self.sends() && self.transfer.is_full() => self.enter(State::Shutdown),
            Ok(()) => self.timer = None,
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

    /// Sender: the object is at its end. Needed where its size is unknown; where it is declared,
    /// this may be said early, which is an error, or right, which changes nothing.
    ///
    /// ```
    /// use dataserver_core::{Config, Connection, Error, Instant, Key, LocalError, StartPacket, Step};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25 + 2);
    /// client.end_of_object();
    /// let error = Error::Local(LocalError::ShorterThanDeclared { sent: 2, declared: 3 });
    /// assert_eq!(client.step(), Step::Done(Err(error)));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn end_of_object(&mut self) {
        match self.state {
            State::Object if self.sends() => match self.transfer.finish() {
                Ok(_) => self.enter(State::Shutdown),
                Err(error) => self.fail(error),
            },
            State::Shutdown if self.sends() => {}
            _ => self.misuse("end_of_object"),
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
    /// The driver now waits for the peer: the stream is not ready for what the step asks. Or it lets
    /// others have their turn, and does not know whether the stream is.
    ///
    /// The idle timer runs from the first wait after the last progress, and so does the end timer
    /// while the receipt is due. An application that is slow on its own side makes no driver wait
    /// for the peer, and so costs the peer nothing: where a step needs both, ask the application
    /// first, then the stream.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Instant, Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, Instant::default());
    /// client.advance(25);
    /// assert_eq!(client.deadline(), None);
    /// client.wait(Instant::new(Duration::from_secs(60)));
    /// assert_eq!(client.deadline(), Some(Instant::new(Duration::from_secs(65))));
    /// client.advance(1);
    /// assert_eq!(client.deadline(), None);
    /// ```
    pub fn wait(&mut self, now: Instant) {
        let timeout = match self.state {
            State::Object | State::Shutdown => self.idle,
            State::AwaitReceipt => self.end,
            _ => return, // the start timer runs, or nobody waits for the peer
        };
        self.timer.get_or_insert(now.saturating_add(timeout));
    }

    /// It is `now`: a timer that is due ends the connection. Spurious calls change nothing.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Error, Instant, Step, Timer};
    ///
    /// let mut server = Connection::server(Config::default(), Instant::default());
    /// server.handle_timeout(Instant::new(Duration::from_millis(4_999)));
    /// assert_eq!(server.step(), Step::Read { max: 25 });
    /// server.handle_timeout(Instant::new(Duration::from_secs(5)));
    /// assert_eq!(server.step(), Step::Done(Err(Error::TimedOut(Timer::Start))));
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.next_timer() {
            Some((timer, due)) if now >= due => self.fail(timer),
            _ => {}
        }
    }
}

impl Connection {
    /// Goes on to a state in which nobody has waited yet.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.timer = None;
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
