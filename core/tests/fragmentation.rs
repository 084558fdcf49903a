//! Fragmentation: the outcome does not depend on how the 25 bytes are divided into reads.

use dataserver_core::{
    Cause, Config, Connection, Instant, Key, PeerError, StartPacket, StartPacketParser, Step,
};

/// The bytes that follow the start packet in the same read: none, one, and more than a start packet.
const PAYLOADS: [&[u8]; 3] = [b"", b"!", b"a payload that is longer than a start packet"];

#[test]
fn every_fragmentation_parses_to_the_same_packet_and_leaves_the_same_payload() {
    for bytes in packets() {
        let expected = StartPacket::from_bytes(bytes);
        for_every_fragmentation(bytes, |reads, payload| {
            let mut parser = StartPacketParser::new();
            let mut left = Vec::new();
            for read in reads {
                let missing = parser.missing();
                let taken = parser.feed(read);
                assert_eq!(taken, read.len().min(missing));
                assert_eq!(parser.missing(), missing - taken);
                assert_eq!(parser.packet().is_some(), parser.missing() == 0);
                left.extend_from_slice(&read[taken..]);
            }
            assert_eq!(parser.packet(), Some(expected));
            assert_eq!(left, payload);
        });
    }
}

#[test]
fn every_fragmentation_leads_a_connection_to_the_same_decision() {
    for bytes in packets() {
        let whole = server_after(&[&bytes]);
        match StartPacket::from_bytes(bytes) {
            Ok(packet) => assert_eq!(whole.step(), Step::Decide(packet)),
            Err(malformed) => {
                let error = Cause::Peer(PeerError::Malformed(malformed));
                assert_eq!(whole.outcome(), Some(Err(error)));
            }
        }
        for_every_fragmentation(bytes, |reads, payload| {
            let (last, before) = reads.split_last().unwrap();
            let mut connection = server_after(before);
            let taken = connection.handle_read(last);
            assert_eq!(&last[taken..], payload);
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn every_fragmentation_leads_to_the_same_object_after_accept() {
    for bytes in packets() {
        if StartPacket::from_bytes(bytes).is_err() {
            continue;
        }
        let mut whole = server_after(&[&bytes]);
        whole.accept(None);
        for_every_fragmentation(bytes, |reads, _| {
            let mut connection = server_after(reads);
            connection.accept(None);
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn every_fragmentation_of_a_write_leads_a_client_to_the_same_object() {
    for bytes in packets() {
        let Ok(packet) = StartPacket::from_bytes(bytes) else { continue };
        let mut whole = client(packet);
        whole.handle_moved(StartPacket::LEN);
        for_every_fragmentation(bytes, |writes, payload| {
            if !payload.is_empty() {
                return; // the direction determines how much payload a write may carry
            }
            let mut connection = client(packet);
            let mut written = 0;
            for write in writes {
                let Step::Write { bytes: left, .. } = connection.step() else {
                    panic!("{writes:?}")
                };
                assert_eq!(left, &bytes[written..]);
                connection.handle_moved(write.len());
                written += write.len();
            }
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn a_truncated_start_packet_reports_the_received_bytes() {
    for bytes in packets() {
        for received in 0..StartPacket::LEN {
            let mut connection = server_after(&[&bytes[..received]]);
            assert_eq!(connection.step(), Step::Read { max: StartPacket::LEN - received });
            connection.handle_end_of_stream();
            let error = Cause::Peer(PeerError::TruncatedStartPacket { received });
            assert_eq!(connection.step(), Step::Done(Err(error)));
        }
    }
}

/// Puts and gets of known and unknown size, and each kind of malformed packet.
fn packets() -> [[u8; StartPacket::LEN]; 7] {
    // All bytes of the key differ, so that a misplaced byte is detected.
    let key = Key::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let (put, get) = (StartPacket::put(key), StartPacket::get(key));
    let known = |packet: StartPacket| *packet.with_size(0x1122_3344_5566_7788).unwrap().as_bytes();
    let with_type = |kind| {
        let mut bytes = known(put);
        bytes[0] = kind;
        bytes
    };
    let mut negative_size = *put.as_bytes();
    negative_size[1] = 0xfe; // -2
    [
        *put.as_bytes(),
        known(put),
        *get.as_bytes(),
        known(get),
        with_type(2),
        with_type(255),
        negative_size,
    ]
}

/// Calls `check` for every division of the start packet into one, two, or three fragments and into
/// single bytes. Each payload follows in the last fragment, and is passed to `check` too.
fn for_every_fragmentation(bytes: [u8; StartPacket::LEN], check: impl Fn(&[&[u8]], &[u8])) {
    for payload in PAYLOADS {
        let stream = [&bytes, payload].concat();
        check(&[&stream], payload);
        for first in 1..StartPacket::LEN {
            let (head, tail) = stream.split_at(first);
            check(&[head, tail], payload);
            for second in 1..StartPacket::LEN - first {
                let (middle, tail) = tail.split_at(second);
                check(&[head, middle, tail], payload);
            }
        }
        let mut single: Vec<&[u8]> = stream.chunks(1).take(StartPacket::LEN - 1).collect();
        single.push(&stream[StartPacket::LEN - 1..]);
        check(&single, payload);
    }
}

fn server_after(reads: &[&[u8]]) -> Connection {
    let mut connection = Connection::server(Config::default(), Instant::default());
    for read in reads {
        connection.handle_read(read);
    }
    connection
}

fn client(packet: StartPacket) -> Connection {
    Connection::client(Config::default(), packet, Instant::default())
}
