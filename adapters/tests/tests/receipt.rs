//! A receipt means that the receiving application has committed, in both directions.

use std::fs;
use std::num::NonZeroU32;
use std::sync::mpsc::channel;

use dataserver_core::{Cause, LocalError, StartPacket, Transfer};
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Outcome, Raw, RawListener, Server, Setup, Source, TempFile, Wait,
    assert_reset, cause, clients, get, long_timeouts, object, pairs, put, servers, spawn, start,
};

/// Sizes around boundaries: an empty object, the length of a start packet, the length of a copy buffer,
/// and a chunk.
const SIZES: [usize; 10] = [0, 1, 24, 25, 26, 1000, 262_143, 262_145, CHUNK - 1, CHUNK + 1];
const CHUNK: usize = Transfer::DEFAULT_CHUNK.get() as usize;

/// The packets for an object of this size, with the size declared or not.
fn both_formats(packet: fn(Option<u64>) -> StartPacket, size: usize) -> [StartPacket; 4] {
    let [declared, undeclared] = [Some(size as u64), None].map(packet);
    [declared, undeclared, declared.framed(), undeclared.framed()]
}

fn puts_of_all_sizes_succeed(server: DynAdapter, client: DynAdapter) {
    for size in SIZES {
        let bytes = object(size);
        let file = TempFile::new(&bytes);
        for packet in both_formats(put, size) {
            let (stored, storing) = channel();
            let server =
                Server::start(server, Setup::new().on(packet, [Op::ReadToEnd, Op::Notify(stored)]));
            for script in Op::ways_to_send(&bytes, file.path()) {
                let outcome = client.client(server.address, packet, long_timeouts(), &script);
                let receipt = outcome.unwrap().receipt.unwrap();
                assert_eq!(receipt.bytes, size as u64);
                assert_eq!(receipt.packet, packet);
                assert_eq!(receipt.peer, Some(server.address));
                assert!(storing.wait() == bytes, "{script:?}");
                let reported = server.outcomes.wait().unwrap();
                assert_eq!((reported.bytes, reported.packet), (size as u64, packet));
            }
        }
    }
}

fn gets_of_all_sizes_succeed(server: DynAdapter, client: DynAdapter) {
    for size in SIZES {
        let bytes = object(size);
        let file = TempFile::new(&bytes);
        for packet in both_formats(get, size) {
            for script in Op::ways_to_send(&bytes, file.path()) {
                let server = Server::start(server, Setup::new().on(packet, script.clone()));
                let script = [Op::ReadToEnd, Op::Commit];
                let outcome =
                    client.client(server.address, packet, long_timeouts(), &script).unwrap();
                let receipt = outcome.receipt.unwrap();
                assert_eq!(receipt.bytes, size as u64);
                assert_eq!(receipt.packet, packet);
                assert_eq!(receipt.peer, Some(server.address));
                assert!(outcome.bytes == bytes, "{script:?}");
                let reported = server.outcomes.wait().unwrap();
                assert_eq!((reported.bytes, reported.packet), (size as u64, packet));
            }
        }
    }
}

fn files_are_transferred(server: DynAdapter, client: DynAdapter) {
    let bytes = object(700_000);
    let (from, stored, fetched) = (TempFile::new(&bytes), TempFile::new(b""), TempFile::new(b""));
    let setup = Setup::new()
        .on(put(None), [Op::ReceiveFile(stored.path().into())])
        .on(get(None), [Op::SendFile(from.path().into())]);
    let server = Server::start(server, setup);
    for (put, get) in [(put(None), get(None)), (put(None).framed(), get(None).framed())] {
        let script = [Op::SendFile(from.path().into())];
        client.client(server.address, put, long_timeouts(), &script).unwrap();
        assert!(fs::read(stored.path()).unwrap() == bytes);

        let script = [Op::ReceiveFile(fetched.path().into()), Op::Commit];
        client.client(server.address, get, long_timeouts(), &script).unwrap();
        assert!(fs::read(fetched.path()).unwrap() == bytes);
    }
}

fn chunk_sizes_do_not_matter(server: DynAdapter, client: DynAdapter) {
    let bytes = object(1000);
    let (stored, storing) = channel();
    let chunk = |chunk| long_timeouts().chunk(NonZeroU32::new(chunk).unwrap());
    for (at_server, at_client) in [(1, 21), (21, 1), (25, 4096)] {
        let setup = Setup::new()
            .config(chunk(at_server))
            .on(put(None), [Op::ReadToEnd, Op::Notify(stored.clone())])
            .on(get(None), [Op::Send(bytes.clone())]);
        let server = Server::start(server, setup);
        for (put, get) in [(put(None), get(None)), (put(None).framed(), get(None).framed())] {
            let script = [Op::Send(bytes.clone())];
            client.client(server.address, put, chunk(at_client), &script).unwrap();
            assert_eq!(storing.wait(), bytes);
            let script = [Op::ReadToEnd, Op::Commit];
            let got = client.client(server.address, get, chunk(at_client), &script).unwrap();
            assert_eq!(got.bytes, bytes);
        }
    }
}

fn put_waits_for_the_handler(server: DynAdapter, client: DynAdapter) {
    let (stored, storing) = channel();
    let gate = Gate::new();
    let script = [Op::ReadToEnd, Op::Notify(stored), Op::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(Some(10)), script));

    let address = server.address;
    let putting = spawn(move || {
        client.client(address, put(Some(10)), long_timeouts(), &[Op::Send(object(10))])
    });
    assert_eq!(storing.wait(), object(10));
    assert!(putting.try_recv().is_err());
    assert!(server.outcomes.try_recv().is_err());
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
    assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
}

fn no_end_before_the_handlers_ok(server: DynAdapter) {
    for declared in [Some(10), None] {
        let (stored, storing) = channel();
        let gate = Gate::new();
        let script = [Op::ReadToEnd, Op::Notify(stored), Op::Wait(gate.clone())];
        let server = Server::start(server, Setup::new().on(put(declared), script));

        let mut client = Raw::client(server.address, &start(0, declared.map_or(-1, |n| n as i64)));
        client.send(&object(10));
        client.half_close();
        assert_eq!(storing.wait(), object(10));
        assert!(client.nothing_yet());
        gate.open();
        assert_eq!(client.end(), End::Graceful);
    }
}

fn put_fails_with_the_handler(server: DynAdapter, client: DynAdapter) {
    let handlers = [
        vec![Op::Fail],
        vec![Op::Read(3), Op::Fail],
        vec![Op::ReadToEnd, Op::Fail],
        vec![Op::Panic],
        vec![Op::Read(3), Op::Panic],
        vec![Op::ReadToEnd, Op::Panic],
        vec![],
        vec![Op::Read(3)],
        vec![Op::Read(9)],
    ];
    for declared in [Some(10), None] {
        for handler in &handlers {
            let server = Server::start(server, Setup::new().on(put(declared), handler.clone()));
            let script = [Op::Send(object(10))];
            let outcome = client.client(server.address, put(declared), long_timeouts(), &script);
            assert_reset(&outcome);
            let reported = cause(&server.outcomes.wait());
            assert!(matches!(reported, Cause::Local(LocalError::Aborted { .. })), "{reported:?}");
        }
    }
}

fn put_handler_may_stop_at_the_last_byte(server: DynAdapter, client: DynAdapter) {
    for declared in [Some(10), None] {
        let server = Server::start(server, Setup::new().on(put(declared), [Op::Read(10)]));
        let script = [Op::Send(object(10))];
        let outcome =
            client.client(server.address, put(declared), long_timeouts(), &script).unwrap();
        assert_eq!(outcome.receipt.unwrap().bytes, 10);
        assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
    }
}

fn put_handler_may_commit_by_itself(server: DynAdapter, client: DynAdapter) {
    let (committed, committing) = channel();
    let gate = Gate::new();
    let script = [Op::ReadToEnd, Op::Commit, Op::Notify(committed), Op::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let script = [Op::Send(object(10))];
    let outcome = client.client(server.address, put(None), long_timeouts(), &script).unwrap();
    assert_eq!(outcome.receipt.unwrap().bytes, 10); // while the handler waits
    assert_eq!(committing.wait(), object(10));
    assert!(server.outcomes.try_recv().is_err());
    gate.open();
    assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
}

fn get_waits_for_the_commit(server: DynAdapter, client: DynAdapter) {
    for handler in [vec![Op::Send(object(10))], vec![Op::Write(object(10))]] {
        let server = Server::start(server, Setup::new().on(get(None), handler));
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone()), Op::Commit];
        let address = server.address;
        let getting = spawn(move || client.client(address, get(None), long_timeouts(), &script));
        assert_eq!(reading.wait(), object(10));
        assert!(server.outcomes.try_recv().is_err());
        gate.open();
        assert_eq!(getting.wait().unwrap().receipt.unwrap().bytes, 10);
        assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
    }
}

fn get_without_commit_is_reported(server: DynAdapter, client: DynAdapter) {
    for handler in [vec![Op::Send(object(10))], vec![Op::Write(object(10))]] {
        for declared in [Some(10), None] {
            let server = Server::start(server, Setup::new().on(get(declared), handler.clone()));
            let script = [Op::ReadToEnd];
            let got =
                client.client(server.address, get(declared), long_timeouts(), &script).unwrap();
            assert_eq!(got, Outcome { bytes: object(10), receipt: None });
            assert_reset(&server.outcomes.wait());
        }
    }
}

fn commit_needs_the_whole_object(server: DynAdapter, client: DynAdapter) {
    for declared in [Some(10), None] {
        for read in [0, 9] {
            let script = [Op::Send(object(10))];
            let server = Server::start(server, Setup::new().on(get(declared), script));
            let script = [Op::Read(read), Op::Commit];
            let got = client.client(server.address, get(declared), long_timeouts(), &script);
            assert!(matches!(cause(&got), Cause::Local(LocalError::Aborted { .. })));
            assert_reset(&server.outcomes.wait());
        }
    }
}

fn get_handler_may_ask_for_the_receipt(server: DynAdapter, client: DynAdapter) {
    let (finished, finishing) = channel();
    let script = [Op::Write(object(10)), Op::Finish, Op::Notify(finished)];
    let server = Server::start(server, Setup::new().on(get(None), script));

    let script = [Op::ReadToEnd];
    client.client(server.address, get(None), long_timeouts(), &script).unwrap();
    assert_reset(&server.outcomes.wait());
    assert!(finishing.try_recv().is_err()); // its `finish` has failed

    let script = [Op::ReadToEnd, Op::Commit];
    client.client(server.address, get(None), long_timeouts(), &script).unwrap();
    finishing.wait();
    server.outcomes.wait().unwrap();
}

fn get_fails_with_the_handler(server: DynAdapter, client: DynAdapter) {
    for declared in [Some(10), None] {
        for handler in [
            vec![Op::Fail],
            vec![Op::Panic],
            vec![Op::Flush, Op::Fail],
            vec![Op::Write(object(5)), Op::Fail],
            vec![Op::Write(object(5)), Op::Panic],
            vec![Op::SendReader(Source::failing(object(5)))],
            vec![Op::SendFile("/nowhere/at/all".into())],
        ] {
            let server = Server::start(server, Setup::new().on(get(declared), handler));
            let script = [Op::ReadToEnd, Op::Commit];
            assert_reset(&client.client(server.address, get(declared), long_timeouts(), &script));
            let reported = cause(&server.outcomes.wait());
            assert!(matches!(reported, Cause::Local(LocalError::Aborted { .. })), "{reported:?}");
        }
    }
}

/// A handler that ignores errors does not turn a failed transfer into a success.
fn ignoring_errors_changes_nothing(server: DynAdapter, client: DynAdapter) {
    let failing = Op::SendReader(Source::failing(object(5)));
    let setup = Setup::new()
        .on(get(Some(10)), [Op::IgnoreErrors, Op::Write(object(11))])
        .on(get(Some(9)), [Op::IgnoreErrors, Op::Write(object(8)), Op::Finish])
        .on(get(None), [Op::IgnoreErrors, failing])
        .on(put(Some(10)), [Op::IgnoreErrors, Op::ReadToEnd, Op::Commit]);
    let server = Server::start(server, setup);
    for packet in [get(Some(10)), get(Some(9)), get(None)] {
        let script = [Op::ReadToEnd, Op::Commit];
        assert_reset(&client.client(server.address, packet, long_timeouts(), &script));
        server.outcomes.wait().unwrap_err();
    }
    let script = [Op::IgnoreErrors, Op::Write(object(9)), Op::Finish];
    let outcome = client.client(server.address, put(Some(10)), long_timeouts(), &script).unwrap();
    assert_eq!(outcome.receipt, None);
    server.outcomes.wait().unwrap_err();
}

/// The client's side of a put: it sends a FIN, and the FIN of the server is the receipt.
fn put_over_the_wire(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let putting = spawn(move || {
            client.client(address, put(declared), long_timeouts(), &[Op::Send(object(10))])
        });
        let mut server = listener.accept_start(&start(0, declared.map_or(-1, |n| n as i64)));
        assert_eq!(server.rest(), (object(10), End::Graceful));
        assert!(putting.try_recv().is_err());
        server.half_close();
        assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
    }
}

/// The client sends its FIN when it commits, and not before.
fn get_over_the_wire(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for declared in [Some(10), None] {
        let (read, reading) = channel();
        let gate = Gate::new();
        let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone()), Op::Commit];
        let getting =
            spawn(move || client.client(address, get(declared), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(1, declared.map_or(-1, |n| n as i64)));
        server.send(&object(10));
        server.half_close();
        assert_eq!(reading.wait(), object(10));
        assert!(server.nothing_yet());
        gate.open();
        assert_eq!(server.end(), End::Graceful);
        assert_eq!(getting.wait().unwrap().receipt.unwrap().bytes, 10);
    }
}

pairs!(
    puts_of_all_sizes_succeed,
    gets_of_all_sizes_succeed,
    files_are_transferred,
    chunk_sizes_do_not_matter,
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
