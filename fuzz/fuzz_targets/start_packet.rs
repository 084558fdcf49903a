//! Compares everything that parses start packets with the wire format, for any bytes in any fragments.

#![no_main]

use dataserver_core::{
    Config, Connection, Direction, Instant, Key, Malformed, PeerError, StartPacket,
    StartPacketParser, Step,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// The format of an input file: eight bytes for the fragments, then the stream.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// The length of the fragment that each read returns. The last read returns the rest.
    lengths: [u8; 8],
    stream: &'a [u8],
}

impl<'a> Input<'a> {
    fn fragments(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.stream;
        let ends = self.lengths.into_iter().map(usize::from).chain([usize::MAX]);
        ends.map(move |end| {
            let (fragment, remainder) = rest.split_at(end.min(rest.len()));
            rest = remainder;
            fragment
        })
    }
}

fuzz_target!(|input: Input<'_>| {
    let received = input.stream.len().min(25);
    let expected = input.stream.first_chunk().map(one_shot);
    incremental(&input, received, expected);
    connection(&input, received, expected);
});

/// Checks the wire format: the type, the object size, and the key at offsets 0, 1, and 9.
fn one_shot(bytes: &[u8; 25]) -> Result<StartPacket, Malformed> {
    let (features, direction) = (bytes[0] & !1, bytes[0] & 1);
    let is_type = [0, 128, 160, 224].contains(&features);
    let size = i64::from_le_bytes(bytes[1..9].try_into().unwrap());
    let key = Key::from_bytes(bytes[9..25].try_into().unwrap());

    let parsed = StartPacket::from_bytes(*bytes);
    match parsed {
        Ok(packet) => {
            assert!(is_type && size >= -1);
            let has = [packet.is_framed(), packet.has_digest(), packet.is_resumable()];
            assert_eq!(has, [features >= 128, features >= 160, features >= 224]);
            assert_eq!(packet.as_bytes(), bytes);
            assert_eq!(packet.direction() == Direction::Get, direction == 1);
            assert_eq!(packet.size().bytes(), u64::try_from(size).ok());
            assert_eq!(packet.key(), key);

            let bare = [StartPacket::put, StartPacket::get][usize::from(direction)](key);
            let without_size = match features {
                0 => bare,
                128 => bare.framed(),
                160 => bare.with_digest(),
                _ => bare.resumable(),
            };
            let encoded = match u64::try_from(size) {
                Ok(size) => without_size.with_size(size),
                Err(_) => Ok(without_size),
            };
            assert_eq!(encoded, Ok(packet));
            assert_eq!(without_size.with_object_size(packet.size()), packet);
        }
        Err(Malformed::Type(value)) => assert!(!is_type && value == bytes[0]),
        Err(Malformed::Size(value)) => assert!(is_type && size < -1 && value == size),
    }
    parsed
}

/// Checks the parser alone. It also gets the bytes after the start packet.
fn incremental(
    input: &Input<'_>,
    received: usize,
    expected: Option<Result<StartPacket, Malformed>>,
) {
    let mut parser = StartPacketParser::new();
    let mut taken = 0;
    for fragment in input.fragments() {
        let missing = 25 - taken;
        assert_eq!(parser.missing(), missing);
        assert_eq!(parser.packet().is_some(), missing == 0);
        assert_eq!(parser.feed(fragment), fragment.len().min(missing));
        taken += fragment.len().min(missing);
    }
    assert_eq!(taken, received);
    assert_eq!(parser.packet(), expected);
}

/// Checks a server. Its driver keeps the bytes after the start packet.
fn connection(
    input: &Input<'_>,
    received: usize,
    expected: Option<Result<StartPacket, Malformed>>,
) {
    let mut server = Connection::server(Config::default(), Instant::default());
    let mut taken = 0;
    for fragment in input.fragments() {
        let Step::Read { max } = server.step() else { break };
        assert_eq!(max, 25 - taken);
        taken += server.handle_read(fragment);
    }
    assert_eq!(taken, received);

    let error = match expected {
        Some(Ok(packet)) => return assert_eq!(server.step(), Step::Decide(packet)),
        Some(Err(malformed)) => PeerError::Malformed(malformed),
        None => {
            server.handle_end_of_stream();
            PeerError::TruncatedStartPacket { received }
        }
    };
    assert_eq!(server.outcome(), Some(Err(error.into())));
}
