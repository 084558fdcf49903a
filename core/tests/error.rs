//! The messages of all errors.

use dataserver_core::{
    Cause, Direction, Key, LocalError, Malformed, ObjectSize, PeerError, Refusal, SizeOutOfRange,
    StartPacket, Timer,
};
#[cfg(feature = "registry")]
use dataserver_core::{Entry, Instant, Registry};

#[test]
fn every_message_says_what_happened_and_shows_the_numbers() {
    let malformed = |reason| Cause::Peer(PeerError::Malformed(reason));
    let messages = [
        (
            malformed(Malformed::Type(7)),
            "malformed start packet: type 7, expected 0 (put) or 1 (get), alone or plus 128 (framed), 160 (with a digest) or 224 (resumable)",
        ),
        (
            malformed(Malformed::Size(-2)),
            "malformed start packet: object size -2, expected -1 (unknown) or more",
        ),
        (
            PeerError::TruncatedStartPacket { received: 24 }.into(),
            "the peer ended the start packet after 24 of 25 bytes",
        ),
        (
            PeerError::Truncated { received: 5, expected: 9 }.into(),
            "the peer ended the object after 5 of 9 bytes",
        ),
        (
            PeerError::LongerThanDeclared { declared: 9 }.into(),
            "the peer declared 9 bytes and sent more",
        ),
        (
            PeerError::LongerThanAllowed { limit: 9 }.into(),
            "the peer sent more than the 9 bytes that are allowed",
        ),
        (PeerError::NotSilent.into(), "the peer sent bytes where it only receives"),
        (
            PeerError::ClosedEarly { moved: 3 }.into(),
            "the peer closed when 3 bytes of the object had been sent",
        ),
        (
            PeerError::Reset { moved: 3 }.into(),
            "the peer reset the connection when 3 bytes had moved",
        ),
        (
            PeerError::DigestMismatch.into(),
            "the digest of the peer is not that of the bytes that were received",
        ),
        (
            PeerError::OffsetBeyondSize { offset: 9, size: 3 }.into(),
            "the peer has 9 bytes of an object of 3 bytes",
        ),
        (
            LocalError::OffsetBeyondSize { offset: 9, size: 3 }.into(),
            "9 bytes are there of an object of at most 3 bytes",
        ),
        (
            Refusal::Unsupported.into(),
            "refused: this side does not have the features that it asks for",
        ),
        (
            LocalError::ShorterThanDeclared { sent: 3, declared: 9 }.into(),
            "the object ended after 3 of the 9 bytes declared for it",
        ),
        (
            LocalError::LongerThanDeclared { declared: 9 }.into(),
            "the object is longer than the 9 bytes declared for it",
        ),
        (
            LocalError::Overrun { reported: 5, max: 4 }.into(),
            "the driver moved 5 bytes where at most 4 were allowed",
        ),
        (
            LocalError::Misuse { verb: "committed", step: "Read" }.into(),
            "the driver called `committed` where `Read` was due",
        ),
        (
            LocalError::Aborted { reason: "the disk is full", code: 0 }.into(),
            "aborted: the disk is full",
        ),
        (Timer::Start.into(), "the start timeout ran out"),
        (Timer::Idle.into(), "the idle timeout ran out"),
        (Timer::Receipt.into(), "the receipt timeout ran out"),
        (Timer::Total.into(), "the total timeout ran out"),
        (Refusal::NotRegistered.into(), "refused: nothing is registered for this start packet"),
        (Refusal::InUse.into(), "refused: another connection is using this registration"),
        (
            Refusal::TooLarge { declared: 9, limit: 5 }.into(),
            "refused: 9 bytes declared, at most 5 allowed",
        ),
    ];
    for (error, message) in messages {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_message_of_a_size_out_of_range_shows_the_range() {
    assert_eq!(
        SizeOutOfRange(1 << 63).to_string(),
        "object size 9223372036854775808, expected at most 9223372036854775807"
    );
}

#[test]
fn packets_keys_and_sizes_are_shown_for_logs() {
    let key = Key::from_name("start");
    let hex = "ea2b2676c28c0db26d39331a336c6b92";
    assert_eq!(key.to_string(), hex);
    assert_eq!(format!("{key:?}"), format!("Key({hex})"));

    let put = StartPacket::put(key);
    let get = StartPacket::get(key).with_size(5).unwrap();
    assert_eq!(put.to_string(), format!("put of unknown size, key {hex}"));
    assert_eq!(get.to_string(), format!("get of 5 bytes, key {hex}"));
    assert_eq!(format!("{get:?}"), format!("StartPacket(get of 5 bytes, key {hex})"));
    for (packet, prefix) in
        [(get.framed(), "framed"), (get.with_digest(), "checked"), (get.resumable(), "resumable")]
    {
        assert_eq!(packet.to_string(), format!("{prefix} get of 5 bytes, key {hex}"));
    }
    assert_eq!(ObjectSize::UNKNOWN.to_string(), "unknown size");
    assert_eq!(Direction::Put.to_string(), "put");
}

#[cfg(feature = "registry")]
#[test]
fn the_message_of_an_entry_registered_twice_shows_the_entry() {
    let key = Key::from_name("start");
    let message = |direction, entry: Entry| {
        let mut registry = Registry::new();
        registry.insert(direction, entry, (), Instant::default()).unwrap();
        let error = registry.insert(direction, entry, (), Instant::default()).unwrap_err();
        error.to_string()
    };
    let sized = StartPacket::get(key).with_size(5).unwrap();
    for (direction, entry, expected) in [
        (Direction::Get, Entry::exact(sized), "get of 5 bytes"),
        (Direction::Put, Entry::exact(sized), "put of 5 bytes"),
        (Direction::Get, Entry::exact(StartPacket::get(key)), "get of unknown size"),
        (Direction::Get, Entry::new(key), "get of any size"),
        (Direction::Put, Entry::new(key).max_size(9), "put of any size up to 9 bytes"),
    ] {
        let expected = format!("already registered: {expected}, key {key}");
        assert_eq!(message(direction, entry), expected);
    }
}
