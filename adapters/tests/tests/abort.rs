//! Whatever is not a success reaches the peer as a reset, never as a graceful close.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Cause, Entry, Key, LocalError, PeerError, Refusal, StartPacket};
use dataserver_tests::process::{client as doing, entry};
use dataserver_tests::{
    ConnectedStream, DynAdapter, End, Gate, KEY, Op, Process, Raw, RawListener, Server, Setup,
    Source, Wait, assert_reset, cause, clients, eventually, get, kernel, long_timeouts, object,
    pairs, put, servers, spawn, start, start_for, tcp_pairs, with,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

fn refused_is_reset(server: DynAdapter) {
    let setup = Setup::new()
        .on(put(Some(10)), [Op::ReadToEnd])
        .on_get(Entry::new(KEY).max_size(9), [Op::Send(object(9))]);
    let server = Server::start(server, setup);
    let other = Key::from_bytes([1; 16]);
    for packet in
        [start(0, 11), start(0, -1), start(1, 10), start_for(0, 10, other), start_for(1, 9, other)]
    {
        let mut client = Raw::client(server.address, &packet);
        assert_eq!(client.end(), End::Reset, "{packet:?}");
        let reported = cause(&server.outcomes.wait());
        assert!(matches!(reported, Cause::Refused(_)), "{reported:?}");

        let mut client = Raw::client(server.address, &[&packet[..], &object(10)].concat());
        client.wait_for_reset(); // also after bytes of the object
        assert_eq!(client.end(), End::Reset);
        server.outcomes.wait().unwrap_err();
    }
    assert_eq!(Raw::client(server.address, &start(1, 9)).read(9), object(9)); // the server goes on
}

fn malformed_is_reset(server: DynAdapter) {
    let server = Server::start(server, Setup::new());
    for packet in [start(2, 10), start(127, -1), start(0, -2), start(1, i64::MIN)] {
        let mut client = Raw::client(server.address, &packet);
        assert_eq!(client.end(), End::Reset);
        let reported = cause(&server.outcomes.wait());
        assert!(matches!(reported, Cause::Peer(PeerError::Malformed(_))), "{reported:?}");
    }
}

fn failed_put_handler_is_reset(server: DynAdapter) {
    for handler in [
        vec![Op::Fail],
        vec![Op::Panic],
        vec![Op::Read(5), Op::Fail],
        vec![Op::Read(5), Op::Panic],
        vec![Op::Read(5)],
    ] {
        let setup = Setup::new().on(put(Some(10)), handler.clone()).on(put(None), handler);
        let server = Server::start(server, setup);
        for size in [10, -1] {
            // Without a FIN, and with one.
            let mut client = Raw::client(server.address, &[start(0, size), object(6)].concat());
            client.wait_for_reset();
            assert_eq!(client.end(), End::Reset);

            let mut client = Raw::client(server.address, &[start(0, size), object(10)].concat());
            client.half_close();
            assert_eq!(client.end(), End::Reset);
        }
    }
}

fn put_handler_that_fails_after_the_end_is_reset(server: DynAdapter) {
    for last in [Op::Fail, Op::Panic] {
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone()), last];
        let server = Server::start(server, Setup::new().on(put(None), script));
        let mut client = Raw::client(server.address, &[start(0, -1), object(10)].concat());
        client.half_close();
        assert_eq!(reading.wait(), object(10));
        gate.open();
        assert_eq!(client.end(), End::Reset);
    }
}

fn failed_get_handler_is_reset(server: DynAdapter) {
    for last in [Op::Fail, Op::Panic] {
        for size in [10, -1] {
            let (sent, sending) = channel();
            let gate = Gate::new();
            let script =
                [Op::Write(object(5)), Op::Notify(sent), Op::Wait(gate.clone()), last.clone()];
            let declared = u64::try_from(size).ok();
            let server = Server::start(server, Setup::new().on(get(declared), script));
            let mut client = Raw::client(server.address, &start(1, size));
            assert_eq!(client.read(5), object(5));
            sending.wait();
            assert!(client.nothing_yet());
            gate.open();
            assert_eq!(client.end(), End::Reset);
        }
    }
}

/// The server has sent its FIN and waits for the receipt. A failure is then a reset, too.
fn get_without_receipt_is_reset(server: DynAdapter) {
    let timeouts = long_timeouts().timeouts.receipt(Duration::from_millis(100));
    let setup = Setup::new()
        .on(get(None), [Op::Send(object(10))])
        .config(long_timeouts().timeouts(timeouts));
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &start(1, -1));
    assert_eq!(client.rest(), (object(10), End::Graceful));
    client.wait_for_reset();
    assert_eq!(server.outcomes.wait().unwrap_err().kind(), ErrorKind::TimedOut);
}

fn truncated_put_is_reset(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(Some(10)), [Op::ReadToEnd]));
    for sent in [0, 1, 9] {
        let mut client = Raw::client(server.address, &start(0, 10));
        client.send(&object(sent));
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let truncated = PeerError::Truncated { received: sent as u64, expected: 10 };
        assert_eq!(cause(&server.outcomes.wait()), truncated.into());
    }
}

fn reset_by_the_client_reaches_the_server(server: DynAdapter) {
    let (read, reading) = channel();
    let setup = Setup::new()
        .on(put(None), [Op::Read(5), Op::Notify(read), Op::ReadToEnd])
        .on(get(None), [Op::WriteForever(object(1000))]);
    let server = Server::start(server, setup);

    let client = Raw::client(server.address, &[start(0, -1), object(5)].concat());
    reading.wait();
    client.reset();
    assert_eq!(cause(&server.outcomes.wait()), PeerError::Reset { moved: 5 }.into());

    let mut client = Raw::client(server.address, &start(1, -1));
    client.read(1000);
    client.reset();
    assert_reset(&server.outcomes.wait());
}

/// A FIN that arrives before the object was sent is no receipt: no receiver can have committed by then.
fn early_end_of_a_getter_is_no_receipt(server: DynAdapter) {
    let gate = Gate::new();
    let setup = Setup::new().on(get(None), [Op::Wait(gate.clone()), Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &start(1, -1));
    client.half_close();
    gate.open();
    let reported = server.outcomes.wait().unwrap_err();
    assert_eq!(reported.kind(), ErrorKind::ConnectionAborted, "{reported}");
    assert_eq!(client.rest().1, End::Reset);
}

/// The same for a client. A server of the original protocol refuses with a graceful close.
fn early_end_of_a_putter_is_no_receipt(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let gate = Gate::new();
    let script = [Op::Flush, Op::Wait(gate.clone()), Op::Send(object(10))];
    let putting = spawn(move || client.client(address, put(None), long_timeouts(), &script));
    let mut server = listener.accept_start(&start(0, -1));
    server.half_close();
    gate.open();
    let error = putting.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert_eq!(server.rest().1, End::Reset);
}

/// The same over a Unix socket on which bytes were left unread, whatever the sender is doing when it
/// learns of the refusal.
fn refusal_over_a_unix_socket_is_no_receipt(server: DynAdapter, client: DynAdapter) {
    for _ in 0..100 {
        let (here, there) = UnixStream::pair().unwrap();
        let serving =
            spawn(move || server.serve_stream(ConnectedStream::Unix(there), Setup::new()));
        let script = [Op::Send(object(10))];
        let sent =
            client.client_over(ConnectedStream::Unix(here), put(None), long_timeouts(), &script);
        assert_reset(&sent);
        assert_eq!(cause(&serving.wait()), Refusal::NotRegistered.into());
    }
}

fn dropped_put_is_reset(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        for (sent, last) in [(0, None), (5, None), (5, Some(Op::Fail)), (10, None)] {
            let gate = Gate::new(); // keeps the reset until the bytes were read
            let script = [Op::Flush, Op::Write(object(sent)), Op::Wait(gate.clone())];
            let script: Vec<_> = script.into_iter().chain(last).collect();
            let putting =
                spawn(move || client.client(address, put(declared), long_timeouts(), &script));
            let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
            assert_eq!(server.read(sent), object(sent));
            assert!(server.nothing_yet());
            gate.open();
            assert_eq!(server.end(), End::Reset);
            assert_eq!(putting.wait().map_or(None, |outcome| outcome.receipt), None);
        }
    }
}

fn failed_source_over_the_wire(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let script = [Op::SendReader(Source::failing(object(5)))];
        let putting =
            spawn(move || client.client(address, put(declared), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
        assert_eq!(server.rest().1, End::Reset);
        putting.wait().unwrap_err();
    }
}

fn dropped_get_is_reset(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let size = declared.map_or(-1, |n| n as i64);
        for (sent, read) in [(0, 0), (5, 5), (10, 10)] {
            let script = [Op::Read(read)];
            let getting =
                spawn(move || client.client(address, get(declared), long_timeouts(), &script));
            let mut server = listener.accept_start(&start(1, size));
            server.send(&object(sent));
            assert_eq!(server.end(), End::Reset);
            assert_eq!(getting.wait().unwrap().bytes, object(read));
        }
        // The whole object and its end, but no commit.
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone())];
        let getting =
            spawn(move || client.client(address, get(declared), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(1, size));
        server.send(&object(10));
        server.half_close();
        reading.wait();
        gate.open();
        assert_eq!(server.end(), End::Reset);
        assert_eq!(getting.wait().unwrap().receipt, None);
    }
}

fn truncated_get_is_reset(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for sent in [0, 9] {
        let script = [Op::ReadToEnd, Op::Commit];
        let getting =
            spawn(move || client.client(address, get(Some(10)), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(1, 10));
        server.send(&object(sent));
        server.half_close();
        assert_eq!(server.end(), End::Reset);
        let truncated = PeerError::Truncated { received: sent as u64, expected: 10 };
        assert_eq!(cause(&getting.wait()), truncated.into());
    }
}

fn reset_by_the_server_reaches_the_client(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let size = declared.map_or(-1, |n| n as i64);
        let script = [Op::Send(object(10))];
        let putting =
            spawn(move || client.client(address, put(declared), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(0, size));
        assert_eq!(server.rest(), (object(10), End::Graceful));
        server.reset(); // instead of the receipt
        assert_eq!(cause(&putting.wait()), PeerError::Reset { moved: 10 }.into());

        let script = [Op::ReadToEnd, Op::Commit];
        let getting =
            spawn(move || client.client(address, get(declared), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(1, size));
        server.send(&object(5));
        server.wait_until_read();
        server.reset();
        assert_eq!(cause(&getting.wait()), PeerError::Reset { moved: 5 }.into());
    }
}

/// The peer resets between its FIN and the receipt. The commit must fail.
fn commit_after_a_reset_fails(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let (read, reading) = channel();
    let gate = Gate::new();
    let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone()), Op::Commit];
    let getting = spawn(move || client.client(address, get(None), long_timeouts(), &script));
    let mut server = listener.accept_start(&start(1, -1));
    server.send(&object(10));
    server.half_close();
    reading.wait();
    let (here, there) = server.addresses();
    server.reset();
    eventually("the reset is there", || kernel::queues(there, here).is_none());
    gate.open();
    assert_reset(&getting.wait());
}

fn key_of(name: &str) -> Key {
    Key::from_name(name)
}

fn killed_server_resets(server: DynAdapter) {
    for size in [10, -1] {
        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(0, size, key_of(entry::PUT)));
        client.send(&object(5));
        process.wait_for_line("notified 5");
        process.kill();
        assert_eq!(client.end(), End::Reset);

        let (process, address) = Process::server(PROGRAM, server, &[]);
        let mut client = Raw::client(address, &start_for(0, size, key_of(entry::UNCOMMITTED_PUT)));
        client.send(&object(10));
        client.half_close();
        process.wait_for_line("notified 10");
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
        assert_eq!(client.rest(), (object(1000), End::Graceful));
        process.kill(); // while it waits for the receipt
        client.wait_for_reset();
    }
}

fn killed_client_resets(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address().to_string();
    let begin = |what| Process::start(PROGRAM, &["client", client.name(), &address, what]);

    for (what, size) in [(doing::PUT, 10), (doing::UNSIZED_PUT, -1)] {
        let process = begin(what);
        let mut server = listener.accept_start(&start(0, size));
        assert_eq!(server.read(5), object(5));
        process.wait_for_line("notified");
        process.kill();
        assert_eq!(server.end(), End::Reset);
    }

    let process = begin(doing::WHOLE_PUT);
    let mut server = listener.accept_start(&start(0, 10));
    assert_eq!(server.rest(), (object(10), End::Graceful));
    process.kill(); // while it waits for the receipt
    server.wait_for_reset();

    for what in [doing::GET, doing::UNCOMMITTED_GET] {
        let process = begin(what);
        let mut server = listener.accept_start(&start(1, -1));
        server.send(&object(10));
        if what == doing::UNCOMMITTED_GET {
            server.half_close();
        }
        process.wait_for_line("notified");
        process.kill();
        assert_eq!(server.end(), End::Reset);
    }
}

fn killed_server_fails_the_client(server: DynAdapter, client: DynAdapter) {
    for declared in [Some(2000), None] {
        let packet = |name, put: fn(Key) -> StartPacket| with(put(key_of(name)), declared);
        let (process, address) = Process::server(PROGRAM, server, &[]);
        let packet_of = packet(entry::PUT, StartPacket::put);
        let script = [Op::Write(object(5)), Op::Wait(Gate::new())];
        // The application of this client does not notice. A second one waits for the server.
        let _waiting = spawn(move || client.client(address, packet_of, long_timeouts(), &script));
        process.wait_for_line("notified 5");
        let script = [Op::Send(object(2000))];
        let packet_of = packet(entry::UNCOMMITTED_PUT, StartPacket::put);
        let putting = spawn(move || client.client(address, packet_of, long_timeouts(), &script));
        process.wait_for_line("notified 2000");
        process.kill();
        assert_reset(&putting.wait());

        let (process, address) = Process::server(PROGRAM, server, &[]);
        let (read, reading) = channel();
        let script = [Op::Read(1000), Op::Notify(read), Op::ReadToEnd, Op::Commit];
        let packet_of = packet(entry::STALLED_GET, StartPacket::get);
        let getting = spawn(move || client.client(address, packet_of, long_timeouts(), &script));
        reading.wait();
        process.kill();
        assert_reset(&getting.wait());
    }
}

fn killed_client_fails_the_server(server: DynAdapter, client: DynAdapter) {
    let (read, reading) = channel();
    let setup = Setup::new()
        .on(put(Some(10)), [Op::Read(5), Op::Notify(read.clone()), Op::ReadToEnd])
        .on(put(None), [Op::Read(5), Op::Notify(read), Op::ReadToEnd])
        .on(get(None), [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address.to_string();
    for what in [doing::PUT, doing::UNSIZED_PUT, doing::UNCOMMITTED_GET] {
        let process = Process::start(PROGRAM, &["client", client.name(), &address, what]);
        process.wait_for_line("notified");
        if what != doing::UNCOMMITTED_GET {
            reading.wait();
        }
        process.kill();
        assert_reset(&server.outcomes.wait());
    }
}

fn failed_source_is_reset(server: DynAdapter, client: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(None), [Op::ReadToEnd]));
    let script = [Op::SendReader(Source::failing(object(5)))];
    let outcome = client.client(server.address, put(None), long_timeouts(), &script);
    let aborted = LocalError::Aborted { reason: "the object cannot be read", code: 0 };
    assert_eq!(cause(&outcome), aborted.into());
    assert_eq!(outcome.unwrap_err().kind(), Op::failure().kind());
    assert_reset(&server.outcomes.wait());
}

servers!(
    refused_is_reset,
    malformed_is_reset,
    failed_put_handler_is_reset,
    put_handler_that_fails_after_the_end_is_reset,
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
    commit_after_a_reset_fails,
    killed_client_resets,
);
tcp_pairs!(refusal_over_a_unix_socket_is_no_receipt,);
pairs!(killed_server_fails_the_client, killed_client_fails_the_server, failed_source_is_reset,);
