//! The registry by its rules, one by one.

#![cfg(feature = "registry")]

use core::time::Duration;

use dataserver_core::{
    AlreadyRegistered, Direction, Entry, Instant, Key, Refusal, Registry, StartPacket,
};

#[test]
fn a_once_entry_ends_at_its_claim_whatever_becomes_of_the_transfer() {
    for delivered in [false, true] {
        let mut registry = with(Entry::exact(packet()).once());
        let lease = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
        assert!(registry.is_empty());
        assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
        assert_eq!(registry.release(lease, delivered), None);
        assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
    }
}

#[test]
fn an_entry_until_delivered_is_in_use_until_its_lease_is_released() {
    let mut registry = with(Entry::exact(packet()).until_delivered());
    let lease = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
    assert_eq!(refusal(&mut registry, &packet()), Refusal::InUse);
    assert_eq!(registry.release(lease, false), None);
    let lease = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
    assert_eq!(registry.release(lease, true), Some(1));
    assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
    assert!(registry.is_empty());
}

#[test]
fn a_standing_entry_is_claimed_any_number_of_times_at_once() {
    let mut registry = with(Entry::exact(packet()));
    let leases: Vec<_> =
        (0..3).map(|_| registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease).collect();
    for lease in leases {
        assert_eq!(registry.release(lease, true), None);
        assert!(registry.claim(&packet(), u64::MAX, at(0)).is_ok());
    }
    assert_eq!(registry.remove(packet()), Some(1));
    assert_eq!(refusal(&mut registry, &packet()), Refusal::NotRegistered);
}

#[test]
fn an_entry_may_be_claimed_until_just_before_its_expiry() {
    let just_before = Instant::new(Duration::from_secs(5) - Duration::from_nanos(1));
    let entry = Entry::exact(packet()).expires(at(5));
    assert!(with(entry).claim(&packet(), u64::MAX, just_before).is_ok());
    let mut registry = with(entry);
    assert_eq!(registry.claim(&packet(), u64::MAX, at(5)).unwrap_err(), Refusal::NotRegistered);
    assert_eq!(registry.len(), 1);
    assert!(registry.claim(&packet(), u64::MAX, just_before).is_ok());
}

#[test]
fn expired_entries_are_taken_out_one_by_one_the_earliest_first() {
    let mut registry = Registry::new();
    for seconds in [3, 1, 4, 2] {
        let packet = packet().with_size(seconds).unwrap();
        registry.add(Entry::exact(packet).expires(at(seconds)), seconds, at(0)).unwrap();
    }
    registry.add(packet(), 5, at(0)).unwrap();
    assert_eq!(registry.take_expired(at(0)), None);
    assert_eq!([(); 3].map(|()| registry.take_expired(at(2))), [Some(1), Some(2), None]);
    assert_eq!([(); 3].map(|()| registry.take_expired(at(1_000))), [Some(3), Some(4), None]);
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.remove(packet()), Some(5));
}

#[test]
fn a_pop_takes_out_one_entry_whether_it_is_in_use_or_has_expired_or_not() {
    let leased = Entry::exact(packet()).until_delivered();
    let mut registry = with(leased);
    let lease = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
    registry.add(Entry::any_size(packet(), 9).expires(at(1)), 2, at(0)).unwrap();
    registry.add(StartPacket::get(packet().key()), 3, at(0)).unwrap();

    let mut popped = Vec::new();
    for left in (0..3).rev() {
        popped.extend(registry.pop());
        assert_eq!(registry.len(), left);
    }
    popped.sort_unstable();
    assert_eq!(popped, [1, 2, 3]);
    assert_eq!(registry.pop(), None);
    assert_eq!(registry.take_expired(at(1)), None);
    assert_eq!(registry.release(lease, true), None);
}

#[test]
fn no_call_takes_out_more_than_one_of_many_expired_entries() {
    const ENTRIES: u64 = 1_000;
    let mut registry = Registry::new();
    for size in 0..ENTRIES {
        let entry = Entry::exact(packet().with_size(size).unwrap()).expires(at(1));
        registry.add(entry, size, at(0)).unwrap();
    }
    let late = at(1_000_000);
    let sized = packet().with_size(7).unwrap();
    assert_eq!(registry.claim(&sized, u64::MAX, late).unwrap_err(), Refusal::NotRegistered);
    assert_eq!(registry.len() as u64, ENTRIES);

    assert_eq!(registry.add(packet(), ENTRIES, late), Ok(None));
    assert_eq!(registry.len() as u64, ENTRIES + 1);
    let lease = registry.claim(&packet(), u64::MAX, late).unwrap().lease;
    assert_eq!(registry.release(lease, true), None);
    assert_eq!(registry.len() as u64, ENTRIES + 1);

    for left in (0..ENTRIES).rev() {
        assert!(registry.take_expired(late).is_some());
        assert_eq!(registry.len() as u64, left + 1);
    }
    assert_eq!(registry.take_expired(late), None);
}

#[test]
fn an_expired_entry_is_replaced_and_its_handler_is_returned() {
    let mut registry = with(Entry::exact(packet()).expires(at(5)));
    assert!(registry.add(packet(), 2, at(4)).is_err());
    assert_eq!(registry.add(packet(), 2, at(5)), Ok(Some(1)));
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.claim(&packet(), u64::MAX, at(6)).unwrap().handler, 2);
    assert_eq!(registry.take_expired(at(6)), None);
}

#[test]
fn an_expired_entry_is_replaced_even_while_it_is_in_use() {
    let entry = Entry::exact(packet()).until_delivered();
    let mut registry = with(entry.expires(at(5)));
    let stale = registry.claim(&packet(), u64::MAX, at(4)).unwrap().lease;
    assert_eq!(registry.add(entry, 2, at(5)), Ok(Some(1)));
    assert_eq!(registry.release(stale, true), None);
    assert_eq!(registry.claim(&packet(), u64::MAX, at(5)).unwrap().handler, 2);
}

#[test]
fn an_expired_exact_entry_does_not_hide_one_of_any_size() {
    let sized = packet().with_size(3).unwrap();
    let mut registry = with(Entry::any_size(packet(), 9));
    registry.add(Entry::exact(sized).expires(at(5)), 2, at(0)).unwrap();
    assert_eq!(registry.claim(&sized, u64::MAX, at(4)).unwrap().handler, 2);
    assert_eq!(registry.claim(&sized, u64::MAX, at(5)).unwrap().handler, 1);
    assert_eq!(registry.len(), 2);
}

#[test]
fn the_expiry_of_a_removed_entry_does_not_touch_the_next_one() {
    let mut registry = with(Entry::exact(packet()).expires(at(5)));
    registry.remove(packet());
    registry.add(packet(), 2, at(1)).unwrap();
    assert_eq!(registry.claim(&packet(), u64::MAX, at(6)).unwrap().handler, 2);
}

#[test]
fn a_transfer_that_has_begun_outlives_the_expiry_of_its_entry() {
    let mut registry = with(Entry::exact(packet()).until_delivered().expires(at(5)));
    let lease = registry.claim(&packet(), u64::MAX, at(4)).unwrap().lease;
    assert_eq!(registry.release(lease, true), Some(1)); // at 5 or later, but nobody has asked
    assert_eq!(registry.take_expired(at(5)), None);

    let mut registry = with(Entry::exact(packet()).until_delivered().expires(at(5)));
    let lease = registry.claim(&packet(), u64::MAX, at(4)).unwrap().lease;
    assert_eq!(registry.take_expired(at(5)), Some(1));
    assert_eq!(registry.release(lease, true), None);
    assert!(registry.is_empty());
}

#[test]
fn an_expired_entry_that_a_failed_transfer_gives_back_stays_expired() {
    let mut registry = with(Entry::exact(packet()).until_delivered().expires(at(5)));
    let lease = registry.claim(&packet(), u64::MAX, at(4)).unwrap().lease;
    assert_eq!(registry.release(lease, false), None);
    assert_eq!(registry.claim(&packet(), u64::MAX, at(5)).unwrap_err(), Refusal::NotRegistered);
}

#[test]
fn an_exact_entry_matches_all_25_bytes_and_nothing_else() {
    let sized = packet().with_size(3).unwrap();
    let mut registry = with(Entry::exact(sized));
    let other_key = StartPacket::put(Key::new([9; 16])).with_size(3).unwrap();
    let other_direction = StartPacket::get(sized.key()).with_size(3).unwrap();
    for other in [packet(), sized.with_size(4).unwrap(), other_key, other_direction] {
        assert_eq!(refusal(&mut registry, &other), Refusal::NotRegistered);
    }
    let claim = registry.claim(&sized, u64::MAX, at(0)).unwrap();
    assert_eq!((claim.handler, claim.limit), (1, u64::MAX));
}

#[test]
fn an_exact_entry_comes_before_one_of_any_size() {
    let sized = packet().with_size(3).unwrap();
    for exact in [packet(), sized] {
        let mut registry = with(Entry::any_size(packet(), 9));
        registry.add(Entry::exact(exact).until_delivered(), 2, at(0)).unwrap();
        assert_eq!(registry.claim(&exact, u64::MAX, at(0)).unwrap().handler, 2);
        assert_eq!(refusal(&mut registry, &exact), Refusal::InUse);
        assert_eq!(registry.remove(exact), Some(2));
        assert_eq!(registry.claim(&exact, u64::MAX, at(0)).unwrap().handler, 1);
    }
}

#[test]
fn an_entry_of_any_size_holds_a_declared_size_to_its_limit() {
    let mut registry = with(Entry::any_size(packet().with_size(1_000).unwrap(), 9));
    for size in [0, 1, 8, 9] {
        let claim = registry.claim(&packet().with_size(size).unwrap(), u64::MAX, at(0)).unwrap();
        assert_eq!((claim.handler, claim.limit), (1, 9));
    }
    assert_eq!(registry.claim(&packet(), u64::MAX, at(0)).unwrap().limit, 9);
    let larger = packet().with_size(10).unwrap();
    let expected = Refusal::TooLarge { declared: 10, limit: 9 };
    assert_eq!(refusal(&mut registry, &larger), expected);
}

#[test]
fn a_packet_that_is_too_large_does_not_use_the_entry_up() {
    for entry in
        [Entry::any_size(packet(), 9).once(), Entry::any_size(packet(), 9).until_delivered()]
    {
        let mut registry = with(entry);
        refusal(&mut registry, &packet().with_size(10).unwrap());
        assert!(registry.claim(&packet(), u64::MAX, at(0)).is_ok());
    }
}

#[test]
fn a_put_above_the_servers_limit_does_not_use_the_entry_up() {
    let sized = packet().with_size(10).unwrap();
    for entry in [
        Entry::exact(sized).once(),
        Entry::any_size(packet(), 20).once(),
        Entry::exact(sized).until_delivered(),
    ] {
        let mut registry = with(entry);
        let expected = Refusal::TooLarge { declared: 10, limit: 9 };
        assert_eq!(registry.claim(&sized, 9, at(0)).unwrap_err(), expected);
        assert_eq!(registry.len(), 1);
        let claim = registry.claim(&sized, 10, at(0)).unwrap();
        assert_eq!((claim.handler, claim.limit), (1, 10));
    }
}

#[test]
fn the_limit_of_a_claim_is_the_smaller_of_the_entrys_and_the_servers() {
    let mut registry = with(Entry::any_size(packet(), 9));
    for (servers, expected) in [(8, 8), (9, 9), (10, 9), (0, 0)] {
        assert_eq!(registry.claim(&packet(), servers, at(0)).unwrap().limit, expected);
    }
}

#[test]
fn the_servers_limit_is_not_for_what_it_sends() {
    let get = StartPacket::get(packet().key()).with_size(10).unwrap();
    let mut registry = with(Entry::exact(get));
    assert_eq!(registry.claim(&get, 0, at(0)).unwrap().limit, u64::MAX);
}

#[test]
fn an_entry_that_is_there_is_not_replaced_even_while_it_is_in_use() {
    let entry = Entry::exact(packet()).until_delivered();
    let mut registry = with(entry);
    let lease = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
    let standing = Entry::exact(packet());
    assert_eq!(registry.add(standing, 2, at(0)), Err(AlreadyRegistered(standing)));
    registry.release(lease, false);
    assert_eq!(registry.claim(&packet(), u64::MAX, at(0)).unwrap().handler, 1);
}

#[test]
fn a_lease_of_a_removed_entry_does_not_touch_the_next_one() {
    for delivered in [false, true] {
        let entry = Entry::exact(packet()).until_delivered();
        let mut registry = with(entry);
        let stale = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
        registry.remove(entry);
        registry.add(entry, 2, at(0)).unwrap();
        let current = registry.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
        registry.release(stale, delivered);
        assert_eq!(refusal(&mut registry, &packet()), Refusal::InUse);
        registry.release(current, false);
        assert_eq!(registry.claim(&packet(), u64::MAX, at(0)).unwrap().handler, 2);
    }
}

#[test]
fn a_lease_of_one_registry_does_not_touch_the_entry_of_another() {
    for delivered in [false, true] {
        let entry = Entry::exact(packet()).until_delivered();
        let (mut one, mut other) = (with(entry), with(entry));
        let foreign = one.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
        let own = other.claim(&packet(), u64::MAX, at(0)).unwrap().lease;
        assert_eq!(other.release(foreign, delivered), None);
        assert_eq!(refusal(&mut other, &packet()), Refusal::InUse);
        assert_eq!(other.release(own, true), Some(1));
    }
}

#[test]
fn an_entry_says_which_way_its_objects_go() {
    let get = StartPacket::get(packet().key());
    for (packet, direction) in [(packet(), Direction::Put), (get, Direction::Get)] {
        assert_eq!(Entry::exact(packet).direction(), direction);
        assert_eq!(Entry::any_size(packet, 9).direction(), direction);
    }
}

#[test]
fn an_error_names_the_entry_that_is_there() {
    let error = with(Entry::any_size(packet(), 9))
        .add(Entry::any_size(packet(), 10), 2, at(0))
        .unwrap_err();
    let expected =
        format!("already registered: put of any size up to 10 bytes, key {}", packet().key());
    assert_eq!(error.to_string(), expected);
}

fn packet() -> StartPacket {
    StartPacket::put(Key::new([7; 16]))
}

/// A registry with this entry, and the handler 1.
fn with(entry: Entry) -> Registry<u64> {
    let mut registry = Registry::new();
    registry.add(entry, 1, at(0)).unwrap();
    registry
}

fn refusal(registry: &mut Registry<u64>, packet: &StartPacket) -> Refusal {
    registry.claim(packet, u64::MAX, at(0)).unwrap_err()
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}
