//! The device: no `std`, no `alloc`, no operating system, fixed memory. This is the file to copy.
//!
//! It talks over a serial line, which moves a byte at a time and knows nothing of connections. All
//! that the protocol needs of it is here, as [`Line`]:
//!
//! | TCP | this line |
//! |---|---|
//! | a byte | a byte |
//! | the end of the stream (FIN) | a break: the line held low for longer than a byte takes |
//! | a reset | the carrier is lost: the modem line drops |
//!
//! Nothing blocks: [`Session::poll`] moves at most one byte, and says when to call it again.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{
    Config, Connection, Direction, Error, Instant, Key, Refusal, StartPacket, Step, Timeouts,
};

/// What the device does to its UART.
pub(crate) trait Line {
    /// What has come, if anything has.
    fn hear(&mut self) -> Option<Heard>;
    /// Gives one byte to the transmitter. Whether it had room.
    fn say(&mut self, byte: u8) -> bool;
    /// Sends a break, behind all bytes. Whether the transmitter had room.
    fn say_end(&mut self) -> bool;
    /// Drops the carrier.
    fn hang_up(&mut self);
    /// Milliseconds since power-on. It may overflow, every 49 days.
    fn millis(&self) -> u32;
}

/// What comes over the line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard {
    Byte(u8),
    End,
    Lost,
}

/// What the device keeps: readings that others get from it, and settings that others give to it.
pub(crate) struct Memory {
    pub(crate) readings: [u8; 300],
    settings: [u8; SETTINGS],
    settings_len: usize,
    /// Where settings are collected: they count only once they are whole.
    incoming: [u8; SETTINGS],
}

/// The most that there is room for.
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

/// One connection over the line. It has no buffer: a byte goes from the line to where it belongs.
pub(crate) struct Session {
    connection: Connection,
    /// When it began. Time is counted from there, so that an overflow of the clock does not matter.
    began: u32,
}

impl Session {
    /// The device calls: it puts its readings, or gets its settings.
    pub(crate) fn call(packet: StartPacket, line: &impl Line) -> Self {
        let connection = Connection::client(CONFIG, packet, Instant::new(Duration::ZERO));
        Self { connection, began: line.millis() }
    }

    /// Somebody calls the device: they put its settings, or get its readings.
    pub(crate) fn answer(line: &impl Line) -> Self {
        let connection = Connection::server(CONFIG, Instant::new(Duration::ZERO));
        Self { connection, began: line.millis() }
    }

    /// Tries to move one byte, or to do one other thing.
    ///
    /// The time is taken first, and looked at last: a byte that is there in time is not late, however
    /// late the device gets to it.
    pub(crate) fn poll(&mut self, memory: &mut Memory, line: &mut impl Line) -> Next {
        let now = self.now(line);
        let tried = self.step(memory, line);
        match tried {
            Tried::Done => self.connection.handle_timeout(now),
            Tried::NotReady => self.connection.would_block(now),
        }
        match (self.connection.step(), tried) {
            (Step::Done(outcome), _) => {
                if outcome.is_err() {
                    line.hang_up(); // the other side must not take it for an orderly end
                }
                Next::Over(outcome)
            }
            (_, Tried::Done) => Next::Poll,
            (_, Tried::NotReady) => {
                let deadline = self.connection.deadline(now);
                Next::Sleep(deadline.map_or(Duration::MAX, |due| due.saturating_since(now)))
            }
        }
    }

    fn now(&self, line: &impl Line) -> Instant {
        Instant::new(Duration::from_millis(line.millis().wrapping_sub(self.began).into()))
    }

    /// Does what the core asks, if that is possible without waiting for the other side.
    fn step(&mut self, memory: &mut Memory, line: &mut impl Line) -> Tried {
        let connection = &mut self.connection;
        let moved = connection.moved() as usize; // never more than there is memory
        match connection.step() {
            Step::Read { .. } => match line.hear() {
                Some(Heard::Byte(byte)) => _ = connection.feed(&[byte]),
                other => return Self::no_byte(connection, other),
            },
            Step::Decide(packet) => match (packet.direction(), packet.key()) {
                (Direction::Get, READINGS_KEY) | (Direction::Put, SETTINGS_KEY) => {
                    connection.accept(SETTINGS as u64);
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            // The rest of the start packet; the line has room for one byte at a time.
            Step::Write { bytes, .. } => match bytes {
                [byte, ..] if line.say(*byte) => connection.advance(1),
                _ => return Tried::NotReady,
            },
            Step::Receive { .. } => match (line.hear(), memory.incoming.get_mut(moved)) {
                (Some(Heard::Byte(byte)), Some(place)) => {
                    *place = byte;
                    connection.advance(1);
                }
                (Some(Heard::Byte(_)), None) => connection.abort("the memory is full"),
                (other, _) => return Self::no_byte(connection, other),
            },
            Step::Send { .. } => match memory.readings.get(moved) {
                Some(byte) if line.say(*byte) => connection.advance(1),
                Some(_) => return Tried::NotReady,
                None => connection.offer(0, true),
            },
            // As many as were asked for have been sent. Are there more?
            Step::Offer { max } => {
                let left = memory.readings.len().saturating_sub(moved);
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match line.hear() {
                Some(Heard::Byte(_)) => connection.advance(1),
                None => connection.still_open(),
                other => return Self::no_byte(connection, other),
            },
            // From here on the settings hold, also after a loss of power: on a real device, this is
            // the write to the flash.
            Step::Commit => {
                memory.settings = memory.incoming;
                memory.settings_len = moved;
                connection.commit();
            }
            Step::Shutdown if line.say_end() => connection.shut_down(),
            Step::Shutdown => return Tried::NotReady,
            Step::AwaitEnd => match line.hear() {
                Some(Heard::Byte(_)) => connection.advance(1),
                other => return Self::no_byte(connection, other),
            },
            Step::Done(_) => {}
        }
        Tried::Done
    }

    fn no_byte(connection: &mut Connection, heard: Option<Heard>) -> Tried {
        match heard {
            Some(Heard::End) => connection.end_of_stream(),
            Some(Heard::Lost) => connection.reset(),
            Some(Heard::Byte(_)) | None => return Tried::NotReady,
        }
        Tried::Done
    }
}

/// What the device does after [`Session::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Calls it again.
    Poll,
    /// Calls it again when the UART interrupts, or after this time at the latest.
    Sleep(Duration),
    /// Nothing more: so it has ended.
    Over(Result<u64, Error>),
}

#[derive(Clone, Copy)]
enum Tried {
    Done,
    NotReady,
}

/// Nobody sends the device more than it has room for: the core sees to that.
const CONFIG: Config = Config {
    chunk: NonZeroU32::MIN,
    limit: SETTINGS as u64,
    timeouts: Timeouts {
        start: Duration::from_millis(1000),
        idle: Duration::from_millis(500),
        end: Duration::from_millis(1000), // short, to watch it run out
        transfer: Duration::from_secs(60),
    },
};
