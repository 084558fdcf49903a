//! A connection as a table: every report in every state leads to the step that stands here, or to
//! exactly the misuse that it is. Then the errors, with their numbers.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{
    Config, Connection, Error, Instant, Key, LocalError, Malformed, PeerError, Refusal,
    SizeOutOfRange, StartPacket, Step,
};

const CHUNK: usize = 10;
const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));
const PUT_12: StartPacket = sized(PUT, 12);
const GET_12: StartPacket = sized(GET, 12);
const PUT_0: StartPacket = sized(PUT, 0);
const GET_0: StartPacket = sized(GET, 0);

type Report = (&'static str, fn(&mut Connection));

const END: &str = "offer (0, true)";
const MORE: &str = "offer (1, true)";
const NOTHING: &str = "offer (0, false)";

/// The reports that are each right in some states only. The first word is the name of the verb.
const REPORTS: [Report; 11] = [
    ("feed", |connection| {
        connection.feed(&[0]);
    }),
    ("advance", |connection| connection.advance(1)),
    ("end_of_stream", Connection::end_of_stream),
    ("still_open", Connection::still_open),
    ("shut_down", Connection::shut_down),
    ("accept", |connection| connection.accept(u64::MAX)),
    ("refuse", |connection| connection.refuse(Refusal::InUse)),
    (END, |connection| connection.offer(0, true)),
    (MORE, |connection| connection.offer(1, true)),
    (NOTHING, |connection| connection.offer(0, false)),
    ("commit", Connection::commit),
];

/// A state, the name of its step, and what follows each report that is right in it. The other
/// [`REPORTS`] are misuse.
type Row = (Connection, &'static str, Vec<(&'static str, Step<'static>)>);

fn table() -> Vec<Row> {
    let put = StartPacket::as_bytes(&PUT);
    let get = StartPacket::as_bytes(&GET);
    let receive = Step::Receive { max: CHUNK };
    let send = Step::Send { max: CHUNK };
    let offer = Step::Offer { max: CHUNK };
    let cut = |received| fails(PeerError::TruncatedStartPacket { received });
    let refused = fails(Refusal::InUse);
    let closed_early = |moved| fails(PeerError::ClosedEarly { moved });
    let source_ended = |sent| fails(LocalError::ShorterThanDeclared { sent, declared: 12 });
    let source_goes_on = |declared| fails(LocalError::LongerThanDeclared { declared });
    let truncated = |received| fails(PeerError::Truncated { received, expected: 12 });
    let peer_goes_on = fails(PeerError::LongerThanDeclared { declared: 12 });
    let row = |connection, step, right: &[_]| (connection, step, right.to_vec());
    let mut rows = vec![
        // The server, until it has decided.
        row(server(), "Read", &[("feed", Step::Read { max: 24 }), ("end_of_stream", cut(0))]),
        row(
            fed(&put[..24]),
            "Read",
            &[("feed", Step::Decide(with_last_byte(0))), ("end_of_stream", cut(24))],
        ),
        row(fed(put), "Decide", &[("accept", receive), ("refuse", refused)]),
        row(fed(get), "Decide", &[("accept", send), ("refuse", refused)]),
        // The client, until the start packet is written.
        row(
            client(PUT),
            "Write",
            &[("advance", write(&PUT, 1, CHUNK)), ("end_of_stream", closed_early(0))],
        ),
        row(written(PUT, 24), "Write", &[("advance", send), ("end_of_stream", closed_early(0))]),
        row(
            client(GET),
            "Write",
            &[("advance", write(&GET, 1, 0)), ("end_of_stream", closed_early(0))],
        ),
        row(written(GET, 24), "Write", &[("advance", receive), ("end_of_stream", closed_early(0))]),
    ];
    rows.extend([
        // The sender.
        row(
            moved(PUT, 5),
            "Send",
            &[
                ("advance", send),
                (END, Step::Peek),
                (MORE, send),
                (NOTHING, send),
                ("end_of_stream", closed_early(5)),
            ],
        ),
        row(
            moved(PUT_12, 5),
            "Send",
            &[
                ("advance", Step::Send { max: 6 }),
                (END, source_ended(5)),
                (MORE, Step::Send { max: 7 }),
                (NOTHING, Step::Send { max: 7 }),
                ("end_of_stream", closed_early(5)),
            ],
        ),
        row(
            moved(PUT_12, 11),
            "Send",
            &[
                ("advance", offer),
                (END, source_ended(11)),
                (MORE, Step::Send { max: 1 }),
                (NOTHING, Step::Send { max: 1 }),
                ("end_of_stream", closed_early(11)),
            ],
        ),
        row(
            moved(PUT_12, 12),
            "Offer",
            &[
                (END, Step::Peek),
                (MORE, source_goes_on(12)),
                (NOTHING, offer),
                ("end_of_stream", closed_early(12)),
            ],
        ),
        row(
            accepted(&GET_0),
            "Offer",
            &[
                (END, Step::Peek),
                (MORE, source_goes_on(0)),
                (NOTHING, offer),
                ("end_of_stream", closed_early(0)),
            ],
        ),
        row(
            ended(PUT_12, 12),
            "Peek",
            &[
                ("still_open", Step::Shutdown),
                ("end_of_stream", closed_early(12)),
                ("advance", fails(PeerError::NotSilent)),
            ],
        ),
        row(
            ended(PUT, 5),
            "Peek",
            &[
                ("still_open", Step::Shutdown),
                ("end_of_stream", closed_early(5)),
                ("advance", fails(PeerError::NotSilent)),
            ],
        ),
        row(
            still_open(PUT_12, 12),
            "Shutdown",
            &[("shut_down", Step::AwaitEnd), ("end_of_stream", closed_early(12))],
        ),
        row(
            still_open(PUT, 5),
            "Shutdown",
            &[("shut_down", Step::AwaitEnd), ("end_of_stream", closed_early(5))],
        ),
        row(
            shut_down(PUT_12, 12),
            "AwaitEnd",
            &[("advance", fails(PeerError::NotSilent)), ("end_of_stream", Step::Done(Ok(12)))],
        ),
        // The receiver.
        row(moved(GET, 5), "Receive", &[("advance", receive), ("end_of_stream", Step::Commit)]),
        row(
            moved(GET_12, 5),
            "Receive",
            &[("advance", Step::Receive { max: 6 }), ("end_of_stream", truncated(5))],
        ),
        row(
            moved(GET_12, 11),
            "Receive",
            &[("advance", Step::AwaitEnd), ("end_of_stream", truncated(11))],
        ),
        row(
            moved(GET_12, 12),
            "AwaitEnd",
            &[("advance", peer_goes_on), ("end_of_stream", Step::Commit)],
        ),
        row(whole(GET_12, 12), "Commit", &[("commit", Step::Shutdown)]),
        row(committed(GET_12, 12), "Shutdown", &[("shut_down", Step::Done(Ok(12)))]),
    ]);
    rows
}

#[test]
fn every_report_in_every_state_leads_where_the_table_says() {
    for (before, step, right) in table() {
        assert!(format!("{:?}", before.step()).starts_with(step), "{step}: {before:?}");
        let named = REPORTS.iter().filter(|(verb, _)| right.iter().any(|(name, _)| name == verb));
        assert_eq!(named.count(), right.len(), "a report that there is not, in {step}");
        for (name, report) in REPORTS {
            let mut after = before.clone();
            report(&mut after);
            let verb = name.split(' ').next().unwrap_or_default();
            let expected = right.iter().find(|(right, _)| *right == name);
            let misuse = fails(LocalError::Misuse { verb, step });
            let expected = expected.map_or(misuse, |(_, next)| *next);
            assert_eq!(after.step(), expected, "{name} after {before:?}");
        }
    }
}

#[test]
fn a_report_that_fails_changes_nothing_but_that() {
    for (before, ..) in table() {
        for (verb, report) in REPORTS {
            let mut after = before.clone();
            report(&mut after);
            if let Step::Done(Err(_)) = after.step() {
                assert_eq!(after.moved(), before.moved(), "{verb} after {before:?}");
                assert_eq!(after.packet(), before.packet(), "{verb} after {before:?}");
                assert_eq!(after.deadline(Instant::default()), None, "{verb} after {before:?}");
            }
        }
    }
}

#[test]
fn a_reset_is_the_peers_and_an_abort_is_ours_in_every_state() {
    for (before, ..) in table() {
        let mut after = before.clone();
        after.reset();
        assert_eq!(after.step(), fails(PeerError::Reset { moved: before.moved() }), "{before:?}");

        let mut after = before.clone();
        after.abort("the disk is full");
        let aborted = fails(LocalError::Aborted { reason: "the disk is full" });
        assert_eq!(after.step(), aborted, "{before:?}");
    }
}

#[test]
fn nothing_at_all_is_no_report_in_any_state() {
    for before in table().into_iter().map(|(before, ..)| before).chain(ends()) {
        let mut after = before.clone();
        after.advance(0);
        assert_eq!(after.feed(&[]), 0);
        assert_eq!(after, before);
        if let Step::Send { .. } | Step::Offer { .. } = before.step() {
            after.offer(0, false);
            assert_eq!(after, before);
        }
    }
}

#[test]
fn nothing_follows_the_end() {
    for end in ends() {
        for (verb, report) in REPORTS {
            let mut after = end.clone();
            report(&mut after);
            assert_eq!(after, end, "{verb}");
        }
        let mut after = end.clone();
        after.reset();
        after.abort("too late");
        after.would_block(Instant::default());
        after.handle_timeout(Instant::new(Duration::MAX));
        assert_eq!(after, end);
        assert_eq!(after.deadline(Instant::default()), None);
    }
}

#[test]
fn more_than_the_step_allows_is_an_overrun_of_the_driver() {
    let cases = [
        (client(PUT), 25 + CHUNK),
        (client(PUT_12), 25 + CHUNK),
        (client(PUT_0), 25),
        (client(GET), 25),
        (written(PUT_12, 20), 5 + CHUNK),
        (moved(PUT, 5), CHUNK),
        (moved(PUT_12, 5), 7),
        (moved(GET, 5), CHUNK),
        (moved(GET_12, 5), 7),
    ];
    for (before, max) in cases {
        let mut allowed = before.clone();
        allowed.advance(max);
        assert!(!matches!(allowed.step(), Step::Done(_)), "{before:?}");
        for reported in [max + 1, usize::MAX] {
            let mut after = before.clone();
            after.advance(reported);
            assert_eq!(after.step(), fails(LocalError::Overrun { reported, max }));
            assert_eq!(after.moved(), before.moved());
        }
    }
}

#[test]
fn any_byte_beyond_the_declared_size_fails_the_sender_whether_it_is_the_last_or_not() {
    for (n, last) in [(1, false), (1, true), (CHUNK, false), (CHUNK + 1, true), (usize::MAX, true)]
    {
        let mut sender = moved(PUT_12, 12);
        sender.offer(n, last);
        let longer = LocalError::LongerThanDeclared { declared: 12 };
        assert_eq!((sender.step(), sender.moved()), (fails(longer), 12), "({n}, {last})");
    }
}

#[test]
fn an_offer_of_bytes_while_they_are_sent_changes_nothing() {
    for before in [moved(PUT, 5), moved(PUT_12, 5)] {
        for (n, last) in [(0, false), (1, false), (7, true), (usize::MAX, true)] {
            let mut after = before.clone();
            after.offer(n, last);
            assert_eq!(after, before, "({n}, {last})");
        }
    }
}

#[test]
fn only_an_offered_end_and_an_open_peer_lead_a_sender_to_the_shutdown() {
    let mut sender = moved(PUT_12, 12);
    sender.offer(0, false);
    assert_eq!(sender.step(), Step::Offer { max: CHUNK });
    sender.offer(0, true);
    assert_eq!(sender.step(), Step::Peek);
    sender.still_open();
    assert_eq!(sender.step(), Step::Shutdown);

    let mut sender = ended(PUT_12, 12);
    sender.shut_down();
    assert_eq!(sender.step(), fails(LocalError::Misuse { verb: "shut_down", step: "Peek" }));
}

#[test]
fn the_start_packet_and_the_object_share_a_write() {
    let mut client = client(PUT_12);
    assert_eq!(client.step(), write(&PUT_12, 0, CHUNK));
    client.advance(20);
    assert_eq!((client.step(), client.moved()), (write(&PUT_12, 20, CHUNK), 0));
    client.advance(5 + CHUNK);
    assert_eq!((client.step(), client.moved()), (Step::Send { max: 2 }, 10));
}

#[test]
fn an_object_of_no_bytes_is_at_its_end_with_the_start_packet() {
    let mut client = client(PUT_0);
    assert_eq!(client.step(), write(&PUT_0, 0, 0));
    client.advance(25);
    assert_eq!(client.step(), Step::Offer { max: CHUNK });

    let mut server = fed(GET_0.as_bytes());
    server.accept(0);
    assert_eq!(server.step(), Step::Offer { max: CHUNK });

    let mut server = fed(PUT_0.as_bytes());
    server.accept(0);
    assert_eq!(server.step(), Step::AwaitEnd);
    server.end_of_stream();
    assert_eq!(server.step(), Step::Commit);
}

#[test]
fn a_malformed_start_packet_is_the_peers_error_and_no_packet() {
    let mut size_below = *PUT.as_bytes();
    size_below[1] = 0xfe; // -2
    for (bytes, malformed) in [([7; 25], Malformed::Type(7)), (size_below, Malformed::Size(-2))] {
        let mut server = server();
        assert_eq!(server.feed(&bytes), 25);
        assert_eq!(server.step(), fails(PeerError::Malformed(malformed)));
        assert_eq!(server.packet(), None);
    }
}

#[test]
fn a_packet_is_known_once_it_is_whole() {
    let put = StartPacket::as_bytes(&PUT);
    assert_eq!(fed(&put[..24]).packet(), None);
    assert_eq!(fed(put).packet(), Some(PUT));
    assert_eq!(client(GET_12).packet(), Some(GET_12));
    assert_eq!(committed(GET_12, 12).packet(), Some(GET_12));
}

#[test]
fn a_size_that_fits_no_32_bits_is_sent_chunk_by_chunk_to_its_last_byte() {
    let (size, chunk) = (5 * u64::from(u32::MAX) + 3, NonZeroU32::MAX);
    let packet = sized(PUT, size);
    let mut client = Connection::client(Config { chunk, ..small() }, packet, Instant::default());
    client.advance(25);
    for _ in 0..5 {
        assert_eq!(client.step(), Step::Send { max: chunk.get() as usize });
        client.advance(chunk.get() as usize);
    }
    assert_eq!(client.step(), Step::Send { max: 3 });
    client.advance(3);
    let offer = Step::Offer { max: chunk.get() as usize };
    assert_eq!((client.step(), client.moved()), (offer, size));
}

#[test]
fn a_connection_is_small() {
    assert!(size_of::<Connection>() <= 160, "{} bytes", size_of::<Connection>());
}

/// Both ways to be done.
fn ends() -> [Connection; 2] {
    let mut succeeded = committed(GET_12, 12);
    succeeded.shut_down();
    let mut failed = server();
    failed.reset();
    [succeeded, failed]
}

fn small() -> Config {
    let chunk = NonZeroU32::new(10).unwrap();
    Config { chunk, ..Config::default() }
}

fn server() -> Connection {
    Connection::server(small(), Instant::default())
}

fn client(packet: StartPacket) -> Connection {
    Connection::client(small(), packet, Instant::default())
}

/// A server that has read these bytes.
fn fed(bytes: &[u8]) -> Connection {
    let mut server = server();
    server.feed(bytes);
    server
}

/// A client that has written so many bytes, of the start packet and behind it, in one piece.
fn written(packet: StartPacket, bytes: usize) -> Connection {
    let mut client = client(packet);
    client.advance(bytes);
    client
}

/// A client that has moved so many bytes of the object, one by one.
fn moved(packet: StartPacket, bytes: usize) -> Connection {
    let mut client = written(packet, 25);
    (0..bytes).for_each(|_| client.advance(1));
    client
}

/// A server that has accepted this start packet.
fn accepted(packet: &StartPacket) -> Connection {
    let mut server = fed(packet.as_bytes());
    server.accept(u64::MAX);
    server
}

/// A sender whose application has no more.
fn ended(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = moved(put, bytes);
    sender.offer(0, true);
    sender
}

/// A sender whose peer has not closed early.
fn still_open(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = ended(put, bytes);
    sender.still_open();
    sender
}

fn shut_down(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = still_open(put, bytes);
    sender.shut_down();
    sender
}

/// A receiver that has the whole object.
fn whole(get: StartPacket, bytes: usize) -> Connection {
    let mut receiver = moved(get, bytes);
    receiver.end_of_stream();
    receiver
}

fn committed(get: StartPacket, bytes: usize) -> Connection {
    let mut receiver = whole(get, bytes);
    receiver.commit();
    receiver
}

fn fails(error: impl Into<Error>) -> Step<'static> {
    Step::Done(Err(error.into()))
}

fn write(packet: &'static StartPacket, written: usize, payload: usize) -> Step<'static> {
    Step::Write { bytes: &packet.as_bytes()[written..], payload }
}

/// [`PUT`] with another last byte.
fn with_last_byte(byte: u8) -> StartPacket {
    let mut bytes = *PUT.as_bytes();
    bytes[24] = byte;
    StartPacket::parse(bytes).unwrap()
}

const fn sized(packet: StartPacket, bytes: u64) -> StartPacket {
    match packet.with_size(bytes) {
        Ok(packet) => packet,
        Err(SizeOutOfRange(_)) => packet,
    }
}
