//! The timers: which one runs when, and that a deadline that is due ends the connection, and only
//! then. All times here are in seconds.

use core::time::Duration;

use dataserver_core::{
    Config, Connection, Error, Instant, Key, PeerError, StartPacket, Step, Timeouts, Timer,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));

#[test]
fn the_defaults_are_the_originals_five_seconds_and_a_minute_for_the_receipt() {
    let Timeouts { start, idle, end, transfer } = Timeouts::default();
    assert_eq!((start, idle), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!((end, transfer), (Duration::from_secs(60), Duration::MAX));
}

#[test]
fn a_drip_of_bytes_does_not_extend_the_start_timer() {
    let mut server = Connection::server(config(), at(100));
    for (second, byte) in (101..).zip(&PUT.as_bytes()[..4]) {
        server.feed(&[*byte]);
        server.wait(at(second));
        assert_eq!(server.deadline(), Some(at(105)));
        server.handle_timeout(at(second));
        assert!(matches!(server.step(), Step::Read { .. }));
    }
    server.handle_timeout(at(105));
    assert_eq!(server.step(), timed_out(Timer::Start));
}

#[test]
fn a_drip_of_written_bytes_does_not_extend_the_start_timer() {
    let mut client = Connection::client(config(), PUT, at(100));
    for second in 101..105 {
        client.advance(1);
        client.wait(at(second));
        assert_eq!(client.deadline(), Some(at(105)));
    }
    client.handle_timeout(at(105));
    assert_eq!(client.step(), timed_out(Timer::Start));
}

#[test]
fn the_start_timer_ends_with_the_start_packet() {
    let mut server = Connection::server(config(), at(0));
    server.feed(PUT.as_bytes());
    assert_eq!(server.deadline(), None);
    server.wait(at(1)); // nobody waits for the peer while the application decides
    assert_eq!(server.deadline(), None);
    server.accept(u64::MAX);
    assert_eq!(server.deadline(), None);

    let mut client = Connection::client(config(), GET, at(0));
    client.advance(25);
    assert_eq!(client.deadline(), None);
}

#[test]
fn the_idle_timer_runs_from_the_first_wait_after_the_last_progress() {
    for mut connection in [receiver(), sender()] {
        connection.wait(at(10));
        connection.wait(at(12));
        assert_eq!(connection.deadline(), Some(at(17)));
        connection.advance(1);
        assert_eq!(connection.deadline(), None);
        connection.wait(at(16));
        assert_eq!(connection.deadline(), Some(at(23)));
        connection.handle_timeout(at(23));
        assert_eq!(connection.step(), timed_out(Timer::Idle));
    }
}

#[test]
fn an_application_that_stalls_on_its_own_is_not_timed_out() {
    for mut connection in [receiver(), sender(), committing(), committed(), ended()] {
        let before = connection.clone();
        assert_eq!(connection.deadline(), None);
        connection.handle_timeout(at(1_000_000));
        assert_eq!(connection, before);
    }
}

#[test]
fn nobody_waits_for_the_peer_during_a_commit() {
    let mut receiver = committing();
    receiver.wait(at(10));
    assert_eq!(receiver, committing());
}

#[test]
fn a_wait_ends_with_the_state_that_it_was_in() {
    let mut receiver = receiver();
    receiver.wait(at(10));
    receiver.end_of_stream();
    assert_eq!(receiver.deadline(), None);

    let mut sender = sender();
    sender.wait(at(10));
    sender.end_of_object();
    assert_eq!(sender.deadline(), None);
    sender.wait(at(11));
    assert_eq!(sender.deadline(), Some(at(18)));
    sender.shut_down();
    assert_eq!(sender.deadline(), None);
}

#[test]
fn every_wait_of_a_receiver_is_for_the_idle_timer() {
    let sized = GET.with_size(2).unwrap();
    let mut whole = Connection::client(config(), sized, at(0));
    whole.advance(25);
    whole.advance(2);
    assert_eq!(whole.step(), Step::AwaitEnd);
    for mut connection in [whole, committed()] {
        connection.wait(at(10));
        assert_eq!(connection.deadline(), Some(at(17)));
        connection.handle_timeout(at(17));
        assert_eq!(connection.step(), timed_out(Timer::Idle));
    }
}

#[test]
fn the_receipt_has_a_timer_of_its_own() {
    let mut sender = ended();
    sender.shut_down();
    sender.wait(at(10));
    sender.wait(at(50));
    assert_eq!(sender.deadline(), Some(at(71)));
    sender.handle_timeout(at(71));
    assert_eq!(sender.step(), timed_out(Timer::End));
}

#[test]
fn the_transfer_timer_runs_in_every_state_and_nothing_extends_it() {
    let timeouts = Timeouts { transfer: Duration::from_secs(3), ..config().timeouts };
    let config = Config { timeouts, ..config() };
    let mut server = Connection::server(config, at(100));
    let expect = |server: &Connection| {
        assert_eq!(server.deadline(), Some(at(103)), "{:?}", server.step());
        let mut late = server.clone();
        late.handle_timeout(at(103));
        assert_eq!(late.step(), timed_out(Timer::Transfer));
    };
    expect(&server);
    server.feed(PUT.as_bytes());
    expect(&server);
    server.accept(u64::MAX);
    expect(&server);
    server.wait(at(102));
    server.advance(1);
    expect(&server);
    server.wait(at(102));
    expect(&server);
    server.end_of_stream();
    expect(&server);
    server.commit();
    expect(&server);
    server.shut_down();
    assert_eq!(server.step(), Step::Done(Ok(1)));
    assert_eq!(server.deadline(), None);
}

#[test]
fn the_timer_that_runs_out_first_is_the_one_that_ends_it() {
    let timeouts = Timeouts { transfer: Duration::from_secs(20), ..config().timeouts };
    let mut client = Connection::client(Config { timeouts, ..config() }, GET, at(0));
    assert_eq!(client.deadline(), Some(at(5)));
    client.advance(25);
    assert_eq!(client.deadline(), Some(at(20)));
    client.wait(at(10));
    assert_eq!(client.deadline(), Some(at(17)));
    client.advance(1);
    client.wait(at(15));
    assert_eq!(client.deadline(), Some(at(20)));
    client.handle_timeout(at(1_000)); // late: both are due, and the earlier one it was
    assert_eq!(client.step(), timed_out(Timer::Transfer));
}

#[test]
fn of_two_timers_that_are_due_together_the_narrower_one_is_named() {
    let timeouts = Timeouts { transfer: Duration::from_secs(5), ..config().timeouts };
    let mut server = Connection::server(Config { timeouts, ..config() }, at(0));
    server.handle_timeout(at(5));
    assert_eq!(server.step(), timed_out(Timer::Start));
}

#[test]
fn a_deadline_is_inclusive_and_a_spurious_call_changes_nothing() {
    let mut waiting = receiver();
    waiting.wait(at(10));
    let mut awaiting = ended();
    awaiting.shut_down();
    awaiting.wait(at(10));
    let fresh = Connection::server(config(), at(0));
    for before in [fresh, waiting, awaiting] {
        let deadline = before.deadline().unwrap();
        let just_before = Instant::new(deadline.since_epoch() - Duration::from_nanos(1));
        let mut connection = before.clone();
        connection.handle_timeout(Instant::default());
        connection.handle_timeout(just_before);
        assert_eq!(connection, before);
        connection.handle_timeout(deadline);
        assert!(matches!(connection.step(), Step::Done(Err(Error::TimedOut(_)))));
    }
}

#[test]
fn a_timeout_of_zero_is_due_at_once() {
    let timeouts = Timeouts { start: Duration::ZERO, ..config().timeouts };
    let mut server = Connection::server(Config { timeouts, ..config() }, at(3));
    assert_eq!(server.deadline(), Some(at(3)));
    server.handle_timeout(at(3));
    assert_eq!(server.step(), timed_out(Timer::Start));
}

#[test]
fn the_longest_duration_is_for_ever() {
    let never = Duration::MAX;
    let timeouts = Timeouts { start: never, idle: never, end: never, transfer: never };
    let config = Config { timeouts, ..config() };
    for epoch in [0, 1_000_000] {
        let mut client = Connection::client(config, PUT, at(epoch));
        expect_never(&mut client);
        client.advance(25);
        expect_never(&mut client);
        client.end_of_object();
        expect_never(&mut client);
        client.shut_down();
        expect_never(&mut client);
        client.end_of_stream();
        assert_eq!(client.step(), Step::Done(Ok(0)));
    }
}

#[test]
fn a_reset_while_waiting_leaves_no_deadline() {
    let mut receiver = receiver();
    receiver.wait(at(10));
    receiver.reset();
    assert_eq!(receiver.deadline(), None);
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
    connection.wait(at(1_000_000));
    assert_eq!(connection.deadline(), None);
    let before = connection.clone();
    connection.handle_timeout(Instant::new(Duration::MAX));
    assert_eq!(*connection, before);
}

/// Three timeouts that can be told apart.
fn config() -> Config {
    let timeouts = Timeouts {
        start: Duration::from_secs(5),
        idle: Duration::from_secs(7),
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

/// A sender of unknown size that has sent a byte.
fn sender() -> Connection {
    let mut client = Connection::client(config(), PUT, at(0));
    client.advance(25);
    client.advance(1);
    client
}

fn ended() -> Connection {
    let mut sender = sender();
    sender.end_of_object();
    sender
}

fn committing() -> Connection {
    let mut receiver = receiver();
    receiver.end_of_stream();
    receiver
}

fn committed() -> Connection {
    let mut receiver = committing();
    receiver.commit();
    receiver
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(Error::TimedOut(timer)))
}

fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}
