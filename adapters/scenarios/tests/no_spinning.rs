//! Where the kernel says *ready* and then does not deliver, or cannot deliver at all, nothing is tried
//! again and again at the cost of a processor.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use dataserver_core::{Config, Error as Cause, Key, Timeouts, Timer};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{
    Any, Do, End, Process, Raw, RawListener, Server, Setup, Soon, TempDir, TempFile, cause,
    clients, eventually, get, kernel, object, patient, put, servers, spawn, start, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// A process that spins takes all of this.
const WINDOW: Duration = Duration::from_millis(1000);

/// How much of a processor a process takes, in percent.
fn load(process: &Process) -> u64 {
    let before = kernel::cpu_time(process.id());
    thread::sleep(WINDOW);
    (kernel::cpu_time(process.id()) - before) * 1000 / WINDOW.as_millis() as u64
}

#[track_caller]
fn assert_calm(process: &Process) {
    let load = load(process);
    assert!(load < 30, "{load} % of a processor");
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    start_for(kind, -1, Key::from_name(name))
}

fn an_urgent_byte_costs_no_processor(server: Any) {
    let file = TempFile::new(b"");
    let option = format!("file={}", file.path().display());
    let (process, address) = Process::server(PROGRAM, server, &[&option]);
    for name in [entry::PUT, entry::FILE_PUT] {
        let mut alone = Raw::client(address, &[named(0, name), object(100)].concat());
        alone.taken();
        alone.send_urgent();
        let mut with_more = Raw::client(address, &[named(0, name), object(100)].concat());
        with_more.taken();
        with_more.send_urgent();
        with_more.send(b".");
        assert_calm(&process);
    }
    let mut getter = Raw::client(address, &named(1, entry::GET));
    getter.read(1000);
    getter.send_urgent();
    assert_calm(&process);
}

fn ways_to_receive(directory: &TempDir) -> [Vec<Do>; 2] {
    [vec![Do::ReadToEnd], vec![Do::ReceiveFile(directory.path().join("object"))]]
}

fn idle(time: Duration) -> Config {
    Config { timeouts: Timeouts { idle: time, ..patient().timeouts }, ..patient() }
}

/// The urgent byte is not part of the object.
fn a_put_goes_on_behind_an_urgent_byte(server: Any) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let server = Server::start(server, Setup::new().on(put(None), way));
        let mut client = Raw::client(server.address, &[start(0, -1), object(100_000)].concat());
        client.taken();
        client.send_urgent();
        client.send(&object(100_000));
        client.taken();
        client.half_close();
        assert_eq!(client.end(), End::Orderly);
        assert_eq!(server.outcomes.soon().unwrap().bytes, 200_000);
    }
}

fn a_peer_that_stops_behind_an_urgent_byte_is_idle(server: Any) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let setup = Setup::new().on(put(None), way).config(idle(Duration::from_millis(300)));
        let server = Server::start(server, setup);
        let mut client = Raw::client(server.address, &[start(0, -1), object(100)].concat());
        client.send_urgent();
        client.send(b".");
        client.wait_for_reset();
        assert_eq!(cause(&server.outcomes.soon()), Cause::TimedOut(Timer::Idle));
    }
}

fn a_get_goes_on_behind_an_urgent_byte(client: Any) {
    let directory = TempDir::new();
    for way in ways_to_receive(&directory) {
        let listener = RawListener::new();
        let address = listener.address();
        let script = [way, vec![Do::Commit]].concat();
        let getting = spawn(move || client.client(address, get(None), patient(), &script));
        let mut server = listener.accept_start(&start(1, -1));
        server.send(&object(100_000));
        server.taken();
        server.send_urgent();
        server.send(&object(100_000));
        server.half_close();
        assert_eq!(getting.soon().unwrap().receipt.unwrap().bytes, 200_000);
    }
}

fn a_listener_that_was_made_nonblocking_is_waited_for(server: Any) {
    let (process, address) = Process::server(PROGRAM, server, &["nonblocking"]);
    assert_calm(&process);
    let mut getter = Raw::client(address, &named(1, entry::GET));
    getter.read(1000);
    assert_calm(&process);
}

/// A server that cannot make another thread serves with those that it has, and says so once.
fn threads_that_cannot_be_made_cost_no_processor(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &["memory=1024"]);
    let silent: Vec<_> = (0..100).map(|_| Raw::connect(address)).collect();
    thread::sleep(WINDOW);
    assert_calm(&process);
    drop(silent);
    get_served(address);
    process.say("count");
    let lines = process.more_until("descriptors");
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
    an_urgent_byte_costs_no_processor,
    a_put_goes_on_behind_an_urgent_byte,
    a_peer_that_stops_behind_an_urgent_byte_is_idle,
    a_listener_that_was_made_nonblocking_is_waited_for,
    threads_that_cannot_be_made_cost_no_processor,
);
clients!(a_get_goes_on_behind_an_urgent_byte);
