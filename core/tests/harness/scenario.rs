//! What is transferred, by which drivers, and which problems occur.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{Config, Direction, Instant, Key, Refusal, StartPacket, Timeouts};

use super::choices::Choices;

/// Longer than any timeout in a scenario with a stall.
pub(super) const STALL: Duration = Duration::from_secs(200);

#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) direction: Direction,
    /// The size of the object. The start packet may declare it.
    pub(super) size: u64,
    pub(super) declared: bool,
    /// The limit that the application of the server passes to `accept`.
    pub(super) accepts: Option<u64>,
    pub(super) parties: [Party; 2],
    pub(super) problems: Vec<Problem>,
    pub(super) link: Link,
    pub(super) epoch: Instant,
}

/// The client or the server. Also their end of the stream, and the half that they write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

#[derive(Debug)]
pub(super) struct Party {
    pub(super) config: Config,
    pub(super) options: DriverOptions,
}

/// The behavior of a driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct DriverOptions {
    /// The size of the buffer into which it reads the start packet, if that exceeds the missing bytes.
    pub(super) buffer: usize,
    /// Writes the beginning of the object together with the start packet.
    pub(super) combines_writes: bool,
    /// Checks for the end of the stream before each write.
    pub(super) checks_end_before_write: bool,
    /// How it finds out whether the peer has closed.
    pub(super) peek_mode: PeekMode,
    /// The application can block the driver, even past the deadline.
    pub(super) application_blocks: bool,
    /// Checks the total timer before each step.
    pub(super) checks_time_first: bool,
    /// The application pauses once for a short time.
    pub(super) application_pauses: bool,
    /// How long the application pauses after each read. Shorter than the idle timeout.
    pub(super) receive_delay: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeekMode {
    /// It leaves the bytes in the stream.
    Peek,
    /// It reads bytes, if there are any.
    Read,
    /// The stream does not support it.
    Unsupported,
}

/// The behavior of the stream without problems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) fragments: Fragments,
    /// How many bytes can be in flight.
    pub(super) capacity: usize,
    pub(super) delays: bool,
    /// A reset discards the bytes that have not been read.
    pub(super) reset_discards_data: bool,
    /// Readiness never shows that a write is possible. POLLOUT can be late in the same way.
    pub(super) hides_writability: bool,
    /// A shutdown needs room for one byte, as over TLS.
    pub(super) shutdown_needs_room: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragments {
    Whole,
    Random,
    SingleBytes,
}

/// A problem. Positions count bytes of the object; those of stream faults count the start packet too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Problem {
    /// The object of the sender does not have the declared size.
    WrongLength { actual: u64 },
    /// The application aborts when this many bytes of the object have moved.
    Abort { role: Role, at: u64 },
    /// The application of the receiver cannot commit the object.
    CommitFailure,
    /// The application of the server refuses the start packet.
    Refused(Refusal),
    /// The object is larger than the limit of the receiver, which it accepted or configured.
    Limit { limit: u64, accepted: bool },
    /// The application stalls.
    Stall { role: Role, at: Point },
    /// The total timeout is short.
    ShortTotalTimeout { role: Role, timeout: Duration },
    /// The half of the stream that this role writes has a fault.
    StreamFault { writer: Role, fault: Fault },
}

/// When the application stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Decide,
    /// When this many bytes of the object have moved.
    Moved(u64),
    Commit,
}

/// A fault of one half of the stream. It occurs after this many bytes, or at the shutdown ([`AT_END`]).
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The rest is lost and the stream ends, as if a peer with an unarmed socket was killed.
    Truncated { at: u64 },
    /// Extra bytes arrive, from a peer that violates the protocol.
    Overrun { at: u64, by: u64 },
    /// Both ends are reset.
    Reset { at: u64 },
    /// Nothing arrives any more, not even a reset. It may be impossible to write, too.
    Blackhole { at: u64, rejects_writes: bool },
    /// This byte of the start packet is changed, so that the packet is malformed.
    Corrupt { byte: u64, to: u8 },
}

pub(super) const AT_END: u64 = u64::MAX;

impl Scenario {
    pub(super) fn choose(choices: &mut Choices<'_>) -> Self {
        let chunks = [0, 1].map(|_| choices.pick(&[4 << 20, 1_000, 64, 26, 25, 21, 7, 3, 2, 1]));
        let fragments = [Fragments::Whole, Fragments::Random, Fragments::SingleBytes];
        let mut link = Link {
            fragments: choices.pick(&fragments),
            capacity: choices.pick(&[1 << 20, 4_096, 64, 7, 1]),
            delays: choices.flip(),
            reset_discards_data: choices.flip(),
            hides_writability: choices.one_in(4),
            shutdown_needs_room: choices.one_in(4),
        };
        let size = choose_size(chunks, choices);
        if size > 10_000 {
            link = Link { fragments: Fragments::Random, capacity: 65_536, ..link };
        }
        if link.hides_writability {
            link.capacity = link.capacity.max(64); // room for the start packet, which has a timer of its own
        }
        let parties = chunks.map(|chunk| Party {
            config: Config::default().chunk(NonZeroU32::new(chunk).unwrap()),
            options: DriverOptions {
                buffer: choices.pick(&[0, 1, 24, 25, 26, 100, 8_192]),
                combines_writes: choices.flip(),
                checks_end_before_write: choices.flip(),
                peek_mode: choices.pick(&[
                    PeekMode::Peek,
                    PeekMode::Peek,
                    PeekMode::Read,
                    PeekMode::Unsupported,
                ]),
                application_blocks: choices.flip(),
                checks_time_first: choices.flip(),
                application_pauses: choices.one_in(8),
                receive_delay: None,
            },
        });
        let mut scenario = Self {
            direction: choices.pick(&[Direction::Put, Direction::Get]),
            size,
            declared: choices.flip(),
            accepts: choices.pick(&[None, Some(size)]),
            parties,
            problems: Vec::new(),
            link,
            epoch: Instant::new(Duration::from_secs(choices.pick(&[0, 1_000_000]))),
        };
        for _ in 0..choices.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
            scenario.add_problem(choices);
        }
        scenario.choose_timeouts(choices);
        scenario
    }

    fn add_problem(&mut self, choices: &mut Choices<'_>) {
        let role = choices.pick(&Role::BOTH);
        let problem = match choices.below(13) {
            0 if self.declared => {
                let length = choices.pick(&[self.size + 1, self.size + 300, self.size / 2]);
                if length == self.size {
                    return;
                }
                Problem::WrongLength { actual: length }
            }
            1 => Problem::Abort { role, at: choices.below(self.size + 1) },
            2 => Problem::CommitFailure,
            3 => Problem::Refused(choices.pick(&[Refusal::NotRegistered, Refusal::InUse])),
            4 if self.size > 0 => Problem::Limit {
                limit: choices.below(self.size),
                accepted: choices.flip() && self.receiver() == Role::Server,
            },
            5 => {
                let moved = Point::Moved(choices.below(self.size + 1));
                let at = match choices.below(4) {
                    2 if role == self.receiver() => Point::Commit,
                    3 if role == Role::Server => Point::Decide,
                    _ => moved,
                };
                Problem::Stall { role, at }
            }
            6 => {
                let millis = choices.pick(&[0, 1, 20, 60, 500]);
                Problem::ShortTotalTimeout { role, timeout: Duration::from_millis(millis) }
            }
            _ => {
                let Some(fault) = self.choose_fault(role, choices) else { return };
                Problem::StreamFault { writer: role, fault }
            }
        };
        // At most one problem of each kind, and one fault for each half of the stream.
        let is_there = self.problems.iter().any(|other| match (other, &problem) {
            (Problem::StreamFault { writer: a, .. }, Problem::StreamFault { writer: b, .. }) => {
                a == b
            }
            (one, other) => core::mem::discriminant(one) == core::mem::discriminant(other),
        });
        if is_there {
            return;
        }
        match problem {
            Problem::Limit { limit, accepted: true } => self.accepts = Some(limit),
            Problem::Limit { limit, accepted: false } => {
                self.parties[self.receiver() as usize].config.max_object_size = Some(limit);
            }
            Problem::ShortTotalTimeout { role, timeout } => {
                self.parties[role as usize].config.timeouts.total = Some(timeout);
            }
            _ => {}
        }
        self.problems.push(problem);
    }

    fn choose_fault(&self, writer: Role, choices: &mut Choices<'_>) -> Option<Fault> {
        let total = self.bytes_written_by(writer);
        let header = (total + 1).min(26); // in some cases within the start packet
        let within = choices.pick(&[total + 1, total + 1, header]);
        let at = choices.below(within);
        Some(match choices.below(5) {
            // A truncation after the last byte has an effect at a receiver only: it is an early receipt.
            0 if at < total || writer == self.receiver() => Fault::Truncated { at },
            1 => Fault::Overrun {
                at: choices.pick(&[AT_END, total]),
                by: choices.pick(&[1, 2, 24, 300]),
            },
            2 => Fault::Reset { at: choices.pick(&[at, at, at, AT_END]) },
            3 => Fault::Blackhole { at, rejects_writes: choices.flip() },
            4 if writer == Role::Client && choices.flip() => match choices.flip() {
                true => Fault::Corrupt { byte: 8, to: choices.pick(&[0x80, 0xfe]) },
                false => Fault::Corrupt { byte: 0, to: choices.pick(&[2, 3, 0x7e, 0x7f]) },
            },
            _ => return None,
        })
    }

    /// Chooses different timeouts that exceed all delays. There may be none if nothing stalls. Some
    /// receivers are just fast enough.
    fn choose_timeouts(&mut self, choices: &mut Choices<'_>) {
        let stalls = self.problems.iter().any(|problem| {
            matches!(
                problem,
                Problem::Stall { .. } | Problem::StreamFault { fault: Fault::Blackhole { .. }, .. }
            )
        });
        for party in &mut self.parties {
            let unlimited = !stalls && choices.one_in(4);
            let pick = |choices: &mut Choices<'_>, seconds: &[u64]| match unlimited {
                true => None,
                false => Some(Duration::from_secs(choices.pick(seconds))),
            };
            party.config.timeouts = Timeouts::default()
                .start(pick(choices, &[5, 3, 20]))
                .idle(pick(choices, &[5, 2, 30]))
                .receipt(pick(choices, &[60, 4, 11]))
                .total(party.config.timeouts.total);
        }
        // Extra bytes would take the room of the bytes that were sent, for too long.
        let overruns =
            self.has_fault(self.sender(), |fault| matches!(fault, Fault::Overrun { .. }));
        let receive_delay = !stalls && !overruns && choices.one_in(3);
        if self.link.hides_writability || receive_delay {
            // A writer that retries at deadlines only can keep its peer waiting for half of its own
            // timeout. So both have the same timeout.
            let idle = Duration::from_secs(choices.pick(&[5, 2, 30]));
            for party in &mut self.parties {
                party.config.timeouts.idle = Some(idle);
            }
            if receive_delay {
                let share = choices.pick(&[1, 4, 9, 13]);
                let pause = idle * share / 10;
                self.parties[self.receiver() as usize].options.receive_delay = Some(pause);
                // The bytes in flight at the end of the object delay the receipt.
                self.parties[self.sender() as usize].config.timeouts.receipt = None;
            }
        }
    }

    /// Whether the client declares the size after it was created. A client reads no start packet, so its
    /// buffer size can stand for this.
    pub(super) fn declares_late(&self) -> bool {
        let buffer = self.parties[Role::Client as usize].options.buffer;
        self.direction == Direction::Put && buffer % 2 == 1
    }

    pub(super) fn sender(&self) -> Role {
        match self.direction {
            Direction::Put => Role::Client,
            Direction::Get => Role::Server,
        }
    }

    pub(super) fn receiver(&self) -> Role {
        self.sender().peer()
    }

    pub(super) fn packet(&self) -> StartPacket {
        let key = Key::from_name("harness");
        let packet = match self.direction {
            Direction::Put => StartPacket::put(key),
            Direction::Get => StartPacket::get(key),
        };
        match self.declared {
            true => packet.with_size(self.size).unwrap(),
            false => packet,
        }
    }

    /// The number of bytes of the start packet that this role writes.
    pub(super) fn header_of(&self, writer: Role) -> u64 {
        if writer == Role::Client { StartPacket::LEN as u64 } else { 0 }
    }

    /// The number of bytes that this role writes without problems.
    pub(super) fn bytes_written_by(&self, writer: Role) -> u64 {
        self.header_of(writer) + if writer == self.sender() { self.size } else { 0 }
    }

    pub(super) fn has_fault(&self, role: Role, is_it: impl Fn(&Fault) -> bool) -> bool {
        self.problems.iter().any(|problem| match problem {
            Problem::StreamFault { writer, fault } => *writer == role && is_it(fault),
            _ => false,
        })
    }
}

impl Role {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub(super) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Chooses a size close to that of the start packet or of a chunk. A few are large, if the chunks are.
fn choose_size(chunks: [u32; 2], choices: &mut Choices<'_>) -> u64 {
    let chunk = u64::from(choices.pick(&chunks).min(1_000));
    if chunks.iter().all(|chunk| *chunk >= 1_000) && choices.one_in(6) {
        return 100_000;
    }
    let any = choices.below(300);
    choices.pick(&[any, 0, 1, 24, 25, 26, chunk - 1, chunk, chunk + 1, any, any])
}
