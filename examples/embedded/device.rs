//! The device: no `std`, no `alloc`, no operating system, fixed memory. This is the file to copy.
//!
//! It uses a serial line, which moves one byte at a time and has no connections. [`Line`] is all that the
//! protocol needs from it:
//!
//! | TCP | this line |
//! |---|---|
//! | a byte | a byte |
//! | the end of the stream (FIN) | a break: the line held low for longer than a byte takes |
//! | a reset | a loss of the carrier: the modem line drops |
//!
//! The framed format needs bytes only. Behind an object that has succeeded, the next one follows on the
//! same line ([`Session::next`]). After a failure the carrier drops, so that both sides begin anew.
//!
//! Nothing blocks: [`Session::poll`] moves at most one byte, and says when to call it again.

use core::time::Duration;

use dataserver_core::{
    Cause, Config, Connection, Direction, Instant, Key, Refusal, StartPacket, Step, Timeouts,
};

/// The UART of the device.
pub(crate) trait Line {
    /// Takes the next event from the receiver, if there is one.
    fn receive(&mut self) -> Option<Received>;
    /// Gives one byte to the transmitter. Returns whether it had room.
    fn send(&mut self, byte: u8) -> bool;
    /// Sends a break after all bytes. Returns whether the transmitter had room.
    fn send_end(&mut self) -> bool;
    /// Drops the carrier.
    fn hang_up(&mut self);
    /// Milliseconds since power-on. The counter wraps around every 49 days.
    fn millis(&self) -> u32;
}

/// An event on the line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    Byte(u8),
    End,
    Lost,
}

/// The memory of the device: readings that a peer gets or is sent, and settings that it receives.
pub(crate) struct Memory {
    pub(crate) readings: [u8; 300],
    settings: [u8; SETTINGS],
    settings_len: usize,
    /// Settings that are being received. They take effect when they are complete.
    incoming: [u8; SETTINGS],
}

/// The size of the memory for settings.
pub(crate) const SETTINGS: usize = 128;

pub(crate) const READINGS_KEY: Key = Key::from_name("readings");
pub(crate) const SETTINGS_KEY: Key = Key::from_name("settings");

impl Memory {
    pub(crate) const fn new(readings: [u8; 300]) -> Self {
        let settings = [0; SETTINGS];
        Self { readings, settings, settings_len: 0, incoming: settings }
    }

    pub(crate) fn settings(&self) -> &[u8] {
        self.settings.get(..self.settings_len).unwrap_or_default()
    }
}

/// One connection over the line. It has no buffer: each byte moves between the line and the memory.
pub(crate) struct Session {
    connection: Connection,
    /// When it began. Time is relative to this, so a counter that wraps around does no harm.
    began: u32,
}

impl Session {
    /// The device is the client: it puts its readings, or gets its settings.
    pub(crate) fn client(packet: StartPacket, line: &impl Line) -> Self {
        let connection = Connection::client(config(), packet, Instant::new(Duration::ZERO));
        Self { connection, began: line.millis() }
    }

    /// The device is the server: a client puts its settings, or gets its readings.
    pub(crate) fn server(line: &impl Line) -> Self {
        let connection = Connection::server(config(), Instant::new(Duration::ZERO));
        Self { connection, began: line.millis() }
    }

    /// The next object of the same client, behind a framed one that has succeeded.
    pub(crate) fn next(&self, line: &impl Line) -> Self {
        let connection = self.connection.next_server(config(), Instant::new(Duration::ZERO));
        Self { connection, began: line.millis() }
    }

    /// Tries one step, which moves at most one byte.
    ///
    /// The time is taken before the attempt: a byte that arrived in time is not late, even if the device
    /// reads it late.
    pub(crate) fn poll(&mut self, memory: &mut Memory, line: &mut impl Line) -> Next {
        let now = self.now(line);
        let attempt = self.step(memory, line);
        match attempt {
            Attempt::Done => self.connection.handle_timeout(now),
            Attempt::NotReady => self.connection.handle_blocked(now),
        }
        match (self.connection.step(), attempt) {
            (Step::Done(outcome), _) => {
                if outcome.is_err() {
                    line.hang_up(); // the peer must not see a graceful close
                }
                Next::Over(outcome)
            }
            (_, Attempt::Done) => Next::Poll,
            (_, Attempt::NotReady) => {
                let deadline = self.connection.deadline(now);
                Next::Sleep(deadline.map_or(Duration::MAX, |due| due.saturating_since(now)))
            }
        }
    }

    fn now(&self, line: &impl Line) -> Instant {
        Instant::new(Duration::from_millis(line.millis().wrapping_sub(self.began).into()))
    }

    /// Does the step if that is possible without waiting for the peer.
    fn step(&mut self, memory: &mut Memory, line: &mut impl Line) -> Attempt {
        let connection = &mut self.connection;
        let moved = connection.moved() as usize; // never more than there is memory
        match connection.step() {
            Step::Read { .. } => match line.receive() {
                Some(Received::Byte(byte)) => _ = connection.handle_read(&[byte]),
                other => return Self::no_byte(connection, other),
            },
            Step::Decide(packet) if packet.has_digest() => connection.refuse(Refusal::Unsupported),
            Step::Decide(packet) => match (packet.direction(), packet.key()) {
                (Direction::Get, READINGS_KEY) | (Direction::Put, SETTINGS_KEY) => {
                    connection.accept(Some(SETTINGS as u64));
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            // A start packet or a frame, one byte at a time.
            Step::Write { bytes, .. } => match bytes {
                [byte, ..] if line.send(*byte) => connection.handle_moved(1),
                _ => return Attempt::NotReady,
            },
            Step::Receive { .. } => match (line.receive(), memory.incoming.get_mut(moved)) {
                (Some(Received::Byte(byte)), Some(place)) => {
                    *place = byte;
                    connection.handle_moved(1);
                }
                (Some(Received::Byte(_)), None) => connection.abort("the memory is full"),
                (other, _) => return Self::no_byte(connection, other),
            },
            Step::Send { .. } => match memory.readings.get(moved) {
                Some(byte) if line.send(*byte) => connection.handle_moved(1),
                Some(_) => return Attempt::NotReady,
                None => connection.offer(0, true),
            },
            // The core asks how many bytes there are: before a frame, or when all declared bytes are sent.
            Step::Offer { .. } => {
                connection.offer(memory.readings.len().saturating_sub(moved), true);
            }
            Step::Peek => match line.receive() {
                Some(Received::Byte(_)) => connection.handle_moved(1),
                None => connection.handle_still_open(),
                other => return Self::no_byte(connection, other),
            },
            // From here on the settings survive a loss of power: a real device writes its flash here.
            Step::Commit => {
                memory.settings = memory.incoming;
                memory.settings_len = moved;
                connection.committed();
            }
            Step::Resume | Step::Digest => connection.abort("no digest was agreed upon"),
            Step::Shutdown if line.send_end() => connection.handle_shutdown(),
            Step::Shutdown => return Attempt::NotReady,
            Step::AwaitEnd => match line.receive() {
                Some(Received::Byte(_)) => connection.handle_moved(1),
                other => return Self::no_byte(connection, other),
            },
            Step::Done(_) => {}
        }
        Attempt::Done
    }

    fn no_byte(connection: &mut Connection, received: Option<Received>) -> Attempt {
        match received {
            Some(Received::End) => connection.handle_end_of_stream(),
            Some(Received::Lost) => connection.handle_reset(),
            Some(Received::Byte(_)) | None => return Attempt::NotReady,
        }
        Attempt::Done
    }
}

/// What the device does after [`Session::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Calls it again.
    Poll,
    /// Calls it again when the UART interrupts, or after this time at the latest.
    Sleep(Duration),
    /// Nothing: the connection has ended.
    Over(Result<u64, Cause>),
}

#[derive(Clone, Copy)]
enum Attempt {
    Done,
    NotReady,
}

/// With this limit the core rejects settings that are larger than the memory for them.
fn config() -> Config {
    let timeouts = Timeouts::default()
        .start(Duration::from_millis(1000))
        .idle(Duration::from_millis(500))
        .receipt(Duration::from_millis(1000)) // short, for the test
        .total(Duration::from_secs(60));
    Config::default().max_object_size(SETTINGS as u64).timeouts(timeouts)
}
