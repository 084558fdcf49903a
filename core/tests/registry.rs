//! The rules of the registry, one test for each.

#![cfg(feature = "registry")]

use core::time::Duration;

use dataserver_core::{
    AlreadyRegistered, Delivery, Direction, Entry, Instant, Key, ObjectSize, Refusal, Registry,
    StartPacket,
};

#[test]
fn an_entry_for_one_connection_ends_with_its_claim_even_if_the_transfer_fails() {
    for delivery in [Delivery::Failed, Delivery::Succeeded] {
        let mut registry = with(Entry::exact(packet()).once());
        let lease = registry.claim(&packet(), None, at(0)).unwrap().lease;
        assert!(registry.is_empty());
        assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
        assert_eq!(registry.release(lease, delivery), None);
        assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
    }
}

#[test]
fn an_entry_until_delivered_is_in_use_until_its_lease_is_released() {
    let mut registry = with(Entry::exact(packet()).until_delivered());
    let lease = registry.claim(&packet(), None, at(0)).unwrap().lease;
    assert_eq!(refusal(&mut registry, &packet()), Refusal::InUse);
    assert_eq!(registry.release(lease, Delivery::Failed), None);
    let lease = registry.claim(&packet(), None, at(0)).unwrap().lease;
    assert_eq!(registry.release(lease, Delivery::Succeeded), Some(1));
    assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
    assert!(registry.is_empty());
}

#[test]
fn an_unlimited_entry_serves_any_number_of_connections_at_once() {
    let mut registry = with(Entry::exact(packet()));
    let leases: Vec<_> =
        (0..3).map(|_| registry.claim(&packet(), None, at(0)).unwrap().lease).collect();
    for lease in leases {
        assert_eq!(registry.release(lease, Delivery::Succeeded), None);
        assert!(registry.claim(&packet(), None, at(0)).is_ok());
    }
    assert_eq!(registry.remove(Direction::Put, Entry::exact(packet())), Some(1));
    assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
}

#[test]
fn an_entry_can_be_claimed_until_just_before_its_expiry() {
    let just_before = Instant::new(Duration::from_secs(5) - Duration::from_nanos(1));
    let entry = Entry::exact(packet()).expires_after(seconds(5));
    assert!(with(entry).claim(&packet(), None, just_before).is_ok());
    let mut registry = with(entry);
    assert_eq!(registry.claim(&packet(), None, at(5)).unwrap_err(), Refusal::NotRegistered);
    assert_eq!(registry.len(), 1);
    assert!(registry.claim(&packet(), None, just_before).is_ok());
}

#[test]
fn expired_entries_are_taken_out_one_by_one_and_the_earliest_first() {
    let mut registry = Registry::new();
    for seconds in [3, 1, 4, 2] {
        let packet = packet().with_size(seconds).unwrap();
        registry
            .insert(
                Direction::Put,
                Entry::exact(packet).expires_after(Duration::from_secs(seconds)),
                seconds,
                at(0),
            )
            .unwrap();
    }
    registry.insert(Direction::Put, Entry::exact(packet()), 5, at(0)).unwrap();
    assert_eq!(registry.take_expired(at(0)), None);
    assert_eq!([(); 3].map(|()| registry.take_expired(at(2))), [Some(1), Some(2), None]);
    assert_eq!([(); 3].map(|()| registry.take_expired(at(1_000))), [Some(3), Some(4), None]);
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.remove(Direction::Put, Entry::exact(packet())), Some(5));
}

#[test]
fn pop_takes_out_one_entry_even_if_it_is_in_use_or_has_expired() {
    let leased = Entry::exact(packet()).until_delivered();
    let mut registry = with(leased);
    let lease = registry.claim(&packet(), None, at(0)).unwrap().lease;
    registry
        .insert(Direction::Put, Entry::new(key()).max_size(9).expires_after(seconds(1)), 2, at(0))
        .unwrap();
    registry.insert(Direction::Get, key(), 3, at(0)).unwrap();

    let mut popped = Vec::new();
    for left in (0..3).rev() {
        popped.extend(registry.pop());
        assert_eq!(registry.len(), left);
    }
    popped.sort_unstable();
    assert_eq!(popped, [1, 2, 3]);
    assert_eq!(registry.pop(), None);
    assert_eq!(registry.take_expired(at(1)), None);
    assert_eq!(registry.release(lease, Delivery::Succeeded), None);
}

#[test]
fn no_call_takes_out_more_than_one_expired_entry() {
    const ENTRIES: u64 = 1_000;
    let mut registry = Registry::new();
    for size in 0..ENTRIES {
        let entry = Entry::exact(packet().with_size(size).unwrap()).expires_after(seconds(1));
        registry.insert(Direction::Put, entry, size, at(0)).unwrap();
    }
    let late = at(1_000_000);
    let sized = packet().with_size(7).unwrap();
    assert_eq!(registry.claim(&sized, None, late).unwrap_err(), Refusal::NotRegistered);
    assert_eq!(registry.len() as u64, ENTRIES);

    assert_eq!(registry.insert(Direction::Put, Entry::exact(packet()), ENTRIES, late), Ok(None));
    assert_eq!(registry.len() as u64, ENTRIES + 1);
    let lease = registry.claim(&packet(), None, late).unwrap().lease;
    assert_eq!(registry.release(lease, Delivery::Succeeded), None);
    assert_eq!(registry.len() as u64, ENTRIES + 1);

    for left in (0..ENTRIES).rev() {
        assert!(registry.take_expired(late).is_some());
        assert_eq!(registry.len() as u64, left + 1);
    }
    assert_eq!(registry.take_expired(late), None);
}

#[test]
fn an_expired_entry_is_replaced_and_its_handler_is_returned() {
    let mut registry = with(Entry::exact(packet()).expires_after(seconds(5)));
    assert!(registry.insert(Direction::Put, Entry::exact(packet()), 2, at(4)).is_err());
    assert_eq!(registry.insert(Direction::Put, Entry::exact(packet()), 2, at(5)), Ok(Some(1)));
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.claim(&packet(), None, at(6)).unwrap().handler, 2);
    assert_eq!(registry.take_expired(at(6)), None);
}

#[test]
fn an_expired_entry_is_replaced_even_while_it_is_in_use() {
    let entry = Entry::exact(packet()).until_delivered();
    let mut registry = with(entry.expires_after(seconds(5)));
    let stale = registry.claim(&packet(), None, at(4)).unwrap().lease;
    assert_eq!(registry.insert(Direction::Put, entry, 2, at(5)), Ok(Some(1)));
    assert_eq!(registry.release(stale, Delivery::Succeeded), None);
    assert_eq!(registry.claim(&packet(), None, at(5)).unwrap().handler, 2);
}

#[test]
fn an_expired_exact_entry_does_not_hide_an_entry_of_any_size() {
    let sized = packet().with_size(3).unwrap();
    let mut registry = with(Entry::new(key()).max_size(9));
    registry
        .insert(Direction::Put, Entry::exact(sized).expires_after(seconds(5)), 2, at(0))
        .unwrap();
    assert_eq!(registry.claim(&sized, None, at(4)).unwrap().handler, 2);
    assert_eq!(registry.claim(&sized, None, at(5)).unwrap().handler, 1);
    assert_eq!(registry.len(), 2);
}

#[test]
fn the_expiry_of_a_removed_entry_does_not_apply_to_its_successor() {
    let mut registry = with(Entry::exact(packet()).expires_after(seconds(5)));
    registry.remove(Direction::Put, Entry::exact(packet()));
    registry.insert(Direction::Put, Entry::exact(packet()), 2, at(1)).unwrap();
    assert_eq!(registry.claim(&packet(), None, at(6)).unwrap().handler, 2);
}

#[test]
fn a_transfer_that_has_begun_continues_after_the_expiry_of_its_entry() {
    let mut registry = with(Entry::exact(packet()).until_delivered().expires_after(seconds(5)));
    let lease = registry.claim(&packet(), None, at(4)).unwrap().lease;
    assert_eq!(registry.release(lease, Delivery::Succeeded), Some(1)); // the entry has not been taken out, even if it has expired
    assert_eq!(registry.take_expired(at(5)), None);

    let mut registry = with(Entry::exact(packet()).until_delivered().expires_after(seconds(5)));
    let lease = registry.claim(&packet(), None, at(4)).unwrap().lease;
    assert_eq!(registry.take_expired(at(5)), Some(1));
    assert_eq!(registry.release(lease, Delivery::Succeeded), None);
    assert!(registry.is_empty());
}

#[test]
fn an_entry_released_after_a_failed_transfer_stays_expired() {
    let mut registry = with(Entry::exact(packet()).until_delivered().expires_after(seconds(5)));
    let lease = registry.claim(&packet(), None, at(4)).unwrap().lease;
    assert_eq!(registry.release(lease, Delivery::Failed), None);
    assert_eq!(registry.claim(&packet(), None, at(5)).unwrap_err(), Refusal::NotRegistered);
}

#[test]
fn an_exact_entry_matches_all_25_bytes_only() {
    let sized = packet().with_size(3).unwrap();
    let mut registry = with(Entry::exact(sized));
    let other_key = StartPacket::put(Key::from_bytes([9; 16])).with_size(3).unwrap();
    let other_direction = StartPacket::get(sized.key()).with_size(3).unwrap();
    for other in [packet(), sized.with_size(4).unwrap(), other_key, other_direction] {
        assert_eq!(refusal(&mut registry, &other), Refusal::NotRegistered);
    }
    let claim = registry.claim(&sized, None, at(0)).unwrap();
    assert_eq!((claim.handler, claim.limit), (1, None));
}

#[test]
fn an_exact_entry_takes_precedence_over_an_entry_of_any_size() {
    let sized = packet().with_size(3).unwrap();
    for exact in [packet(), sized] {
        let mut registry = with(Entry::new(key()).max_size(9));
        registry.insert(Direction::Put, Entry::exact(exact).until_delivered(), 2, at(0)).unwrap();
        assert_eq!(registry.claim(&exact, None, at(0)).unwrap().handler, 2);
        assert_eq!(refusal(&mut registry, &exact), Refusal::InUse);
        assert_eq!(registry.remove(Direction::Put, Entry::exact(exact)), Some(2));
        assert_eq!(registry.claim(&exact, None, at(0)).unwrap().handler, 1);
    }
}

#[test]
fn an_entry_with_a_maximum_refuses_larger_declared_sizes() {
    let mut registry = with(Entry::new(key()).max_size(9));
    for size in [0, 1, 8, 9] {
        let claim = registry.claim(&packet().with_size(size).unwrap(), None, at(0)).unwrap();
        assert_eq!((claim.handler, claim.limit), (1, Some(9)));
    }
    assert_eq!(registry.claim(&packet(), None, at(0)).unwrap().limit, Some(9));
    let larger = packet().with_size(10).unwrap();
    let expected = Refusal::TooLarge { declared: 10, limit: 9 };
    assert_eq!(refusal(&mut registry, &larger), expected);
}

#[test]
fn a_packet_that_is_too_large_does_not_use_up_the_entry() {
    for entry in
        [Entry::new(key()).max_size(9).once(), Entry::new(key()).max_size(9).until_delivered()]
    {
        let mut registry = with(entry);
        refusal(&mut registry, &packet().with_size(10).unwrap());
        assert!(registry.claim(&packet(), None, at(0)).is_ok());
    }
}

#[test]
fn a_put_above_the_limit_of_the_server_does_not_use_up_the_entry() {
    let sized = packet().with_size(10).unwrap();
    for entry in [
        Entry::exact(sized).once(),
        Entry::new(key()).max_size(20).once(),
        Entry::exact(sized).until_delivered(),
    ] {
        let mut registry = with(entry);
        let expected = Refusal::TooLarge { declared: 10, limit: 9 };
        assert_eq!(registry.claim(&sized, Some(9), at(0)).unwrap_err(), expected);
        assert_eq!(registry.len(), 1);
        let claim = registry.claim(&sized, Some(10), at(0)).unwrap();
        assert_eq!((claim.handler, claim.limit), (1, Some(10)));
    }
}

#[test]
fn the_limit_of_a_claim_is_the_smaller_of_the_limits_of_entry_and_server() {
    let mut registry = with(Entry::new(key()).max_size(9));
    for (servers, expected) in [(8, 8), (9, 9), (10, 9), (0, 0)].map(|(a, b)| (Some(a), Some(b))) {
        assert_eq!(registry.claim(&packet(), servers, at(0)).unwrap().limit, expected);
    }
}

#[test]
fn the_limit_of_the_server_does_not_apply_to_gets() {
    let get = StartPacket::get(packet().key()).with_size(10).unwrap();
    let mut registry = Registry::new();
    registry.insert(Direction::Get, Entry::exact(get), 1, at(0)).unwrap();
    assert_eq!(registry.claim(&get, Some(0), at(0)).unwrap().limit, None);
}

#[test]
fn an_entry_that_has_not_expired_is_not_replaced_even_while_it_is_in_use() {
    let entry = Entry::exact(packet()).until_delivered();
    let mut registry = with(entry);
    let lease = registry.claim(&packet(), None, at(0)).unwrap().lease;
    let unlimited = Entry::exact(packet());
    let AlreadyRegistered { direction, entry: rejected, .. } =
        registry.insert(Direction::Put, unlimited, 2, at(0)).unwrap_err();
    assert_eq!((direction, rejected), (Direction::Put, unlimited));
    registry.release(lease, Delivery::Failed);
    assert_eq!(registry.claim(&packet(), None, at(0)).unwrap().handler, 1);
}

#[test]
fn a_lease_of_a_removed_entry_has_no_effect_on_its_successor() {
    for delivery in [Delivery::Failed, Delivery::Succeeded] {
        let entry = Entry::exact(packet()).until_delivered();
        let mut registry = with(entry);
        let stale = registry.claim(&packet(), None, at(0)).unwrap().lease;
        registry.remove(Direction::Put, entry);
        registry.insert(Direction::Put, entry, 2, at(0)).unwrap();
        let current = registry.claim(&packet(), None, at(0)).unwrap().lease;
        registry.release(stale, delivery);
        assert_eq!(refusal(&mut registry, &packet()), Refusal::InUse);
        registry.release(current, Delivery::Failed);
        assert_eq!(registry.claim(&packet(), None, at(0)).unwrap().handler, 2);
    }
}

#[test]
fn a_lease_of_one_registry_has_no_effect_on_another() {
    for delivery in [Delivery::Failed, Delivery::Succeeded] {
        let entry = Entry::exact(packet()).until_delivered();
        let (mut one, mut other) = (with(entry), with(entry));
        let foreign = one.claim(&packet(), None, at(0)).unwrap().lease;
        let own = other.claim(&packet(), None, at(0)).unwrap().lease;
        assert_eq!(other.release(foreign, delivery), None);
        assert_eq!(refusal(&mut other, &packet()), Refusal::InUse);
        assert_eq!(other.release(own, Delivery::Succeeded), Some(1));
    }
}

#[test]
fn an_entry_made_from_a_key_matches_any_size_without_a_limit() {
    let mut registry = Registry::new();
    registry.insert(Direction::Put, key(), 1, at(0)).unwrap();
    let largest = packet().with_size(i64::MAX as u64).unwrap();
    for packet in [packet(), packet().with_size(0).unwrap(), largest] {
        let claim = registry.claim(&packet, None, at(0)).unwrap();
        assert_eq!((claim.handler, claim.limit), (1, None));
        let claim = registry.claim(&packet, Some(u64::MAX), at(0)).unwrap();
        assert_eq!(claim.limit, Some(u64::MAX));
    }
    assert_eq!(Entry::from(key()), Entry::new(key()));
    assert_eq!(registry.remove(Direction::Put, key()), Some(1));
}

#[test]
fn an_exact_size_is_the_size_of_an_exact_packet() {
    for size in [ObjectSize::UNKNOWN, ObjectSize::new(0).unwrap(), ObjectSize::new(3).unwrap()] {
        let entry = Entry::new(key()).exact_size(size);
        assert_eq!(entry, Entry::exact(packet().with_object_size(size)));
        assert_eq!(entry.key(), key());
        let mut registry = with(entry);
        assert!(registry.claim(&packet().with_object_size(size), None, at(0)).is_ok());
        let other = packet().with_size(4).unwrap();
        assert_eq!(refusal(&mut registry, &other), Refusal::NotRegistered);
    }
}

#[test]
fn the_maximum_of_an_exact_entry_of_unknown_size_limits_the_claim() {
    let mut registry = with(Entry::exact(packet()).max_size(9));
    assert_eq!(registry.claim(&packet(), None, at(0)).unwrap().limit, Some(9));
    assert_eq!(registry.claim(&packet(), Some(8), at(0)).unwrap().limit, Some(8));
}

#[test]
fn the_last_of_once_and_until_delivered_applies() {
    assert_eq!(Entry::new(key()).until_delivered().once(), Entry::new(key()).once());
    let entry = Entry::new(key()).once().until_delivered();
    assert_eq!(entry, Entry::new(key()).until_delivered());
}

#[test]
fn an_entry_expires_relative_to_its_insertion() {
    let entry = Entry::new(key()).expires_after(seconds(5));
    for inserted in [0, 3, 1_000_000] {
        let mut registry = Registry::new();
        registry.insert(Direction::Put, entry, 1, at(inserted)).unwrap();
        let expiry = at(inserted + 5);
        let just_before = Instant::new(expiry.since_epoch() - Duration::from_nanos(1));
        assert_eq!(registry.take_expired(just_before), None);
        assert!(registry.claim(&packet(), None, just_before).is_ok());
        assert_eq!(registry.claim(&packet(), None, expiry).unwrap_err(), Refusal::NotRegistered);
        // The replacement starts a period of its own.
        assert_eq!(registry.insert(Direction::Put, entry, 2, expiry), Ok(Some(1)));
        assert!(registry.claim(&packet(), None, at(inserted + 9)).is_ok());
        assert_eq!(registry.take_expired(at(inserted + 9)), None);
        assert_eq!(registry.take_expired(at(inserted + 10)), Some(2));
    }
}

#[test]
fn an_entry_that_expires_beyond_the_range_of_time_can_be_claimed_until_then() {
    let end = Instant::new(Duration::MAX);
    let just_before = Instant::new(Duration::MAX - Duration::from_nanos(1));
    let mut registry = Registry::new();
    let entry = Entry::new(key()).expires_after(Duration::MAX);
    registry.insert(Direction::Put, entry, 1, at(7)).unwrap();
    assert!(registry.claim(&packet(), None, just_before).is_ok());
    assert_eq!(registry.take_expired(just_before), None);
    assert_eq!(registry.take_expired(end), Some(1));
}

#[test]
fn an_entry_belongs_to_the_direction_in_which_it_was_inserted() {
    let get = StartPacket::get(key());
    for entry in [Entry::new(key()), Entry::exact(packet()), Entry::exact(get)] {
        let mut registry = with(entry);
        assert_eq!(refusal(&mut registry, &get), Refusal::NotRegistered);
        assert_eq!(registry.remove(Direction::Get, entry), None);
        registry.insert(Direction::Get, entry, 2, at(0)).unwrap();
        assert_eq!(registry.claim(&packet(), None, at(0)).unwrap().handler, 1);
        assert_eq!(registry.claim(&get, None, at(0)).unwrap().handler, 2);
        assert_eq!(registry.remove(Direction::Put, entry), Some(1));
        assert_eq!(registry.claim(&get, None, at(0)).unwrap().handler, 2);
    }
}

#[test]
fn the_error_of_an_insert_shows_the_rejected_entry() {
    let error = with(Entry::new(key()).max_size(9))
        .insert(Direction::Put, Entry::new(key()).max_size(10), 2, at(0))
        .unwrap_err();
    let expected =
        format!("already registered: put of any size up to 10 bytes, key {}", packet().key());
    assert_eq!(error.to_string(), expected);
}

fn packet() -> StartPacket {
    StartPacket::put(key())
}

fn key() -> Key {
    Key::from_bytes([7; 16])
}

/// Returns a registry with this entry for puts. Its handler is 1.
fn with(entry: Entry) -> Registry<u64> {
    let mut registry = Registry::new();
    registry.insert(Direction::Put, entry, 1, at(0)).unwrap();
    registry
}

fn refusal(registry: &mut Registry<u64>, packet: &StartPacket) -> Refusal {
    registry.claim(packet, None, at(0)).unwrap_err()
}

fn at(time: u64) -> Instant {
    Instant::new(seconds(time))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
