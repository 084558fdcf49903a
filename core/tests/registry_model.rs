//! The registry against a model: a list that is searched in full, under random actions.

#![cfg(feature = "registry")]

use core::time::Duration;
use std::collections::BTreeMap;

use dataserver_core::{
    AlreadyRegistered, Direction, Entry, Instant, Key, Lease, Refusal, Registry, StartPacket,
};

#[test]
fn the_registry_does_as_the_model_says() {
    let mut reached = BTreeMap::new();
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::default();
        for number in 0..200 {
            let seen = pair.act(&mut random, number);
            *reached.entry(seen).or_insert(0) += 1;
            assert_eq!(pair.registry.len(), pair.model.len(), "seed {seed}, action {number}");
            assert_eq!(pair.registry.is_empty(), pair.model.is_empty());
        }
    }
    let all = [
        "added",
        "already registered",
        "claimed",
        "not registered",
        "in use",
        "too large",
        "released",
        "released late",
        "removed",
        "nothing to remove",
        "expired",
    ];
    for outcome in all {
        assert!(reached.get(outcome) > Some(&100), "{outcome}: {reached:?}");
    }
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
    /// One random action on both: what came of it.
    fn act(&mut self, random: &mut fastrand::Rng, number: u32) -> &'static str {
        self.now += random.u64(0..2);
        match random.u8(0..10) {
            0..3 => self.add(random_line(random, self.now, number)),
            3..6 => self.claim(random_packet(random)),
            6..8 if !self.leases.is_empty() => {
                let (lease, number) = self.leases.swap_remove(random.usize(..self.leases.len()));
                self.release(lease, number, random.bool())
            }
            6..9 => self.remove(random_line(random, self.now, number)),
            _ => {
                self.registry.expire(at(self.now));
                self.forget_expired();
                "expired"
            }
        }
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

fn random_line(random: &mut fastrand::Rng, now: u64, number: u32) -> Line {
    Line {
        packet: random_packet(random),
        any_size_up_to: random.bool().then(|| random.u64(0..4)),
        uses: random.u8(0..3),
        expiry: random.bool().then(|| now + random.u64(0..10)),
        number,
        in_use: false,
    }
}

/// One of few, so that they meet.
fn random_packet(random: &mut fastrand::Rng) -> StartPacket {
    let key = Key::new([random.u8(0..2); 16]);
    let packet = match random.choice([Direction::Put, Direction::Get]) {
        Some(Direction::Get) => StartPacket::get(key),
        _ => StartPacket::put(key),
    };
    match random.u64(0..5) {
        0 => packet,
        size => packet.with_size(size - 1).unwrap(),
    }
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}
