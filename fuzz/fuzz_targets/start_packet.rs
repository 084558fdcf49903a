//! Any bytes, in any pieces, are taken as the wire table says, by all that takes start packets.

#![no_main]

use dataserver_core::{
    Config, Connection, Direction, Instant, Key, Malformed, PeerError, StartPacket,
    StartPacketParser, Step,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// As a file: eight bytes for the cuts, then the stream.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// The length of each piece that a read gives; after the last of them comes all the rest.
    cuts: [u8; 8],
    stream: &'a [u8],
}

impl<'a> Input<'a> {
    fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.stream;
        let ends = self.cuts.into_iter().map(usize::from).chain([usize::MAX]);
        ends.map(move |end| {
            let (piece, behind) = rest.split_at(end.min(rest.len()));
            rest = behind;
            piece
        })
    }
}

fuzz_target!(|input: Input<'_>| {
    let received = input.stream.len().min(25);
    let expected = input.stream.first_chunk().map(one_shot);
    incremental(&input, received, expected);
    connection(&input, received, expected);
});

/// The wire table: type, object size and key at offsets 0, 1 and 9.
fn one_shot(bytes: &[u8; 25]) -> Result<StartPacket, Malformed> {
    let kind = bytes[0];
    let size = i64::from_le_bytes(bytes[1..9].try_into().unwrap());
    let key = Key::new(bytes[9..25].try_into().unwrap());

    let parsed = StartPacket::parse(*bytes);
    match parsed {
        Ok(packet) => {
            assert!(kind <= 1 && size >= -1);
            assert_eq!(packet.as_bytes(), bytes);
            assert_eq!(packet.direction() == Direction::Get, kind == 1);
            assert_eq!(packet.size().bytes(), u64::try_from(size).ok());
            assert_eq!(packet.key(), key);

            let unsized_packet = [StartPacket::put, StartPacket::get][usize::from(kind)](key);
            let encoded = match u64::try_from(size) {
                Ok(size) => unsized_packet.with_size(size),
                Err(_) => Ok(unsized_packet),
            };
            assert_eq!(encoded, Ok(packet));
        }
        Err(Malformed::Type(value)) => assert!(kind > 1 && value == kind),
        Err(Malformed::Size(value)) => assert!(size < -1 && value == size),
    }
    parsed
}

/// The parser by itself, which is offered also what is not its own.
fn incremental(
    input: &Input<'_>,
    received: usize,
    expected: Option<Result<StartPacket, Malformed>>,
) {
    let mut parser = StartPacketParser::new();
    let mut taken = 0;
    for piece in input.pieces() {
        let missing = 25 - taken;
        assert_eq!(parser.missing(), missing);
        assert_eq!(parser.packet().is_some(), missing == 0);
        assert_eq!(parser.feed(piece), piece.len().min(missing));
        taken += piece.len().min(missing);
    }
    assert_eq!(taken, received);
    assert_eq!(parser.packet(), expected);
}

/// A server, whose driver keeps what it leaves.
fn connection(
    input: &Input<'_>,
    received: usize,
    expected: Option<Result<StartPacket, Malformed>>,
) {
    let mut server = Connection::server(Config::default(), Instant::default());
    let mut taken = 0;
    for piece in input.pieces() {
        let Step::Read { max } = server.step() else { break };
        assert_eq!(max, 25 - taken);
        taken += server.feed(piece);
    }
    assert_eq!(taken, received);

    let step = match expected {
        Some(Ok(packet)) => Step::Decide(packet),
        Some(Err(malformed)) => Step::Done(Err(PeerError::Malformed(malformed).into())),
        None => {
            server.end_of_stream();
            Step::Done(Err(PeerError::TruncatedStartPacket { received }.into()))
        }
    };
    assert_eq!(server.step(), step);
}
