//! *Size*: exactly what was declared, and never more than allowed.

use std::io::ErrorKind;
use std::sync::mpsc::channel;

use dataserver_core::{Config, Entry, Error as Cause, LocalError, PeerError, Refusal};
use dataserver_scenarios::{
    Any, Do, End, Gate, Raw, RawListener, Server, Setup, Soon, Source, TempFile, cause, clients,
    get, object, pairs, patient, put, reset, servers, spawn, start,
};

fn limit(limit: u64) -> Config {
    Config { limit, ..patient() }
}

fn put_longer_than_declared_is_reset(server: Any) {
    // Whether the handler stops at the last byte or goes on to the end.
    for script in [vec![Do::ReadToEnd], vec![Do::Read(10)]] {
        for more in [1, 1000] {
            let server = Server::start(server, Setup::new().on(put(Some(10)), script.clone()));
            let mut client = Raw::client(server.address, &start(0, 10));
            client.send(&object(10 + more));
            assert_eq!(client.end(), End::Reset);
            let longer = PeerError::LongerThanDeclared { declared: 10 };
            assert_eq!(cause(&server.outcomes.soon()), longer.into());
        }
    }
}

fn put_shorter_than_declared_is_reset(server: Any) {
    for script in [vec![Do::ReadToEnd], vec![Do::Read(9)], vec![Do::Read(10)]] {
        let server = Server::start(server, Setup::new().on(put(Some(10)), script));
        let mut client = Raw::client(server.address, &start(0, 10));
        client.send(&object(9));
        client.half_close();
        assert_eq!(client.end(), End::Reset);
        let truncated = PeerError::Truncated { received: 9, expected: 10 };
        assert_eq!(cause(&server.outcomes.soon()), truncated.into());
    }
}

fn get_of_another_size_fails(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    for (sent, error) in [
        (9, PeerError::Truncated { received: 9, expected: 10 }),
        (11, PeerError::LongerThanDeclared { declared: 10 }),
    ] {
        for script in [[Do::ReadToEnd, Do::Commit], [Do::Read(10), Do::Commit]] {
            let getting = spawn(move || client.client(address, get(Some(10)), patient(), &script));
            let mut server = listener.accept_start(&start(1, 10));
            server.send(&object(sent));
            server.half_close();
            assert_eq!(server.end(), End::Reset); // no receipt
            assert_eq!(cause(&getting.soon()), error.into());
        }
    }
}

/// What a client sends behind the start packet of a get is an error too.
fn getter_is_silent(server: Any) {
    let server = Server::start(server, Setup::new().on(get(None), [Do::Send(object(10))]));
    let mut client = Raw::client(server.address, &start(1, -1));
    client.send(b"!");
    assert_eq!(client.rest().0, object(10));
    client.wait_for_reset();
    assert_eq!(cause(&server.outcomes.soon()), PeerError::NotSilent.into());
}

/// Ways to send 11 bytes, each of which the first 10 may leave.
fn ways_past_the_end(file: &TempFile) -> Vec<Vec<Do>> {
    let bytes = object(11);
    vec![
        vec![Do::Send(bytes.clone())],
        vec![Do::Write(bytes.clone()), Do::Finish],
        vec![Do::Write(bytes[..10].into()), Do::Write(bytes[10..].into()), Do::Finish],
        vec![Do::Write(bytes[..1].into()), Do::Send(bytes[1..].into())],
        vec![Do::Flush, Do::Send(bytes.clone())],
        vec![Do::SendFile(file.path().into())],
        vec![Do::Flush, Do::SendFile(file.path().into())],
        vec![Do::SendReader(Source::new(bytes))],
    ]
}

fn put_past_the_declared_size_fails_here(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let file = TempFile::new(&object(11));
    for script in ways_past_the_end(&file) {
        let shown = format!("{script:?}");
        let putting = spawn(move || client.client(address, put(Some(10)), patient(), &script));
        let mut server = listener.accept_start(&start(0, 10));
        let (bytes, end) = server.rest();
        assert!(bytes.len() <= 10, "{shown}: {bytes:?}");
        assert_eq!(end, End::Reset);
        let longer = LocalError::LongerThanDeclared { declared: 10 };
        assert_eq!(cause(&putting.soon()), longer.into(), "{shown}");
    }
}

fn get_past_the_declared_size_fails_here(server: Any) {
    let file = TempFile::new(&object(11));
    for script in ways_past_the_end(&file) {
        let server = Server::start(server, Setup::new().on(get(Some(10)), script.clone()));
        let mut client = Raw::client(server.address, &start(1, 10));
        let (bytes, end) = client.rest();
        assert!(bytes.len() <= 10, "{script:?}: {bytes:?}");
        assert_eq!(end, End::Reset);
        let longer = LocalError::LongerThanDeclared { declared: 10 };
        assert_eq!(cause(&server.outcomes.soon()), longer.into(), "{script:?}");
    }
}

/// With a look at what has left by then: all that was declared, and not a byte more.
fn not_a_byte_too_many_leaves(server: Any, client: Any) {
    let gate = Gate::new();
    let script = [Do::Write(object(10)), Do::Wait(gate.clone()), Do::Write(object(1))];

    let listener = RawListener::new();
    let address = listener.address();
    let putting = {
        let script = script.clone();
        spawn(move || client.client(address, put(Some(10)), patient(), &script))
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
    assert_eq!(cause(&putting.soon()), longer);
    assert_eq!(cause(&server.outcomes.soon()), longer);
}

fn sent_short_fails_on_both_sides(server: Any, client: Any) {
    let file = TempFile::new(&object(9));
    for script in [
        vec![Do::Send(object(9))],
        vec![Do::Send(vec![])],
        vec![Do::Write(object(9)), Do::Finish],
        vec![Do::SendFile(file.path().into())],
        vec![Do::SendReader(Source::new(object(9)))],
    ] {
        let setup =
            Setup::new().on(put(Some(10)), [Do::ReadToEnd]).on(get(Some(10)), script.clone());
        let server = Server::start(server, setup);

        let outcome = client.client(server.address, put(Some(10)), patient(), &script);
        assert!(matches!(
            cause(&outcome),
            Cause::Local(LocalError::ShorterThanDeclared { declared: 10, .. })
        ));
        server.outcomes.soon().unwrap_err();

        let read = [Do::ReadToEnd, Do::Commit];
        reset(&client.client(server.address, get(Some(10)), patient(), &read));
        assert!(matches!(
            cause(&server.outcomes.soon()),
            Cause::Local(LocalError::ShorterThanDeclared { declared: 10, .. })
        ));
    }
}

/// The reset comes for the start packet alone: nothing of the object has been sent by then.
fn above_the_limit_is_refused_before_a_byte(server: Any) {
    let (ran, running) = channel();
    let handler = [Do::Tell(ran), Do::ReadToEnd];
    for setup in [
        Setup::new().on(Entry::any_size(put(None), 10), handler.clone()),
        Setup::new().on(put(Some(11)), handler.clone()).config(limit(10)),
        Setup::new().on(Entry::any_size(put(None), 100), handler.clone()).config(limit(10)),
    ] {
        let server = Server::start(server, setup);
        let mut client = Raw::client(server.address, &start(0, 11));
        assert_eq!(client.end(), End::Reset);
        let outcome = server.outcomes.soon();
        let refused = Refusal::TooLarge { declared: 11, limit: 10 };
        assert_eq!(cause(&outcome), refused.into());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);

        let mut client = Raw::client(server.address, &start(0, i64::MAX));
        assert_eq!(client.end(), End::Reset);
        server.outcomes.soon().unwrap_err();
        assert!(running.try_recv().is_err());
    }
}

fn a_refusal_for_size_leaves_the_entry(server: Any, client: Any) {
    let entry = Entry::any_size(put(None), 100).until_delivered();
    let server = Server::start(server, Setup::new().on(entry, [Do::ReadToEnd]).config(limit(10)));
    let attempt = |n: usize| {
        let script = [Do::Send(object(n))];
        client.client(server.address, put(Some(n as u64)), patient(), &script)
    };
    for n in [101, 11, 101, 11] {
        reset(&attempt(n));
    }
    assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
}

/// Nor does a put spend it that is too large for the server, whatever the entry allows.
fn a_put_above_the_limit_of_the_server_does_not_spend_an_entry_for_one(server: Any, client: Any) {
    let entry = Entry::any_size(put(None), 100).once();
    let server = Server::start(server, Setup::new().on(entry, [Do::ReadToEnd]).config(limit(10)));
    let attempt = |n: usize| {
        let script = [Do::Send(object(n))];
        client.client(server.address, put(Some(n as u64)), patient(), &script)
    };
    reset(&attempt(11));
    let refused = Refusal::TooLarge { declared: 11, limit: 10 };
    assert_eq!(cause(&server.outcomes.soon()), refused.into());
    assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
    reset(&attempt(10));
}

fn unknown_size_is_held_to_the_limit(server: Any, client: Any) {
    for setup in [
        Setup::new().on(Entry::any_size(put(None), 10), [Do::ReadToEnd]),
        Setup::new().on(put(None), [Do::ReadToEnd]).config(limit(10)),
        Setup::new().on(Entry::any_size(put(None), 100), [Do::ReadToEnd]).config(limit(10)),
    ] {
        let server = Server::start(server, setup);
        let attempt =
            |n: usize| client.client(server.address, put(None), patient(), &[Do::Send(object(n))]);
        assert_eq!(attempt(10).unwrap().receipt.unwrap().bytes, 10);
        server.outcomes.soon().unwrap();
        for n in [11, 1000] {
            reset(&attempt(n));
            let longer = PeerError::LongerThanAllowed { limit: 10 };
            assert_eq!(cause(&server.outcomes.soon()), longer.into());
        }
    }
}

fn the_client_has_limits_too(server: Any, client: Any) {
    let setup = Setup::new()
        .on(get(Some(11)), [Do::Send(object(11))])
        .on(get(None), [Do::Send(object(11))]);
    let server = Server::start(server, setup);
    let script = [Do::ReadToEnd, Do::Commit];
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
    get_past_the_declared_size_fails_here,
    above_the_limit_is_refused_before_a_byte,
);
clients!(get_of_another_size_fails, put_past_the_declared_size_fails_here);
pairs!(
    not_a_byte_too_many_leaves,
    sent_short_fails_on_both_sides,
    a_refusal_for_size_leaves_the_entry,
    a_put_above_the_limit_of_the_server_does_not_spend_an_entry_for_one,
    unknown_size_is_held_to_the_limit,
    the_client_has_limits_too,
);
