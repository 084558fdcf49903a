//! A peer that reads slowly, but steadily, is never *idle*, and the time in which it reads is not
//! counted towards its commit.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use dataserver_core::{Config, Error as Cause, Timeouts, Timer};
use dataserver_scenarios::{
    Any, Carrier, Do, End, Raw, RawListener, Server, Setup, Soon, Source, TempFile, cause, clients,
    get, object, pairs, patient, put, servers, spawn, start,
};

fn config(idle: Duration, end: Duration) -> Config {
    let mut config = patient();
    config.timeouts = Timeouts { idle, end, ..config.timeouts };
    config
}

/// Much shorter than a slow transfer takes, and longer than the pauses in it.
fn impatient() -> Config {
    config(Duration::from_millis(600), patient().timeouts.end)
}

/// Reads to the end, `piece` bytes and then a pause, over and over.
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

/// 1.2 MB a second. A socket that has taken all that it can is writable again when a third of its buffer
/// is free, which takes longer than the idle timeout.
const PIECE: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(13);

/// Every way to send an object.
fn ways(file: &TempFile, object: &[u8]) -> [Vec<Do>; 4] {
    [
        vec![Do::Send(object.into())],
        vec![Do::SendFile(file.path().into())],
        vec![Do::SendByReading(file.path().into())],
        vec![Do::SendReader(Source::new(object.into()))],
    ]
}

fn a_slow_getter_is_served(server: Any) {
    let object = object(LARGE);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            let expected = &object;
            scope.spawn(move || {
                let setup = Setup::new().on(get(None), way).config(impatient());
                let server = Server::start(server, setup);
                let client = Raw::client(server.address, &start(1, -1));
                let read = read_slowly_over_tcp(client, PIECE, PAUSE).0;
                assert!(read == *expected);
                let outcome = server.outcomes.soon();
                assert_eq!(outcome.unwrap().bytes, expected.len() as u64);
            });
        }
    });
}

fn a_slow_server_gets_its_put(client: Any) {
    let object = object(LARGE);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            let expected = &object;
            scope.spawn(move || {
                let listener = RawListener::new();
                let address = listener.address();
                let putting = spawn(move || client.client(address, put(None), impatient(), &way));
                let peer = listener.accept_start(&start(0, -1));
                let (read, stream) = read_slowly_over_tcp(peer, PIECE, PAUSE);
                assert!(read == *expected);
                Raw::over(stream).half_close();
                let outcome = putting.soon();
                assert_eq!(outcome.unwrap().receipt.unwrap().bytes, expected.len() as u64);
            });
        }
    });
}

/// A Unix socket is writable only when three quarters of its buffer are free. What a slow peer takes
/// from it is seen by trying to write.
fn a_slow_peer_of_a_unix_socket_is_not_idle(server: Any) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let expected = object(1 << 20);
    let setup = Setup::new().on(get(None), [Do::Send(expected.clone())]).config(impatient());
    let serving = spawn(move || server.serve_stream(Carrier::Unix(ours), setup));
    std::io::Write::write_all(&mut &theirs, &start(1, -1)).expect("a stream");
    // A quarter of the buffer is 50 KB: more than a second at this rate.
    let read = read_slowly(&theirs, 1 << 10, Duration::from_millis(10));
    assert!(read == expected);
    drop(theirs);
    assert_eq!(serving.soon().unwrap().bytes, expected.len() as u64);
}

/// It reads for longer than the timer of the receipt, which begins when little is left to be read.
fn the_receipt_timer_does_not_cover_the_delivery_of_a_put(client: Any) {
    let end = Duration::from_secs(3);
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Do::Send(object(2 << 20))];
    let putting = spawn(move || {
        client.client(address, put(None), config(patient().timeouts.idle, end), &script)
    });
    let peer = listener.accept_start(&start(0, -1));
    let (read, stream) = read_slowly_over_tcp(peer, 16 << 10, Duration::from_millis(35)); // 4.5 s
    Raw::over(stream).half_close();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, read.len() as u64);
}

fn the_receipt_timer_does_not_cover_the_delivery_of_a_get(server: Any) {
    let config = config(patient().timeouts.idle, Duration::from_secs(3));
    let setup = Setup::new().on(get(None), [Do::Send(object(2 << 20))]).config(config);
    let server = Server::start(server, setup);
    let client = Raw::client(server.address, &start(1, -1));
    let (read, stream) = read_slowly_over_tcp(client, 16 << 10, Duration::from_millis(35));
    Raw::over(stream).half_close();
    assert_eq!(server.outcomes.soon().unwrap().bytes, read.len() as u64);
}

/// The full size: 2 MiB at 20 kB/s, then a commit of 10 s, with the default timers.
fn two_mib_at_20_kb_a_second_with_a_slow_commit(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Do::Send(object(2 << 20))];
    let putting = spawn(move || client.client(address, put(None), Config::default(), &script));
    let peer = listener.accept_start(&start(0, -1));
    let (read, stream) = read_slowly_over_tcp(peer, 2_000, Duration::from_millis(100));
    thread::sleep(Duration::from_secs(10));
    Raw::over(stream).half_close();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, read.len() as u64);
}

/// And a peer that has read everything, and never commits, is still cut off.
fn a_peer_that_never_commits_is_cut_off(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let config = config(patient().timeouts.idle, Duration::from_millis(300));
    let script = [Do::Send(object(2 << 20))];
    let putting = spawn(move || client.client(address, put(None), config, &script));
    let mut peer = listener.accept_start(&start(0, -1));
    assert_eq!(peer.rest().1, End::Orderly);
    assert_eq!(cause(&putting.soon()), Cause::TimedOut(Timer::End));
}

/// A receiver that stops in the middle is cut off, whichever way the object leaves.
fn a_getter_that_stops_reading_is_cut_off(server: Any) {
    let object = object(16 << 20);
    let file = TempFile::new(&object);
    thread::scope(|scope| {
        for way in ways(&file, &object) {
            scope.spawn(move || {
                let idle = config(Duration::from_millis(200), patient().timeouts.end);
                let server = Server::start(server, Setup::new().on(get(None), way).config(idle));
                let mut client = Raw::client(server.address, &start(1, -1));
                client.read(100_000);
                assert_eq!(cause(&server.outcomes.soon()), Cause::TimedOut(Timer::Idle));
            });
        }
    });
}

/// The application takes the object slowly; the sender's timers are short.
fn slow_adapters_are_not_idle(server: Any, client: Any) {
    let object = object(LARGE);
    let slowly: Vec<_> = (0..LARGE / PIECE)
        .flat_map(|_| [Do::Read(PIECE), Do::Sleep(PAUSE)])
        .chain([Do::ReadToEnd])
        .collect();
    let setup = Setup::new()
        .on(put(None), slowly.clone())
        .on(get(None), [Do::Send(object.clone())])
        .config(impatient());
    let server = Server::start(server, setup);
    let address = server.address;
    let script = [Do::Send(object.clone())];
    let putting = spawn(move || client.client(address, put(None), impatient(), &script));
    let script = [slowly, vec![Do::Commit]].concat();
    let got = client.client(address, get(None), impatient(), &script).unwrap();
    assert!(got.bytes == object);
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, object.len() as u64);
}

servers!(
    a_slow_getter_is_served,
    a_slow_peer_of_a_unix_socket_is_not_idle,
    a_getter_that_stops_reading_is_cut_off,
    the_receipt_timer_does_not_cover_the_delivery_of_a_get,
);
clients!(
    a_slow_server_gets_its_put,
    the_receipt_timer_does_not_cover_the_delivery_of_a_put,
    a_peer_that_never_commits_is_cut_off,
    #[ignore = "long: two minutes"]
    two_mib_at_20_kb_a_second_with_a_slow_commit,
);
pairs!(slow_adapters_are_not_idle);
