//! The timers: which one runs when, and that it takes a failed attempt at a due time to end the
//! connection. All times here are in seconds.

use core::time::Duration;

use dataserver_core::{
    Config, Connection, Error, Instant, Key, PeerError, StartPacket, Step, Timeouts, Timer,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));
const END_OF_TIME: Instant = Instant::new(Duration::MAX);

#[test]
fn the_defaults_are_the_originals_five_seconds_and_a_minute_for_the_receipt() {
    let Timeouts { start, idle, end, transfer } = Timeouts::default();
    assert_eq!((start, idle), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!((end, transfer), (Duration::from_secs(60), Duration::MAX));
}

#[test]
fn a_client_that_sends_the_start_packet_slowly_does_not_extend_the_start_timer() {
    let mut server = Connection::server(config(), at(100));
    assert_eq!(server.deadline(at(100)), Some(at(105)));
    for (second, byte) in (101..).zip(&PUT.as_bytes()[..4]) {
        server.feed(&[*byte]);
        server.would_block(at(second));
        assert_eq!(server.deadline(at(second)), Some(at(105)));
        assert!(matches!(server.step(), Step::Read { .. }));
    }
    server.would_block(just_before(at(105)));
    assert!(matches!(server.step(), Step::Read { .. }));
    server.would_block(at(105));
    assert_eq!(server.step(), timed_out(Timer::Start));
}

#[test]
fn a_start_packet_that_is_there_at_the_last_attempt_is_not_late() {
    let mut server = Connection::server(config(), at(100));
    server.would_block(at(100));
    server.handle_timeout(at(1_000));
    server.feed(PUT.as_bytes());
    assert_eq!(server.step(), Step::Decide(PUT));
}

#[test]
fn a_client_that_prepares_for_long_is_not_timed_out_before_its_first_write() {
    let mut client = Connection::client(config(), PUT, at(100));
    client.handle_timeout(at(1_000));
    client.would_block(at(1_000));
    assert_eq!(client.step(), Step::Write { bytes: PUT.as_bytes(), payload: 4 << 20 });
    assert_eq!(client.deadline(at(1_000)), Some(at(1_001)));
}

#[test]
fn a_client_that_cannot_write_the_start_packet_is_idle() {
    let mut client = Connection::client(config(), PUT, at(100));
    for second in 101..120 {
        client.would_block(at(second));
        client.advance(1); // each byte stops the timer
    }
    assert_eq!(client.deadline(at(120)), Some(at(121)));
    for second in 120..=131 {
        assert!(matches!(client.step(), Step::Write { .. }));
        client.would_block(at(second));
    }
    assert_eq!(client.step(), timed_out(Timer::Idle));
}

#[test]
fn the_start_timer_ends_with_the_start_packet() {
    let mut server = Connection::server(config(), at(0));
    server.feed(PUT.as_bytes());
    assert_eq!(server.deadline(at(1)), None);
    server.accept(u64::MAX);
    assert_eq!(server.deadline(at(1)), Some(at(9)));
    server.would_block(at(20));
    assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
}

#[test]
fn a_reader_is_idle_from_the_first_failed_attempt_after_the_last_progress() {
    let mut receiver = receiver();
    receiver.would_block(at(10));
    receiver.would_block(at(12));
    assert_eq!(receiver.deadline(at(12)), Some(at(18)));
    receiver.advance(1);
    receiver.would_block(at(17));
    assert_eq!(receiver.deadline(at(17)), Some(at(25)));
    receiver.would_block(just_before(at(25)));
    assert!(matches!(receiver.step(), Step::Receive { .. }));
    receiver.would_block(at(25));
    assert_eq!(receiver.step(), timed_out(Timer::Idle));
}

#[test]
fn a_writer_is_tried_again_each_eighth_of_the_timeout_until_the_eleventh() {
    let mut sender = sender();
    sender.would_block(at(10));
    sender.would_block(at(10));
    for second in 11..=15 {
        sender.would_block(just_before(at(second)));
        assert_eq!(sender.deadline(at(second)), Some(at(second)));
        sender.would_block(at(second));
    }
    sender.advance(1); // there was room
    sender.would_block(at(17));
    for second in 18..=27 {
        assert_eq!(sender.deadline(at(17)), Some(at(second)));
        sender.would_block(at(second));
    }
    sender.would_block(just_before(at(28)));
    assert!(matches!(sender.step(), Step::Send { .. }));
    sender.would_block(at(28));
    assert_eq!(sender.step(), timed_out(Timer::Idle));
}

#[test]
fn a_writer_that_is_late_catches_up_with_its_retries() {
    let mut sender = sender();
    sender.would_block(at(10));
    for retry in 11..=20 {
        assert_eq!(sender.deadline(at(1_000)), Some(at(retry)));
        sender.would_block(at(1_000));
        assert!(matches!(sender.step(), Step::Send { .. }));
    }
    sender.would_block(at(1_000));
    assert_eq!(sender.step(), timed_out(Timer::Idle));
}

#[test]
fn a_peer_is_cut_one_and_a_half_timeouts_after_progress_that_readiness_did_not_show() {
    // The peer makes room at 100 + `room`, once. Only the attempts at deadlines find it.
    for room in 1..16 {
        let mut sender = sender();
        let (mut now, mut has_room, mut attempts) = (at(100), true, 0);
        while let Step::Send { .. } = sender.step() {
            attempts += 1;
            if has_room && now >= at(100 + room) {
                has_room = false;
                sender.advance(1);
            } else {
                sender.would_block(now);
                now = sender.deadline(now).unwrap_or(now);
            }
        }
        assert_eq!(sender.step(), timed_out(Timer::Idle));
        assert!(attempts < 30, "a driver that spins");
        match room {
            ..=11 => assert!(now >= at(100 + room + 8) && now <= at(100 + room + 12), "{now:?}"),
            _ => assert_eq!(now, at(111), "no progress within the timeout"),
        }
    }
}

#[test]
fn a_driver_that_is_about_to_wait_learns_when_to_try_again() {
    let cases = [
        (receiver(), 8),
        (whole(), 8),
        (sender(), 1),
        (Connection::client(config(), PUT, at(0)), 1),
        (still_open(), 1),
        (committed(), 1),
        (awaiting(), 61),
    ];
    for (connection, seconds) in cases {
        let before = connection.clone();
        assert_eq!(connection.deadline(at(100)), Some(at(100 + seconds)), "{:?}", before.step());
        let mut waiting = connection.clone();
        waiting.would_block(at(100));
        assert_eq!(waiting.deadline(just_before(at(101))), Some(at(100 + seconds)));
        assert_eq!(connection, before);
    }
}

#[test]
fn time_alone_ends_no_wait_and_no_step_of_the_application() {
    let mut fresh = vec![
        Connection::server(config(), at(0)),
        Connection::client(config(), PUT, at(0)),
        receiver(),
        whole(),
        sender(),
        still_open(),
        awaiting(),
        committed(),
    ];
    let waiting = fresh.clone().into_iter().map(|mut connection| {
        connection.would_block(at(1));
        connection
    });
    fresh.extend(waiting.collect::<Vec<_>>());
    fresh.extend(turns_of_the_application());
    for mut connection in fresh {
        let before = connection.clone();
        connection.handle_timeout(at(1_000_000));
        assert_eq!(connection, before);
    }
}

#[test]
fn nobody_waits_for_the_peer_while_it_is_the_applications_turn() {
    for mut connection in turns_of_the_application() {
        let before = connection.clone();
        assert_eq!(connection.deadline(at(10)), None);
        connection.would_block(at(10));
        connection.would_block(at(1_000_000));
        assert_eq!(connection, before);
    }
}

#[test]
fn a_wait_ends_with_the_state_that_it_was_in() {
    let mut receiver = receiver();
    receiver.would_block(at(10));
    receiver.end_of_stream();
    assert_eq!(receiver.deadline(at(10)), None);
    receiver.commit();
    assert_eq!(receiver.deadline(at(20)), Some(at(21)));

    let mut sender = sender();
    sender.would_block(at(10));
    sender.offer(0, true);
    assert_eq!(sender.deadline(at(10)), None);
    sender.still_open();
    assert_eq!(sender.deadline(at(11)), Some(at(12)));
    sender.would_block(at(11));
    sender.would_block(at(15));
    sender.shut_down();
    assert_eq!(sender.deadline(at(16)), Some(at(77)));
}

#[test]
fn an_offer_of_nothing_does_not_stop_the_idle_timer() {
    let mut sender = sender();
    sender.would_block(at(10));
    let before = sender.clone();
    sender.offer(0, false);
    sender.offer(7, true);
    assert_eq!(sender, before);
}

#[test]
fn a_receiver_that_waits_for_the_end_of_the_stream_is_under_the_idle_timer() {
    let mut whole = whole();
    whole.would_block(at(10));
    assert_eq!(whole.deadline(at(10)), Some(at(18)));
    whole.would_block(at(18));
    assert_eq!(whole.step(), timed_out(Timer::Idle));
}

#[test]
fn a_shutdown_that_has_to_wait_is_a_write_at_either_side() {
    for mut connection in [still_open(), committed()] {
        for second in 10..=20 {
            connection.would_block(at(second));
            assert_eq!(connection.deadline(at(second)), Some(at(second + 1)));
        }
        connection.would_block(at(21));
        assert_eq!(connection.step(), timed_out(Timer::Idle));
    }
}

#[test]
fn the_receipt_has_a_timer_of_its_own() {
    let mut sender = awaiting();
    sender.would_block(at(10));
    sender.would_block(at(50));
    assert_eq!(sender.deadline(at(50)), Some(at(71)));
    sender.would_block(just_before(at(71)));
    assert_eq!(sender.step(), Step::AwaitEnd);
    sender.would_block(at(71));
    assert_eq!(sender.step(), timed_out(Timer::End));
}

#[test]
fn the_transfer_timer_runs_in_every_state_and_nothing_extends_it() {
    let idle = Duration::from_secs(80);
    let timeouts = Timeouts { idle, transfer: Duration::from_secs(3), ..config().timeouts };
    let config = Config { timeouts, ..config() };
    let expect = |connection: &Connection| {
        assert_eq!(connection.deadline(at(100)), Some(at(103)), "{:?}", connection.step());
        let mut early = connection.clone();
        early.handle_timeout(just_before(at(103)));
        assert_eq!(early, *connection);
        early.handle_timeout(at(103));
        assert_eq!(early.step(), timed_out(Timer::Transfer));
        let mut failed = connection.clone();
        failed.would_block(at(103));
        assert_eq!(failed.step(), timed_out(Timer::Transfer));
    };
    let mut server = Connection::server(config, at(100));
    expect(&server);
    server.feed(PUT.as_bytes());
    expect(&server);
    server.accept(u64::MAX);
    expect(&server);
    server.would_block(at(102));
    server.advance(1);
    expect(&server);
    server.would_block(at(102));
    expect(&server);
    server.end_of_stream();
    expect(&server);
    server.commit();
    expect(&server);
    server.shut_down();
    assert_eq!(server.step(), Step::Done(Ok(1)));
    assert_eq!(server.deadline(at(100)), None);

    let mut client = Connection::client(config, PUT.with_size(1).unwrap(), at(100));
    expect(&client);
    client.advance(25);
    expect(&client);
    client.advance(1);
    expect(&client); // Offer
    client.offer(0, true);
    expect(&client); // Peek
    client.still_open();
    expect(&client);
    client.shut_down();
    expect(&client);
}

#[test]
fn the_deadline_is_the_first_of_all_times_that_matter() {
    let timeouts = Timeouts { transfer: Duration::from_secs(20), ..config().timeouts };
    let mut client = Connection::client(Config { timeouts, ..config() }, GET, at(0));
    assert_eq!(client.deadline(at(0)), Some(at(1)));
    client.advance(25);
    assert_eq!(client.deadline(at(4)), Some(at(12)));
    client.would_block(at(10));
    assert_eq!(client.deadline(at(10)), Some(at(18)));
    client.advance(1);
    assert_eq!(client.deadline(at(15)), Some(at(20)));
    client.would_block(at(15));
    assert_eq!(client.deadline(at(15)), Some(at(20)));
}

#[test]
fn of_two_timers_that_are_due_the_transfer_timer_is_named() {
    let timeouts = Timeouts { transfer: Duration::from_secs(5), ..config().timeouts };
    let mut server = Connection::server(Config { timeouts, ..config() }, at(0));
    server.would_block(at(5));
    assert_eq!(server.step(), timed_out(Timer::Transfer));
}

#[test]
fn a_deadline_is_inclusive_and_a_spurious_call_changes_nothing() {
    let mut waiting = receiver();
    waiting.would_block(at(10));
    let mut awaiting = awaiting();
    awaiting.would_block(at(10));
    let mut writing = sender();
    writing.would_block(at(10));
    (11..=20).for_each(|second| writing.would_block(at(second)));
    let fresh = Connection::server(config(), at(10));
    for before in [fresh, waiting, awaiting, writing] {
        let deadline = before.deadline(at(10)).unwrap();
        let mut connection = before.clone();
        connection.would_block(Instant::default());
        connection.would_block(just_before(deadline));
        connection.handle_timeout(deadline);
        assert_eq!(connection, before);
        connection.would_block(deadline);
        assert!(matches!(connection.step(), Step::Done(Err(Error::TimedOut(_)))));
    }
}

#[test]
fn a_timeout_of_zero_is_due_at_once() {
    let zero = Duration::ZERO;
    let timeouts = Timeouts { start: zero, idle: zero, end: zero, transfer: Duration::MAX };
    let config = Config { timeouts, ..config() };
    let mut server = Connection::server(config, at(3));
    assert_eq!(server.deadline(at(3)), Some(at(3)));
    server.would_block(at(3));
    assert_eq!(server.step(), timed_out(Timer::Start));

    let mut client = Connection::client(config, GET, at(3));
    for attempts_left in (0..12).rev() {
        assert_eq!(client.deadline(at(3)), Some(at(3)));
        client.would_block(at(3));
        assert_eq!(matches!(client.step(), Step::Done(_)), attempts_left == 0);
    }
}

#[test]
fn the_longest_duration_is_for_ever() {
    let never = Duration::MAX;
    let timeouts = Timeouts { start: never, idle: never, end: never, transfer: never };
    let config = Config { timeouts, ..config() };
    for epoch in [0, 1_000_000] {
        let mut server = Connection::server(config, at(epoch));
        expect_never(&mut server);
        server.feed(PUT.as_bytes());
        server.accept(u64::MAX);
        expect_never(&mut server);

        let mut client = Connection::client(config, PUT, at(epoch));
        expect_never(&mut client);
        client.advance(25);
        expect_never(&mut client);
        client.offer(0, true);
        expect_never(&mut client);
        client.still_open();
        expect_never(&mut client);
        client.shut_down();
        expect_never(&mut client);
        client.end_of_stream();
        assert_eq!(client.step(), Step::Done(Ok(0)));
    }
}

#[test]
fn a_timer_that_would_be_due_after_the_end_of_time_is_never_due() {
    let late = just_before(END_OF_TIME);
    for mut connection in [receiver(), sender(), Connection::server(config(), late)] {
        connection.would_block(late);
        let before = connection.clone();
        assert_eq!(connection.deadline(late), None);
        connection.would_block(END_OF_TIME);
        assert_eq!(connection, before);
    }
}

#[test]
fn a_reset_while_waiting_leaves_no_deadline() {
    let mut receiver = receiver();
    receiver.would_block(at(10));
    receiver.reset();
    assert_eq!(receiver.deadline(at(10)), None);
    assert_eq!(receiver.step(), Step::Done(Err(PeerError::Reset { moved: 1 }.into())));
}

#[test]
fn what_is_left_until_a_deadline_is_exact_to_the_nanosecond() {
    let instant = |seconds, nanos| Instant::new(Duration::new(seconds, nanos));
    let left = [
        (instant(10, 250_000_001), instant(7, 500_000_000), Duration::new(2, 750_000_001)),
        (instant(9, 999_999_999), instant(7, 0), Duration::new(2, 999_999_999)),
        (instant(7, 3), instant(7, 1), Duration::from_nanos(2)),
        (instant(7, 3), instant(7, 3), Duration::ZERO),
        (instant(7, 0), instant(10, 0), Duration::ZERO),
        (Instant::new(Duration::MAX), Instant::default(), Duration::MAX),
    ];
    for (deadline, now, expected) in left {
        assert_eq!(deadline.saturating_since(now), expected);
    }
}

fn expect_never(connection: &mut Connection) {
    assert_eq!(connection.deadline(at(1_000_000)), None);
    connection.would_block(at(1_000_000));
    assert_eq!(connection.deadline(at(1_000_000)), None);
    let before = connection.clone();
    connection.would_block(END_OF_TIME);
    connection.would_block(END_OF_TIME);
    connection.handle_timeout(END_OF_TIME);
    assert_eq!(*connection, before);
}

/// Three timeouts that can be told apart.
fn config() -> Config {
    let timeouts = Timeouts {
        start: Duration::from_secs(5),
        idle: Duration::from_secs(8),
        end: Duration::from_secs(61),
        transfer: Duration::MAX,
    };
    Config { timeouts, ..Config::default() }
}

/// A receiver of unknown size that has received a byte.
fn receiver() -> Connection {
    let mut client = Connection::client(config(), GET, at(0));
    client.advance(25);
    client.advance(1);
    client
}

/// A receiver that has all bytes, and not the end of the stream.
fn whole() -> Connection {
    let mut client = Connection::client(config(), GET.with_size(2).unwrap(), at(0));
    client.advance(25);
    client.advance(2);
    assert_eq!(client.step(), Step::AwaitEnd);
    client
}

/// A sender of unknown size that has sent a byte.
fn sender() -> Connection {
    let mut client = Connection::client(config(), PUT, at(0));
    client.advance(25);
    client.advance(1);
    client
}

/// A sender whose application has no more.
fn ended() -> Connection {
    let mut sender = sender();
    sender.offer(0, true);
    sender
}

/// A sender that is to shut down.
fn still_open() -> Connection {
    let mut sender = ended();
    sender.still_open();
    sender
}

/// A sender that waits for the receipt.
fn awaiting() -> Connection {
    let mut sender = still_open();
    sender.shut_down();
    sender
}

fn committing() -> Connection {
    let mut receiver = receiver();
    receiver.end_of_stream();
    receiver
}

/// A receiver that is to shut down.
fn committed() -> Connection {
    let mut receiver = committing();
    receiver.commit();
    receiver
}

/// Decide, Offer, Peek and Commit. (A peek does not wait.)
fn turns_of_the_application() -> [Connection; 4] {
    let mut deciding = Connection::server(config(), at(0));
    deciding.feed(PUT.as_bytes());
    let mut offering = Connection::client(config(), PUT.with_size(1).unwrap(), at(0));
    offering.advance(25 + 1);
    [deciding, offering, ended(), committing()]
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(Error::TimedOut(timer)))
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}

fn just_before(instant: Instant) -> Instant {
    Instant::new(instant.since_epoch() - Duration::from_nanos(1))
}
