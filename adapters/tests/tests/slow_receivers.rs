//! A peer that reads slowly but steadily is not idle, and the time in which it reads does not count
//! towards its commit.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use dataserver_core::{Cause, Config, Timer};
use dataserver_tests::{
    ConnectedStream, DynAdapter, End, Op, Raw, RawListener, Server, Setup, Source, TempFile, Wait,
    cause, clients, get, long_timeouts, object, pairs, put, servers, spawn, start,
};

fn config(idle: impl Into<Option<Duration>>, receipt: impl Into<Option<Duration>>) -> Config {
    let timeouts = long_timeouts().timeouts;
    let idle = idle.into().or(timeouts.idle);
    let receipt = receipt.into().or(timeouts.receipt);
    long_timeouts().timeouts(timeouts.idle(idle).receipt(receipt))
}

/// Much shorter than a slow transfer, and longer than its pauses.
fn short_idle() -> Config {
    config(Duration::from_millis(600), None)
}

/// Reads to the end, with a pause after each `piece` bytes.
fn read_slowly(mut stream: impl Read, piece: usize, pause: Duration) -> Vec<u8> {
    let mut object = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match stream.read(&mut buffer).expect("a stream that is not reset") {
            0 => return object,
            n => object.extend_from_slice(&buffer[..n]),
        }
        thread::sleep(pause);
    }
}

fn read_slowly_over_tcp(peer: Raw, piece: usize, pause: Duration) -> (Vec<u8>, TcpStream) {
    let stream = peer.into_stream();
    (read_slowly(&stream, piece, pause), stream)
}

/// More than the socket buffers hold.
const LARGE: usize = 6 << 20;

/// 1.2 MB per second. A socket with a full buffer becomes writable when a third of the buffer is free,
/// which takes longer than the idle timeout.
const PIECE: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(13);

/// The ways to send an object.
fn ways(file: &TempFile, object: &[u8]) -> [Vec<Op>; 4] {
    [
        vec![Op::Send(object.into())],
        vec![Op::SendFile(file.path().into())],
        vec![Op::SendByReading(file.path().into())],
        vec![Op::SendReader(Source::new(object.into()))],
    ]
}

fn a_slow_getter_is_served(server: DynAdapter) {
    let object = object(LARGE);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            let expected = &object;
            scope.spawn(move || {
                let setup = Setup::new().on(get(None), way).config(short_idle());
                let server = Server::start(server, setup);
                let client = Raw::client(server.address, &start(1, -1));
                let read = read_slowly_over_tcp(client, PIECE, PAUSE).0;
                assert!(read == *expected);
                let outcome = server.outcomes.wait();
                assert_eq!(outcome.unwrap().bytes, expected.len() as u64);
            });
        }
    });
}

fn a_slow_server_gets_its_put(client: DynAdapter) {
    let object = object(LARGE);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            let expected = &object;
            scope.spawn(move || {
                let listener = RawListener::new();
                let address = listener.address();
                let putting = spawn(move || client.client(address, put(None), short_idle(), &way));
                let peer = listener.accept_start(&start(0, -1));
                let (read, stream) = read_slowly_over_tcp(peer, PIECE, PAUSE);
                assert!(read == *expected);
                Raw::over(stream).half_close();
                let outcome = putting.wait();
                assert_eq!(outcome.unwrap().receipt.unwrap().bytes, expected.len() as u64);
            });
        }
    });
}

/// A Unix socket becomes writable only when three quarters of its buffer are free. Progress before that
/// is noticed by attempts to write.
fn a_slow_peer_of_a_unix_socket_is_not_idle(server: DynAdapter) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let expected = object(1 << 20);
    let setup = Setup::new().on(get(None), [Op::Send(expected.clone())]).config(short_idle());
    let serving = spawn(move || server.serve_stream(ConnectedStream::Unix(ours), setup));
    std::io::Write::write_all(&mut &theirs, &start(1, -1)).expect("a stream");
    // A quarter of the buffer is 50 KB, which takes more than a second at this rate.
    let read = read_slowly(&theirs, 1 << 10, Duration::from_millis(10));
    assert!(read == expected);
    drop(theirs);
    assert_eq!(serving.wait().unwrap().bytes, expected.len() as u64);
}

/// The peer reads for longer than the receipt timeout. The timer starts when few bytes are left to be
/// read.
fn the_receipt_timer_does_not_cover_the_delivery_of_a_put(client: DynAdapter) {
    let receipt = Duration::from_secs(3);
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::Send(object(2 << 20))];
    let putting = spawn(move || client.client(address, put(None), config(None, receipt), &script));
    let peer = listener.accept_start(&start(0, -1));
    let (read, stream) = read_slowly_over_tcp(peer, 16 << 10, Duration::from_millis(35)); // 4.5 s
    Raw::over(stream).half_close();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, read.len() as u64);
}

fn the_receipt_timer_does_not_cover_the_delivery_of_a_get(server: DynAdapter) {
    let config = config(None, Duration::from_secs(3));
    let setup = Setup::new().on(get(None), [Op::Send(object(2 << 20))]).config(config);
    let server = Server::start(server, setup);
    let client = Raw::client(server.address, &start(1, -1));
    let (read, stream) = read_slowly_over_tcp(client, 16 << 10, Duration::from_millis(35));
    Raw::over(stream).half_close();
    assert_eq!(server.outcomes.wait().unwrap().bytes, read.len() as u64);
}

/// Full size: 2 MiB at 20 kB/s, then a commit after 10 s, with the default timeouts.
fn two_mib_at_20_kb_a_second_with_a_slow_commit(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::Send(object(2 << 20))];
    let putting = spawn(move || client.client(address, put(None), Config::default(), &script));
    let peer = listener.accept_start(&start(0, -1));
    let (read, stream) = read_slowly_over_tcp(peer, 2_000, Duration::from_millis(100));
    thread::sleep(Duration::from_secs(10));
    Raw::over(stream).half_close();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, read.len() as u64);
}

/// A peer that has read everything and never commits is disconnected.
fn a_peer_that_never_commits_is_disconnected(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let config = config(None, Duration::from_millis(300));
    let script = [Op::Send(object(2 << 20))];
    let putting = spawn(move || client.client(address, put(None), config, &script));
    let mut peer = listener.accept_start(&start(0, -1));
    assert_eq!(peer.rest().1, End::Graceful);
    assert_eq!(cause(&putting.wait()), Cause::TimedOut(Timer::Receipt));
}

/// A receiver that stops reading is disconnected, for every way to send.
fn a_getter_that_stops_reading_is_disconnected(server: DynAdapter) {
    let object = object(16 << 20);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            scope.spawn(move || {
                let idle = config(Duration::from_millis(200), None);
                let server = Server::start(server, Setup::new().on(get(None), way).config(idle));
                let mut client = Raw::client(server.address, &start(1, -1));
                client.read(100_000);
                assert_eq!(cause(&server.outcomes.wait()), Cause::TimedOut(Timer::Idle));
            });
        }
    });
}

/// The receiving application is slow, and the timeouts of the sender are short.
fn slow_adapters_are_not_idle(server: DynAdapter, client: DynAdapter) {
    let object = object(LARGE);
    let slowly: Vec<_> = (0..LARGE / PIECE)
        .flat_map(|_| [Op::Read(PIECE), Op::Sleep(PAUSE)])
        .chain([Op::ReadToEnd])
        .collect();
    let setup = Setup::new()
        .on(put(None), slowly.clone())
        .on(get(None), [Op::Send(object.clone())])
        .config(short_idle());
    let server = Server::start(server, setup);
    let address = server.address;
    let script = [Op::Send(object.clone())];
    let putting = spawn(move || client.client(address, put(None), short_idle(), &script));
    let script = [slowly, vec![Op::Commit]].concat();
    let got = client.client(address, get(None), short_idle(), &script).unwrap();
    assert!(got.bytes == object);
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, object.len() as u64);
}

servers!(
    a_slow_getter_is_served,
    a_slow_peer_of_a_unix_socket_is_not_idle,
    a_getter_that_stops_reading_is_disconnected,
    the_receipt_timer_does_not_cover_the_delivery_of_a_get,
);
clients!(
    a_slow_server_gets_its_put,
    the_receipt_timer_does_not_cover_the_delivery_of_a_put,
    a_peer_that_never_commits_is_disconnected,
    #[ignore = "long: two minutes"]
    two_mib_at_20_kb_a_second_with_a_slow_commit,
);
pairs!(slow_adapters_are_not_idle);
