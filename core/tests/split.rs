//! The law of the split: however the 25 bytes are cut into reads, the outcome is the same.

use dataserver_core::{
    Config, Connection, Error, Instant, Key, PeerError, StartPacket, StartPacketParser, Step,
};

/// What comes behind the 25 bytes in the same reads: nothing, one byte, more than another packet.
const PAYLOADS: [&[u8]; 3] = [b"", b"!", b"payload behind it, longer than one more packet"];

#[test]
fn every_cut_parses_to_the_same_packet_and_leaves_the_same_payload() {
    for bytes in packets() {
        let expected = StartPacket::parse(bytes);
        for_every_cut(bytes, |reads, payload| {
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
fn every_cut_leads_a_connection_to_the_same_decision() {
    for bytes in packets() {
        let whole = fed(&[&bytes]);
        match StartPacket::parse(bytes) {
            Ok(packet) => assert_eq!(whole.step(), Step::Decide(packet)),
            Err(malformed) => {
                let error = Error::Peer(PeerError::Malformed(malformed));
                assert_eq!(whole.step(), Step::Done(Err(error)));
            }
        }
        for_every_cut(bytes, |reads, payload| {
            let (last, before) = reads.split_last().unwrap();
            let mut connection = fed(before);
            let taken = connection.feed(last);
            assert_eq!(&last[taken..], payload);
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn every_cut_accepted_moves_the_same_object() {
    for bytes in packets() {
        if StartPacket::parse(bytes).is_err() {
            continue;
        }
        let mut whole = fed(&[&bytes]);
        whole.accept(u64::MAX);
        for_every_cut(bytes, |reads, _| {
            let mut connection = fed(reads);
            connection.accept(u64::MAX);
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn every_cut_of_a_write_leads_a_client_to_the_same_object() {
    for bytes in packets() {
        let Ok(packet) = StartPacket::parse(bytes) else { continue };
        let mut whole = client(packet);
        whole.advance(StartPacket::LEN);
        for_every_cut(bytes, |writes, payload| {
            if !payload.is_empty() {
                return; // how much of it a write may carry is up to the direction
            }
            let mut connection = client(packet);
            let mut written = 0;
            for write in writes {
                let Step::Write { bytes: left, .. } = connection.step() else {
                    panic!("{writes:?}")
                };
                assert_eq!(left, &bytes[written..]);
                connection.advance(write.len());
                written += write.len();
            }
            assert_eq!(connection, whole);
        });
    }
}

#[test]
fn every_missing_byte_is_counted() {
    for bytes in packets() {
        for received in 0..StartPacket::LEN {
            let mut connection = fed(&[&bytes[..received]]);
            assert_eq!(connection.step(), Step::Read { max: StartPacket::LEN - received });
            connection.end_of_stream();
            let error = Error::Peer(PeerError::TruncatedStartPacket { received });
            assert_eq!(connection.step(), Step::Done(Err(error)));
        }
    }
}

/// Put and get, of known and of unknown size, and malformed in each way that there is.
fn packets() -> [[u8; StartPacket::LEN]; 7] {
    // A key without two equal bytes, so that a byte in the wrong place shows.
    let key = Key::new([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let (put, get) = (StartPacket::put(key), StartPacket::get(key));
    let known = |packet: StartPacket| *packet.with_size(0x1122_3344_5566_7788).unwrap().as_bytes();
    let with_type = |kind| {
        let mut bytes = known(put);
        bytes[0] = kind;
        bytes
    };
    let mut below = *put.as_bytes();
    below[1] = 0xfe; // -2
    [*put.as_bytes(), known(put), *get.as_bytes(), known(get), with_type(2), with_type(255), below]
}

/// Calls `check` with every way to cut the bytes in one, in two, in three and byte by byte, with
/// each of the payloads behind them in the last piece, and the payload.
fn for_every_cut(bytes: [u8; StartPacket::LEN], check: impl Fn(&[&[u8]], &[u8])) {
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

fn fed(reads: &[&[u8]]) -> Connection {
    let mut connection = Connection::server(Config::default(), Instant::default());
    for read in reads {
        connection.feed(read);
    }
    connection
}

fn client(packet: StartPacket) -> Connection {
    Connection::client(Config::default(), packet, Instant::default())
}
