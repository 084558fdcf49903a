//! An object has exactly the declared size, and at most the allowed size.

use std::io::ErrorKind;
use std::sync::mpsc::channel;

use dataserver_core::{Cause, Config, Entry, LocalError, PeerError, Refusal};
use dataserver_tests::{
    DynAdapter, End, Gate, KEY, Op, Raw, RawListener, Server, Setup, Source, TempFile, Wait,
    assert_reset, cause, clients, get, long_timeouts, object, pairs, put, servers, spawn, start,
    tcp_pairs,
};

fn limit(limit: u64) -> Config {
    long_timeouts().max_object_size(limit)
}

fn put_longer_than_declared_is_reset(server: DynAdapter) {
    // Whether the handler stops after the last declared byte or reads to the end.
    for script in [vec![Op::ReadToEnd], vec![Op::Read(10)]] {
        for more in [1, 1000] {
            let server = Server::start(server, Setup::new().on(put(Some(10)), script.clone()));
            let mut client = Raw::client(server.address, &start(0, 10));
            client.send(&object(10 + more));
            assert_eq!(client.end(), End::Reset);
            let longer = PeerError::LongerThanDeclared { declared: 10 };
            assert_eq!(cause(&server.outcomes.wait()), longer.into());
        }
    }
}

fn put_shorter_than_declared_is_reset(server: DynAdapter) {
    for script in [vec![Op::ReadToEnd], vec![Op::Read(9)], vec![Op::Read(10)]] {
        let server = Server::start(server, Setup::new().on(put(Some(10)), script));
        let mut client = Raw::client(server.address, &start(0, 10));
        client.send(&object(9));
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let truncated = PeerError::Truncated { received: 9, expected: 10 };
        assert_eq!(cause(&server.outcomes.wait()), truncated.into());
    }
}

fn get_of_another_size_fails(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for (sent, error) in [
        (9, PeerError::Truncated { received: 9, expected: 10 }),
        (11, PeerError::LongerThanDeclared { declared: 10 }),
    ] {
        for script in [[Op::ReadToEnd, Op::Commit], [Op::Read(10), Op::Commit]] {
            let getting =
                spawn(move || client.client(address, get(Some(10)), long_timeouts(), &script));
            let mut server = listener.accept_start(&start(1, 10));
            server.send(&object(sent));
            server.half_close();
            assert_eq!(server.end(), End::Reset); // no receipt
            assert_eq!(cause(&getting.wait()), error.into());
        }
    }
}

/// Bytes of the client after the start packet of a get are an error.
fn getter_is_silent(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on(get(None), [Op::Send(object(10))]));
    let mut client = Raw::client(server.address, &start(1, -1));
    client.send(b"!");
    assert_eq!(client.rest().0, object(10));
    client.wait_for_reset();
    assert_eq!(cause(&server.outcomes.wait()), PeerError::NotSilent.into());
}

/// Ways to send 11 bytes. The first 10 may be sent.
fn ways_past_the_end(file: &TempFile) -> Vec<Vec<Op>> {
    let bytes = object(11);
    vec![
        vec![Op::Send(bytes.clone())],
        vec![Op::Write(bytes.clone()), Op::Finish],
        vec![Op::Write(bytes[..10].into()), Op::Write(bytes[10..].into()), Op::Finish],
        vec![Op::Write(bytes[..1].into()), Op::Send(bytes[1..].into())],
        vec![Op::Flush, Op::Send(bytes.clone())],
        vec![Op::SendFile(file.path().into())],
        vec![Op::Flush, Op::SendFile(file.path().into())],
        vec![Op::SendReader(Source::new(bytes))],
    ]
}

fn put_past_the_declared_size_fails_the_sender(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let file = TempFile::new(&object(11));
    for script in ways_past_the_end(&file) {
        let shown = format!("{script:?}");
        let putting =
            spawn(move || client.client(address, put(Some(10)), long_timeouts(), &script));
        let mut server = listener.accept_start(&start(0, 10));
        let (bytes, end) = server.rest();
        assert!(bytes.len() <= 10, "{shown}: {bytes:?}");
        assert_eq!(end, End::Reset);
        let longer = LocalError::LongerThanDeclared { declared: 10 };
        assert_eq!(cause(&putting.wait()), longer.into(), "{shown}");
    }
}

fn get_past_the_declared_size_fails_the_sender(server: DynAdapter) {
    let file = TempFile::new(&object(11));
    for script in ways_past_the_end(&file) {
        let server = Server::start(server, Setup::new().on(get(Some(10)), script.clone()));
        let mut client = Raw::client(server.address, &start(1, 10));
        let (bytes, end) = client.rest();
        assert!(bytes.len() <= 10, "{script:?}: {bytes:?}");
        assert_eq!(end, End::Reset);
        let longer = LocalError::LongerThanDeclared { declared: 10 };
        assert_eq!(cause(&server.outcomes.wait()), longer.into(), "{script:?}");
    }
}

/// All declared bytes have been sent by then, and no byte more.
fn no_byte_after_the_declared_size_is_sent(server: DynAdapter, client: DynAdapter) {
    let gate = Gate::new();
    let script = [Op::Write(object(10)), Op::Wait(gate.clone()), Op::Write(object(1))];

    let listener = RawListener::new();
    let address = listener.address();
    let putting = {
        let script = script.clone();
        spawn(move || client.client(address, put(Some(10)), long_timeouts(), &script))
    };
    let mut putter = listener.accept_start(&start(0, 10));
    let server = Server::start(server, Setup::new().on(get(Some(10)), script));
    let mut getter = Raw::client(server.address, &start(1, 10));
    for peer in [&mut putter, &mut getter] {
        assert_eq!(peer.read(10), object(10));
        assert!(peer.nothing_yet());
    }
    gate.open();
    for peer in [&mut putter, &mut getter] {
        assert_eq!(peer.end(), End::Reset);
    }
    let longer = Cause::from(LocalError::LongerThanDeclared { declared: 10 });
    assert_eq!(cause(&putting.wait()), longer);
    assert_eq!(cause(&server.outcomes.wait()), longer);
}

fn sent_short_fails_on_both_sides(server: DynAdapter, client: DynAdapter) {
    let file = TempFile::new(&object(9));
    for script in [
        vec![Op::Send(object(9))],
        vec![Op::Send(vec![])],
        vec![Op::Write(object(9)), Op::Finish],
        vec![Op::SendFile(file.path().into())],
        vec![Op::SendReader(Source::new(object(9)))],
    ] {
        let setup =
            Setup::new().on(put(Some(10)), [Op::ReadToEnd]).on(get(Some(10)), script.clone());
        let server = Server::start(server, setup);

        let outcome = client.client(server.address, put(Some(10)), long_timeouts(), &script);
        assert!(matches!(
            cause(&outcome),
            Cause::Local(LocalError::ShorterThanDeclared { declared: 10, .. })
        ));
        server.outcomes.wait().unwrap_err();

        let read = [Op::ReadToEnd, Op::Commit];
        assert_reset(&client.client(server.address, get(Some(10)), long_timeouts(), &read));
        assert!(matches!(
            cause(&server.outcomes.wait()),
            Cause::Local(LocalError::ShorterThanDeclared { declared: 10, .. })
        ));
    }
}

/// The reset follows the start packet: no byte of the object was sent by then.
fn above_the_limit_is_refused_before_a_byte(server: DynAdapter) {
    let (ran, running) = channel();
    let handler = [Op::Notify(ran), Op::ReadToEnd];
    for setup in [
        Setup::new().on_put(Entry::new(KEY).max_size(10), handler.clone()),
        Setup::new().on(put(Some(11)), handler.clone()).config(limit(10)),
        Setup::new().on_put(Entry::new(KEY).max_size(100), handler.clone()).config(limit(10)),
    ] {
        let server = Server::start(server, setup);
        let mut client = Raw::client(server.address, &start(0, 11));
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.wait();
        let refused = Refusal::TooLarge { declared: 11, limit: 10 };
        assert_eq!(cause(&outcome), refused.into());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);

        let mut client = Raw::client(server.address, &start(0, i64::MAX));
        assert_eq!(client.end(), End::Reset);
        server.outcomes.wait().unwrap_err();
        assert!(running.try_recv().is_err());
    }
}

fn a_refusal_for_size_leaves_the_entry(server: DynAdapter, client: DynAdapter) {
    let entry = Entry::new(KEY).max_size(100).until_delivered();
    let server =
        Server::start(server, Setup::new().on_put(entry, [Op::ReadToEnd]).config(limit(10)));
    let attempt = |n: usize| {
        let script = [Op::Send(object(n))];
        client.client(server.address, put(Some(n as u64)), long_timeouts(), &script)
    };
    for n in [101, 11, 101, 11] {
        assert_reset(&attempt(n));
    }
    assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
}

/// A put above the server's own limit does not use the entry up either.
fn a_put_above_the_limit_of_the_server_does_not_use_an_entry_up(
    server: DynAdapter,
    client: DynAdapter,
) {
    let entry = Entry::new(KEY).max_size(100).once();
    let server =
        Server::start(server, Setup::new().on_put(entry, [Op::ReadToEnd]).config(limit(10)));
    let attempt = |n: usize| {
        let script = [Op::Send(object(n))];
        client.client(server.address, put(Some(n as u64)), long_timeouts(), &script)
    };
    assert_reset(&attempt(11));
    let refused = Refusal::TooLarge { declared: 11, limit: 10 };
    assert_eq!(cause(&server.outcomes.wait()), refused.into());
    assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
    assert_reset(&attempt(10));
}

fn the_limit_applies_to_unknown_sizes(server: DynAdapter, client: DynAdapter) {
    for setup in [
        Setup::new().on_put(Entry::new(KEY).max_size(10), [Op::ReadToEnd]),
        Setup::new().on(put(None), [Op::ReadToEnd]).config(limit(10)),
        Setup::new().on_put(Entry::new(KEY).max_size(100), [Op::ReadToEnd]).config(limit(10)),
    ] {
        let server = Server::start(server, setup);
        let attempt = |n: usize| {
            client.client(server.address, put(None), long_timeouts(), &[Op::Send(object(n))])
        };
        assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
        server.outcomes.wait().unwrap();
        for n in [11, 1000] {
            assert_reset(&attempt(n));
            let longer = PeerError::LongerThanAllowed { limit: 10 };
            assert_eq!(cause(&server.outcomes.wait()), longer.into());
        }
    }
}

fn the_client_has_limits_too(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new()
        .on(get(Some(11)), [Op::Send(object(11))])
        .on(get(None), [Op::Send(object(11))]);
    let server = Server::start(server, setup);
    let script = [Op::ReadToEnd, Op::Commit];
    let fetch = |declared, config| client.client(server.address, get(declared), config, &script);
    let refused = Refusal::TooLarge { declared: 11, limit: 10 };
    assert_eq!(cause(&fetch(Some(11), limit(10))), refused.into());
    let longer = PeerError::LongerThanAllowed { limit: 10 };
    assert_eq!(cause(&fetch(None, limit(10))), longer.into());
    assert_eq!(fetch(None, limit(11)).unwrap().bytes, object(11));
}

servers!(
    put_longer_than_declared_is_reset,
    put_shorter_than_declared_is_reset,
    getter_is_silent,
    get_past_the_declared_size_fails_the_sender,
    above_the_limit_is_refused_before_a_byte,
);
clients!(get_of_another_size_fails, put_past_the_declared_size_fails_the_sender);
tcp_pairs!(no_byte_after_the_declared_size_is_sent,);
pairs!(
    sent_short_fails_on_both_sides,
    a_refusal_for_size_leaves_the_entry,
    a_put_above_the_limit_of_the_server_does_not_use_an_entry_up,
    the_limit_applies_to_unknown_sizes,
    the_client_has_limits_too,
);
