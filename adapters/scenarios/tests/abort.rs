//! *Armed to abort*: whatever is not a success reaches the peer as a reset, never as an end.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{
    Config, Entry, Error as Cause, Key, LocalError, PeerError, Refusal, StartPacket, Timeouts,
};
use dataserver_scenarios::process::{client as doing, entry};
use dataserver_scenarios::{
    Any, Carrier, Do, End, Gate, Process, Raw, RawListener, Server, Setup, Soon, Source, cause,
    clients, eventually, get, kernel, object, pairs, patient, put, reset, servers, spawn, start,
    start_for, with,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

fn refused_is_reset(server: Any) {
    let setup = Setup::new()
        .on(put(Some(10)), [Do::ReadToEnd])
        .on(Entry::any_size(get(None), 9), [Do::Send(object(9))]);
    let server = Server::start(server, setup);
    let other = Key::new([1; 16]);
    for packet in
        [start(0, 11), start(0, -1), start(1, 10), start_for(0, 10, other), start_for(1, 9, other)]
    {
        let mut client = Raw::client(server.address, &packet);
        assert_eq!(client.end(), End::Reset, "{packet:?}");
        let reported = cause(&server.outcomes.soon());
        assert!(matches!(reported, Cause::Refused(_)), "{reported:?}");

        let mut client = Raw::client(server.address, &[&packet[..], &object(10)].concat());
        client.wait_for_reset(); // also with payload behind
        assert_eq!(client.end(), End::Reset);
        server.outcomes.soon().unwrap_err();
    }
    assert_eq!(Raw::client(server.address, &start(1, 9)).read(9), object(9)); // it still serves
}

fn malformed_is_reset(server: Any) {
    let server = Server::start(server, Setup::new());
    for packet in [start(2, 10), start(255, -1), start(0, -2), start(1, i64::MIN)] {
        let mut client = Raw::client(server.address, &packet);
        assert_eq!(client.end(), End::Reset);
        let reported = cause(&server.outcomes.soon());
        assert!(matches!(reported, Cause::Peer(PeerError::Malformed(_))), "{reported:?}");
    }
}

fn failed_put_handler_is_reset(server: Any) {
    for handler in [
        vec![Do::Fail],
        vec![Do::Panic],
        vec![Do::Read(5), Do::Fail],
        vec![Do::Read(5), Do::Panic],
        vec![Do::Read(5)],
    ] {
        let setup = Setup::new().on(put(Some(10)), handler.clone()).on(put(None), handler);
        let server = Server::start(server, setup);
        for size in [10, -1] {
            // Without an end, and with one.
            let mut client = Raw::client(server.address, &[start(0, size), object(6)].concat());
            client.wait_for_reset();
            assert_eq!(client.end(), End::Reset);

            let mut client = Raw::client(server.address, &[start(0, size), object(10)].concat());
            client.half_close();
            assert_eq!(client.end(), End::Reset);
        }
    }
}

fn put_handler_that_fails_behind_the_end_is_reset(server: Any) {
    for last in [Do::Fail, Do::Panic] {
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone()), last];
        let server = Server::start(server, Setup::new().on(put(None), script));
        let mut client = Raw::client(server.address, &[start(0, -1), object(10)].concat());
        client.half_close();
        assert_eq!(reading.soon(), object(10));
        gate.open();
        assert_eq!(client.end(), End::Reset);
    }
}

fn failed_get_handler_is_reset(server: Any) {
    for last in [Do::Fail, Do::Panic] {
        for size in [10, -1] {
            let (sent, sending) = channel();
            let gate = Gate::new();
            let script =
                [Do::Write(object(5)), Do::Tell(sent), Do::Wait(gate.clone()), last.clone()];
            let declared = u64::try_from(size).ok();
            let server = Server::start(server, Setup::new().on(get(declared), script));
            let mut client = Raw::client(server.address, &start(1, size));
            assert_eq!(client.read(5), object(5));
            sending.soon();
            assert!(client.nothing_yet());
            gate.open();
            assert_eq!(client.end(), End::Reset);
        }
    }
}

/// The server has sent its FIN and waits for the receipt: what comes then is no orderly end either.
fn get_without_receipt_is_reset(server: Any) {
    let timeouts = Timeouts { end: Duration::from_millis(100), ..patient().timeouts };
    let setup =
        Setup::new().on(get(None), [Do::Send(object(10))]).config(Config { timeouts, ..patient() });
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &start(1, -1));
    assert_eq!(client.rest(), (object(10), End::Orderly));
    client.wait_for_reset();
    assert_eq!(server.outcomes.soon().unwrap_err().kind(), ErrorKind::TimedOut);
}

fn truncated_put_is_reset(server: Any) {
    let server = Server::start(server, Setup::new().on(put(Some(10)), [Do::ReadToEnd]));
    for sent in [0, 1, 9] {
        let mut client = Raw::client(server.address, &start(0, 10));
        client.send(&object(sent));
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let truncated = PeerError::Truncated { received: sent as u64, expected: 10 };
        assert_eq!(cause(&server.outcomes.soon()), truncated.into());
    }
}

fn reset_by_the_client_reaches_the_server(server: Any) {
    let (read, reading) = channel();
    let setup = Setup::new()
        .on(put(None), [Do::Read(5), Do::Tell(read), Do::ReadToEnd])
        .on(get(None), [Do::WriteForever(object(1000))]);
    let server = Server::start(server, setup);

    let client = Raw::client(server.address, &[start(0, -1), object(5)].concat());
    reading.soon();
    client.reset();
    assert_eq!(cause(&server.outcomes.soon()), PeerError::Reset { moved: 5 }.into());

    let mut client = Raw::client(server.address, &start(1, -1));
    client.read(1000);
    client.reset();
    reset(&server.outcomes.soon());
}

/// An end that comes before the object's is no receipt, as no receiver can have committed by then.
fn early_end_of_a_getter_is_no_receipt(server: Any) {
    let gate = Gate::new();
    let setup = Setup::new().on(get(None), [Do::Wait(gate.clone()), Do::Send(object(10))]);
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &start(1, -1));
    client.half_close();
    gate.open();
    let reported = server.outcomes.soon().unwrap_err();
    assert_eq!(reported.kind(), ErrorKind::ConnectionAborted, "{reported}");
    assert_eq!(client.rest().1, End::Reset);
}

/// The same in the client's role: such as the original's server, which refuses with an orderly end.
fn early_end_of_a_putter_is_no_receipt(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let gate = Gate::new();
    let script = [Do::Flush, Do::Wait(gate.clone()), Do::Send(object(10))];
    let putting = spawn(move || client.client(address, put(None), patient(), &script));
    let mut server = listener.accept_start(&start(0, -1));
    server.half_close();
    gate.open();
    let error = putting.soon().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert_eq!(server.rest().1, End::Reset);
}

/// Over a Unix socket too, where bytes were left unread: whatever the sender is doing when it learns
/// of it.
fn refusal_over_a_unix_socket_is_no_receipt(server: Any, client: Any) {
    for _ in 0..100 {
        let (here, there) = UnixStream::pair().unwrap();
        let serving = spawn(move || server.serve_stream(Carrier::Unix(there), Setup::new()));
        let script = [Do::Send(object(10))];
        let sent = client.client_over(Carrier::Unix(here), put(None), patient(), &script);
        reset(&sent);
        assert_eq!(cause(&serving.soon()), Refusal::NotRegistered.into());
    }
}

fn dropped_put_is_reset(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        for (sent, last) in [(0, None), (5, None), (5, Some(Do::Fail)), (10, None)] {
            let gate = Gate::new(); // what was sent is to be seen before the reset
            let script = [Do::Flush, Do::Write(object(sent)), Do::Wait(gate.clone())];
            let script: Vec<_> = script.into_iter().chain(last).collect();
            let putting = spawn(move || client.client(address, put(declared), patient(), &script));
            let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
            assert_eq!(server.read(sent), object(sent));
            assert!(server.nothing_yet());
            gate.open();
            assert_eq!(server.end(), End::Reset);
            assert_eq!(putting.soon().map_or(None, |outcome| outcome.receipt), None);
        }
    }
}

fn failed_source_over_the_wire(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let script = [Do::SendReader(Source::failing(object(5)))];
        let putting = spawn(move || client.client(address, put(declared), patient(), &script));
        let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
        assert_eq!(server.rest().1, End::Reset);
        putting.soon().unwrap_err();
    }
}

fn dropped_get_is_reset(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let size = declared.map_or(-1, |n| n as i64);
        for (sent, read) in [(0, 0), (5, 5), (10, 10)] {
            let script = [Do::Read(read)];
            let getting = spawn(move || client.client(address, get(declared), patient(), &script));
            let mut server = listener.accept_start(&start(1, size));
            server.send(&object(sent));
            assert_eq!(server.end(), End::Reset);
            assert_eq!(getting.soon().unwrap().bytes, object(read));
        }
        // All of it and its end, but no commit.
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone())];
        let getting = spawn(move || client.client(address, get(declared), patient(), &script));
        let mut server = listener.accept_start(&start(1, size));
        server.send(&object(10));
        server.half_close();
        reading.soon();
        gate.open();
        assert_eq!(server.end(), End::Reset);
        assert_eq!(getting.soon().unwrap().receipt, None);
    }
}

fn truncated_get_is_reset(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for sent in [0, 9] {
        let script = [Do::ReadToEnd, Do::Commit];
        let getting = spawn(move || client.client(address, get(Some(10)), patient(), &script));
        let mut server = listener.accept_start(&start(1, 10));
        server.send(&object(sent));
        server.half_close();
        assert_eq!(server.end(), End::Reset);
        let truncated = PeerError::Truncated { received: sent as u64, expected: 10 };
        assert_eq!(cause(&getting.soon()), truncated.into());
    }
}

fn reset_by_the_server_reaches_the_client(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let size = declared.map_or(-1, |n| n as i64);
        let script = [Do::Send(object(10))];
        let putting = spawn(move || client.client(address, put(declared), patient(), &script));
        let mut server = listener.accept_start(&start(0, size));
        assert_eq!(server.rest(), (object(10), End::Orderly));
        server.reset(); // instead of the receipt
        assert_eq!(cause(&putting.soon()), PeerError::Reset { moved: 10 }.into());

        let script = [Do::ReadToEnd, Do::Commit];
        let getting = spawn(move || client.client(address, get(declared), patient(), &script));
        let mut server = listener.accept_start(&start(1, size));
        server.send(&object(5));
        server.taken();
        server.reset();
        assert_eq!(cause(&getting.soon()), PeerError::Reset { moved: 5 }.into());
    }
}

/// The peer goes away between its FIN and the receipt: who commits then must not take it for given.
fn commit_to_nobody_fails(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let (read, reading) = channel();
    let gate = Gate::new();
    let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone()), Do::Commit];
    let getting = spawn(move || client.client(address, get(None), patient(), &script));
    let mut server = listener.accept_start(&start(1, -1));
    server.send(&object(10));
    server.half_close();
    reading.soon();
    let (here, there) = server.addresses();
    server.reset();
    eventually("the reset is there", || kernel::queues(there, here).is_none());
    gate.open();
    reset(&getting.soon());
}

fn key_of(name: &str) -> Key {
    Key::from_name(name)
}

fn killed_server_resets(server: Any) {
    for size in [10, -1] {
        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(0, size, key_of(entry::PUT)));
        client.send(&object(5));
        process.told("told 5");
        process.kill();
        assert_eq!(client.end(), End::Reset);

        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(0, size, key_of(entry::UNCOMMITTED_PUT)));
        client.send(&object(10));
        client.half_close();
        process.told("told 10");
        process.kill();
        assert_eq!(client.end(), End::Reset);

        let size = if size < 0 { size } else { 2000 };
        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(1, size, key_of(entry::STALLED_GET)));
        assert_eq!(client.read(1000), object(1000));
        process.kill();
        assert_eq!(client.end(), End::Reset);

        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(1, -1, key_of(entry::GET)));
        assert_eq!(client.rest(), (object(1000), End::Orderly));
        process.kill(); // while it waits for the receipt
        client.wait_for_reset();
    }
}

fn killed_client_resets(client: Any) {
    let listener = RawListener::new();
    let address = listener.address().to_string();
    let begin = |what| Process::start(PROGRAM, &["client", client.name(), &address, what]);

    for (what, size) in [(doing::PUT, 10), (doing::UNSIZED_PUT, -1)] {
        let process = begin(what);
        let mut server = listener.accept_start(&start(0, size));
        assert_eq!(server.read(5), object(5));
        process.told("told");
        process.kill();
        assert_eq!(server.end(), End::Reset);
    }

    let process = begin(doing::WHOLE_PUT);
    let mut server = listener.accept_start(&start(0, 10));
    assert_eq!(server.rest(), (object(10), End::Orderly));
    process.kill(); // while it waits for the receipt
    server.wait_for_reset();

    for what in [doing::GET, doing::UNCOMMITTED_GET] {
        let process = begin(what);
        let mut server = listener.accept_start(&start(1, -1));
        server.send(&object(10));
        if what == doing::UNCOMMITTED_GET {
            server.half_close();
        }
        process.told("told");
        process.kill();
        assert_eq!(server.end(), End::Reset);
    }
}

fn killed_server_fails_the_client(server: Any, client: Any) {
    for declared in [Some(2000), None] {
        let packet = |name, put: fn(Key) -> StartPacket| with(put(key_of(name)), declared);
        let (process, address) = Process::server(PROGRAM, server, &[]);
        let packet_of = packet(entry::PUT, StartPacket::put);
        let script = [Do::Write(object(5)), Do::Wait(Gate::new())];
        // Its application is waiting; so a second one, which waits for the server.
        let _waiting = spawn(move || client.client(address, packet_of, patient(), &script));
        process.told("told 5");
        let script = [Do::Send(object(2000))];
        let packet_of = packet(entry::UNCOMMITTED_PUT, StartPacket::put);
        let putting = spawn(move || client.client(address, packet_of, patient(), &script));
        process.told("told 2000");
        process.kill();
        reset(&putting.soon());

        let (process, address) = Process::server(PROGRAM, server, &[]);
        let (read, reading) = channel();
        let script = [Do::Read(1000), Do::Tell(read), Do::ReadToEnd, Do::Commit];
        let packet_of = packet(entry::STALLED_GET, StartPacket::get);
        let getting = spawn(move || client.client(address, packet_of, patient(), &script));
        reading.soon();
        process.kill();
        reset(&getting.soon());
    }
}

fn killed_client_fails_the_server(server: Any, client: Any) {
    let (read, reading) = channel();
    let setup = Setup::new()
        .on(put(Some(10)), [Do::Read(5), Do::Tell(read.clone()), Do::ReadToEnd])
        .on(put(None), [Do::Read(5), Do::Tell(read), Do::ReadToEnd])
        .on(get(None), [Do::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address.to_string();
    for what in [doing::PUT, doing::UNSIZED_PUT, doing::UNCOMMITTED_GET] {
        let process = Process::start(PROGRAM, &["client", client.name(), &address, what]);
        process.told("told");
        if what != doing::UNCOMMITTED_GET {
            reading.soon();
        }
        process.kill();
        reset(&server.outcomes.soon());
    }
}

fn failed_source_is_reset(server: Any, client: Any) {
    let server = Server::start(server, Setup::new().on(put(None), [Do::ReadToEnd]));
    let script = [Do::SendReader(Source::failing(object(5)))];
    let outcome = client.client(server.address, put(None), patient(), &script);
    let aborted = LocalError::Aborted { reason: "the object cannot be read" };
    assert_eq!(cause(&outcome), aborted.into());
    assert_eq!(outcome.unwrap_err().kind(), Do::failure().kind());
    reset(&server.outcomes.soon());
}

servers!(
    refused_is_reset,
    malformed_is_reset,
    failed_put_handler_is_reset,
    put_handler_that_fails_behind_the_end_is_reset,
    failed_get_handler_is_reset,
    get_without_receipt_is_reset,
    truncated_put_is_reset,
    reset_by_the_client_reaches_the_server,
    early_end_of_a_getter_is_no_receipt,
    killed_server_resets,
);
clients!(
    early_end_of_a_putter_is_no_receipt,
    dropped_put_is_reset,
    failed_source_over_the_wire,
    dropped_get_is_reset,
    truncated_get_is_reset,
    reset_by_the_server_reaches_the_client,
    commit_to_nobody_fails,
    killed_client_resets,
);
pairs!(
    killed_server_fails_the_client,
    killed_client_fails_the_server,
    failed_source_is_reset,
    refusal_over_a_unix_socket_is_no_receipt,
);
