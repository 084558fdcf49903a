//! The state table of a connection: what each report leads to in each state. A report that the table
//! does not list is misuse. Further tests cover the errors and their numbers.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{
    Cause, Config, Connection, Instant, Key, LocalError, Malformed, ObjectSize, PeerError, Refusal,
    SizeOutOfRange, StartPacket, Step,
};

const CHUNK: usize = 10;
const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));
const PUT_12: StartPacket = sized(PUT, 12);
const GET_12: StartPacket = sized(GET, 12);
const PUT_7: StartPacket = sized(PUT, 7);
const PUT_0: StartPacket = sized(PUT, 0);
const GET_0: StartPacket = sized(GET, 0);

type Report = (&'static str, fn(&mut Connection));

const OFFER_END: &str = "offer (0, true)";
const OFFER_MORE: &str = "offer (1, true)";
const OFFER_NONE: &str = "offer (0, false)";
const DECLARE: &str = "declare (7)";
const UNDECLARE: &str = "declare (unknown)";

/// The reports that are legal in some states only. The first word is the name of the method.
const REPORTS: [Report; 13] = [
    ("handle_read", |connection| {
        connection.handle_read(&[0]);
    }),
    ("handle_moved", |connection| connection.handle_moved(1)),
    ("handle_end_of_stream", Connection::handle_end_of_stream),
    ("handle_still_open", Connection::handle_still_open),
    ("handle_shutdown", Connection::handle_shutdown),
    ("accept", |connection| connection.accept(None)),
    ("refuse", |connection| connection.refuse(Refusal::InUse)),
    (OFFER_END, |connection| connection.offer(0, true)),
    (OFFER_MORE, |connection| connection.offer(1, true)),
    (OFFER_NONE, |connection| connection.offer(0, false)),
    ("committed", Connection::committed),
    (DECLARE, |connection| connection.declare(ObjectSize::new(7).unwrap())),
    (UNDECLARE, |connection| connection.declare(ObjectSize::UNKNOWN)),
];

/// A state, the name of its step, and the step that follows each legal report. The other [`REPORTS`]
/// are misuse.
type Row = (Connection, &'static str, Vec<(&'static str, Step<'static>)>);

fn table() -> Vec<Row> {
    let put = StartPacket::as_bytes(&PUT);
    let get = StartPacket::as_bytes(&GET);
    let receive = Step::Receive { max: CHUNK };
    let send = Step::Send { max: CHUNK };
    let offer = Step::Offer { max: CHUNK };
    let truncated_packet = |received| fails(PeerError::TruncatedStartPacket { received });
    let refused = fails(Refusal::InUse);
    let closed_early = |moved| fails(PeerError::ClosedEarly { moved });
    let shorter = |sent| fails(LocalError::ShorterThanDeclared { sent, declared: 12 });
    let longer = |declared| fails(LocalError::LongerThanDeclared { declared });
    let truncated = |received| fails(PeerError::Truncated { received, expected: 12 });
    let peer_sent_more = fails(PeerError::LongerThanDeclared { declared: 12 });
    let row = |connection, step, legal: &[_]| (connection, step, legal.to_vec());
    let mut rows = vec![
        // The server, up to its decision.
        row(
            server(),
            "Read",
            &[
                ("handle_read", Step::Read { max: 24 }),
                ("handle_end_of_stream", truncated_packet(0)),
            ],
        ),
        row(
            server_after(&put[..24]),
            "Read",
            &[
                ("handle_read", Step::Decide(with_last_byte(0))),
                ("handle_end_of_stream", truncated_packet(24)),
            ],
        ),
        row(server_after(put), "Decide", &[("accept", receive), ("refuse", refused)]),
        row(server_after(get), "Decide", &[("accept", send), ("refuse", refused)]),
        // The client, up to the end of the start packet.
        row(
            client(PUT),
            "Write",
            &[
                ("handle_moved", write(&PUT, 1, CHUNK)),
                ("handle_end_of_stream", closed_early(0)),
                (DECLARE, write(&PUT_7, 0, 7)),
                (UNDECLARE, write(&PUT, 0, CHUNK)),
            ],
        ),
        row(
            client(PUT_12),
            "Write",
            &[
                ("handle_moved", write(&PUT_12, 1, CHUNK)),
                ("handle_end_of_stream", closed_early(0)),
                (DECLARE, write(&PUT_7, 0, 7)),
                (UNDECLARE, write(&PUT, 0, CHUNK)),
            ],
        ),
        row(
            written(PUT, 1),
            "Write",
            &[("handle_moved", write(&PUT, 2, CHUNK)), ("handle_end_of_stream", closed_early(0))],
        ),
        row(
            written(PUT, 24),
            "Write",
            &[("handle_moved", send), ("handle_end_of_stream", closed_early(0))],
        ),
        row(
            client(GET),
            "Write",
            &[("handle_moved", write(&GET, 1, 0)), ("handle_end_of_stream", closed_early(0))],
        ),
        row(
            written(GET, 24),
            "Write",
            &[("handle_moved", receive), ("handle_end_of_stream", closed_early(0))],
        ),
    ];
    rows.extend([
        // The sender.
        row(
            moved(PUT, 5),
            "Send",
            &[
                ("handle_moved", send),
                (OFFER_END, Step::Peek),
                (OFFER_MORE, send),
                (OFFER_NONE, send),
                ("handle_end_of_stream", closed_early(5)),
            ],
        ),
        row(
            moved(PUT_12, 5),
            "Send",
            &[
                ("handle_moved", Step::Send { max: 6 }),
                (OFFER_END, shorter(5)),
                (OFFER_MORE, Step::Send { max: 7 }),
                (OFFER_NONE, Step::Send { max: 7 }),
                ("handle_end_of_stream", closed_early(5)),
            ],
        ),
        row(
            moved(PUT_12, 11),
            "Send",
            &[
                ("handle_moved", offer),
                (OFFER_END, shorter(11)),
                (OFFER_MORE, Step::Send { max: 1 }),
                (OFFER_NONE, Step::Send { max: 1 }),
                ("handle_end_of_stream", closed_early(11)),
            ],
        ),
        row(
            moved(PUT_12, 12),
            "Offer",
            &[
                (OFFER_END, Step::Peek),
                (OFFER_MORE, longer(12)),
                (OFFER_NONE, offer),
                ("handle_end_of_stream", closed_early(12)),
            ],
        ),
        row(
            accepted(&GET_0),
            "Offer",
            &[
                (OFFER_END, Step::Peek),
                (OFFER_MORE, longer(0)),
                (OFFER_NONE, offer),
                ("handle_end_of_stream", closed_early(0)),
            ],
        ),
        row(
            ended(PUT_12, 12),
            "Peek",
            &[
                ("handle_still_open", Step::Shutdown),
                ("handle_end_of_stream", closed_early(12)),
                ("handle_moved", fails(PeerError::NotSilent)),
            ],
        ),
        row(
            ended(PUT, 5),
            "Peek",
            &[
                ("handle_still_open", Step::Shutdown),
                ("handle_end_of_stream", closed_early(5)),
                ("handle_moved", fails(PeerError::NotSilent)),
            ],
        ),
        row(
            still_open(PUT_12, 12),
            "Shutdown",
            &[("handle_shutdown", Step::AwaitEnd), ("handle_end_of_stream", closed_early(12))],
        ),
        row(
            still_open(PUT, 5),
            "Shutdown",
            &[("handle_shutdown", Step::AwaitEnd), ("handle_end_of_stream", closed_early(5))],
        ),
        row(
            shut_down(PUT_12, 12),
            "AwaitEnd",
            &[
                ("handle_moved", fails(PeerError::NotSilent)),
                ("handle_end_of_stream", Step::Done(Ok(12))),
            ],
        ),
        // The receiver.
        row(
            moved(GET, 5),
            "Receive",
            &[("handle_moved", receive), ("handle_end_of_stream", Step::Commit)],
        ),
        row(
            moved(GET_12, 5),
            "Receive",
            &[("handle_moved", Step::Receive { max: 6 }), ("handle_end_of_stream", truncated(5))],
        ),
        row(
            moved(GET_12, 11),
            "Receive",
            &[("handle_moved", Step::AwaitEnd), ("handle_end_of_stream", truncated(11))],
        ),
        row(
            moved(GET_12, 12),
            "AwaitEnd",
            &[("handle_moved", peer_sent_more), ("handle_end_of_stream", Step::Commit)],
        ),
        row(whole(GET_12, 12), "Commit", &[("committed", Step::Shutdown)]),
        row(committed(GET_12, 12), "Shutdown", &[("handle_shutdown", Step::Done(Ok(12)))]),
    ]);
    rows
}

#[test]
fn every_report_in_every_state_leads_to_the_step_in_the_table() {
    for (before, step, legal) in table() {
        assert!(format!("{:?}", before.step()).starts_with(step), "{step}: {before:?}");
        let known = REPORTS.iter().filter(|(verb, _)| legal.iter().any(|(name, _)| name == verb));
        assert_eq!(known.count(), legal.len(), "unknown report in {step}");
        for (name, report) in REPORTS {
            let mut after = before.clone();
            report(&mut after);
            let verb = name.split(' ').next().unwrap_or_default();
            let expected = legal.iter().find(|(legal, _)| *legal == name);
            let misuse = fails(LocalError::Misuse { verb, step });
            let expected = expected.map_or(misuse, |(_, next)| *next);
            assert_eq!(after.step(), expected, "{name} after {before:?}");
        }
    }
}

#[test]
fn a_failed_call_only_changes_the_outcome() {
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
fn a_reset_is_the_peers_error_and_an_abort_a_local_error_in_every_state() {
    for (before, ..) in table() {
        let mut after = before.clone();
        after.handle_reset();
        assert_eq!(after.step(), fails(PeerError::Reset { moved: before.moved() }), "{before:?}");

        let mut after = before.clone();
        after.abort("the disk is full");
        let aborted = fails(LocalError::Aborted { reason: "the disk is full", code: 0 });
        assert_eq!(after.step(), aborted, "{before:?}");
    }
}

#[test]
fn zero_byte_reports_are_ignored_in_every_state() {
    for before in table().into_iter().map(|(before, ..)| before).chain(ends()) {
        let mut after = before.clone();
        after.handle_moved(0);
        assert_eq!(after.handle_read(&[]), 0);
        assert_eq!(after, before);
        if let Step::Send { .. } | Step::Offer { .. } = before.step() {
            after.offer(0, false);
            assert_eq!(after, before);
        }
    }
}

#[test]
fn a_finished_connection_never_changes() {
    for end in ends() {
        for (verb, report) in REPORTS {
            let mut after = end.clone();
            report(&mut after);
            assert_eq!(after, end, "{verb}");
        }
        let mut after = end.clone();
        after.handle_reset();
        after.abort("too late");
        after.handle_blocked(Instant::default());
        after.handle_timeout(Instant::new(Duration::MAX));
        assert_eq!(after, end);
        assert_eq!(after.deadline(Instant::default()), None);
    }
}

#[test]
fn moving_more_than_the_step_allows_is_an_overrun() {
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
        allowed.handle_moved(max);
        assert!(!matches!(allowed.step(), Step::Done(_)), "{before:?}");
        for reported in [max + 1, usize::MAX] {
            let mut after = before.clone();
            after.handle_moved(reported);
            assert_eq!(after.step(), fails(LocalError::Overrun { reported, max }));
            assert_eq!(after.moved(), before.moved());
        }
    }
}

#[test]
fn a_sender_that_offers_bytes_beyond_the_declared_size_fails() {
    for (n, last) in [(1, false), (1, true), (CHUNK, false), (CHUNK + 1, true), (usize::MAX, true)]
    {
        let mut sender = moved(PUT_12, 12);
        sender.offer(n, last);
        let longer = LocalError::LongerThanDeclared { declared: 12 };
        assert_eq!((sender.step(), sender.moved()), (fails(longer), 12), "({n}, {last})");
    }
}

#[test]
fn an_offer_of_bytes_during_send_changes_nothing() {
    for before in [moved(PUT, 5), moved(PUT_12, 5)] {
        for (n, last) in [(0, false), (1, false), (7, true), (usize::MAX, true)] {
            let mut after = before.clone();
            after.offer(n, last);
            assert_eq!(after, before, "({n}, {last})");
        }
    }
}

#[test]
fn a_sender_shuts_down_only_after_an_offered_end_and_a_peek() {
    let mut sender = moved(PUT_12, 12);
    sender.offer(0, false);
    assert_eq!(sender.step(), Step::Offer { max: CHUNK });
    sender.offer(0, true);
    assert_eq!(sender.step(), Step::Peek);
    sender.handle_still_open();
    assert_eq!(sender.step(), Step::Shutdown);

    let mut sender = ended(PUT_12, 12);
    sender.handle_shutdown();
    assert_eq!(sender.step(), fails(LocalError::Misuse { verb: "handle_shutdown", step: "Peek" }));
}

#[test]
fn a_declared_size_replaces_the_size_of_the_packet_and_the_bytes_to_send() {
    for before in [PUT, PUT_0, PUT_12] {
        let mut client = client(before);
        client.declare(ObjectSize::new(12).unwrap());
        assert_eq!(client, self::client(PUT_12));
        assert_eq!(client.packet(), Some(PUT_12));
        assert_eq!(client.step(), write(&PUT_12, 0, CHUNK));
        client.declare(ObjectSize::new(0).unwrap());
        assert_eq!(client, self::client(PUT_0));
        client.declare(ObjectSize::UNKNOWN);
        assert_eq!(client, self::client(PUT));
        assert_eq!(client.packet(), Some(PUT));
    }
}

#[test]
fn a_sender_is_held_to_the_declared_size() {
    let declared = |bytes| {
        let mut client = client(PUT);
        client.declare(ObjectSize::new(bytes).unwrap());
        client.handle_moved(25);
        client
    };
    let mut shorter = declared(12);
    shorter.handle_moved(5);
    shorter.offer(0, true);
    assert_eq!(shorter.step(), fails(LocalError::ShorterThanDeclared { sent: 5, declared: 12 }));

    let mut longer = declared(7);
    longer.handle_moved(7);
    assert_eq!(longer.step(), Step::Offer { max: CHUNK });
    longer.offer(1, true);
    assert_eq!(longer.step(), fails(LocalError::LongerThanDeclared { declared: 7 }));
}

#[test]
fn a_declared_size_is_not_subject_to_the_limit_on_received_objects() {
    let mut client = Connection::client(small().max_object_size(3), PUT, Instant::default());
    client.declare(ObjectSize::new(12).unwrap());
    assert_eq!(client.step(), write(&PUT_12, 0, CHUNK));
}

#[test]
fn declare_is_legal_only_in_a_client_that_has_written_nothing_of_a_put() {
    let size = ObjectSize::new(7).unwrap();
    let cases = [
        (client(GET), "Write"),
        (client(GET_12), "Write"),
        (written(PUT, 1), "Write"),
        (written(PUT_12, 24), "Write"),
        (written(PUT, 25), "Send"),
        (moved(PUT_12, 12), "Offer"),
        (accepted(&GET), "Send"),
        (accepted(&PUT), "Receive"),
        (server(), "Read"),
        (server_after(PUT.as_bytes()), "Decide"),
        (server_after(GET.as_bytes()), "Decide"),
    ];
    for (mut connection, step) in cases {
        let packet = connection.packet();
        connection.declare(size);
        assert_eq!(connection.step(), fails(LocalError::Misuse { verb: "declare", step }));
        assert_eq!(connection.packet(), packet);
    }
}

#[test]
fn the_start_packet_and_the_object_can_share_a_write() {
    let mut client = client(PUT_12);
    assert_eq!(client.step(), write(&PUT_12, 0, CHUNK));
    client.handle_moved(20);
    assert_eq!((client.step(), client.moved()), (write(&PUT_12, 20, CHUNK), 0));
    client.handle_moved(5 + CHUNK);
    assert_eq!((client.step(), client.moved()), (Step::Send { max: 2 }, 10));
}

#[test]
fn an_empty_object_ends_with_the_start_packet() {
    let mut client = client(PUT_0);
    assert_eq!(client.step(), write(&PUT_0, 0, 0));
    client.handle_moved(25);
    assert_eq!(client.step(), Step::Offer { max: CHUNK });

    let mut server = server_after(GET_0.as_bytes());
    server.accept(Some(0));
    assert_eq!(server.step(), Step::Offer { max: CHUNK });

    let mut server = server_after(PUT_0.as_bytes());
    server.accept(Some(0));
    assert_eq!(server.step(), Step::AwaitEnd);
    server.handle_end_of_stream();
    assert_eq!(server.step(), Step::Commit);
}

#[test]
fn a_malformed_start_packet_is_the_peers_error_and_sets_no_packet() {
    let mut negative_size = *PUT.as_bytes();
    negative_size[1] = 0xfe; // -2
    for (bytes, malformed) in [([7; 25], Malformed::Type(7)), (negative_size, Malformed::Size(-2))]
    {
        let mut server = server();
        assert_eq!(server.handle_read(&bytes), 25);
        assert_eq!(server.step(), fails(PeerError::Malformed(malformed)));
        assert_eq!(server.packet(), None);
    }
}

#[test]
fn the_packet_is_set_once_it_is_complete() {
    let put = StartPacket::as_bytes(&PUT);
    assert_eq!(server_after(&put[..24]).packet(), None);
    assert_eq!(server_after(put).packet(), Some(PUT));
    assert_eq!(client(GET_12).packet(), Some(GET_12));
    assert_eq!(committed(GET_12, 12).packet(), Some(GET_12));
}

#[test]
fn an_object_larger_than_32_bits_can_count_is_sent_in_chunks() {
    let (size, chunk) = (5 * u64::from(u32::MAX) + 3, NonZeroU32::MAX);
    let packet = sized(PUT, size);
    let mut client = Connection::client(small().chunk(chunk), packet, Instant::default());
    client.handle_moved(25);
    for _ in 0..5 {
        assert_eq!(client.step(), Step::Send { max: chunk.get() as usize });
        client.handle_moved(chunk.get() as usize);
    }
    assert_eq!(client.step(), Step::Send { max: 3 });
    client.handle_moved(3);
    let offer = Step::Offer { max: chunk.get() as usize };
    assert_eq!((client.step(), client.moved()), (offer, size));
}

#[test]
fn a_connection_takes_at_most_240_bytes() {
    assert!(size_of::<Connection>() <= 240, "{} bytes", size_of::<Connection>());
}

/// A connection that succeeded, and one that failed.
fn ends() -> [Connection; 2] {
    let mut succeeded = committed(GET_12, 12);
    succeeded.handle_shutdown();
    let mut failed = server();
    failed.handle_reset();
    [succeeded, failed]
}

fn small() -> Config {
    Config::default().chunk(NonZeroU32::new(10).unwrap())
}

fn server() -> Connection {
    Connection::server(small(), Instant::default())
}

fn client(packet: StartPacket) -> Connection {
    Connection::client(small(), packet, Instant::default())
}

/// A server that has read these bytes.
fn server_after(bytes: &[u8]) -> Connection {
    let mut server = server();
    server.handle_read(bytes);
    server
}

/// A client that has written this many bytes at once, starting with the start packet.
fn written(packet: StartPacket, bytes: usize) -> Connection {
    let mut client = client(packet);
    client.handle_moved(bytes);
    client
}

/// A client that has moved this many bytes of the object, one at a time.
fn moved(packet: StartPacket, bytes: usize) -> Connection {
    let mut client = written(packet, 25);
    (0..bytes).for_each(|_| client.handle_moved(1));
    client
}

/// A server that has accepted this start packet.
fn accepted(packet: &StartPacket) -> Connection {
    let mut server = server_after(packet.as_bytes());
    server.accept(None);
    server
}

/// A sender whose application has reached the end of the object.
fn ended(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = moved(put, bytes);
    sender.offer(0, true);
    sender
}

/// A sender whose peer still has the stream open.
fn still_open(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = ended(put, bytes);
    sender.handle_still_open();
    sender
}

/// A sender that waits for the receipt.
fn shut_down(put: StartPacket, bytes: usize) -> Connection {
    let mut sender = still_open(put, bytes);
    sender.handle_shutdown();
    sender
}

/// A receiver that has received the whole object.
fn whole(get: StartPacket, bytes: usize) -> Connection {
    let mut receiver = moved(get, bytes);
    receiver.handle_end_of_stream();
    receiver
}

/// A receiver that has committed the object.
fn committed(get: StartPacket, bytes: usize) -> Connection {
    let mut receiver = whole(get, bytes);
    receiver.committed();
    receiver
}

fn fails(error: impl Into<Cause>) -> Step<'static> {
    Step::Done(Err(error.into()))
}

fn write(packet: &'static StartPacket, written: usize, payload: usize) -> Step<'static> {
    Step::Write { bytes: &packet.as_bytes()[written..], payload }
}

/// [`PUT`] with another last byte.
fn with_last_byte(byte: u8) -> StartPacket {
    let mut bytes = *PUT.as_bytes();
    bytes[24] = byte;
    StartPacket::from_bytes(bytes).unwrap()
}

const fn sized(packet: StartPacket, bytes: u64) -> StartPacket {
    match packet.with_size(bytes) {
        Ok(packet) => packet,
        Err(SizeOutOfRange(_)) => packet,
    }
}
