//! The state table of a framed connection: the legal reports of each state, its timer, and what an abort, a
//! timeout, a reset and the end of the stream lead to. Further tests cover the timers, and what follows an
//! ABORT. All times are in seconds.

use core::num::NonZeroU32;
use core::time::Duration;

use dataserver_core::{
    AbortReason, Cause, Config, Connection, Frame, Instant, Key, LocalError, MalformedFrame,
    ObjectSize, PeerError, Refusal, StartPacket, Step, Timeouts, Timer,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start")).framed();
const GET: StartPacket = StartPacket::get(Key::from_name("start")).framed();

type Report = (&'static str, fn(&mut Connection));

/// The reports that are legal in some states only. The end of the stream has its own column.
const REPORTS: [Report; 12] = [
    ("handle_read", |connection| {
        connection.handle_read(&[0]);
    }),
    ("handle_moved", |connection| connection.handle_moved(1)),
    ("handle_still_open", Connection::handle_still_open),
    ("handle_shutdown", Connection::handle_shutdown),
    ("accept", |connection| connection.accept(None)),
    ("refuse", |connection| connection.refuse(Refusal::InUse)),
    ("offer (0, true)", |connection| connection.offer(0, true)),
    ("offer (9, true)", |connection| connection.offer(9, true)),
    ("offer (1, false)", |connection| connection.offer(1, false)),
    ("offer (0, false)", |connection| connection.offer(0, false)),
    ("committed", Connection::committed),
    ("declare (7)", |connection| connection.declare(ObjectSize::new(7).unwrap())),
];

struct Row {
    state: &'static str,
    connection: Connection,
    step: &'static str,
    /// The legal reports, and the step that follows each. The other [`REPORTS`] are misuse.
    legal: &'static [(&'static str, &'static str)],
    /// The timer that runs while the driver waits for the peer, and after how many seconds it ends the wait.
    timer: Option<(Timer, u64)>,
    /// What an abort, a timeout, a reset, and the end of the stream lead to.
    ways: [Way; 4],
    /// What the end of the stream is reported as.
    end: Option<PeerError>,
}

/// What a connection does with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is done, with the failure.
    Close,
    /// It writes an ABORT.
    Abort,
    /// It reads once more: the peer may have given the reason.
    LastWords,
    /// The session ends with ABORT(closing), and without a failure.
    Closing,
    /// The session ends without a failure.
    Ends,
    /// The report is not legal.
    Misuse,
}

const START: Option<(Timer, u64)> = Some((Timer::Start, 5));
const KEEP_ALIVE: Option<(Timer, u64)> = Some((Timer::Start, 13));
/// A reader gives its peer up after one timeout, a writer after 11 eighths of it.
const READS: Option<(Timer, u64)> = Some((Timer::Idle, 8));
const WRITES: Option<(Timer, u64)> = Some((Timer::Idle, 11));
const RECEIPT: Option<(Timer, u64)> = Some((Timer::Receipt, 61));
/// After a failure there is one timeout in all, also for a writer.
const AFTER_FAILURE: Option<(Timer, u64)> = Some((Timer::Idle, 8));

fn table() -> Vec<Row> {
    use Way::{Abort, Close, Closing, Ends, LastWords, Misuse};
    let truncated_packet = |received| Some(PeerError::TruncatedStartPacket { received });
    let closed_early = |moved| Some(PeerError::ClosedEarly { moved });
    let unfinished = |received| Some(PeerError::Unfinished { received });
    let truncated = |received| Some(PeerError::Truncated { received, expected: 9 });
    let no_receipt = |sent| Some(PeerError::NoReceipt { sent });
    let row = |state, connection, step, legal, timer, ways, end| Row {
        state,
        connection,
        step,
        legal,
        timer,
        ways,
        end,
    };
    let decide: &[_] = &[("accept", "Read 12"), ("refuse", "Write 12 + 0")];
    let decide_get: &[_] = &[("accept", "Offer"), ("refuse", "Write 12 + 0")];
    let offer: &[_] = &[
        ("offer (0, true)", "Write 12 + 0"),
        ("offer (9, true)", "Write 12 + 9"),
        ("offer (1, false)", "Write 12 + 1"),
        ("offer (0, false)", "Offer"),
    ];
    let first_offer: &[_] = &[
        ("offer (0, true)", "Write 37 + 0"),
        ("offer (9, true)", "Write 37 + 9"),
        ("offer (1, false)", "Write 37 + 1"),
        ("offer (0, false)", "Write 25 + 0"),
        ("declare (7)", "Offer"),
    ];
    let read: &[_] = &[("handle_read", "Read 11")];
    let written: &[_] = &[("handle_moved", "Write 11 + 0")];
    vec![
        row(
            "ReadStart, of the first object",
            server(),
            "Read 25",
            &[("handle_read", "Read 24")],
            START,
            [Close; 4],
            truncated_packet(0),
        ),
        row(
            "ReadStart, of a later object",
            later_server(),
            "Read 25",
            &[("handle_read", "Read 24")],
            KEEP_ALIVE,
            [Closing, Closing, Ends, Ends],
            None,
        ),
        row(
            "ReadStart, after the first byte of a later object",
            with(later_server(), |server| feed(server, &PUT.as_bytes()[..1])),
            "Read 24",
            &[("handle_read", "Read 23")],
            START,
            [Close; 4],
            truncated_packet(1),
        ),
        row(
            "Decide, put",
            decide_on(PUT),
            "Decide",
            decide,
            None,
            [Abort, Abort, Close, Misuse],
            None,
        ),
        row(
            "Decide, get",
            decide_on(GET),
            "Decide",
            decide_get,
            None,
            [Abort, Abort, Close, Misuse],
            None,
        ),
        row(
            "WriteStart, get",
            client(GET),
            "Write 25 + 0",
            &[("handle_moved", "Write 24 + 0")],
            WRITES,
            [Close, Close, LastWords, LastWords],
            closed_early(0),
        ),
        row(
            "WriteStart, put",
            with(client(PUT), |client| client.offer(0, false)),
            "Write 25 + 0",
            &[("handle_moved", "Write 24 + 0"), ("declare (7)", "Write 25 + 0")],
            WRITES,
            [Close, Close, LastWords, LastWords],
            closed_early(0),
        ),
        row(
            "Offer, the start packet has not left",
            client(PUT),
            "Offer",
            first_offer,
            None,
            [Close; 4],
            closed_early(0),
        ),
        row(
            "Offer, the start packet has left",
            started(PUT),
            "Offer",
            offer,
            None,
            [Abort, Abort, Close, Close],
            closed_early(0),
        ),
        row(
            "Offer, server",
            sender(),
            "Offer",
            offer,
            None,
            [Abort, Abort, Close, Close],
            closed_early(0),
        ),
        row(
            "WriteHeader",
            offered(),
            "Write 12 + 9",
            &[("handle_moved", "Write 11 + 9")],
            WRITES,
            [Abort, Close, LastWords, LastWords],
            closed_early(0),
        ),
        row(
            "WriteHeader, behind the start packet",
            with(client(PUT), |client| client.offer(9, true)),
            "Write 37 + 9",
            &[("handle_moved", "Write 36 + 9")],
            WRITES,
            [Close, Close, LastWords, LastWords],
            closed_early(0),
        ),
        row(
            "WriteHeader, a part has left",
            with(offered(), |sender| sender.handle_moved(1)),
            "Write 11 + 9",
            &[("handle_moved", "Write 10 + 9")],
            WRITES,
            [Close, Close, LastWords, LastWords],
            closed_early(0),
        ),
        row(
            "Send",
            with(offered(), |sender| sender.handle_moved(12 + 2)),
            "Send 7",
            &[("handle_moved", "Send 6")],
            WRITES,
            [Close, Close, LastWords, LastWords],
            closed_early(2),
        ),
        row("AwaitReceipt", awaiting(), "Read 12", read, RECEIPT, [Close; 4], no_receipt(9)),
        row(
            "ReadHeader, of a put",
            receiver(),
            "Read 12",
            read,
            READS,
            [Abort, Abort, Close, Close],
            unfinished(0),
        ),
        row(
            "ReadHeader, of a put with a declared size",
            accepted(PUT.with_size(9).unwrap()),
            "Read 12",
            read,
            READS,
            [Abort, Abort, Close, Close],
            truncated(0),
        ),
        row(
            "ReadHeader, the first of a get",
            started(GET),
            "Read 12",
            read,
            RECEIPT,
            [Abort, Abort, Close, Close],
            unfinished(0),
        ),
        row(
            "ReadHeader, the second of a get",
            with(receiving(started(GET)), |client| client.handle_moved(9)),
            "Read 12",
            read,
            READS,
            [Abort, Abort, Close, Close],
            unfinished(9),
        ),
        row(
            "Receive",
            receiving(receiver()),
            "Receive 9",
            &[("handle_moved", "Receive 8")],
            READS,
            [Abort, Abort, Close, Close],
            unfinished(0),
        ),
        row(
            "Commit",
            whole(),
            "Commit",
            &[("committed", "Write 12 + 0")],
            None,
            [Abort, Close, Close, Misuse],
            None,
        ),
        row(
            "WriteReceipt",
            with(whole(), Connection::committed),
            "Write 12 + 0",
            written,
            WRITES,
            [Close, Close, Close, Misuse],
            None,
        ),
        row(
            "WriteAbort, receiver",
            with(receiver(), cancel),
            "Write 12 + 0",
            written,
            AFTER_FAILURE,
            [Close; 4],
            None,
        ),
        row(
            "WriteAbort, sender",
            with(sender(), cancel),
            "Write 12 + 0",
            written,
            AFTER_FAILURE,
            [Close; 4],
            None,
        ),
        row(
            "AwaitEnd",
            draining(),
            "AwaitEnd",
            &[("handle_moved", "AwaitEnd")],
            AFTER_FAILURE,
            [Close; 4],
            None,
        ),
        row("LastFrames", last_frames(), "Read 12", read, AFTER_FAILURE, [Close; 4], None),
        row("LastWords", last_words(), "Read 12", read, AFTER_FAILURE, [Close; 4], None),
        row(
            "the end of a session",
            with(later_server(), cancel),
            "Write 12 + 0",
            written,
            WRITES,
            [Ends, Ends, Ends, Misuse],
            None,
        ),
    ]
}

#[test]
fn every_report_in_every_state_leads_to_the_step_in_the_table() {
    for row in table() {
        let state = row.state;
        assert_eq!(step_of(&row.connection), row.step, "{state}");
        for (name, _) in row.legal {
            assert!(REPORTS.iter().any(|(report, _)| report == name), "{state}: {name}");
        }
        for (name, report) in REPORTS {
            let mut connection = row.connection.clone();
            report(&mut connection);
            match row.legal.iter().find(|(legal, _)| *legal == name) {
                Some((_, step)) => assert_eq!(step_of(&connection), *step, "{state}: {name}"),
                None => expect_misuse(&row, &connection, name.split(' ').next().unwrap()),
            }
        }
    }
}

#[test]
fn an_abort_in_every_state_leads_to_what_the_table_says() {
    for row in table() {
        let mut connection = row.connection.clone();
        cancel(&mut connection);
        let cause = LocalError::Aborted { reason: "canceled", code: 7 }.into();
        expect_way(&row, &connection, row.ways[0], cause, AbortReason::Failed { code: 7 });
    }
}

#[test]
fn the_timer_of_every_state_leads_to_what_the_table_says() {
    for row in table() {
        let mut connection = row.connection.clone();
        // A writer tries again each eighth of the timeout.
        let first =
            row.timer.map_or(TOTAL, |timer| if Some(timer) == WRITES { 1 } else { timer.1 });
        assert_eq!(connection.deadline(at(0)), Some(at(first)), "{}: before the wait", row.state);
        let elapsed = wait(&mut connection);
        assert_eq!(elapsed, row.timer.map(|(_, seconds)| seconds), "{}", row.state);
        match row.timer {
            Some((timer, _)) => {
                let cause = Cause::TimedOut(timer);
                expect_way(&row, &connection, row.ways[1], cause, AbortReason::TimedOut);
            }
            None => assert_eq!(connection, row.connection, "{}", row.state),
        }
    }
}

#[test]
fn the_total_timer_leads_to_what_the_table_says_about_a_timeout() {
    for row in table() {
        let mut connection = row.connection.clone();
        connection.handle_timeout(at(0)); // the timer of a later object begins
        connection.handle_timeout(at(TOTAL));
        if row.ways[1] == Way::Closing || row.ways[1] == Way::Ends {
            assert_eq!(connection.outcome(), None, "{}: no object has begun", row.state);
            continue;
        }
        let cause = Cause::TimedOut(Timer::Total);
        expect_way(&row, &connection, row.ways[1], cause, AbortReason::TimedOut);
    }
}

#[test]
fn a_reset_in_every_state_leads_to_what_the_table_says() {
    for row in table() {
        let mut connection = row.connection.clone();
        connection.handle_reset();
        let cause = PeerError::Reset { moved: row.connection.moved() }.into();
        expect_way(&row, &connection, row.ways[2], cause, AbortReason::Malformed);
    }
}

#[test]
fn the_end_of_the_stream_in_every_state_leads_to_what_the_table_says() {
    for row in table() {
        let mut connection = row.connection.clone();
        connection.handle_end_of_stream();
        match (row.ways[3], row.end) {
            (Way::Misuse, _) => expect_misuse(&row, &connection, "handle_end_of_stream"),
            (way, end) => {
                let cause = end.map_or(Cause::TimedOut(Timer::Idle), Cause::Peer);
                expect_way(&row, &connection, way, cause, AbortReason::Malformed);
            }
        }
    }
}

#[test]
fn reports_of_no_bytes_change_nothing_in_any_state() {
    for row in table() {
        let mut connection = row.connection.clone();
        connection.handle_moved(0);
        assert_eq!(connection.handle_read(&[]), 0, "{}", row.state);
        assert_eq!(connection, row.connection, "{}", row.state);
    }
}

/// Each state that reads frames, and what follows each frame in it. The body of LAST completes the object.
#[test]
fn every_frame_in_every_state_that_reads_frames_leads_to_what_the_table_says() {
    let abort = Frame::Abort(AbortReason::Busy);
    let aborted = Cause::Peer(PeerError::Aborted(AbortReason::Busy));
    let malformed = MalformedFrame { kind: 9, code: 0, value: 0 };
    let unexpected = |frame| Err(Cause::Peer(PeerError::UnexpectedFrame(frame)));
    let wrong = Err(PeerError::WrongReceipt { size: 8, sent: 9 }.into());
    let canceled = Err(LocalError::Aborted { reason: "canceled", code: 7 }.into());
    let reset = Err(PeerError::Reset { moved: 2 }.into());
    let [data, last] = [Frame::Data { len: 9 }, Frame::Last { len: 0 }];
    let [receipt, other] = [Frame::Receipt { size: 9 }, Frame::Receipt { size: 8 }];
    let rows = [
        (receiver(), data, "Receive 9", None),
        (receiver(), last, "Commit", None),
        (receiver(), receipt, "Write 12 + 0", Some(unexpected(receipt))),
        (receiver(), abort, "Done", Some(Err(aborted))),
        (awaiting(), data, "Done", Some(unexpected(data))),
        (awaiting(), last, "Done", Some(unexpected(last))),
        (awaiting(), receipt, "Done", Some(Ok(9))),
        (awaiting(), other, "Done", Some(wrong)),
        (awaiting(), abort, "Done", Some(Err(aborted))),
        (last_frames(), data, "Read 12", Some(canceled)),
        (last_frames(), last, "Read 12", Some(canceled)),
        (last_frames(), receipt, "Read 12", Some(canceled)),
        (last_frames(), abort, "Done", Some(canceled)),
        (last_words(), data, "Done", Some(reset)),
        (last_words(), last, "Done", Some(reset)),
        (last_words(), receipt, "Done", Some(reset)),
        (last_words(), abort, "Done", Some(Err(aborted))),
    ];
    for (mut connection, frame, step, outcome) in rows {
        connection.handle_read(&frame.to_bytes());
        assert_eq!((step_of(&connection).as_str(), connection.outcome()), (step, outcome));
    }

    let malformed_error = Err(PeerError::MalformedFrame(malformed).into());
    let rows = [
        (receiver(), "Write 12 + 0", malformed_error),
        (awaiting(), "Done", malformed_error),
        (last_frames(), "Done", canceled),
        (last_words(), "Done", reset),
    ];
    for (mut connection, step, outcome) in rows {
        connection.handle_read(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((step_of(&connection).as_str(), connection.outcome()), (step, Some(outcome)));
    }
}

#[test]
fn what_follows_a_failure_has_one_idle_timeout_in_all_whatever_the_progress() {
    let failures = [
        (with(receiver(), cancel), "AwaitEnd"),
        (with(sender(), cancel), "Read"),
        (with(decide_on(PUT), |server| server.refuse(Refusal::NotRegistered)), "AwaitEnd"),
    ];
    for (mut connection, last_step) in failures {
        let outcome = connection.outcome();
        connection.handle_blocked(at(100)); // the ABORT is due from now on
        for second in 101..108 {
            match connection.step() {
                Step::Write { .. } if second < 104 => connection.handle_moved(3),
                Step::Write { bytes, .. } => {
                    let left = bytes.len();
                    connection.handle_moved(left);
                }
                Step::Read { .. } => feed(&mut connection, &Frame::Last { len: 1 }.to_bytes()),
                Step::AwaitEnd => connection.handle_moved(1),
                step => panic!("{step:?}"),
            }
            connection.handle_blocked(at(second));
            assert_eq!(connection.deadline(at(second)), Some(at(108)));
            assert_eq!(connection.outcome(), outcome);
        }
        assert!(step_of(&connection).starts_with(last_step));
        connection.handle_timeout(just_before(at(108)));
        assert!(step_of(&connection).starts_with(last_step));
        connection.handle_timeout(at(108)); // also right after progress
        assert_eq!((step_of(&connection).as_str(), connection.outcome()), ("Done", outcome));
    }
}

#[test]
fn what_follows_a_failure_begins_with_the_first_report_of_time_and_not_with_an_older_wait() {
    let mut receiver = receiver();
    receiver.handle_blocked(at(100));
    cancel(&mut receiver);
    receiver.handle_blocked(at(107));
    assert_eq!(receiver.deadline(at(107)), Some(at(115)));
    receiver.handle_blocked(just_before(at(115)));
    assert_eq!(step_of(&receiver), "Write 12 + 0");
    receiver.handle_blocked(at(115));
    assert_eq!(step_of(&receiver), "Done");
}

#[test]
fn after_an_abort_a_receiver_drops_at_most_16_mib() {
    let mut draining = draining();
    draining.handle_moved((16 << 20) - 1);
    assert_eq!(step_of(&draining), "AwaitEnd");
    draining.handle_moved(1);
    assert_eq!(step_of(&draining), "Done");

    let mut at_once = self::draining();
    at_once.handle_moved(usize::MAX);
    assert_eq!(step_of(&at_once), "Done");
}

#[test]
fn after_an_abort_a_sender_reads_at_most_16_mib_of_frames() {
    let mut sender = last_frames();
    let mut dropped = 0;
    while let Step::Read { max: 12 } = sender.step() {
        sender.handle_read(&Frame::Receipt { size: 9 }.to_bytes());
        dropped += 12;
    }
    assert_eq!(step_of(&sender), "Done");
    assert!((16 << 20..(16 << 20) + 12).contains(&dropped), "{dropped} bytes");
}

#[test]
fn the_total_timer_leaves_an_idle_timeout_for_the_abort() {
    let mut receiver = receiver();
    receiver.handle_timeout(at(TOTAL));
    assert_eq!(receiver.outcome(), Some(Err(Cause::TimedOut(Timer::Total))));
    assert_eq!(step_of(&receiver), "Write 12 + 0");
    receiver.handle_timeout(at(TOTAL + 1));
    receiver.handle_moved(12);
    receiver.handle_timeout(at(TOTAL + 8));
    assert_eq!(step_of(&receiver), "AwaitEnd");
    receiver.handle_timeout(at(TOTAL + 9));
    assert_eq!(step_of(&receiver), "Done");
}

#[test]
fn the_keep_alive_timer_ends_with_the_first_byte_and_the_start_timer_begins() {
    let mut server = later_server();
    assert_eq!(server.deadline(at(0)), Some(at(13)));
    server.handle_blocked(at(12));
    server.handle_read(&PUT.as_bytes()[..1]);
    server.handle_timeout(at(20)); // the first report of time after it
    for second in 21..25 {
        assert_eq!(server.deadline(at(second)), Some(at(25)));
        server.handle_read(&PUT.as_bytes()[second as usize - 20..][..1]);
        server.handle_blocked(at(second));
        assert!(matches!(server.step(), Step::Read { .. }));
    }
    server.handle_blocked(at(25));
    assert_eq!(server.step(), Step::Done(Err(Cause::TimedOut(Timer::Start))));
}

#[test]
fn a_bare_start_packet_behind_a_framed_object_is_malformed() {
    let mut server = later_server();
    server.handle_read(StartPacket::put(Key::from_name("start")).as_bytes());
    assert_eq!(server.outcome(), Some(Err(PeerError::BareInSession.into())));
    let abort = Frame::Abort(AbortReason::Malformed).to_bytes();
    assert_eq!(server.step(), Step::Write { bytes: &abort, payload: 0 });
}

#[test]
fn without_a_keep_alive_timer_a_server_waits_for_ever_between_objects() {
    let timeouts = config().timeouts.keep_alive(None);
    let mut server = served().next_server(config().timeouts(timeouts), at(0));
    for second in [0, 1_000_000] {
        server.handle_blocked(at(second));
        assert_eq!(server.deadline(at(second)), None);
    }
    assert_eq!(step_of(&server), "Read 25");
}

#[test]
fn the_total_timer_of_a_later_object_begins_with_its_first_byte() {
    let mut server = later_server();
    server.handle_timeout(at(2 * TOTAL));
    assert_eq!(server.outcome(), None);
    server.handle_read(PUT.as_bytes());
    assert_eq!(server.deadline(at(5_000)), Some(at(5_000 + TOTAL)));
    server.handle_timeout(at(5_000));
    server.accept(None);
    server.handle_timeout(just_before(at(5_000 + TOTAL)));
    assert_eq!(server.outcome(), None);
    server.handle_timeout(at(5_000 + TOTAL));
    assert_eq!(server.outcome(), Some(Err(Cause::TimedOut(Timer::Total))));
}

#[test]
fn bytes_of_a_header_put_off_the_idle_timer_but_not_the_receipt_timer() {
    for (mut connection, extended) in
        [(receiver(), true), (awaiting(), false), (started(GET), false)]
    {
        let timeout = if extended { 8 } else { 61 };
        connection.handle_blocked(at(10));
        assert_eq!(connection.deadline(at(10)), Some(at(10 + timeout)));
        connection.handle_read(&[2]);
        connection.handle_blocked(at(15));
        let begun = if extended { 15 } else { 10 };
        assert_eq!(connection.deadline(at(15)), Some(at(begun + timeout)));
    }
}

#[test]
fn a_header_and_a_body_of_a_receiver_are_progress_of_the_peer() {
    let mut receiver = receiver();
    receiver.handle_blocked(at(10));
    receiver.handle_read(&Frame::Data { len: 2 }.to_bytes());
    receiver.handle_blocked(at(17));
    assert_eq!(receiver.deadline(at(17)), Some(at(25)));
    receiver.handle_moved(1);
    receiver.handle_blocked(at(24));
    assert_eq!(receiver.deadline(at(24)), Some(at(32)));
    receiver.handle_moved(1);
    receiver.handle_blocked(at(31));
    assert_eq!(receiver.deadline(at(31)), Some(at(39)));
}

#[test]
fn without_timeouts_only_a_failed_connection_has_a_deadline() {
    let timeouts = Timeouts::default().start(None).idle(None).receipt(None).total(None);
    let never = Config::default().timeouts(timeouts);
    let mut server = Connection::server(never, at(0));
    server.handle_blocked(at(1_000_000));
    assert_eq!(server.deadline(at(1_000_000)), None);
    server.handle_read(PUT.as_bytes());
    server.accept(None);
    server.handle_blocked(at(2_000_000));
    assert_eq!(server.deadline(at(2_000_000)), None);
    cancel(&mut server);
    server.handle_blocked(at(3_000_000));
    assert_eq!(step_of(&server), "Write 12 + 0");
    assert_eq!(server.deadline(at(3_000_000)), Some(at(3_000_005)));
    server.handle_blocked(at(3_000_005));
    assert_eq!(step_of(&server), "Done");
}

/// Waits without progress until the step or the outcome changes. Returns how many seconds that took.
fn wait(connection: &mut Connection) -> Option<u64> {
    let before = (step_of(connection), connection.outcome());
    let mut now = at(0);
    for _ in 0..30 {
        connection.handle_blocked(now);
        if (step_of(connection), connection.outcome()) != before {
            return (0..100).find(|second| at(*second) == now);
        }
        now = connection.deadline(now).filter(|deadline| *deadline < at(TOTAL))?;
    }
    panic!("the driver spins at {now:?}");
}

fn expect_way(row: &Row, connection: &Connection, way: Way, cause: Cause, reason: AbortReason) {
    let state = row.state;
    let cause = row.connection.outcome().unwrap_or(Err(cause)); // the first failure stays
    let written = |reason| {
        let Step::Write { bytes, payload: 0 } = connection.step() else {
            panic!("{state}: {:?}", connection.step());
        };
        assert_eq!(bytes, Frame::Abort(reason).to_bytes(), "{state}");
    };
    match way {
        Way::Close => assert_eq!(connection.step(), Step::Done(cause), "{state}"),
        Way::Abort => {
            written(reason);
            assert_eq!(connection.outcome(), Some(cause), "{state}");
            let sends = connection.side() == Some(dataserver_core::Side::Sender);
            let mut connection = connection.clone();
            connection.handle_moved(12);
            let then = if sends { "Read 12" } else { "AwaitEnd" };
            assert_eq!(step_of(&connection), then, "{state}");
        }
        Way::LastWords => {
            assert_eq!(
                (step_of(connection).as_str(), connection.outcome()),
                ("Read 12", Some(cause))
            );
        }
        Way::Closing => {
            written(AbortReason::Closing);
            assert_eq!(connection.outcome(), None, "{state}");
            let mut connection = connection.clone();
            connection.handle_moved(12);
            assert_eq!(connection.step(), Step::Done(Ok(0)), "{state}");
        }
        Way::Ends => assert_eq!(connection.step(), Step::Done(Ok(0)), "{state}"),
        Way::Misuse => unreachable!("{state}: the test knows the name of the report"),
    }
}

/// Only the outcome has changed, and a failure that was there stays.
fn expect_misuse(row: &Row, connection: &Connection, verb: &'static str) {
    let step = row.step.split(' ').next().unwrap();
    let misuse = Err(LocalError::Misuse { verb, step }.into());
    let expected = row.connection.outcome().unwrap_or(misuse);
    assert_eq!(connection.step(), Step::Done(expected), "{}: {verb}", row.state);
    assert_eq!(connection.moved(), row.connection.moved(), "{}: {verb}", row.state);
}

/// The step in one line, without the bytes that are written.
fn step_of(connection: &Connection) -> String {
    match connection.step() {
        Step::Read { max } => format!("Read {max}"),
        Step::Decide(_) => "Decide".into(),
        Step::Offer { .. } => "Offer".into(),
        Step::Write { bytes, payload } => format!("Write {} + {payload}", bytes.len()),
        Step::Receive { max } => format!("Receive {max}"),
        Step::Send { max } => format!("Send {max}"),
        Step::Commit => "Commit".into(),
        Step::AwaitEnd => "AwaitEnd".into(),
        Step::Done(_) => "Done".into(),
        step @ (Step::Peek | Step::Shutdown) => panic!("{step:?} in the framed format"),
        step @ (Step::Resume | Step::Digest) => panic!("{step:?} without a digest"),
    }
}

fn with(mut connection: Connection, report: impl FnOnce(&mut Connection)) -> Connection {
    report(&mut connection);
    connection
}

fn feed(connection: &mut Connection, bytes: &[u8]) {
    assert_eq!(connection.handle_read(bytes), bytes.len());
}

fn cancel(connection: &mut Connection) {
    connection.abort_with_code("canceled", 7);
}

const TOTAL: u64 = 1_000;

fn config() -> Config {
    let timeouts = Timeouts::default()
        .start(seconds(5))
        .keep_alive(seconds(13))
        .idle(seconds(8))
        .receipt(seconds(61))
        .total(seconds(TOTAL));
    Config::default().chunk(NonZeroU32::new(10).unwrap()).timeouts(timeouts)
}

fn server() -> Connection {
    Connection::server(config(), at(0))
}

/// A server that waits for its second object.
fn later_server() -> Connection {
    served().next_server(config(), at(0))
}

/// A server that has sent the receipt for its object.
fn served() -> Connection {
    with(whole(), |server| {
        server.committed();
        server.handle_moved(12);
    })
}

fn decide_on(packet: StartPacket) -> Connection {
    with(server(), |server| feed(server, packet.as_bytes()))
}

fn accepted(packet: StartPacket) -> Connection {
    with(decide_on(packet), |server| server.accept(None))
}

fn client(packet: StartPacket) -> Connection {
    Connection::client(config(), packet, at(0))
}

/// A client that has written the start packet.
fn started(packet: StartPacket) -> Connection {
    with(client(packet), |client| {
        if let Step::Offer { .. } = client.step() {
            client.offer(0, false);
        }
        client.handle_moved(25);
    })
}

/// A server that sends an object.
fn sender() -> Connection {
    accepted(GET)
}

/// A sender that is to write the header of its last frame, of 9 bytes.
fn offered() -> Connection {
    with(sender(), |sender| sender.offer(9, true))
}

/// A sender that has sent 9 bytes, and awaits its receipt.
fn awaiting() -> Connection {
    with(offered(), |sender| sender.handle_moved(12 + 9))
}

/// A server that receives an object.
fn receiver() -> Connection {
    accepted(PUT)
}

/// A receiver that has read a header of 9 bytes, not the last.
fn receiving(receiver: Connection) -> Connection {
    with(receiver, |receiver| feed(receiver, &Frame::Data { len: 9 }.to_bytes()))
}

/// A receiver that has the whole object, of no bytes.
fn whole() -> Connection {
    with(receiver(), |receiver| feed(receiver, &Frame::Last { len: 0 }.to_bytes()))
}

/// A receiver that has written ABORT.
fn draining() -> Connection {
    with(with(receiver(), cancel), |receiver| receiver.handle_moved(12))
}

/// A sender that has written ABORT.
fn last_frames() -> Connection {
    with(with(sender(), cancel), |sender| sender.handle_moved(12))
}

/// A sender whose write has failed after two bytes.
fn last_words() -> Connection {
    with(offered(), |sender| {
        sender.handle_moved(12 + 2);
        sender.handle_reset();
    })
}

fn at(second: u64) -> Instant {
    Instant::new(seconds(second))
}

fn just_before(instant: Instant) -> Instant {
    let nanosecond = Duration::from_nanos(1);
    Instant::new(instant.since_epoch() - nanosecond)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
