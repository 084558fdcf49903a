//! What is to be transferred, by whom and how, and what goes wrong.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{Config, Direction, Instant, Key, Refusal, StartPacket, Timeouts};

use super::choices::Choices;

/// Longer than any timer of a scenario that stalls.
pub(super) const STALL: Duration = Duration::from_secs(200);

#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) direction: Direction,
    /// Of the object, as the start packet declares it or would.
    pub(super) size: u64,
    pub(super) declared: bool,
    /// What the server's application accepts.
    pub(super) accepts: u64,
    pub(super) parties: [Party; 2],
    pub(super) troubles: Vec<Trouble>,
    pub(super) link: Link,
    pub(super) epoch: Instant,
}

/// The client, or the server; and so that end of the stream, and what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

#[derive(Debug)]
pub(super) struct Party {
    pub(super) config: Config,
    pub(super) habits: Habits,
}

/// How a driver does as it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Reads the start packet with a buffer so large, or exactly as many bytes as it should.
    pub(super) buffer: usize,
    /// Writes the start packet and the beginning of the object in one.
    pub(super) shares: bool,
    /// Looks out for the end of the stream while it sends.
    pub(super) watches: bool,
    /// How it finds out whether the peer has ended the stream already.
    pub(super) peeks: Peeks,
    /// Lets its application block it, also past the deadline.
    pub(super) blocks: bool,
    /// Asks whether the transfer timer is due before it does anything else.
    pub(super) asks_time_first: bool,
    /// Its application needs a moment, once.
    pub(super) hesitates: bool,
    /// Its application needs so long after all that it receives. Shorter than the idle timeout.
    pub(super) drips: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeks {
    /// It leaves the bytes in the stream.
    Looks,
    /// It takes bytes out, if there are any.
    Reads,
    /// This stream cannot tell.
    Never,
}

/// What the stream does when nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) fragments: Fragments,
    /// How many bytes may be under way.
    pub(super) capacity: usize,
    pub(super) delays: bool,
    /// A reset overtakes the bytes that are still to be read.
    pub(super) overtakes: bool,
    /// Readiness never shows that there is room for a write, as POLLOUT may not for a long time.
    pub(super) mute: bool,
    /// To shut down takes room for a byte, as over TLS.
    pub(super) closes_with_a_byte: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragments {
    Whole,
    Random,
    Single,
}

/// What goes wrong. Where bytes are counted, the start packet counts for the stream only.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The sender's source has so many bytes, and not the declared size.
    Source { length: u64 },
    /// The application gives up when so many bytes of the object have moved.
    Aborts { role: Role, at: u64 },
    /// The receiver's application can not make the object last.
    CommitFails,
    /// The server's application does not take the start packet.
    Refused(Refusal),
    /// The receiver takes fewer bytes than there are, as it accepts them or by its configuration.
    Limit { limit: u64, accepted: bool },
    /// The application stalls.
    Slow { role: Role, at: Point },
    /// The transfer timer is short.
    Hurry { role: Role, transfer: Duration },
    /// What this role writes has this happen to it.
    Stream { writer: Role, fault: Fault },
}

/// When the application stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Decide,
    /// When so many bytes of the object have moved.
    Moved(u64),
    Commit,
}

/// What happens to one half of the stream when it has taken so many bytes; [`AT_END`] for when it
/// is shut down.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The rest is lost and the stream ends: a peer that was killed and does not arm its socket.
    Truncated { at: u64 },
    /// So many bytes come that nobody has sent: a peer that does not keep to the protocol.
    Overrun { at: u64, by: u64 },
    /// Both ends are reset.
    Reset { at: u64 },
    /// Nothing arrives any more, not even a reset; if it clogs, nothing can be written either.
    Lost { at: u64, clogs: bool },
    /// This byte of the start packet arrives with another value, which makes it malformed.
    Corrupt { byte: u64, to: u8 },
}

pub(super) const AT_END: u64 = u64::MAX;

impl Scenario {
    pub(super) fn choose(choices: &mut Choices<'_>) -> Self {
        let chunks = [0, 1].map(|_| choices.pick(&[4 << 20, 1_000, 64, 26, 25, 21, 7, 3, 2, 1]));
        let fragments = [Fragments::Whole, Fragments::Random, Fragments::Single];
        let mut link = Link {
            fragments: choices.pick(&fragments),
            capacity: choices.pick(&[1 << 20, 4_096, 64, 7, 1]),
            delays: choices.flip(),
            overtakes: choices.flip(),
            mute: choices.one_in(4),
            closes_with_a_byte: choices.one_in(4),
        };
        let size = choose_size(chunks, choices);
        if size > 10_000 {
            link = Link { fragments: Fragments::Random, capacity: 65_536, ..link };
        }
        if link.mute {
            link.capacity = link.capacity.max(64); // room for the start packet, which has a timer
        }
        let parties = chunks.map(|chunk| Party {
            config: Config { chunk: NonZeroU32::new(chunk).unwrap(), ..Config::default() },
            habits: Habits {
                buffer: choices.pick(&[0, 1, 24, 25, 26, 100, 8_192]),
                shares: choices.flip(),
                watches: choices.flip(),
                peeks: choices.pick(&[Peeks::Looks, Peeks::Looks, Peeks::Reads, Peeks::Never]),
                blocks: choices.flip(),
                asks_time_first: choices.flip(),
                hesitates: choices.one_in(8),
                drips: None,
            },
        });
        let mut scenario = Self {
            direction: choices.pick(&[Direction::Put, Direction::Get]),
            size,
            declared: choices.flip(),
            accepts: choices.pick(&[u64::MAX, size]),
            parties,
            troubles: Vec::new(),
            link,
            epoch: Instant::new(Duration::from_secs(choices.pick(&[0, 1_000_000]))),
        };
        for _ in 0..choices.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
            scenario.add_trouble(choices);
        }
        scenario.choose_timeouts(choices);
        scenario
    }

    fn add_trouble(&mut self, choices: &mut Choices<'_>) {
        let role = choices.pick(&Role::BOTH);
        let trouble = match choices.below(13) {
            0 if self.declared => {
                let length = choices.pick(&[self.size + 1, self.size + 300, self.size / 2]);
                if length == self.size {
                    return;
                }
                Trouble::Source { length }
            }
            1 => Trouble::Aborts { role, at: choices.below(self.size + 1) },
            2 => Trouble::CommitFails,
            3 => Trouble::Refused(choices.pick(&[Refusal::NotRegistered, Refusal::InUse])),
            4 if self.size > 0 => Trouble::Limit {
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
                Trouble::Slow { role, at }
            }
            6 => {
                let millis = choices.pick(&[0, 1, 20, 60, 500]);
                Trouble::Hurry { role, transfer: Duration::from_millis(millis) }
            }
            _ => {
                let Some(fault) = self.choose_fault(role, choices) else { return };
                Trouble::Stream { writer: role, fault }
            }
        };
        // One of each kind, but one for each half of the stream.
        let is_there = self.troubles.iter().any(|other| match (other, &trouble) {
            (Trouble::Stream { writer: a, .. }, Trouble::Stream { writer: b, .. }) => a == b,
            (one, other) => core::mem::discriminant(one) == core::mem::discriminant(other),
        });
        if is_there {
            return;
        }
        match trouble {
            Trouble::Limit { limit, accepted: true } => self.accepts = limit,
            Trouble::Limit { limit, accepted: false } => {
                self.parties[self.receiver() as usize].config.limit = limit;
            }
            Trouble::Hurry { role, transfer } => {
                self.parties[role as usize].config.timeouts.transfer = transfer;
            }
            _ => {}
        }
        self.troubles.push(trouble);
    }

    fn choose_fault(&self, writer: Role, choices: &mut Choices<'_>) -> Option<Fault> {
        let total = self.bytes_written_by(writer);
        let header = (total + 1).min(26); // now and then, within the start packet
        let within = choices.pick(&[total + 1, total + 1, header]);
        let at = choices.below(within);
        Some(match choices.below(5) {
            // A truncation behind the last byte is none, but where a receipt comes too early.
            0 if at < total || writer == self.receiver() => Fault::Truncated { at },
            1 => Fault::Overrun {
                at: choices.pick(&[AT_END, total]),
                by: choices.pick(&[1, 2, 24, 300]),
            },
            2 => Fault::Reset { at: choices.pick(&[at, at, at, AT_END]) },
            3 => Fault::Lost { at, clogs: choices.flip() },
            4 if writer == Role::Client && choices.flip() => match choices.flip() {
                true => Fault::Corrupt { byte: 8, to: choices.pick(&[0x80, 0xfe]) },
                false => Fault::Corrupt { byte: 0, to: choices.pick(&[2, 3, 0x7f, 0xff]) },
            },
            _ => return None,
        })
    }

    /// Timers that are told apart, and longer than all delays; never, where nothing stalls. Sometimes
    /// a receiver that is just fast enough.
    fn choose_timeouts(&mut self, choices: &mut Choices<'_>) {
        let stalls = self.troubles.iter().any(|trouble| {
            matches!(
                trouble,
                Trouble::Slow { .. } | Trouble::Stream { fault: Fault::Lost { .. }, .. }
            )
        });
        for party in &mut self.parties {
            let never = !stalls && choices.one_in(4);
            let pick = |choices: &mut Choices<'_>, seconds: &[u64]| match never {
                true => Duration::MAX,
                false => Duration::from_secs(choices.pick(seconds)),
            };
            party.config.timeouts = Timeouts {
                start: pick(choices, &[5, 3, 20]),
                idle: pick(choices, &[5, 2, 30]),
                end: pick(choices, &[60, 4, 11]),
                transfer: party.config.timeouts.transfer,
            };
        }
        // What nobody sent would take the room of what is sent, for too long.
        let overruns =
            self.has_fault(self.sender(), |fault| matches!(fault, Fault::Overrun { .. }));
        let drips = !stalls && !overruns && choices.one_in(3);
        if self.link.mute || drips {
            // A writer that is woken up by its deadlines alone keeps its peer waiting for half of
            // its own timeout. So both have the same.
            let idle = Duration::from_secs(choices.pick(&[5, 2, 30]));
            for party in &mut self.parties {
                party.config.timeouts.idle = idle;
            }
            if drips {
                let share = choices.pick(&[1, 4, 9, 13]);
                let pause = idle * share / 10;
                self.parties[self.receiver() as usize].habits.drips = Some(pause);
                // What is under way when the object ends takes its time.
                self.parties[self.sender() as usize].config.timeouts.end = Duration::MAX;
            }
        }
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

    /// How many bytes of start packet come before what this role may write of the object.
    pub(super) fn header_of(&self, writer: Role) -> u64 {
        if writer == Role::Client { StartPacket::LEN as u64 } else { 0 }
    }

    /// How many bytes this role writes when nothing goes wrong.
    pub(super) fn bytes_written_by(&self, writer: Role) -> u64 {
        self.header_of(writer) + if writer == self.sender() { self.size } else { 0 }
    }

    pub(super) fn has_fault(&self, role: Role, is_it: impl Fn(&Fault) -> bool) -> bool {
        self.troubles.iter().any(|trouble| match trouble {
            Trouble::Stream { writer, fault } => *writer == role && is_it(fault),
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

/// Around the start packet's size and the chunk's, and now and then large, where chunks are too.
fn choose_size(chunks: [u32; 2], choices: &mut Choices<'_>) -> u64 {
    let chunk = u64::from(choices.pick(&chunks).min(1_000));
    if chunks.iter().all(|chunk| *chunk >= 1_000) && choices.one_in(6) {
        return 100_000;
    }
    let any = choices.below(300);
    choices.pick(&[any, 0, 1, 24, 25, 26, chunk - 1, chunk, chunk + 1, any, any])
}
