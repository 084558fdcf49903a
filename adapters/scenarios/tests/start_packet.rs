//! *Start packet* in any fragmentation, in time, or not at all.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Config, Error as Cause, PeerError, Timeouts, Timer};
use dataserver_scenarios::{
    Any, Do, End, Process, Raw, Server, Setup, Soon, cause, get, object, patient, put, servers,
    start,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// So much time for the start packet, and all the time there is for what follows.
fn start_within(millis: u64) -> Config {
    let start = Duration::from_millis(millis);
    Config { timeouts: Timeouts { start, ..patient().timeouts }, ..patient() }
}

fn cut(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let ends = at.iter().copied().chain([bytes.len()]);
    let begins = [0].into_iter().chain(at.iter().copied());
    begins.zip(ends).map(|(begin, end)| bytes[begin..end].to_vec()).collect()
}

/// Pieces as they come: no piece is sent before the server has read the one before.
fn crosses(server: &Server, pieces: &[Vec<u8>], expected: &[u8]) {
    let mut client = Raw::connect(server.address);
    client.send_apart(pieces.iter().map(Vec::as_slice));
    client.half_close();
    assert_eq!(client.rest(), (expected.to_vec(), End::Orderly), "{pieces:?}");
    server.outcomes.soon().unwrap();
}

fn put_in_any_pieces(server: Any) {
    let (stored, storing) = channel();
    let script = [Do::ReadToEnd, Do::Tell(stored)];
    let server = Server::start(server, Setup::new().on(put(Some(5)), script));
    let bytes = [start(0, 5), object(5)].concat();

    let every_byte: Vec<_> = (1..30).collect();
    let mut cuts = vec![vec![], every_byte];
    // 25 is the packet alone; behind another cut, the same read finds payload too.
    cuts.extend([1, 8, 9, 10, 24, 25, 26, 29].map(|at| vec![at]));
    cuts.extend([[1, 2], [1, 24], [8, 9], [1, 9], [9, 25], [24, 26], [12, 25]].map(Vec::from));
    for at in cuts {
        crosses(&server, &cut(&bytes, &at), b"");
        assert_eq!(storing.soon(), object(5), "{at:?}");
    }
}

fn get_in_any_pieces(server: Any) {
    let server = Server::start(server, Setup::new().on(get(None), [Do::Write(object(5))]));
    let every_byte: Vec<_> = (1..25).collect();
    for at in [vec![], every_byte, vec![1], vec![9], vec![24], vec![1, 9], vec![8, 24]] {
        let mut client = Raw::connect(server.address);
        client.send_apart(cut(&start(1, -1), &at).iter().map(Vec::as_slice));
        assert_eq!(client.rest(), (object(5), End::Orderly));
        client.half_close();
        server.outcomes.soon().unwrap();
    }
}

/// It all leaves in one piece with a declared size of nothing, and the end behind it.
fn empty_objects(server: Any) {
    let (stored, storing) = channel();
    let script = [Do::ReadToEnd, Do::Tell(stored)];
    let setup = Setup::new().on(put(Some(0)), script.clone()).on(put(None), script);
    let server = Server::start(server, setup);
    for size in [0, -1] {
        crosses(&server, &[start(0, size)], b"");
        assert_eq!(storing.soon(), b"");
    }
}

/// A byte now and then does not extend the time for all of them.
fn drip_is_dropped(server: Any) {
    let setup = Setup::new().on(put(None), [Do::ReadToEnd]).config(start_within(150));
    let server = Server::start(server, setup);
    let mut client = Raw::connect(server.address);
    let packet = start(0, -1);
    let mut left = packet.iter();
    // Were it extended, then these 24 bytes would keep the connection for longer.
    while !client.reset_within(Duration::from_millis(100)) {
        client.send(&[*left.next().expect("a reset before the last byte")]);
    }
    assert!(left.len() > 0);
    assert_eq!(client.end(), End::Reset);
    assert_eq!(cause(&server.outcomes.soon()), Cause::TimedOut(Timer::Start));
}

fn silence_is_dropped(server: Any) {
    let setup =
        Setup::new().on(put(Some(5)), [Do::ReadToEnd]).config(start_within(300)).max_connections(1);
    let server = Server::start(server, setup);
    for sent in [0, 24] {
        let mut client = Raw::client(server.address, &start(0, 5)[..sent]);
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.soon();
        assert_eq!(cause(&outcome), Cause::TimedOut(Timer::Start));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    // The only place is free again.
    crosses(&server, &[start(0, 5), object(5)], b"");
}

fn early_end_is_dropped(server: Any) {
    let setup = Setup::new().on(put(Some(5)), [Do::ReadToEnd]).max_connections(1);
    let server = Server::start(server, setup);
    for sent in [0, 1, 24] {
        let mut client = Raw::client(server.address, &start(0, 5)[..sent]);
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.soon();
        let truncated = PeerError::TruncatedStartPacket { received: sent };
        assert_eq!(cause(&outcome), truncated.into());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
    let client = Raw::client(server.address, &start(0, 5)[..24]);
    client.taken();
    client.reset();
    assert_eq!(cause(&server.outcomes.soon()), PeerError::Reset { moved: 0 }.into());
    crosses(&server, &[start(0, 5), object(5)], b"");
}

/// 100 peers that begin and do not go on leave no descriptor behind.
fn dropped_peers_leave_nothing(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    let clients: Vec<_> = (0..100)
        .map(|sent| Raw::client(address, &start(0, 5)[..sent % 25]))
        .map(|mut client| {
            client.half_close();
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.end(), End::Reset);
    }
    process.say("count"); // threads may stay, for the next connections: that is the adapter's choice
    assert_eq!(process.told("descriptors "), "0 more");
}

servers!(
    put_in_any_pieces,
    get_in_any_pieces,
    empty_objects,
    drip_is_dropped,
    silence_is_dropped,
    early_end_is_dropped,
    dropped_peers_leave_nothing,
);
