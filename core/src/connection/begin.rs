//! How a connection begins: as server or client, on a new stream or behind an object.

use super::timers::or_forever;
use super::{Connection, Next, State};
use crate::config::Config;
use crate::error::LocalError;
use crate::output::Output;
use crate::start_packet::{Direction, ObjectSize, StartPacket, StartPacketParser};
use crate::time::Instant;
use crate::transfer::{Side, Transfer};

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
    /// ([`Refusal::TooLarge`](crate::Refusal::TooLarge)).
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
            (true, Direction::Put) if packet.is_resumable() => State::Write(Next::ReadOpen),
            (true, Direction::Put) => State::Offer,
            (true, Direction::Get) if packet.is_resumable() => State::Resume,
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
    /// session that ends is [`Step::Done`](crate::Step::Done) with `Ok(0)` and has no [`packet`](Self::packet): close the
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
        server.total = Instant::new(or_forever(config.timeouts.total));
        server.total_has_begun = false;
        server.retry = Some(now.saturating_add(or_forever(config.timeouts.keep_alive)));
        server.tries = 1;
        server
    }

    /// A client's side of the next object on the stream of `self`, which has succeeded, at `now`.
    ///
    /// Before that, the driver checks that nothing has arrived on the idle stream, not even its end. If
    /// something has, the server has ended the session, and the object needs a new connection. If the
    /// server ends it at the same moment, the object fails with [`AbortReason::Closing`](crate::AbortReason::Closing), or with the end
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

    pub(super) fn new(state: State, config: Config, now: Instant) -> Self {
        let Config { chunk, max_object_size, timeouts } = config;
        let limit = max_object_size.unwrap_or(u64::MAX);
        Self {
            state,
            failure: None,
            packet: StartPacketParser::new(),
            output: Output::NONE,
            // Until the start packet is known.
            transfer: Transfer::new(Side::Receiver, ObjectSize::UNKNOWN, limit, chunk),
            resumed: 0,
            body_left: 0,
            body_is_last: false,
            is_later: false,
            tries: 0,
            retry: None,
            total: now.saturating_add(or_forever(timeouts.total)),
            total_has_begun: true,
            idle: or_forever(timeouts.idle),
            receipt: or_forever(timeouts.receipt),
        }
    }

    /// Sets up the accounting once the direction is known.
    pub(super) fn take_side(&mut self, size: ObjectSize, sends: bool, limit: u64) {
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
