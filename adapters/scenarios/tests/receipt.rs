//! *Receipt*: success means that the receiving application has committed, in both directions.

use std::fs;
use std::num::NonZeroU32;
use std::sync::mpsc::channel;

use dataserver_core::{Config, Error as Cause, LocalError, Transfer};
use dataserver_scenarios::{
    Any, Do, End, Gate, Outcome, Raw, RawListener, Server, Setup, Soon, Source, TempFile, cause,
    clients, get, object, pairs, patient, put, reset, servers, spawn, start,
};

/// Sizes around those at which something changes: none, the start packet's, that of the buffer for what
/// the kernel does not copy, and a chunk's.
const SIZES: [usize; 10] = [0, 1, 24, 25, 26, 1000, 262_143, 262_145, CHUNK - 1, CHUNK + 1];
const CHUNK: usize = Transfer::DEFAULT_CHUNK.get() as usize;

fn put_crosses(server: Any, client: Any) {
    for size in SIZES {
        let bytes = object(size);
        let file = TempFile::new(&bytes);
        for declared in [Some(size as u64), None] {
            let (stored, storing) = channel();
            let packet = put(declared);
            let server =
                Server::start(server, Setup::new().on(packet, [Do::ReadToEnd, Do::Tell(stored)]));
            for script in Do::ways_to_send(&bytes, file.path()) {
                let outcome = client.client(server.address, packet, patient(), &script);
                let receipt = outcome.unwrap().receipt.unwrap();
                assert_eq!(receipt.bytes, size as u64);
                assert_eq!(receipt.packet, packet);
                assert_eq!(receipt.peer, Some(server.address));
                assert!(storing.soon() == bytes, "{script:?}");
                let reported = server.outcomes.soon().unwrap();
                assert_eq!((reported.bytes, reported.packet), (size as u64, packet));
            }
        }
    }
}

fn get_crosses(server: Any, client: Any) {
    for size in SIZES {
        let bytes = object(size);
        let file = TempFile::new(&bytes);
        for declared in [Some(size as u64), None] {
            for script in Do::ways_to_send(&bytes, file.path()) {
                let packet = get(declared);
                let server = Server::start(server, Setup::new().on(packet, script.clone()));
                let script = [Do::ReadToEnd, Do::Commit];
                let outcome = client.client(server.address, packet, patient(), &script).unwrap();
                let receipt = outcome.receipt.unwrap();
                assert_eq!(receipt.bytes, size as u64);
                assert_eq!(receipt.packet, packet);
                assert_eq!(receipt.peer, Some(server.address));
                assert!(outcome.bytes == bytes, "{script:?}");
                let reported = server.outcomes.soon().unwrap();
                assert_eq!((reported.bytes, reported.packet), (size as u64, packet));
            }
        }
    }
}

fn files_cross(server: Any, client: Any) {
    let bytes = object(700_000);
    let (from, stored, fetched) = (TempFile::new(&bytes), TempFile::new(b""), TempFile::new(b""));
    let setup = Setup::new()
        .on(put(None), [Do::ReceiveFile(stored.path().into())])
        .on(get(None), [Do::SendFile(from.path().into())]);
    let server = Server::start(server, setup);

    let script = [Do::SendFile(from.path().into())];
    client.client(server.address, put(None), patient(), &script).unwrap();
    assert!(fs::read(stored.path()).unwrap() == bytes);

    let script = [Do::ReceiveFile(fetched.path().into()), Do::Commit];
    client.client(server.address, get(None), patient(), &script).unwrap();
    assert!(fs::read(fetched.path()).unwrap() == bytes);
}

fn chunks_leave_no_mark(server: Any, client: Any) {
    let bytes = object(1000);
    let (stored, storing) = channel();
    let chunk = |chunk| Config { chunk: NonZeroU32::new(chunk).unwrap(), ..patient() };
    for (at_server, at_client) in [(1, 21), (21, 1), (25, 4096)] {
        let setup = Setup::new()
            .config(chunk(at_server))
            .on(put(None), [Do::ReadToEnd, Do::Tell(stored.clone())])
            .on(get(None), [Do::Send(bytes.clone())]);
        let server = Server::start(server, setup);

        let script = [Do::Send(bytes.clone())];
        client.client(server.address, put(None), chunk(at_client), &script).unwrap();
        assert_eq!(storing.soon(), bytes);
        let script = [Do::ReadToEnd, Do::Commit];
        let got = client.client(server.address, get(None), chunk(at_client), &script).unwrap();
        assert_eq!(got.bytes, bytes);
    }
}

fn put_waits_for_the_handler(server: Any, client: Any) {
    let (stored, storing) = channel();
    let gate = Gate::new();
    let script = [Do::ReadToEnd, Do::Tell(stored), Do::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(Some(10)), script));

    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(Some(10)), patient(), &[Do::Send(object(10))]));
    assert_eq!(storing.soon(), object(10));
    assert!(putting.try_recv().is_err());
    assert!(server.outcomes.try_recv().is_err());
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
    assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
}

fn no_end_before_the_handlers_ok(server: Any) {
    for declared in [Some(10), None] {
        let (stored, storing) = channel();
        let gate = Gate::new();
        let script = [Do::ReadToEnd, Do::Tell(stored), Do::Wait(gate.clone())];
        let server = Server::start(server, Setup::new().on(put(declared), script));

        let mut client = Raw::client(server.address, &start(0, declared.map_or(-1, |n| n as i64)));
        client.send(&object(10));
        client.half_close();
        assert_eq!(storing.soon(), object(10));
        assert!(client.nothing_yet());
        gate.open();
        assert_eq!(client.end(), End::Orderly);
    }
}

fn put_fails_with_the_handler(server: Any, client: Any) {
    let handlers = [
        vec![Do::Fail],
        vec![Do::Read(3), Do::Fail],
        vec![Do::ReadToEnd, Do::Fail],
        vec![Do::Panic],
        vec![Do::Read(3), Do::Panic],
        vec![Do::ReadToEnd, Do::Panic],
        vec![],
        vec![Do::Read(3)],
        vec![Do::Read(9)],
    ];
    for declared in [Some(10), None] {
        for handler in &handlers {
            let server = Server::start(server, Setup::new().on(put(declared), handler.clone()));
            let script = [Do::Send(object(10))];
            let outcome = client.client(server.address, put(declared), patient(), &script);
            reset(&outcome);
            let reported = cause(&server.outcomes.soon());
            assert!(matches!(reported, Cause::Local(LocalError::Aborted { .. })), "{reported:?}");
        }
    }
}

fn put_handler_may_stop_at_the_last_byte(server: Any, client: Any) {
    for declared in [Some(10), None] {
        let server = Server::start(server, Setup::new().on(put(declared), [Do::Read(10)]));
        let script = [Do::Send(object(10))];
        let outcome = client.client(server.address, put(declared), patient(), &script).unwrap();
        assert_eq!(outcome.receipt.unwrap().bytes, 10);
        assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
    }
}

fn put_handler_may_commit_by_itself(server: Any, client: Any) {
    let (committed, committing) = channel();
    let gate = Gate::new();
    let script = [Do::ReadToEnd, Do::Commit, Do::Tell(committed), Do::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let script = [Do::Send(object(10))];
    let outcome = client.client(server.address, put(None), patient(), &script).unwrap();
    assert_eq!(outcome.receipt.unwrap().bytes, 10); // while the handler waits
    assert_eq!(committing.soon(), object(10));
    assert!(server.outcomes.try_recv().is_err());
    gate.open();
    assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
}

fn get_waits_for_the_commit(server: Any, client: Any) {
    for handler in [vec![Do::Send(object(10))], vec![Do::Write(object(10))]] {
        let server = Server::start(server, Setup::new().on(get(None), handler));
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone()), Do::Commit];
        let address = server.address;
        let getting = spawn(move || client.client(address, get(None), patient(), &script));
        assert_eq!(reading.soon(), object(10));
        assert!(server.outcomes.try_recv().is_err());
        gate.open();
        assert_eq!(getting.soon().unwrap().receipt.unwrap().bytes, 10);
        assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
    }
}

fn get_without_commit_is_reported(server: Any, client: Any) {
    for handler in [vec![Do::Send(object(10))], vec![Do::Write(object(10))]] {
        for declared in [Some(10), None] {
            let server = Server::start(server, Setup::new().on(get(declared), handler.clone()));
            let script = [Do::ReadToEnd];
            let got = client.client(server.address, get(declared), patient(), &script).unwrap();
            assert_eq!(got, Outcome { bytes: object(10), receipt: None });
            reset(&server.outcomes.soon());
        }
    }
}

fn commit_needs_the_whole_object(server: Any, client: Any) {
    for declared in [Some(10), None] {
        for read in [0, 9] {
            let script = [Do::Send(object(10))];
            let server = Server::start(server, Setup::new().on(get(declared), script));
            let script = [Do::Read(read), Do::Commit];
            let got = client.client(server.address, get(declared), patient(), &script);
            assert!(matches!(cause(&got), Cause::Local(LocalError::Aborted { .. })));
            reset(&server.outcomes.soon());
        }
    }
}

fn get_handler_may_ask_for_the_receipt(server: Any, client: Any) {
    let (asked, asking) = channel();
    let script = [Do::Write(object(10)), Do::Finish, Do::Tell(asked)];
    let server = Server::start(server, Setup::new().on(get(None), script));

    let script = [Do::ReadToEnd];
    client.client(server.address, get(None), patient(), &script).unwrap();
    reset(&server.outcomes.soon());
    assert!(asking.try_recv().is_err()); // its `finish` has failed

    let script = [Do::ReadToEnd, Do::Commit];
    client.client(server.address, get(None), patient(), &script).unwrap();
    asking.soon();
    server.outcomes.soon().unwrap();
}

fn get_fails_with_the_handler(server: Any, client: Any) {
    for declared in [Some(10), None] {
        for handler in [
            vec![Do::Fail],
            vec![Do::Panic],
            vec![Do::Flush, Do::Fail],
            vec![Do::Write(object(5)), Do::Fail],
            vec![Do::Write(object(5)), Do::Panic],
            vec![Do::SendReader(Source::failing(object(5)))],
            vec![Do::SendFile("/nowhere/at/all".into())],
        ] {
            let server = Server::start(server, Setup::new().on(get(declared), handler));
            let script = [Do::ReadToEnd, Do::Commit];
            reset(&client.client(server.address, get(declared), patient(), &script));
            let reported = cause(&server.outcomes.soon());
            assert!(matches!(reported, Cause::Local(LocalError::Aborted { .. })), "{reported:?}");
        }
    }
}

/// A handler cannot make good what the connection, or the object, was not.
fn ignoring_errors_changes_nothing(server: Any, client: Any) {
    let failing = Do::SendReader(Source::failing(object(5)));
    let setup = Setup::new()
        .on(get(Some(10)), [Do::IgnoreErrors, Do::Write(object(11))])
        .on(get(Some(9)), [Do::IgnoreErrors, Do::Write(object(8)), Do::Finish])
        .on(get(None), [Do::IgnoreErrors, failing])
        .on(put(Some(10)), [Do::IgnoreErrors, Do::ReadToEnd, Do::Commit]);
    let server = Server::start(server, setup);
    for packet in [get(Some(10)), get(Some(9)), get(None)] {
        let script = [Do::ReadToEnd, Do::Commit];
        reset(&client.client(server.address, packet, patient(), &script));
        server.outcomes.soon().unwrap_err();
    }
    let script = [Do::IgnoreErrors, Do::Write(object(9)), Do::Finish];
    let outcome = client.client(server.address, put(Some(10)), patient(), &script).unwrap();
    assert_eq!(outcome.receipt, None);
    server.outcomes.soon().unwrap_err();
}

/// The client's half, against a peer by hand: FIN, then the server's FIN, is the receipt.
fn put_over_the_wire(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let putting = spawn(move || {
            client.client(address, put(declared), patient(), &[Do::Send(object(10))])
        });
        let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
        assert_eq!(server.rest(), (object(10), End::Orderly));
        assert!(putting.try_recv().is_err());
        server.half_close();
        assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
    }
}

/// The client's FIN comes with its commit, and not before.
fn get_over_the_wire(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone()), Do::Commit];
        let getting = spawn(move || client.client(address, get(declared), patient(), &script));
        let mut server = listener.accept_start(&start(1, declared.map_or(-1, |n| n as i64)));
        server.send(&object(10));
        server.half_close();
        assert_eq!(reading.soon(), object(10));
        assert!(server.nothing_yet());
        gate.open();
        assert_eq!(server.end(), End::Orderly);
        assert_eq!(getting.soon().unwrap().receipt.unwrap().bytes, 10);
    }
}

pairs!(
    put_crosses,
    get_crosses,
    files_cross,
    chunks_leave_no_mark,
    put_waits_for_the_handler,
    put_fails_with_the_handler,
    put_handler_may_stop_at_the_last_byte,
    put_handler_may_commit_by_itself,
    get_waits_for_the_commit,
    get_without_commit_is_reported,
    commit_needs_the_whole_object,
    get_handler_may_ask_for_the_receipt,
    get_fails_with_the_handler,
    ignoring_errors_changes_nothing,
);
servers!(no_end_before_the_handlers_ok);
clients!(put_over_the_wire, get_over_the_wire);
