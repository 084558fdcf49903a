//! The timers: which one applies in which state. Only an attempt that fails after the deadline, or the
//! total timer, ends a connection. All times are in seconds.

use core::time::Duration;

use dataserver_core::{
    Cause, Config, Connection, Instant, Key, ObjectSize, PeerError, StartPacket, Step, Timeouts,
    Timer,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));
const END_OF_TIME: Instant = Instant::new(Duration::MAX);

#[test]
fn the_default_timeouts_are_those_of_the_original_and_a_minute_for_the_receipt() {
    let Timeouts { start, idle, receipt, total, .. } = Timeouts::default();
    assert_eq!((start, idle), (Some(Duration::from_secs(5)), Some(Duration::from_secs(5))));
    assert_eq!((receipt, total), (Some(Duration::from_secs(60)), None));
}

#[test]
fn a_client_that_sends_the_start_packet_slowly_does_not_extend_the_start_timer() {
    let mut server = Connection::server(config(), at(100));
    assert_eq!(server.deadline(at(100)), Some(at(105)));
    for (second, byte) in (101..).zip(&PUT.as_bytes()[..4]) {
        server.handle_read(&[*byte]);
        server.handle_blocked(at(second));
        assert_eq!(server.deadline(at(second)), Some(at(105)));
        assert!(matches!(server.step(), Step::Read { .. }));
    }
    server.handle_blocked(just_before(at(105)));
    assert!(matches!(server.step(), Step::Read { .. }));
    server.handle_blocked(at(105));
    assert_eq!(server.step(), timed_out(Timer::Start));
}

#[test]
fn a_start_packet_read_by_the_last_attempt_is_accepted() {
    let mut server = Connection::server(config(), at(100));
    server.handle_blocked(at(100));
    server.handle_timeout(at(1_000));
    server.handle_read(PUT.as_bytes());
    assert_eq!(server.step(), Step::Decide(PUT));
}

#[test]
fn a_client_does_not_time_out_before_its_first_write() {
    let mut client = Connection::client(config(), PUT, at(100));
    client.handle_timeout(at(1_000));
    client.handle_blocked(at(1_000));
    assert_eq!(client.step(), Step::Write { bytes: PUT.as_bytes(), payload: 4 << 20 });
    assert_eq!(client.deadline(at(1_000)), Some(at(1_001)));
}

#[test]
fn a_client_that_cannot_write_the_start_packet_is_idle() {
    let mut client = Connection::client(config(), PUT, at(100));
    for second in 101..120 {
        client.handle_blocked(at(second));
        client.handle_moved(1); // each byte resets the timer
    }
    assert_eq!(client.deadline(at(120)), Some(at(121)));
    for second in 120..=131 {
        assert!(matches!(client.step(), Step::Write { .. }));
        client.handle_blocked(at(second));
    }
    assert_eq!(client.step(), timed_out(Timer::Idle));
}

#[test]
fn the_start_timer_ends_with_the_start_packet() {
    let mut server = Connection::server(config(), at(0));
    server.handle_read(PUT.as_bytes());
    assert_eq!(server.deadline(at(1)), None);
    server.accept(None);
    assert_eq!(server.deadline(at(1)), Some(at(9)));
    server.handle_blocked(at(20));
    assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
}

#[test]
fn the_idle_time_of_a_reader_starts_with_the_first_failed_attempt_after_progress() {
    let mut receiver = receiver();
    receiver.handle_blocked(at(10));
    receiver.handle_blocked(at(12));
    assert_eq!(receiver.deadline(at(12)), Some(at(18)));
    receiver.handle_moved(1);
    receiver.handle_blocked(at(17));
    assert_eq!(receiver.deadline(at(17)), Some(at(25)));
    receiver.handle_blocked(just_before(at(25)));
    assert!(matches!(receiver.step(), Step::Receive { .. }));
    receiver.handle_blocked(at(25));
    assert_eq!(receiver.step(), timed_out(Timer::Idle));
}

#[test]
fn a_writer_is_retried_each_eighth_of_the_timeout_eleven_times() {
    let mut sender = sender();
    sender.handle_blocked(at(10));
    sender.handle_blocked(at(10));
    for second in 11..=15 {
        sender.handle_blocked(just_before(at(second)));
        assert_eq!(sender.deadline(at(second)), Some(at(second)));
        sender.handle_blocked(at(second));
    }
    sender.handle_moved(1); // there was room
    sender.handle_blocked(at(17));
    for second in 18..=27 {
        assert_eq!(sender.deadline(at(17)), Some(at(second)));
        sender.handle_blocked(at(second));
    }
    sender.handle_blocked(just_before(at(28)));
    assert!(matches!(sender.step(), Step::Send { .. }));
    sender.handle_blocked(at(28));
    assert_eq!(sender.step(), timed_out(Timer::Idle));
}

#[test]
fn a_late_writer_makes_all_its_retries() {
    let mut sender = sender();
    sender.handle_blocked(at(10));
    for retry in 11..=20 {
        assert_eq!(sender.deadline(at(1_000)), Some(at(retry)));
        sender.handle_blocked(at(1_000));
        assert!(matches!(sender.step(), Step::Send { .. }));
    }
    sender.handle_blocked(at(1_000));
    assert_eq!(sender.step(), timed_out(Timer::Idle));
}

#[test]
fn an_idle_peer_is_disconnected_at_most_one_and_a_half_timeouts_after_unsignaled_progress() {
    // The peer makes room once, at 100 + `room`. Only the attempts at deadlines find it.
    for room in 1..16 {
        let mut sender = sender();
        let (mut now, mut has_room, mut attempts) = (at(100), true, 0);
        while let Step::Send { .. } = sender.step() {
            attempts += 1;
            if has_room && now >= at(100 + room) {
                has_room = false;
                sender.handle_moved(1);
            } else {
                sender.handle_blocked(now);
                now = sender.deadline(now).unwrap_or(now);
            }
        }
        assert_eq!(sender.step(), timed_out(Timer::Idle));
        assert!(attempts < 30, "the driver spins");
        match room {
            ..=11 => assert!(now >= at(100 + room + 8) && now <= at(100 + room + 12), "{now:?}"),
            _ => assert_eq!(now, at(111), "no progress within the timeout"),
        }
    }
}

#[test]
fn the_deadline_before_a_wait_is_the_time_of_its_first_retry() {
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
        waiting.handle_blocked(at(100));
        assert_eq!(waiting.deadline(just_before(at(101))), Some(at(100 + seconds)));
        assert_eq!(connection, before);
    }
}

#[test]
fn handle_timeout_alone_ends_no_wait() {
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
        connection.handle_blocked(at(1));
        connection
    });
    fresh.extend(waiting.collect::<Vec<_>>());
    fresh.extend(steps_of_the_application());
    for mut connection in fresh {
        let before = connection.clone();
        connection.handle_timeout(at(1_000_000));
        assert_eq!(connection, before);
    }
}

#[test]
fn no_timer_runs_in_the_steps_of_the_application() {
    for mut connection in steps_of_the_application() {
        let before = connection.clone();
        assert_eq!(connection.deadline(at(10)), None);
        connection.handle_blocked(at(10));
        connection.handle_blocked(at(1_000_000));
        assert_eq!(connection, before);
    }
}

#[test]
fn a_new_state_starts_a_new_wait() {
    let mut receiver = receiver();
    receiver.handle_blocked(at(10));
    receiver.handle_end_of_stream();
    assert_eq!(receiver.deadline(at(10)), None);
    receiver.committed();
    assert_eq!(receiver.deadline(at(20)), Some(at(21)));

    let mut sender = sender();
    sender.handle_blocked(at(10));
    sender.offer(0, true);
    assert_eq!(sender.deadline(at(10)), None);
    sender.handle_still_open();
    assert_eq!(sender.deadline(at(11)), Some(at(12)));
    sender.handle_blocked(at(11));
    sender.handle_blocked(at(15));
    sender.handle_shutdown();
    assert_eq!(sender.deadline(at(16)), Some(at(77)));
}

#[test]
fn an_offer_does_not_reset_the_idle_timer() {
    let mut sender = sender();
    sender.handle_blocked(at(10));
    let before = sender.clone();
    sender.offer(0, false);
    sender.offer(7, true);
    assert_eq!(sender, before);
}

#[test]
fn the_idle_timer_applies_to_a_receiver_that_waits_for_the_end_of_the_stream() {
    let mut whole = whole();
    whole.handle_blocked(at(10));
    assert_eq!(whole.deadline(at(10)), Some(at(18)));
    whole.handle_blocked(at(18));
    assert_eq!(whole.step(), timed_out(Timer::Idle));
}

#[test]
fn a_blocked_shutdown_is_retried_like_a_write_on_both_sides() {
    for mut connection in [still_open(), committed()] {
        for second in 10..=20 {
            connection.handle_blocked(at(second));
            assert_eq!(connection.deadline(at(second)), Some(at(second + 1)));
        }
        connection.handle_blocked(at(21));
        assert_eq!(connection.step(), timed_out(Timer::Idle));
    }
}

#[test]
fn the_receipt_timer_applies_to_the_receipt() {
    let mut sender = awaiting();
    sender.handle_blocked(at(10));
    sender.handle_blocked(at(50));
    assert_eq!(sender.deadline(at(50)), Some(at(71)));
    sender.handle_blocked(just_before(at(71)));
    assert_eq!(sender.step(), Step::AwaitEnd);
    sender.handle_blocked(at(71));
    assert_eq!(sender.step(), timed_out(Timer::Receipt));
}

#[test]
fn the_total_timer_runs_in_every_state_and_is_never_extended() {
    let timeouts = timeouts().idle(seconds(80)).total(seconds(3));
    let config = Config::default().timeouts(timeouts);
    let expect = |connection: &Connection| {
        assert_eq!(connection.deadline(at(100)), Some(at(103)), "{:?}", connection.step());
        let mut early = connection.clone();
        early.handle_timeout(just_before(at(103)));
        assert_eq!(early, *connection);
        early.handle_timeout(at(103));
        assert_eq!(early.step(), timed_out(Timer::Total));
        let mut failed = connection.clone();
        failed.handle_blocked(at(103));
        assert_eq!(failed.step(), timed_out(Timer::Total));
    };
    let mut server = Connection::server(config, at(100));
    expect(&server);
    server.handle_read(PUT.as_bytes());
    expect(&server);
    server.accept(None);
    expect(&server);
    server.handle_blocked(at(102));
    server.handle_moved(1);
    expect(&server);
    server.handle_blocked(at(102));
    expect(&server);
    server.handle_end_of_stream();
    expect(&server);
    server.committed();
    expect(&server);
    server.handle_shutdown();
    assert_eq!(server.step(), Step::Done(Ok(1)));
    assert_eq!(server.deadline(at(100)), None);

    let mut client = Connection::client(config, PUT.with_size(1).unwrap(), at(100));
    expect(&client);
    client.handle_moved(25);
    expect(&client);
    client.handle_moved(1);
    expect(&client); // Offer
    client.offer(0, true);
    expect(&client); // Peek
    client.handle_still_open();
    expect(&client);
    client.handle_shutdown();
    expect(&client);
}

#[test]
fn the_deadline_is_the_earlier_of_the_retry_and_the_total_timeout() {
    let config = Config::default().timeouts(timeouts().total(seconds(20)));
    let mut client = Connection::client(config, GET, at(0));
    assert_eq!(client.deadline(at(0)), Some(at(1)));
    client.handle_moved(25);
    assert_eq!(client.deadline(at(4)), Some(at(12)));
    client.handle_blocked(at(10));
    assert_eq!(client.deadline(at(10)), Some(at(18)));
    client.handle_moved(1);
    assert_eq!(client.deadline(at(15)), Some(at(20)));
    client.handle_blocked(at(15));
    assert_eq!(client.deadline(at(15)), Some(at(20)));
}

#[test]
fn when_two_timers_expire_together_the_total_timer_is_reported() {
    let config = Config::default().timeouts(timeouts().total(seconds(5)));
    let mut server = Connection::server(config, at(0));
    server.handle_blocked(at(5));
    assert_eq!(server.step(), timed_out(Timer::Total));
}

#[test]
fn a_deadline_is_inclusive_and_a_spurious_call_changes_nothing() {
    let mut waiting = receiver();
    waiting.handle_blocked(at(10));
    let mut awaiting = awaiting();
    awaiting.handle_blocked(at(10));
    let mut writing = sender();
    writing.handle_blocked(at(10));
    (11..=20).for_each(|second| writing.handle_blocked(at(second)));
    let fresh = Connection::server(config(), at(10));
    for before in [fresh, waiting, awaiting, writing] {
        let deadline = before.deadline(at(10)).unwrap();
        let mut connection = before.clone();
        connection.handle_blocked(Instant::default());
        connection.handle_blocked(just_before(deadline));
        connection.handle_timeout(deadline);
        assert_eq!(connection, before);
        connection.handle_blocked(deadline);
        assert!(matches!(connection.step(), Step::Done(Err(Cause::TimedOut(_)))));
    }
}

#[test]
fn a_timeout_of_zero_is_due_at_once() {
    let zero = Duration::ZERO;
    let config = Config::default().timeouts(timeouts().start(zero).idle(zero).receipt(zero));
    let mut server = Connection::server(config, at(3));
    assert_eq!(server.deadline(at(3)), Some(at(3)));
    server.handle_blocked(at(3));
    assert_eq!(server.step(), timed_out(Timer::Start));

    let mut client = Connection::client(config, GET, at(3));
    for attempts_left in (0..12).rev() {
        assert_eq!(client.deadline(at(3)), Some(at(3)));
        client.handle_blocked(at(3));
        assert_eq!(matches!(client.step(), Step::Done(_)), attempts_left == 0);
    }
}

#[test]
fn no_timeout_and_the_longest_duration_mean_no_limit() {
    for (never, epoch) in
        [(None, 0), (None, 1_000_000), (Some(Duration::MAX), 0), (Some(Duration::MAX), 1_000_000)]
    {
        let timeouts = Timeouts::default().start(never).idle(never).receipt(never).total(never);
        let config = Config::default().timeouts(timeouts);
        let mut server = Connection::server(config, at(epoch));
        expect_never(&mut server);
        server.handle_read(PUT.as_bytes());
        server.accept(None);
        expect_never(&mut server);

        let mut client = Connection::client(config, PUT, at(epoch));
        expect_never(&mut client);
        client.handle_moved(25);
        expect_never(&mut client);
        client.offer(0, true);
        expect_never(&mut client);
        client.handle_still_open();
        expect_never(&mut client);
        client.handle_shutdown();
        expect_never(&mut client);
        client.handle_end_of_stream();
        assert_eq!(client.step(), Step::Done(Ok(0)));
    }
}

#[test]
fn each_timer_can_be_disabled_alone() {
    let expect = |connection: &mut Connection, limited: bool| {
        assert_eq!(connection.deadline(at(0)).is_some(), limited, "{:?}", connection.step());
        if !limited {
            expect_never(connection);
        }
    };
    let steps = |timeouts| {
        let config = Config::default().timeouts(timeouts);
        let server = Connection::server(config, at(0));
        let mut reader = Connection::client(config, GET, at(0));
        reader.handle_moved(25);
        let mut awaiting = Connection::client(config, PUT, at(0));
        awaiting.handle_moved(25);
        awaiting.offer(0, true);
        awaiting.handle_still_open();
        let writer = awaiting.clone();
        awaiting.handle_shutdown();
        [server, reader, writer, awaiting]
    };
    for (timeouts, limited) in [
        (timeouts(), [true, true, true, true]),
        (timeouts().start(None), [false, true, true, true]),
        (timeouts().idle(None), [true, false, false, true]),
        (timeouts().receipt(None), [true, true, true, false]),
        (timeouts().start(None).idle(None).receipt(None), [false; 4]),
    ] {
        for (mut connection, limited) in steps(timeouts).into_iter().zip(limited) {
            expect(&mut connection, limited);
        }
    }
}

#[test]
fn declare_keeps_the_total_timer_and_restarts_a_wait() {
    let config = Config::default().timeouts(timeouts().total(seconds(20)));
    let mut client = Connection::client(config, PUT, at(0));
    client.handle_blocked(at(10));
    client.handle_blocked(at(11));
    client.declare(ObjectSize::new(3).unwrap());
    assert_eq!(client.deadline(at(12)), Some(at(13)));
    assert_eq!(client.deadline(at(30)), Some(at(20)));
    client.handle_timeout(at(20));
    assert_eq!(client.step(), timed_out(Timer::Total));
}

#[test]
fn a_timer_that_is_due_beyond_the_range_of_time_never_expires() {
    let late = just_before(END_OF_TIME);
    for mut connection in [receiver(), sender(), Connection::server(config(), late)] {
        connection.handle_blocked(late);
        let before = connection.clone();
        assert_eq!(connection.deadline(late), None);
        connection.handle_blocked(END_OF_TIME);
        assert_eq!(connection, before);
    }
}

#[test]
fn a_reset_during_a_wait_clears_the_deadline() {
    let mut receiver = receiver();
    receiver.handle_blocked(at(10));
    receiver.handle_reset();
    assert_eq!(receiver.deadline(at(10)), None);
    assert_eq!(receiver.step(), Step::Done(Err(PeerError::Reset { moved: 1 }.into())));
}

#[test]
fn the_time_left_until_a_deadline_is_exact_to_the_nanosecond() {
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
    connection.handle_blocked(at(1_000_000));
    assert_eq!(connection.deadline(at(1_000_000)), None);
    let before = connection.clone();
    connection.handle_blocked(END_OF_TIME);
    connection.handle_blocked(END_OF_TIME);
    connection.handle_timeout(END_OF_TIME);
    assert_eq!(*connection, before);
}

fn config() -> Config {
    Config::default().timeouts(timeouts())
}

/// Three different timeouts, and no total timeout.
fn timeouts() -> Timeouts {
    Timeouts::default().start(seconds(5)).idle(seconds(8)).receipt(seconds(61)).total(None)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A receiver of unknown size that has received a byte.
fn receiver() -> Connection {
    let mut client = Connection::client(config(), GET, at(0));
    client.handle_moved(25);
    client.handle_moved(1);
    client
}

/// A receiver that has all bytes, but has not seen the end of the stream.
fn whole() -> Connection {
    let mut client = Connection::client(config(), GET.with_size(2).unwrap(), at(0));
    client.handle_moved(25);
    client.handle_moved(2);
    assert_eq!(client.step(), Step::AwaitEnd);
    client
}

/// A sender of unknown size that has sent a byte.
fn sender() -> Connection {
    let mut client = Connection::client(config(), PUT, at(0));
    client.handle_moved(25);
    client.handle_moved(1);
    client
}

/// A sender whose application has reached the end of the object.
fn ended() -> Connection {
    let mut sender = sender();
    sender.offer(0, true);
    sender
}

/// A sender that shuts down next.
fn still_open() -> Connection {
    let mut sender = ended();
    sender.handle_still_open();
    sender
}

/// A sender that waits for the receipt.
fn awaiting() -> Connection {
    let mut sender = still_open();
    sender.handle_shutdown();
    sender
}

fn committing() -> Connection {
    let mut receiver = receiver();
    receiver.handle_end_of_stream();
    receiver
}

/// A receiver that shuts down next.
fn committed() -> Connection {
    let mut receiver = committing();
    receiver.committed();
    receiver
}

/// Decide, Offer, Peek, and Commit. A peek does not wait.
fn steps_of_the_application() -> [Connection; 4] {
    let mut deciding = Connection::server(config(), at(0));
    deciding.handle_read(PUT.as_bytes());
    let mut offering = Connection::client(config(), PUT.with_size(1).unwrap(), at(0));
    offering.handle_moved(25 + 1);
    [deciding, offering, ended(), committing()]
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(Cause::TimedOut(timer)))
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}

fn just_before(instant: Instant) -> Instant {
    Instant::new(instant.since_epoch() - Duration::from_nanos(1))
}
