//! The registry against a model: a list that is searched in full, under any actions.

use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    AlreadyRegistered, Direction, Entry, Instant, Key, Lease, Refusal, Registry, StartPacket,
};

/// Asks registries and their models the same, until the bytes to choose by are used up: what came of
/// each action. Panics where they are at odds.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut world = World::default();
    while !unstructured.is_empty() && seen.len() < 300 {
        let number = seen.len() as u32;
        seen.push(world.act(&mut unstructured, number).expect("choices do not fail"));
        for Pair { registry, model } in &world.pairs {
            assert_eq!(registry.len(), model.len(), "action {number}");
            assert_eq!(registry.is_empty(), model.is_empty());
        }
    }
    seen
}

/// Two registries, of which one may be given a lease of the other.
#[derive(Default)]
struct World {
    now: u64,
    pairs: [Pair; 2],
    /// Leases to be released, each with the number of its entry.
    leases: Vec<(Lease, u32)>,
}

/// A registry and its model, which are asked the same.
#[derive(Default)]
struct Pair {
    registry: Registry<u32>,
    model: Vec<Line>,
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

impl World {
    /// One action: what came of it.
    fn act(&mut self, u: &mut Unstructured<'_>, number: u32) -> Result<&'static str> {
        self.now += u.int_in_range(0..=1)?;
        let now = self.now;
        let pair = &mut self.pairs[usize::from(u.ratio(1, 4)?)];
        Ok(match u.int_in_range(0..=10)? {
            0..3 => pair.add(choose_line(u, now, number)?, now),
            3..6 => {
                let (packet, limit) = (choose_packet(u)?, *u.choose(&[u64::MAX, 0, 1, 2])?);
                match pair.claim(packet, limit, now) {
                    Ok(leased) => {
                        self.leases.push(leased);
                        "claimed"
                    }
                    Err(refused) => refused,
                }
            }
            6..8 if !self.leases.is_empty() => {
                let (lease, number) = self.leases.swap_remove(u.choose_index(self.leases.len())?);
                pair.release(lease, number, u.arbitrary()?)
            }
            6..9 => pair.remove(choose_line(u, now, number)?),
            9 => pair.take_expired(now),
            _ => pair.pop(),
        })
    }
}

impl Pair {
    fn add(&mut self, line: Line, now: u64) -> &'static str {
        let added = self.registry.add(line.entry(), line.number, at(now));
        let found = self.model.iter().position(|other| other.is_as(&line));
        match found {
            Some(found) if !self.model[found].is_expired(now) => {
                assert_eq!(added, Err(AlreadyRegistered(line.entry())));
                "already registered"
            }
            Some(found) => {
                assert_eq!(added, Ok(Some(self.model[found].number)));
                self.model[found] = line;
                "replaced"
            }
            None => {
                assert_eq!(added, Ok(None));
                self.model.push(line);
                "added"
            }
        }
    }

    fn claim(
        &mut self,
        packet: StartPacket,
        servers_limit: u64,
        now: u64,
    ) -> core::result::Result<(Lease, u32), &'static str> {
        let claim = self.registry.claim(&packet, servers_limit, at(now));
        let exact = |line: &Line| line.any_size_up_to.is_none() && line.packet == packet;
        let any_size = |line: &Line| line.any_size_up_to.is_some() && line.is_for(packet);
        let find = |is_it: &dyn Fn(&Line) -> bool| {
            self.model.iter().position(|line| !line.is_expired(now) && is_it(line))
        };
        let Some(found) = find(&exact).or(find(&any_size)) else {
            assert_eq!(claim.unwrap_err(), Refusal::NotRegistered);
            let is_there = self.model.iter().any(|line| exact(line) || any_size(line));
            return Err(if is_there { "expired" } else { "not registered" });
        };
        let line = &mut self.model[found];
        let mut limit = line.any_size_up_to.unwrap_or(u64::MAX);
        if packet.direction() == Direction::Put {
            limit = limit.min(servers_limit);
        }
        let declared = packet.size().bytes().unwrap_or(0);
        if declared > limit {
            assert_eq!(claim.unwrap_err(), Refusal::TooLarge { declared, limit });
            return Err("too large");
        }
        if line.in_use {
            assert_eq!(claim.unwrap_err(), Refusal::InUse);
            return Err("in use");
        }
        let claim = claim.unwrap();
        let number = line.number;
        assert_eq!((claim.handler, claim.limit), (number, limit));
        match line.uses {
            1 => drop(self.model.remove(found)),
            uses => line.in_use = uses == 2,
        }
        Ok((claim.lease, number))
    }

    /// Also of a lease that another registry gave: no number is in both.
    fn release(&mut self, lease: Lease, number: u32, delivered: bool) -> &'static str {
        let ended = self.registry.release(lease, delivered);
        let Some(found) = self.model.iter().position(|line| line.number == number) else {
            assert_eq!(ended, None);
            return "released without effect";
        };
        self.model[found].in_use = false;
        if delivered && self.model[found].uses == 2 {
            assert_eq!(ended, Some(self.model.remove(found).number));
            return "delivered";
        }
        assert_eq!(ended, None);
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

    /// Whichever the registry likes.
    fn pop(&mut self) -> &'static str {
        let popped = self.registry.pop();
        if self.model.is_empty() {
            assert_eq!(popped, None);
            return "empty";
        }
        let found = self.model.iter().position(|line| Some(line.number) == popped);
        self.model.remove(found.expect("one of the entries"));
        "popped"
    }

    /// One at most, of those that expired first.
    fn take_expired(&mut self, now: u64) -> &'static str {
        let taken = self.registry.take_expired(at(now));
        let expired = self.model.iter().filter(|line| line.is_expired(now));
        let Some(first) = expired.map(|line| line.expiry).min() else {
            assert_eq!(taken, None);
            return "nothing has expired";
        };
        let found = self.model.iter().position(|line| Some(line.number) == taken);
        let line = self.model.remove(found.expect("one of the entries"));
        assert_eq!(line.expiry, first);
        "taken out"
    }
}

impl Line {
    fn is_expired(&self, now: u64) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

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
