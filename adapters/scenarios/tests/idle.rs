//! *Idle* peers end with a timeout error; an application that is slow on its own side does not.

use std::io::{self, ErrorKind};
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Config, Error as Cause, Timeouts, Timer};
use dataserver_scenarios::{
    Any, Do, End, Gate, Outcome, Raw, RawListener, Server, Setup, Soon, Source, TempFile, cause,
    clients, get, object, pairs, patient, put, servers, spawn, start,
};

/// The timeout for peers that have one here.
const SHORT: Duration = Duration::from_millis(150);

/// Longer than that, by far.
const SLOW: Do = Do::Sleep(Duration::from_millis(400));

fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Config {
    let mut config = patient();
    change(&mut config.timeouts);
    config
}

fn impatient() -> Config {
    timeouts(|timeouts| timeouts.idle = SHORT)
}

#[track_caller]
fn timed_out<T: std::fmt::Debug>(outcome: &io::Result<T>, timer: Timer) {
    assert_eq!(cause(outcome), Cause::TimedOut(timer));
    assert_eq!(outcome.as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
}

fn idle_putter(server: Any) {
    // Before the first byte, in the middle, and before the end.
    for sent in [0, 5, 10] {
        for size in [10, -1] {
            let declared = u64::try_from(size).ok();
            let setup = Setup::new().on(put(declared), [Do::ReadToEnd]).config(impatient());
            let server = Server::start(server, setup);
            let mut client = Raw::client(server.address, &[start(0, size), object(sent)].concat());
            assert_eq!(client.end(), End::Reset);
            timed_out(&server.outcomes.soon(), Timer::Idle);
        }
    }
}

fn idle_getter(server: Any) {
    let script = [Do::WriteForever(object(1 << 16))];
    let server = Server::start(server, Setup::new().on(get(None), script).config(impatient()));
    let mut client = Raw::client(server.address, &start(1, -1));
    client.wait_for_reset(); // it does not read
    timed_out(&server.outcomes.soon(), Timer::Idle);
    assert_eq!(client.rest().1, End::Reset);
}

fn idle_getter_of_a_file(server: Any) {
    let file = TempFile::new(&object(1 << 25));
    let script = [Do::SendFile(file.path().into())];
    let server = Server::start(server, Setup::new().on(get(None), script).config(impatient()));
    let client = Raw::client(server.address, &start(1, -1));
    client.wait_for_reset();
    timed_out(&server.outcomes.soon(), Timer::Idle);
}

fn idle_at_the_receipt_is_the_end_timer(server: Any, client: Any) {
    let config = timeouts(|timeouts| timeouts.end = SHORT);
    let server =
        Server::start(server, Setup::new().on(get(None), [Do::Send(object(10))]).config(config));
    let mut getter = Raw::client(server.address, &start(1, -1));
    assert_eq!(getter.rest(), (object(10), End::Orderly));
    timed_out(&server.outcomes.soon(), Timer::End);

    let listener = RawListener::new();
    let address = listener.address();
    let putting = spawn(move || client.client(address, put(None), config, &[Do::Send(object(10))]));
    let mut putter = listener.accept_start(&start(0, -1));
    assert_eq!(putter.rest(), (object(10), End::Orderly));
    timed_out(&putting.soon(), Timer::End);
    putter.wait_for_reset();
}

fn idle_server_of_a_get(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for sent in [0, 5, 10] {
        for size in [10, -1] {
            let script = [Do::ReadToEnd, Do::Commit];
            let declared = u64::try_from(size).ok();
            let getting =
                spawn(move || client.client(address, get(declared), impatient(), &script));
            let mut server = listener.accept_start(&start(1, size));
            server.try_send(&object(sent));
            assert_eq!(server.end(), End::Reset);
            timed_out(&getting.soon(), Timer::Idle);
        }
    }
}

fn idle_server_of_a_put(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Do::WriteForever(object(1 << 16))];
    let putting = spawn(move || client.client(address, put(None), impatient(), &script));
    let mut server = listener.accept_start(&start(0, -1));
    server.wait_for_reset(); // it does not read
    timed_out(&putting.soon(), Timer::Idle);
    assert_eq!(server.rest().1, End::Reset);
}

/// It is idle only who does nothing at all: each byte starts the timer anew.
fn slow_peers_are_not_idle(server: Any, client: Any) {
    let idle = timeouts(|timeouts| timeouts.idle = Duration::from_millis(1000));
    let (stored, storing) = channel();
    let script = [Do::ReadToEnd, Do::Tell(stored)];
    let server = Server::start(server, Setup::new().on(put(Some(12)), script).config(idle));
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Do::ReadToEnd, Do::Commit];
    let getting = spawn(move || client.client(address, get(Some(12)), idle, &script));

    let mut putter = Raw::client(server.address, &start(0, 12));
    let mut getter = listener.accept_start(&start(1, 12));
    for byte in object(12) {
        let _never = putter.reset_within(Duration::from_millis(120));
        putter.send(&[byte]);
        getter.send(&[byte]);
    }
    putter.half_close();
    getter.half_close();
    assert_eq!(storing.soon(), object(12));
    assert_eq!(putter.end(), End::Orderly);
    assert_eq!(getting.soon().unwrap().bytes, object(12));
}

/// But there is a timer for the whole, if one is wanted.
fn slow_peers_end_with_the_transfer_timer(server: Any) {
    let config = timeouts(|timeouts| timeouts.transfer = Duration::from_millis(200));
    let server = Server::start(server, Setup::new().on(put(None), [Do::ReadToEnd]).config(config));
    let mut client = Raw::client(server.address, &start(0, -1));
    for _ in 0..500 {
        if client.reset_within(Duration::from_millis(20)) {
            break;
        }
        client.try_send(b".");
    }
    assert_eq!(client.end(), End::Reset);
    timed_out(&server.outcomes.soon(), Timer::Transfer);
}

/// The server's application takes its time, at every place where it can; its timeouts are short.
fn slow_server_application(server: Any, client: Any) {
    let (stored, storing) = channel();
    let slow_put = [SLOW, Do::Read(5), SLOW, Do::ReadToEnd, Do::Tell(stored), SLOW];
    let slow_get = [SLOW, Do::Write(object(5)), SLOW, Do::Write(object(5)), SLOW, Do::Finish, SLOW];
    let setup =
        Setup::new().on(put(Some(10)), slow_put).on(get(None), slow_get).config(impatient());
    let server = Server::start(server, setup);
    let address = server.address;
    let getting =
        spawn(move || client.client(address, get(None), patient(), &[Do::ReadToEnd, Do::Commit]));
    let script = [Do::Send(object(10))];
    client.client(address, put(Some(10)), patient(), &script).unwrap();
    assert_eq!(storing.soon(), object(10));
    assert_eq!(getting.soon().unwrap().bytes, [object(5), object(5)].concat());
    server.outcomes.soon().unwrap();
    server.outcomes.soon().unwrap();
}

/// And so does the client's.
fn slow_client_application(server: Any, client: Any) {
    let (stored, storing) = channel();
    let setup = Setup::new()
        .on(put(None), [Do::ReadToEnd, Do::Tell(stored)])
        .on(get(None), [Do::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let slow_put = [
        Do::Flush, // the start packet has to be in time
        SLOW,
        Do::Write(object(5)),
        SLOW,
        Do::Write(object(5)),
        SLOW,
        Do::Finish,
    ];
    let slow_get = [SLOW, Do::Read(5), SLOW, Do::ReadToEnd, SLOW, Do::Commit];
    let putting = spawn(move || client.client(address, put(None), impatient(), &slow_put));
    let getting = spawn(move || client.client(address, get(None), impatient(), &slow_get));
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
    assert_eq!(storing.soon(), [object(5), object(5)].concat());
    let Outcome { bytes, receipt } = getting.soon().unwrap();
    assert_eq!((bytes, receipt.unwrap().bytes), (object(10), 10));
}

/// A server that stores slowly is waited for by the end timer, not by the idle one.
fn slow_commit_is_not_idle(server: Any, client: Any) {
    let (stored, storing) = channel();
    let gate = Gate::new();
    let script = [Do::ReadToEnd, SLOW, Do::Tell(stored), Do::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting = spawn(move || {
        client.client(address, put(None), impatient(), &[Do::SendReader(Source::new(object(10)))])
    });
    storing.soon();
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
}

servers!(idle_putter, idle_getter, idle_getter_of_a_file, slow_peers_end_with_the_transfer_timer,);
clients!(idle_server_of_a_get, idle_server_of_a_put);
pairs!(
    idle_at_the_receipt_is_the_end_timer,
    slow_peers_are_not_idle,
    slow_server_application,
    slow_client_application,
    slow_commit_is_not_idle,
);
