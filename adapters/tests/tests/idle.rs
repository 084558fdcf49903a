//! Idle peers end with a timeout. An application that is slow on its own side does not.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Cause, Config, Timeouts, Timer};
use dataserver_tests::kernel::is_kept_alive;
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Outcome, Raw, RawListener, Server, Setup, Source, TempFile, Wait,
    cause, clients, eventually, get, long_timeouts, object, pairs, put, servers, spawn, start,
    tcp_pairs,
};

/// The timeout under test.
const SHORT: Duration = Duration::from_millis(150);

/// Much longer than the timeout.
const SLOW: Op = Op::Sleep(Duration::from_millis(400));

fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Config {
    let mut config = long_timeouts();
    change(&mut config.timeouts);
    config
}

fn short_idle() -> Config {
    timeouts(|timeouts| timeouts.idle = Some(SHORT))
}

#[track_caller]
fn timed_out<T: std::fmt::Debug>(outcome: &io::Result<T>, timer: Timer) {
    assert_eq!(cause(outcome), Cause::TimedOut(timer));
    assert_eq!(outcome.as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
}

fn idle_putter(server: DynAdapter) {
    // Before the first byte, in the middle, and before the end.
    for sent in [0, 5, 10] {
        for size in [10, -1] {
            let declared = u64::try_from(size).ok();
            let setup = Setup::new().on(put(declared), [Op::ReadToEnd]).config(short_idle());
            let server = Server::start(server, setup);
            let mut client = Raw::client(server.address, &[start(0, size), object(sent)].concat());
            assert_eq!(client.end(), End::Reset);
            timed_out(&server.outcomes.wait(), Timer::Idle);
        }
    }
}

/// It may pause for as long as it likes, but its machine must be there.
fn idle_putter_without_a_timeout(server: DynAdapter) {
    let config = timeouts(|timeouts| timeouts.idle = None);
    let server = Server::start(server, Setup::new().on(put(None), [Op::ReadToEnd]).config(config));
    let client = TcpStream::connect(server.address).unwrap();
    (&client).write_all(&start(0, -1)).unwrap();
    let address = client.local_addr().unwrap();
    eventually("keep-alive is on", || is_kept_alive(server.address, address));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.outcomes.wait().unwrap().bytes, 0);
}

fn idle_getter(server: DynAdapter) {
    let script = [Op::WriteForever(object(1 << 16))];
    let server = Server::start(server, Setup::new().on(get(None), script).config(short_idle()));
    let mut client = Raw::client(server.address, &start(1, -1));
    client.wait_for_reset(); // it does not read
    timed_out(&server.outcomes.wait(), Timer::Idle);
    assert_eq!(client.rest().1, End::Reset);
}

fn idle_getter_of_a_file(server: DynAdapter) {
    let file = TempFile::new(&object(1 << 25));
    let script = [Op::SendFile(file.path().into())];
    let server = Server::start(server, Setup::new().on(get(None), script).config(short_idle()));
    let client = Raw::client(server.address, &start(1, -1));
    client.wait_for_reset();
    timed_out(&server.outcomes.wait(), Timer::Idle);
}

fn idle_at_the_receipt_is_the_receipt_timer(server: DynAdapter, client: DynAdapter) {
    let config = timeouts(|timeouts| timeouts.receipt = Some(SHORT));
    let server =
        Server::start(server, Setup::new().on(get(None), [Op::Send(object(10))]).config(config));
    let mut getter = Raw::client(server.address, &start(1, -1));
    assert_eq!(getter.rest(), (object(10), End::Graceful));
    timed_out(&server.outcomes.wait(), Timer::Receipt);

    let listener = RawListener::new();
    let address = listener.address();
    let putting = spawn(move || client.client(address, put(None), config, &[Op::Send(object(10))]));
    let mut putter = listener.accept_start(&start(0, -1));
    assert_eq!(putter.rest(), (object(10), End::Graceful));
    timed_out(&putting.wait(), Timer::Receipt);
    putter.wait_for_reset();
}

fn idle_server_of_a_get(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for sent in [0, 5, 10] {
        for size in [10, -1] {
            let script = [Op::ReadToEnd, Op::Commit];
            let declared = u64::try_from(size).ok();
            let getting =
                spawn(move || client.client(address, get(declared), short_idle(), &script));
            let mut server = listener.accept_start(&start(1, size));
            server.try_send(&object(sent));
            assert_eq!(server.end(), End::Reset);
            timed_out(&getting.wait(), Timer::Idle);
        }
    }
}

fn idle_server_of_a_put(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::WriteForever(object(1 << 16))];
    let putting = spawn(move || client.client(address, put(None), short_idle(), &script));
    let mut server = listener.accept_start(&start(0, -1));
    server.wait_for_reset(); // it does not read
    timed_out(&putting.wait(), Timer::Idle);
    assert_eq!(server.rest().1, End::Reset);
}

/// Each byte restarts the idle timer.
fn slow_peers_are_not_idle(server: DynAdapter, client: DynAdapter) {
    let idle = timeouts(|timeouts| timeouts.idle = Some(Duration::from_millis(1000)));
    let (stored, storing) = channel();
    let script = [Op::ReadToEnd, Op::Notify(stored)];
    let server = Server::start(server, Setup::new().on(put(Some(12)), script).config(idle));
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::ReadToEnd, Op::Commit];
    let getting = spawn(move || client.client(address, get(Some(12)), idle, &script));

    let mut putter = Raw::client(server.address, &start(0, 12));
    let mut getter = listener.accept_start(&start(1, 12));
    for byte in object(12) {
        _ = putter.reset_within(Duration::from_millis(120));
        putter.send(&[byte]);
        getter.send(&[byte]);
    }
    putter.half_close();
    getter.half_close();
    assert_eq!(storing.wait(), object(12));
    assert_eq!(putter.end(), End::Graceful);
    assert_eq!(getting.wait().unwrap().bytes, object(12));
}

/// The total timer ends a slow transfer.
fn slow_peers_end_with_the_total_timer(server: DynAdapter) {
    let config = timeouts(|timeouts| timeouts.total = Some(Duration::from_millis(200)));
    let server = Server::start(server, Setup::new().on(put(None), [Op::ReadToEnd]).config(config));
    let mut client = Raw::client(server.address, &start(0, -1));
    for _ in 0..500 {
        if client.reset_within(Duration::from_millis(20)) {
            break;
        }
        client.try_send(b".");
    }
    assert_eq!(client.end(), End::Reset);
    timed_out(&server.outcomes.wait(), Timer::Total);
}

/// The application of the server is slow at every possible point, with a short idle timeout.
fn slow_server_application(server: DynAdapter, client: DynAdapter) {
    let (stored, storing) = channel();
    let slow_put = [SLOW, Op::Read(5), SLOW, Op::ReadToEnd, Op::Notify(stored), SLOW];
    let slow_get = [SLOW, Op::Write(object(5)), SLOW, Op::Write(object(5)), SLOW, Op::Finish, SLOW];
    let setup =
        Setup::new().on(put(Some(10)), slow_put).on(get(None), slow_get).config(short_idle());
    let server = Server::start(server, setup);
    let address = server.address;
    let getting = spawn(move || {
        client.client(address, get(None), long_timeouts(), &[Op::ReadToEnd, Op::Commit])
    });
    let script = [Op::Send(object(10))];
    client.client(address, put(Some(10)), long_timeouts(), &script).unwrap();
    assert_eq!(storing.wait(), object(10));
    assert_eq!(getting.wait().unwrap().bytes, [object(5), object(5)].concat());
    server.outcomes.wait().unwrap();
    server.outcomes.wait().unwrap();
}

/// The same for the application of the client.
fn slow_client_application(server: DynAdapter, client: DynAdapter) {
    let (stored, storing) = channel();
    let setup = Setup::new()
        .on(put(None), [Op::ReadToEnd, Op::Notify(stored)])
        .on(get(None), [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let slow_put = [
        Op::Flush, // the start timer of the server runs
        SLOW,
        Op::Write(object(5)),
        SLOW,
        Op::Write(object(5)),
        SLOW,
        Op::Finish,
    ];
    let slow_get = [SLOW, Op::Read(5), SLOW, Op::ReadToEnd, SLOW, Op::Commit];
    let putting = spawn(move || client.client(address, put(None), short_idle(), &slow_put));
    let getting = spawn(move || client.client(address, get(None), short_idle(), &slow_get));
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
    assert_eq!(storing.wait(), [object(5), object(5)].concat());
    let Outcome { bytes, receipt } = getting.wait().unwrap();
    assert_eq!((bytes, receipt.unwrap().bytes), (object(10), 10));
}

/// A slow commit is subject to the receipt timer, not to the idle timer.
fn slow_commit_is_not_idle(server: DynAdapter, client: DynAdapter) {
    let (stored, storing) = channel();
    let gate = Gate::new();
    let script = [Op::ReadToEnd, SLOW, Op::Notify(stored), Op::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting = spawn(move || {
        client.client(address, put(None), short_idle(), &[Op::SendReader(Source::new(object(10)))])
    });
    storing.wait();
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
}

servers!(idle_putter_without_a_timeout);
servers!(idle_putter, idle_getter, idle_getter_of_a_file, slow_peers_end_with_the_total_timer,);
clients!(idle_server_of_a_get, idle_server_of_a_put);
tcp_pairs!(idle_at_the_receipt_is_the_receipt_timer, slow_peers_are_not_idle,);

pairs!(slow_server_application, slow_client_application, slow_commit_is_not_idle,);
