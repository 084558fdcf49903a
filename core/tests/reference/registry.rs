//! Compares registries with a reference implementation, under any actions. The reference is a list in
//! which every look-up is a linear search.

use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    AlreadyRegistered, Delivery, Direction, Entry, Instant, Key, Lease, ObjectSize, Refusal,
    Registry, StartPacket,
};

/// Makes the same calls to registries and to their references until the input is used up. Returns the
/// outcome of each action. Panics if an outcome differs from the reference.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut world = World::default();
    while !unstructured.is_empty() && seen.len() < 300 {
        let number = seen.len() as u32;
        seen.push(world.act(&mut unstructured, number).expect("choices cannot fail"));
        for Pair { registry, reference } in &world.pairs {
            assert_eq!(registry.len(), reference.len(), "action {number}");
            assert_eq!(registry.is_empty(), reference.is_empty());
        }
    }
    seen
}

/// Two registries, so that a lease of one can be released to the other.
#[derive(Default)]
struct World {
    now: u64,
    pairs: [Pair; 2],
    /// The leases that have not been released, each with the number of its entry.
    leases: Vec<(Lease, u32)>,
}

/// A registry and its reference. Both get the same calls.
#[derive(Default)]
struct Pair {
    registry: Registry<u32>,
    reference: Vec<ReferenceEntry>,
}

/// An entry of the reference.
#[derive(Clone, Copy)]
struct ReferenceEntry {
    direction: Direction,
    key: Key,
    sizes: Sizes,
    uses: Uses,
    valid_for: Option<u64>,
    expiry: Option<u64>,
    /// Unique among all entries. It is also the handler.
    number: u32,
    in_use: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Sizes {
    Exact(ObjectSize),
    Any { max: Option<u64> },
}

#[derive(Clone, Copy, PartialEq)]
enum Uses {
    Unlimited,
    Once,
    UntilDelivered,
}

impl World {
    /// Makes one action and returns its outcome.
    fn act(&mut self, u: &mut Unstructured<'_>, number: u32) -> Result<&'static str> {
        self.now += u.int_in_range(0..=1)?;
        let now = self.now;
        let pair = &mut self.pairs[usize::from(u.ratio(1, 4)?)];
        Ok(match u.int_in_range(0..=10)? {
            0..3 => pair.insert(choose_entry(u, now, number)?, now),
            3..6 => {
                let packet = choose_packet(u)?;
                let limit = *u.choose(&[None, Some(0), Some(1), Some(2)])?;
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
                let succeeded = u.arbitrary()?;
                pair.release(
                    lease,
                    number,
                    if succeeded { Delivery::Succeeded } else { Delivery::Failed },
                )
            }
            6..9 => pair.remove(choose_entry(u, now, number)?),
            9 => pair.take_expired(now),
            _ => pair.pop(),
        })
    }
}

impl Pair {
    fn insert(&mut self, new: ReferenceEntry, now: u64) -> &'static str {
        let inserted = self.registry.insert(new.direction, new.entry(), new.number, at(now));
        let found = self.reference.iter().position(|other| other.has_same_slot(&new));
        match found {
            Some(found) if !self.reference[found].is_expired(now) => {
                let AlreadyRegistered { direction, entry, .. } = inserted.unwrap_err();
                assert_eq!((direction, entry), (new.direction, new.entry()));
                "already registered"
            }
            Some(found) => {
                assert_eq!(inserted, Ok(Some(self.reference[found].number)));
                self.reference[found] = new;
                "replaced"
            }
            None => {
                assert_eq!(inserted, Ok(None));
                self.reference.push(new);
                "inserted"
            }
        }
    }

    fn claim(
        &mut self,
        packet: StartPacket,
        server_limit: Option<u64>,
        now: u64,
    ) -> core::result::Result<(Lease, u32), &'static str> {
        let claim = self.registry.claim(&packet, server_limit, at(now));
        let exact = |entry: &ReferenceEntry| {
            entry.is_for(packet) && entry.sizes == Sizes::Exact(packet.size())
        };
        let any_size = |entry: &ReferenceEntry| {
            entry.is_for(packet) && matches!(entry.sizes, Sizes::Any { .. })
        };
        let find = |matches: &dyn Fn(&ReferenceEntry) -> bool| {
            self.reference.iter().position(|entry| !entry.is_expired(now) && matches(entry))
        };
        let Some(found) = find(&exact).or(find(&any_size)) else {
            assert_eq!(claim.unwrap_err(), Refusal::NotRegistered);
            let exists = self.reference.iter().any(|entry| exact(entry) || any_size(entry));
            return Err(if exists { "expired" } else { "not registered" });
        };
        let entry = &mut self.reference[found];
        let mut limits = Vec::new();
        if let Sizes::Any { max } = entry.sizes {
            limits.extend(max);
        }
        if packet.direction() == Direction::Put {
            limits.extend(server_limit);
        }
        let limit = limits.into_iter().min();
        let declared = packet.size().bytes().unwrap_or(0);
        if let Some(limit) = limit.filter(|limit| declared > *limit) {
            assert_eq!(claim.unwrap_err(), Refusal::TooLarge { declared, limit });
            return Err("too large");
        }
        if entry.in_use {
            assert_eq!(claim.unwrap_err(), Refusal::InUse);
            return Err("in use");
        }
        let claim = claim.unwrap();
        let number = entry.number;
        assert_eq!((claim.handler, claim.limit), (number, limit));
        match entry.uses {
            Uses::Once => drop(self.reference.remove(found)),
            uses => entry.in_use = uses == Uses::UntilDelivered,
        }
        Ok((claim.lease, number))
    }

    /// The lease may be one of the other registry. No number is in both.
    fn release(&mut self, lease: Lease, number: u32, delivery: Delivery) -> &'static str {
        let ended = self.registry.release(lease, delivery);
        let Some(found) = self.reference.iter().position(|entry| entry.number == number) else {
            assert_eq!(ended, None);
            return "released a stale lease";
        };
        self.reference[found].in_use = false;
        if delivery == Delivery::Succeeded && self.reference[found].uses == Uses::UntilDelivered {
            assert_eq!(ended, Some(self.reference.remove(found).number));
            return "delivered";
        }
        assert_eq!(ended, None);
        "released"
    }

    fn remove(&mut self, entry: ReferenceEntry) -> &'static str {
        let removed = self.registry.remove(entry.direction, entry.entry());
        let Some(found) = self.reference.iter().position(|other| other.has_same_slot(&entry))
        else {
            assert_eq!(removed, None);
            return "nothing to remove";
        };
        assert_eq!(removed, Some(self.reference.remove(found).number));
        "removed"
    }

    /// The registry chooses the entry.
    fn pop(&mut self) -> &'static str {
        let popped = self.registry.pop();
        if self.reference.is_empty() {
            assert_eq!(popped, None);
            return "empty";
        }
        let found = self.reference.iter().position(|entry| Some(entry.number) == popped);
        self.reference.remove(found.expect("one of the entries"));
        "popped"
    }

    /// Takes out one entry at most, of those with the earliest expiry.
    fn take_expired(&mut self, now: u64) -> &'static str {
        let taken = self.registry.take_expired(at(now));
        let expired = self.reference.iter().filter(|entry| entry.is_expired(now));
        let Some(earliest) = expired.map(|entry| entry.expiry).min() else {
            assert_eq!(taken, None);
            return "nothing expired";
        };
        let found = self.reference.iter().position(|entry| Some(entry.number) == taken);
        let entry = self.reference.remove(found.expect("one of the entries"));
        assert_eq!(entry.expiry, earliest);
        "taken out"
    }
}

impl ReferenceEntry {
    fn is_expired(&self, now: u64) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

    fn entry(&self) -> Entry {
        let entry = match self.sizes {
            Sizes::Exact(size) => Entry::new(self.key).exact_size(size),
            Sizes::Any { max: Some(max) } => Entry::new(self.key).max_size(max),
            Sizes::Any { max: None } => Entry::from(self.key),
        };
        let entry = match self.uses {
            Uses::Unlimited => entry,
            Uses::Once => entry.once(),
            Uses::UntilDelivered => entry.until_delivered(),
        };
        self.valid_for.map_or(entry, |seconds| entry.expires_after(Duration::from_secs(seconds)))
    }

    /// Whether both match the same start packets, apart from the limit on their size.
    fn has_same_slot(&self, other: &Self) -> bool {
        let same_sizes = match (self.sizes, other.sizes) {
            (Sizes::Any { .. }, Sizes::Any { .. }) => true,
            (sizes, others) => sizes == others,
        };
        same_sizes && self.key == other.key && self.direction == other.direction
    }

    /// Whether the entry matches the packet, apart from its size.
    fn is_for(&self, packet: StartPacket) -> bool {
        self.key == packet.key() && self.direction == packet.direction()
    }
}

fn choose_entry(u: &mut Unstructured<'_>, now: u64, number: u32) -> Result<ReferenceEntry> {
    let packet = choose_packet(u)?;
    let any_size = u.arbitrary()?;
    let sizes = if any_size {
        // No packet declares more than 3 bytes.
        Sizes::Any { max: Some(u.int_in_range(0..=3)?).filter(|max| *max < 3) }
    } else {
        Sizes::Exact(packet.size())
    };
    let uses = [Uses::Unlimited, Uses::Once, Uses::UntilDelivered][u.int_in_range(0..=2usize)?];
    let expires = u.arbitrary()?;
    let valid_for = if expires { Some(u.int_in_range(0..=9)?) } else { None };
    Ok(ReferenceEntry {
        direction: packet.direction(),
        key: packet.key(),
        sizes,
        uses,
        valid_for,
        expiry: valid_for.map(|seconds| now + seconds),
        number,
        in_use: false,
    })
}

/// Chooses one of a few packets, so that many of them are equal.
fn choose_packet(u: &mut Unstructured<'_>) -> Result<StartPacket> {
    let key = Key::from_bytes([u.int_in_range(0..=1)?; 16]);
    let packet = if u.arbitrary()? { StartPacket::get(key) } else { StartPacket::put(key) };
    Ok(match u.int_in_range(0..=4)? {
        0 => packet,
        size => packet.with_size(size - 1).expect("a small size"),
    })
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}
