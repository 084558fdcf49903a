//! Start packets: in any fragmentation, within their timeout, and truncated ones.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Cause, Config, PeerError, Timer};
use dataserver_tests::{
    DynAdapter, End, Op, Process, Raw, Server, Setup, Wait, cause, get, long_timeouts, object, put,
    servers, start,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// A timeout for the start packet, and long ones for what follows.
fn start_within(millis: u64) -> Config {
    let start = Duration::from_millis(millis);
    long_timeouts().timeouts(long_timeouts().timeouts.start(start))
}

fn cut(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let ends = at.iter().copied().chain([bytes.len()]);
    let begins = [0].into_iter().chain(at.iter().copied());
    begins.zip(ends).map(|(begin, end)| bytes[begin..end].to_vec()).collect()
}

/// Each piece is sent after the server has read the previous one.
fn assert_put_succeeds(server: &Server, pieces: &[Vec<u8>], expected: &[u8]) {
    let mut client = Raw::connect(server.address);
    client.send_apart(pieces.iter().map(Vec::as_slice));
    client.half_close();
    assert_eq!(client.rest(), (expected.to_vec(), End::Graceful), "{pieces:?}");
    server.outcomes.wait().unwrap();
}

fn put_in_any_pieces(server: DynAdapter) {
    let (stored, storing) = channel();
    let script = [Op::ReadToEnd, Op::Notify(stored)];
    let server = Server::start(server, Setup::new().on(put(Some(5)), script));
    let bytes = [start(0, 5), object(5)].concat();

    let every_byte: Vec<_> = (1..30).collect();
    let mut cuts = vec![vec![], every_byte];
    // 25 is the whole packet. With other cuts, the same read returns bytes of the object, too.
    cuts.extend([1, 8, 9, 10, 24, 25, 26, 29].map(|at| vec![at]));
    cuts.extend([[1, 2], [1, 24], [8, 9], [1, 9], [9, 25], [24, 26], [12, 25]].map(Vec::from));
    for at in cuts {
        assert_put_succeeds(&server, &cut(&bytes, &at), b"");
        assert_eq!(storing.wait(), object(5), "{at:?}");
    }
}

fn get_in_any_pieces(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on(get(None), [Op::Write(object(5))]));
    let every_byte: Vec<_> = (1..25).collect();
    for at in [vec![], every_byte, vec![1], vec![9], vec![24], vec![1, 9], vec![8, 24]] {
        let mut client = Raw::connect(server.address);
        client.send_apart(cut(&start(1, -1), &at).iter().map(Vec::as_slice));
        assert_eq!(client.rest(), (object(5), End::Graceful));
        client.half_close();
        server.outcomes.wait().unwrap();
    }
}

/// The packet declares a size of zero, and the end follows it in the same segment.
fn empty_objects(server: DynAdapter) {
    let (stored, storing) = channel();
    let script = [Op::ReadToEnd, Op::Notify(stored)];
    let setup = Setup::new().on(put(Some(0)), script.clone()).on(put(None), script);
    let server = Server::start(server, setup);
    for size in [0, -1] {
        assert_put_succeeds(&server, &[start(0, size)], b"");
        assert_eq!(storing.wait(), b"");
    }
}

/// A byte does not restart the start timer.
fn slow_start_packet_times_out(server: DynAdapter) {
    let setup = Setup::new().on(put(None), [Op::ReadToEnd]).config(start_within(150));
    let server = Server::start(server, setup);
    let mut client = Raw::connect(server.address);
    let packet = start(0, -1);
    let mut left = packet.iter();
    // If it did, these 24 bytes would keep the connection for longer.
    while !client.reset_within(Duration::from_millis(100)) {
        client.send(&[*left.next().expect("a reset before the last byte")]);
    }
    assert!(left.len() > 0);
    assert_eq!(client.end(), End::Reset);
    assert_eq!(cause(&server.outcomes.wait()), Cause::TimedOut(Timer::Start));
}

fn missing_start_packet_times_out(server: DynAdapter) {
    let setup =
        Setup::new().on(put(Some(5)), [Op::ReadToEnd]).config(start_within(300)).max_connections(1);
    let server = Server::start(server, setup);
    for sent in [0, 24] {
        let mut client = Raw::client(server.address, &start(0, 5)[..sent]);
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.wait();
        assert_eq!(cause(&outcome), Cause::TimedOut(Timer::Start));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    // The only connection is free again.
    assert_put_succeeds(&server, &[start(0, 5), object(5)], b"");
}

fn truncated_start_packet_is_reset(server: DynAdapter) {
    let setup = Setup::new().on(put(Some(5)), [Op::ReadToEnd]).max_connections(1);
    let server = Server::start(server, setup);
    for sent in [0, 1, 24] {
        let mut client = Raw::client(server.address, &start(0, 5)[..sent]);
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.wait();
        let truncated = PeerError::TruncatedStartPacket { received: sent };
        assert_eq!(cause(&outcome), truncated.into());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
    let client = Raw::client(server.address, &start(0, 5)[..24]);
    client.wait_until_read();
    client.reset();
    assert_eq!(cause(&server.outcomes.wait()), PeerError::Reset { moved: 0 }.into());
    assert_put_succeeds(&server, &[start(0, 5), object(5)], b"");
}

/// 100 clients that send a part of a start packet leave no descriptor behind.
fn truncated_start_packets_leak_nothing(server: DynAdapter) {
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
    process.command("count"); // threads may stay for further connections
    assert_eq!(process.wait_for_line("descriptors "), "0 more");
}

servers!(
    put_in_any_pieces,
    get_in_any_pieces,
    empty_objects,
    slow_start_packet_times_out,
    missing_start_packet_times_out,
    truncated_start_packet_is_reset,
    truncated_start_packets_leak_nothing,
);
