//! The driver in the core's documentation, against peers that violate the protocol.

#[allow(dead_code, unreachable_pub, clippy::unit_arg, reason = "it is a program of its own")]
#[path = "../../../core/examples/blocking.rs"]
mod blocking;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant as StdInstant};

use dataserver_core::{
    AbortReason, Cause, Config, Connection, Frame, Instant, Key, LocalError, PeerError, Refusal,
    StartPacket, Timeouts, Timer,
};
use dataserver_tests::{End, Raw, RawListener, Wait, long_timeouts, object, spawn, start_for};

const REPORT: Key = Key::from_name("report");

type Outcome = (Result<u64, Cause>, Vec<u8>);

fn drive(connection: Connection, stream: TcpStream, object: Vec<u8>) -> Receiver<Outcome> {
    let epoch = StdInstant::now();
    spawn(move || {
        let mut object = object;
        let now = || Instant::new(epoch.elapsed());
        let result = blocking::drive(connection, stream, &mut object, now).expect("no failed call");
        (result, object)
    })
}

/// The driver as a server of this object, and its peer.
fn server(object: Vec<u8>, config: Config) -> (Receiver<Outcome>, Raw) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = Raw::connect(listener.local_addr().expect("an address"));
    let (stream, _) = listener.accept().expect("a client");
    (drive(Connection::server(config, Instant::default()), stream, object), peer)
}

/// The driver as a client with this object, and its peer.
fn client(packet: StartPacket, object: Vec<u8>, config: Config) -> (Receiver<Outcome>, Raw) {
    let listener = RawListener::new();
    let stream = TcpStream::connect(listener.address()).expect("a listener");
    let connection = Connection::client(config, packet, Instant::default());
    (drive(connection, stream, object), listener.accept_start(packet.as_bytes()))
}

fn put(size: u64) -> StartPacket {
    StartPacket::put(REPORT).with_size(size).expect("a size")
}

fn get(size: u64) -> StartPacket {
    StartPacket::get(REPORT).with_size(size).expect("a size")
}

fn first(kind: u8, size: i64) -> Vec<u8> {
    start_for(kind, size, REPORT)
}

fn quick() -> Config {
    let short = Duration::from_millis(300);
    Config::default().timeouts(Timeouts::default().start(short).idle(short).receipt(short))
}

#[test]
fn it_serves_a_put_and_a_get() {
    for size in [12, -1] {
        let (driver, mut peer) = server(Vec::new(), long_timeouts());
        peer.send(&[first(0, size), object(12)].concat());
        peer.half_close();
        assert_eq!(peer.end(), End::Graceful);
        assert_eq!(driver.wait(), (Ok(12), object(12)));

        let (driver, mut peer) = server(object(12), long_timeouts());
        peer.send(&first(1, size));
        assert_eq!(peer.rest(), (object(12), End::Graceful));
        peer.half_close();
        assert_eq!(driver.wait().0, Ok(12));
    }
}

#[test]
fn a_put_that_is_not_as_declared_fails() {
    for (sent, error) in [
        (11, PeerError::Truncated { received: 11, expected: 12 }),
        (13, PeerError::LongerThanDeclared { declared: 12 }),
    ] {
        let (driver, mut peer) = server(Vec::new(), long_timeouts());
        peer.send(&[first(0, 12), object(sent)].concat());
        peer.half_close();
        assert_eq!(peer.end(), End::Reset);
        assert_eq!(driver.wait().0, Err(error.into()));
    }
}

#[test]
fn a_start_packet_that_is_not_one_fails() {
    for bytes in [vec![], first(0, 12)[..24].to_vec(), first(2, 12), first(0, -2), vec![0; 25]] {
        let (driver, mut peer) = server(object(12), long_timeouts());
        peer.send(&bytes);
        peer.half_close();
        assert_eq!(peer.end(), End::Reset);
        driver.wait().0.unwrap_err();
    }
}

#[test]
fn a_peer_that_does_nothing_times_out() {
    let (driver, _peer) = server(Vec::new(), quick());
    assert_eq!(driver.wait().0, Err(Cause::TimedOut(Timer::Start)));
    let (driver, mut peer) = server(Vec::new(), quick());
    peer.send(&[first(0, 12), object(5)].concat());
    assert_eq!(driver.wait().0, Err(Cause::TimedOut(Timer::Idle)));
    let (driver, mut peer) = client(put(12), object(12), quick());
    assert_eq!(peer.rest(), (object(12), End::Graceful));
    assert_eq!(driver.wait().0, Err(Cause::TimedOut(Timer::Receipt)));
}

#[test]
fn a_peer_that_resets_fails() {
    let (driver, mut peer) = server(Vec::new(), long_timeouts());
    peer.send(&[first(0, 12), object(5)].concat());
    peer.wait_until_read();
    peer.reset();
    assert_eq!(driver.wait().0, Err(PeerError::Reset { moved: 5 }.into()));
}

/// The object is longer or shorter than declared: neither side has a receipt.
#[test]
fn an_object_that_is_not_as_declared_fails() {
    for declared in [0, 5, 11, 13] {
        let (driver, mut peer) = client(put(declared), object(12), long_timeouts());
        let (_, end) = peer.rest();
        assert_eq!(end, End::Reset, "{declared} declared");
        let error = driver.wait().0.unwrap_err();
        assert!(matches!(error, Cause::Local(_)), "{declared} declared: {error}");

        let (driver, mut peer) = server(object(12), long_timeouts());
        peer.send(&first(1, declared as i64));
        assert_eq!(peer.rest().1, End::Reset, "{declared} declared");
        let error = driver.wait().0.unwrap_err();
        let longer = LocalError::LongerThanDeclared { declared };
        let shorter = LocalError::ShorterThanDeclared { sent: 12, declared };
        assert!(error == longer.into() || error == shorter.into(), "{declared} declared: {error}");
    }
}

/// A peer that closes before the object was sent has not committed it.
#[test]
fn a_receiver_that_had_closed_gives_no_receipt() {
    for packet in [put(12), StartPacket::put(REPORT)] {
        let listener = RawListener::new();
        let stream = TcpStream::connect(listener.address()).expect("a listener");
        let mut peer = listener.accept();
        peer.half_close();
        let connection = Connection::client(long_timeouts(), packet, Instant::default());
        let driver = drive(connection, stream, object(12));
        assert_eq!(driver.wait().0, Err(PeerError::ClosedEarly { moved: 12 }.into()));
    }
}

#[test]
fn a_receiver_that_sends_something_gives_no_receipt() {
    let (driver, mut peer) = server(object(12), long_timeouts());
    peer.send(&[first(1, 12), vec![7]].concat());
    assert_eq!(driver.wait().0, Err(PeerError::NotSilent.into()));
}

#[test]
fn a_get_that_is_not_as_declared_fails() {
    for (sent, error) in [
        (11, PeerError::Truncated { received: 11, expected: 12 }),
        (13, PeerError::LongerThanDeclared { declared: 12 }),
    ] {
        let (driver, mut peer) = client(get(12), Vec::new(), long_timeouts());
        peer.send(&object(sent));
        peer.half_close();
        assert_eq!(driver.wait().0, Err(error.into()));
    }
}

const FRAMED_PUT: u8 = 128;

fn last(body: &[u8]) -> Vec<u8> {
    [&Frame::Last { len: body.len() as u64 }.to_bytes()[..], body].concat()
}

#[test]
fn a_framed_object_is_received_with_its_last_frame_only() {
    let (outcome, mut peer) = server(Vec::new(), long_timeouts());
    peer.send(&[first(FRAMED_PUT, -1), last(&object(10))].concat());
    assert_eq!(peer.read(12), Frame::Receipt { size: 10 }.to_bytes());
    assert_eq!(outcome.wait(), (Ok(10), object(10)));

    let (outcome, mut peer) = server(Vec::new(), long_timeouts());
    peer.send(
        &[&first(FRAMED_PUT, -1)[..], &Frame::Data { len: 10 }.to_bytes(), &object(10)].concat(),
    );
    peer.half_close();
    let unfinished = PeerError::Unfinished { received: 10 };
    assert_eq!(outcome.wait().0, Err(unfinished.into()));
}

#[test]
fn a_framed_refusal_is_told_before_the_connection_is_reset() {
    let (outcome, mut peer) = server(Vec::new(), quick());
    let unknown = start_for(FRAMED_PUT, -1, Key::from_name("unknown"));
    peer.send(&[unknown, last(&object(100_000))].concat());
    assert_eq!(peer.read(12), Frame::Abort(AbortReason::Refused).to_bytes());
    peer.half_close();
    assert_eq!(outcome.wait().0, Err(Refusal::NotRegistered.into()));
}

#[test]
fn a_client_of_framed_objects_needs_a_receipt() {
    for (answer, expected) in [
        (vec![], Err(PeerError::NoReceipt { sent: 10 }.into())),
        (
            Frame::Abort(AbortReason::Busy).to_bytes().to_vec(),
            Err(PeerError::Aborted(AbortReason::Busy).into()),
        ),
        (Frame::Receipt { size: 10 }.to_bytes().to_vec(), Ok(10)),
    ] {
        let packet = StartPacket::put(REPORT).framed();
        let (outcome, mut peer) = client(packet, object(10), long_timeouts());
        assert_eq!(peer.read(22), last(&object(10)));
        peer.send(&answer);
        peer.half_close();
        assert_eq!(outcome.wait().0, expected);
    }
}
