//! If the kernel reports that a socket is ready and then delivers nothing, or if a resource is
//! exhausted, no adapter spins.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use dataserver_core::{Cause, Config, Key, Timer};
use dataserver_tests::process::entry;
use dataserver_tests::{
    DynAdapter, End, Op, Process, Raw, RawListener, Server, Setup, TempDir, TempFile, Wait, cause,
    clients, eventually, get, kernel, long_timeouts, object, put, servers, spawn, start, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// The duration of a measurement.
const WINDOW: Duration = Duration::from_millis(1000);

/// The CPU usage of a process, in percent.
fn load(process: &Process) -> u64 {
    let before = kernel::cpu_time(process.id());
    thread::sleep(WINDOW);
    (kernel::cpu_time(process.id()) - before) * 1000 / WINDOW.as_millis() as u64
}

#[track_caller]
fn assert_does_not_spin(process: &Process) {
    let load = load(process);
    assert!(load < 30, "CPU usage of {load} %");
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    start_for(kind, -1, Key::from_name(name))
}

fn an_urgent_byte_does_not_spin(server: DynAdapter) {
    let file = TempFile::new(b"");
    let option = format!("file={}", file.path().display());
    let (process, address) = Process::server(PROGRAM, server, &[&option]);
    for name in [entry::PUT, entry::FILE_PUT] {
        let mut alone = Raw::client(address, &[named(0, name), object(100)].concat());
        alone.wait_until_read();
        alone.send_urgent();
        let mut with_more = Raw::client(address, &[named(0, name), object(100)].concat());
        with_more.wait_until_read();
        with_more.send_urgent();
        with_more.send(b".");
        assert_does_not_spin(&process);
    }
    let mut getter = Raw::client(address, &named(1, entry::GET));
    getter.read(1000);
    getter.send_urgent();
    assert_does_not_spin(&process);
}

fn ways_to_receive(directory: &TempDir) -> [Vec<Op>; 2] {
    [vec![Op::ReadToEnd], vec![Op::ReceiveFile(directory.path().join("object"))]]
}

fn idle(time: Duration) -> Config {
    long_timeouts().timeouts(long_timeouts().timeouts.idle(time))
}

/// The urgent byte is not part of the object.
fn a_put_goes_on_after_an_urgent_byte(server: DynAdapter) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let server = Server::start(server, Setup::new().on(put(None), way));
        let mut client = Raw::client(server.address, &[start(0, -1), object(100_000)].concat());
        client.wait_until_read();
        client.send_urgent();
        client.send(&object(100_000));
        client.wait_until_read();
        client.half_close();
        assert_eq!(client.end(), End::Graceful);
        assert_eq!(server.outcomes.wait().unwrap().bytes, 200_000);
    }
}

fn a_peer_that_stops_after_an_urgent_byte_is_idle(server: DynAdapter) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let setup = Setup::new().on(put(None), way).config(idle(Duration::from_millis(300)));
        let server = Server::start(server, setup);
        let mut client = Raw::client(server.address, &[start(0, -1), object(100)].concat());
        client.send_urgent();
        client.send(b".");
        client.wait_for_reset();
        assert_eq!(cause(&server.outcomes.wait()), Cause::TimedOut(Timer::Idle));
    }
}

fn a_get_goes_on_after_an_urgent_byte(client: DynAdapter) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let listener = RawListener::new();
        let address = listener.address();
        let script = [way, vec![Op::Commit]].concat();
        let getting = spawn(move || client.client(address, get(None), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(1, -1));
        server.send(&object(100_000));
        server.wait_until_read();
        server.send_urgent();
        server.send(&object(100_000));
        server.half_close();
        assert_eq!(getting.wait().unwrap().receipt.unwrap().bytes, 200_000);
    }
}

fn a_listener_that_was_made_nonblocking_is_waited_for(server: DynAdapter) {
    let (process, address) = Process::server(PROGRAM, server, &["nonblocking"]);
    assert_does_not_spin(&process);
    let mut getter = Raw::client(address, &named(1, entry::GET));
    getter.read(1000);
    assert_does_not_spin(&process);
}

/// A server that cannot create another thread goes on with those that it has, and reports that once.
fn failed_thread_creation_does_not_spin(server: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &["memory=1024"]);
    let silent: Vec<_> = (0..100).map(|_| Raw::connect(address)).collect();
    thread::sleep(WINDOW);
    assert_does_not_spin(&process);
    drop(silent);
    get_served(address);
    process.command("count");
    let lines = process.lines_until("descriptors");
    let short = lines.iter().filter(|line| line.contains("cannot take a connection")).count();
    assert_eq!(short, usize::from(server.name() == "std"), "{lines:#?}");
}

fn get_served(address: SocketAddr) {
    eventually("a get is served", || {
        Raw::try_connect(address).is_ok() && {
            let mut getter = Raw::client(address, &named(1, entry::GET));
            getter.read(1000).len() == 1000
        }
    });
}

servers!(
    an_urgent_byte_does_not_spin,
    a_put_goes_on_after_an_urgent_byte,
    a_peer_that_stops_after_an_urgent_byte_is_idle,
    a_listener_that_was_made_nonblocking_is_waited_for,
    failed_thread_creation_does_not_spin,
);
clients!(a_get_goes_on_after_an_urgent_byte);
