//! The start packet against the vectors of the original Go package, and at the edges of its fields.

use dataserver_core::{Direction, Key, Malformed, ObjectSize, StartPacket};
use serde::Deserialize;

/// One line of `start_packets.json`, which was made with the original.
#[derive(Debug, Deserialize)]
struct Vector {
    name_hex: String,
    #[serde(rename = "type")]
    kind: u8,
    object_size: i64,
    start_packet_hex: String,
}

#[test]
fn every_vector_is_made_from_its_fields() {
    let mut made = 0;
    for vector in vectors() {
        let Some(packet) = packet_of(&vector) else { continue };
        assert_eq!(to_hex(packet.as_bytes()), vector.start_packet_hex, "{vector:?}");
        made += 1;
    }
    assert_eq!(made, vectors().len() - 3, "three of the vectors are malformed");
}

#[test]
fn every_vector_is_parsed_into_its_fields() {
    for vector in vectors() {
        let Some(expected) = packet_of(&vector) else { continue };
        let packet = StartPacket::parse(wire(&vector)).unwrap();
        assert_eq!(packet, expected, "{vector:?}");
        let direction = if vector.kind == 0 { Direction::Put } else { Direction::Get };
        assert_eq!(packet.direction(), direction, "{vector:?}");
        assert_eq!(packet.size().bytes(), u64::try_from(vector.object_size).ok(), "{vector:?}");
        assert_eq!(packet.key(), Key::from_name_bytes(&from_hex(&vector.name_hex)), "{vector:?}");
    }
}

#[test]
fn every_malformed_vector_is_rejected_by_its_value() {
    let rejected: Vec<_> = vectors()
        .iter()
        .filter(|vector| packet_of(vector).is_none())
        .map(|vector| StartPacket::parse(wire(vector)).unwrap_err())
        .collect();
    let expected = [Malformed::Size(i64::MIN), Malformed::Type(2), Malformed::Type(255)];
    assert_eq!(rejected, expected);
}

#[test]
fn every_unknown_type_is_rejected_whatever_the_size() {
    for kind in 2..=u8::MAX {
        for size in [i64::MIN, -2, -1, 0, 1, i64::MAX] {
            let error = StartPacket::parse(bytes(kind, size)).unwrap_err();
            assert_eq!(error, Malformed::Type(kind));
            assert!(error.to_string().contains(&format!("type {kind},")), "{error}");
        }
    }
}

#[test]
fn every_size_below_minus_one_is_rejected() {
    let mut random = fastrand::Rng::with_seed(1);
    let edges = [i64::MIN, i64::MIN + 1, -0x1_0000_0000, -257, -256, -255, -3, -2];
    let sizes = edges.into_iter().chain((0..1000).map(|_| random.i64(..-1)));
    for size in sizes {
        for kind in [0, 1] {
            let error = StartPacket::parse(bytes(kind, size)).unwrap_err();
            assert_eq!(error, Malformed::Size(size));
            assert!(error.to_string().contains(&format!("size {size},")), "{error}");
        }
    }
}

#[test]
fn every_size_from_minus_one_is_accepted() {
    let mut random = fastrand::Rng::with_seed(2);
    let edges = [-1, 0, 1, 255, 256, 1 << 31, 1 << 32, i64::MAX - 1, i64::MAX];
    let sizes = edges.into_iter().chain((0..1000).map(|_| random.i64(0..)));
    for size in sizes {
        for kind in [0, 1] {
            let packet = StartPacket::parse(bytes(kind, size)).unwrap();
            assert_eq!(packet.size().bytes(), u64::try_from(size).ok());
            assert_eq!(*packet.as_bytes(), bytes(kind, size));
        }
    }
}

#[test]
fn a_size_above_the_signed_range_is_refused_by_its_value() {
    let largest = i64::MAX as u64;
    assert_eq!(ObjectSize::new(largest).unwrap().bytes(), Some(largest));
    for bytes in [largest + 1, largest + 2, u64::MAX - 1, u64::MAX] {
        let error = ObjectSize::new(bytes).unwrap_err();
        assert_eq!(error.0, bytes);
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
        assert_eq!(StartPacket::put(Key::new([7; 16])).with_size(bytes), Err(error));
    }
}

#[test]
fn a_size_replaces_the_size_and_nothing_else() {
    for packet in [StartPacket::put(Key::new([7; 16])), StartPacket::get(Key::new([8; 16]))] {
        let sized = packet.with_size(9).unwrap().with_size(300).unwrap();
        assert_eq!(sized.size().bytes(), Some(300));
        assert_eq!(sized.direction(), packet.direction());
        assert_eq!(sized.key(), packet.key());
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("start_packets.json")).unwrap()
}

/// The packet that a vector's fields make; `None` where they can not be asked for.
fn packet_of(vector: &Vector) -> Option<StartPacket> {
    let key = Key::from_name_bytes(&from_hex(&vector.name_hex));
    let packet = match vector.kind {
        0 => StartPacket::put(key),
        1 => StartPacket::get(key),
        _ => return None,
    };
    match vector.object_size {
        -1 => Some(packet),
        size => packet.with_size(u64::try_from(size).ok()?).ok(),
    }
}

fn wire(vector: &Vector) -> [u8; StartPacket::LEN] {
    from_hex(&vector.start_packet_hex).try_into().unwrap()
}

fn bytes(kind: u8, size: i64) -> [u8; StartPacket::LEN] {
    let mut bytes = [0x5a; StartPacket::LEN];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&size.to_le_bytes());
    bytes
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}
