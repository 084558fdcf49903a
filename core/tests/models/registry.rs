//! The registry against a model: a list that is searched in full, under any actions.

use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    AlreadyRegistered, Entry, Instant, Key, Lease, Refusal, Registry, StartPacket,
};

/// Asks both the same, until the bytes to choose by are used up: what came of each action. Panics
/// where they are at odds.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut pair = Pair::default();
    while !unstructured.is_empty() && seen.len() < 300 {
        let number = seen.len() as u32;
        seen.push(pair.act(&mut unstructured, number).expect("choices do not fail"));
        assert_eq!(pair.registry.len(), pair.model.len(), "action {number}");
        assert_eq!(pair.registry.is_empty(), pair.model.is_empty());
    }
    seen
}

/// The registry and its model, which are asked the same.
#[derive(Default)]
struct Pair {
    now: u64,
    registry: Registry<u32>,
    model: Vec<Line>,
    /// Leases to be released, each with the number of its entry.
    leases: Vec<(Lease, u32)>,
}

/// An entry of the model. `number` is unique, and the handler.
#[derive(Clone, Copy)]
struct Line {
    packet: StartPacket,
    any_size_up_to: Option<u64>,
    uses: u8, // 0 standing, 1 once, 2 until delivered
    expiry: Option<u64>,
    number: u32,
    in_use: bool,
}

impl Pair {
    /// One action on both: what came of it.
    fn act(&mut self, u: &mut Unstructured<'_>, number: u32) -> Result<&'static str> {
        self.now += u.int_in_range(0..=1)?;
        Ok(match u.int_in_range(0..=9)? {
            0..3 => self.add(choose_line(u, self.now, number)?),
            3..6 => self.claim(choose_packet(u)?),
            6..8 if !self.leases.is_empty() => {
                let (lease, number) = self.leases.swap_remove(u.choose_index(self.leases.len())?);
                self.release(lease, number, u.arbitrary()?)
            }
            6..9 => self.remove(choose_line(u, self.now, number)?),
            _ => {
                self.registry.expire(at(self.now));
                self.forget_expired();
                "expired"
            }
        })
    }

    fn add(&mut self, line: Line) -> &'static str {
        let added = self.registry.add(line.entry(), line.number, at(self.now));
        self.forget_expired();
        if self.model.iter().any(|other| other.is_as(&line)) {
            assert_eq!(added, Err(AlreadyRegistered(line.entry())));
            return "already registered";
        }
        assert_eq!(added, Ok(()));
        self.model.push(line);
        "added"
    }

    fn claim(&mut self, packet: StartPacket) -> &'static str {
        let claim = self.registry.claim(&packet, at(self.now));
        self.forget_expired();
        let exact = |line: &Line| line.any_size_up_to.is_none() && line.packet == packet;
        let any_size = |line: &Line| line.any_size_up_to.is_some() && line.is_for(packet);
        let found = self.model.iter().position(exact);
        let Some(found) = found.or(self.model.iter().position(any_size)) else {
            assert_eq!(claim.unwrap_err(), Refusal::NotRegistered);
            return "not registered";
        };
        let line = &mut self.model[found];
        let limit = line.any_size_up_to.unwrap_or(u64::MAX);
        let declared = packet.size().bytes().unwrap_or(0);
        if declared > limit {
            assert_eq!(claim.unwrap_err(), Refusal::TooLarge { declared, limit });
            return "too large";
        }
        if line.in_use {
            assert_eq!(claim.unwrap_err(), Refusal::InUse);
            return "in use";
        }
        let claim = claim.unwrap();
        assert_eq!((claim.handler, claim.limit), (line.number, limit));
        self.leases.push((claim.lease, line.number));
        match line.uses {
            1 => drop(self.model.remove(found)),
            uses => line.in_use = uses == 2,
        }
        "claimed"
    }

    fn release(&mut self, lease: Lease, number: u32, delivered: bool) -> &'static str {
        self.registry.release(lease, delivered);
        let Some(found) = self.model.iter().position(|line| line.number == number) else {
            return "released late";
        };
        self.model[found].in_use = false;
        if delivered && self.model[found].uses == 2 {
            self.model.remove(found);
        }
        "released"
    }

    fn remove(&mut self, line: Line) -> &'static str {
        let removed = self.registry.remove(line.entry());
        let Some(found) = self.model.iter().position(|other| other.is_as(&line)) else {
            assert_eq!(removed, None);
            return "nothing to remove";
        };
        assert_eq!(removed, Some(self.model.remove(found).number));
        "removed"
    }

    fn forget_expired(&mut self) {
        self.model.retain(|line| line.expiry.is_none_or(|expiry| expiry > self.now));
    }
}

impl Line {
    fn entry(&self) -> Entry {
        let entry = match self.any_size_up_to {
            None => Entry::exact(self.packet),
            Some(limit) => Entry::any_size(self.packet, limit),
        };
        let entry = match self.uses {
            0 => entry,
            1 => entry.once(),
            _ => entry.until_delivered(),
        };
        self.expiry.map_or(entry, |expiry| entry.expires(at(expiry)))
    }

    /// Whether both are for the same start packets.
    fn is_as(&self, other: &Self) -> bool {
        match (self.any_size_up_to, other.any_size_up_to) {
            (None, None) => self.packet == other.packet,
            (Some(_), Some(_)) => self.is_for(other.packet),
            _ => false,
        }
    }

    /// Whether this is for the packet, but for its size.
    fn is_for(&self, packet: StartPacket) -> bool {
        self.packet.key() == packet.key() && self.packet.direction() == packet.direction()
    }
}

fn choose_line(u: &mut Unstructured<'_>, now: u64, number: u32) -> Result<Line> {
    Ok(Line {
        packet: choose_packet(u)?,
        any_size_up_to: if u.arbitrary()? { Some(u.int_in_range(0..=3)?) } else { None },
        uses: u.int_in_range(0..=2)?,
        expiry: if u.arbitrary()? { Some(now + u.int_in_range(0..=9)?) } else { None },
        number,
        in_use: false,
    })
}

/// One of few, so that they meet.
fn choose_packet(u: &mut Unstructured<'_>) -> Result<StartPacket> {
    let key = Key::new([u.int_in_range(0..=1)?; 16]);
    let packet = if u.arbitrary()? { StartPacket::get(key) } else { StartPacket::put(key) };
    Ok(match u.int_in_range(0..=4)? {
        0 => packet,
        size => packet.with_size(size - 1).expect("a small size"),
    })
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}
