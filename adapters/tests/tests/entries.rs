//! Entries: how often they can be claimed, when they expire, and which sizes they match.

use std::io;
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use dataserver_common::Error;
use dataserver_core::{Cause, Direction, Entry, Refusal};
use dataserver_tests::{
    DynAdapter, End, Gate, KEY, Op, Raw, Server, Setup, Wait, assert_reset, cause, get,
    long_timeouts, object, pairs, put, servers, spawn, start,
};

const RACERS: usize = 64;

/// The handler runs until all other clients were refused.
fn once_is_once_for_raw_clients(server: DynAdapter) {
    for (entry, kind) in [(put(Some(10)), 0), (get(Some(10)), 1)] {
        let (ran, running) = channel();
        let gate = Gate::new();
        let mut script = vec![Op::Notify(ran), Op::Wait(gate.clone())];
        script.push(if kind == 0 { Op::ReadToEnd } else { Op::Send(object(10)) });
        let server = Server::start(
            server,
            Setup::new().on_entry(entry.direction(), Entry::exact(entry).once(), script),
        );

        let barrier = Arc::new(Barrier::new(RACERS));
        let (ended, ending) = channel();
        for _ in 0..RACERS {
            let mut client = Raw::connect(server.address);
            let (barrier, ended) = (Arc::clone(&barrier), ended.clone());
            thread::spawn(move || {
                let bytes = if kind == 0 { object(10) } else { Vec::new() };
                let bytes = [start(kind, 10), bytes].concat();
                barrier.wait();
                client.send(&bytes);
                if kind == 0 {
                    client.half_close();
                }
                _ = ended.send(client.rest()); // fails if the test has ended
            });
        }
        for _ in 1..RACERS {
            assert_eq!(ending.wait(), (vec![], End::Reset));
        }
        running.wait();
        gate.open();
        assert_eq!(ending.wait().1, End::Graceful);
        assert!(running.try_recv().is_err(), "a second handler ran");

        let outcomes: Vec<_> = (0..RACERS).map(|_| server.outcomes.wait()).collect();
        let refused = outcomes.iter().filter(|outcome| {
            outcome.is_err() && cause(outcome) == Cause::Refused(Refusal::NotRegistered)
        });
        assert_eq!(refused.count(), RACERS - 1);
    }
}

fn once_is_once(server: DynAdapter, client: DynAdapter) {
    for (packet, handler, script) in [
        (put(Some(10)), vec![Op::ReadToEnd], vec![Op::Send(object(10))]),
        (get(Some(10)), vec![Op::Send(object(10))], vec![Op::ReadToEnd, Op::Commit]),
    ] {
        let (ran, running) = channel();
        let handler = [&[Op::Notify(ran)], &handler[..]].concat();
        let server = Server::start(
            server,
            Setup::new().on_entry(packet.direction(), Entry::exact(packet).once(), handler),
        );
        let barrier = Arc::new(Barrier::new(RACERS));
        let (ended, ending) = channel();
        for _ in 0..RACERS {
            let (barrier, ended, script) = (Arc::clone(&barrier), ended.clone(), script.clone());
            let address = server.address;
            thread::spawn(move || {
                barrier.wait();
                // Fails if the test has ended.
                _ = ended.send(client.client(address, packet, long_timeouts(), &script));
            });
        }
        let outcomes: Vec<_> = (0..RACERS).map(|_| ending.wait()).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(io::Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
        lost.iter().for_each(assert_reset);
        running.wait();
        assert!(running.try_recv().is_err(), "a second handler ran");
    }
}

/// The claim ends the entry, even if the transfer fails.
fn once_ends_with_a_failed_transfer(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_put(Entry::exact(put(None)).once(), [Op::Fail]);
    let server = Server::start(server, setup);
    for expected in ["aborted", "refused"] {
        let script = [Op::Send(object(10))];
        assert_reset(&client.client(server.address, put(None), long_timeouts(), &script));
        let reported = server.outcomes.wait().unwrap_err().to_string();
        assert!(reported.contains(expected), "{reported}");
    }
}

fn until_delivered_can_be_repeated(server: DynAdapter, client: DynAdapter) {
    let entry = Entry::exact(get(None)).until_delivered();
    let server = Server::start(server, Setup::new().on_get(entry, [Op::Send(object(10))]));
    let fetch = |script: &[Op]| client.client(server.address, get(None), long_timeouts(), script);
    for _ in 0..2 {
        fetch(&[Op::ReadToEnd]).unwrap(); // without a commit
        assert_reset(&server.outcomes.wait());
    }
    assert_eq!(fetch(&[Op::ReadToEnd, Op::Commit]).unwrap().bytes, object(10));
    server.outcomes.wait().unwrap();
    assert_reset(&fetch(&[Op::ReadToEnd, Op::Commit]));
    assert_eq!(cause(&server.outcomes.wait()), Cause::Refused(Refusal::NotRegistered));
}

/// A client that sees a failure can try again at once.
fn until_delivered_is_released_before_the_reset(server: DynAdapter, client: DynAdapter) {
    let entry = |packet| Entry::exact(packet).until_delivered();
    let (ran, running) = channel();
    let failing = [Op::Notify(ran.clone()), Op::Read(5), Op::Fail];
    let panicking = [Op::Notify(ran), Op::Panic];
    let setup =
        Setup::new().on_put(entry(put(Some(10))), failing).on_get(entry(get(None)), panicking);
    let server = Server::start(server, setup);
    for _ in 0..100 {
        let script = [Op::Send(object(10))];
        assert_reset(&client.client(server.address, put(Some(10)), long_timeouts(), &script));
        running.wait();
        let script = [Op::ReadToEnd];
        assert_reset(&client.client(server.address, get(None), long_timeouts(), &script));
        running.wait(); // a refused client would not start a handler
    }
}

fn until_delivered_put(server: DynAdapter, client: DynAdapter) {
    let (stored, storing) = channel();
    let entry = Entry::new(KEY).max_size(100).until_delivered();
    let setup = Setup::new().on_put(entry, [Op::ReadToEnd, Op::Notify(stored)]);
    let server = Server::start(server, setup);
    let attempt =
        |script: &[Op]| client.client(server.address, put(Some(10)), long_timeouts(), script);
    for _ in 0..2 {
        attempt(&[Op::Write(object(9)), Op::Finish]).unwrap_err();
        server.outcomes.wait().unwrap_err();
    }
    attempt(&[Op::Send(object(10))]).unwrap();
    server.outcomes.wait().unwrap();
    assert_eq!(storing.wait(), object(10));
    assert_reset(&attempt(&[Op::Send(object(10))]));
    assert!(storing.try_recv().is_err());
}

fn until_delivered_serves_one_client_at_a_time(server: DynAdapter, client: DynAdapter) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let entry = Entry::exact(put(None)).until_delivered();
    let script = [Op::Notify(ran), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on_put(entry, script));
    let address = server.address;
    let first =
        spawn(move || client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    running.wait();
    assert_reset(&client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    assert_eq!(cause(&server.outcomes.wait()), Cause::Refused(Refusal::InUse));
    gate.open();
    first.wait().unwrap();
    server.outcomes.wait().unwrap();
}

fn entries_without_a_limit_serve_concurrent_clients(server: DynAdapter, client: DynAdapter) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(ran), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting: Vec<mpsc::Receiver<_>> = (0..8)
        .map(|_| {
            spawn(move || {
                client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))])
            })
        })
        .collect();
    (0..8).for_each(|_| drop(running.wait())); // concurrently
    gate.open();
    for putting in putting {
        putting.wait().unwrap();
    }
}

fn expired_is_refused(server: DynAdapter, client: DynAdapter) {
    let entry = Entry::exact(put(None)).expires_after(Duration::ZERO);
    let server = Server::start(server, Setup::new().on_put(entry, [Op::ReadToEnd]));
    let attempt = |script: &[Op]| client.client(server.address, put(None), long_timeouts(), script);
    assert_reset(&attempt(&[Op::Send(object(10))]));
    assert_eq!(cause(&server.outcomes.wait()), Cause::Refused(Refusal::NotRegistered));
    // The expired entry has been removed.
    let entry = Entry::exact(put(None)).expires_after(Duration::from_secs(600));
    server.add(Direction::Put, entry, [Op::ReadToEnd]).unwrap();
    attempt(&[Op::Send(object(10))]).unwrap();
}

/// The removal of an entry does not end its transfers.
fn transfers_go_on_after_the_removal_of_their_entry(server: DynAdapter, client: DynAdapter) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(ran), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    running.wait();
    assert!(server.remove(Direction::Put, Entry::exact(put(None))));
    assert!(!server.remove(Direction::Put, Entry::exact(put(None))));
    assert_reset(&client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    gate.open();
    putting.wait().unwrap();
}

fn entries_are_checked(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(None), []).on(get(None), []));
    for direction in [Direction::Put, Direction::Get] {
        let add = |entry| server.add(direction, entry, []);
        match add(Entry::exact(put(None))) {
            Err(Error::AlreadyRegistered(error)) => {
                assert_eq!((error.direction, error.entry), (direction, Entry::exact(put(None))));
            }
            other => panic!("{other:?}"),
        }
        add(Entry::exact(put(Some(1)))).unwrap();
        add(Entry::new(KEY)).unwrap();
        assert!(matches!(add(Entry::new(KEY).once()), Err(Error::AlreadyRegistered(_))));
    }
}

fn entries_match_sizes(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new()
        .on(get(Some(5)), [Op::Send(object(5))])
        .on_get(Entry::new(KEY).max_size(100), [Op::Send(object(6))]);
    let server = Server::start(server, setup);
    let script = [Op::ReadToEnd, Op::Commit];
    for (declared, size) in [(Some(5), 5), (Some(6), 6), (None, 6)] {
        let got = client.client(server.address, get(declared), long_timeouts(), &script).unwrap();
        assert_eq!(got.bytes, object(size));
    }
}

servers!(once_is_once_for_raw_clients, entries_are_checked);
pairs!(
    once_is_once,
    once_ends_with_a_failed_transfer,
    until_delivered_can_be_repeated,
    until_delivered_is_released_before_the_reset,
    until_delivered_put,
    until_delivered_serves_one_client_at_a_time,
    entries_without_a_limit_serve_concurrent_clients,
    expired_is_refused,
    transfers_go_on_after_the_removal_of_their_entry,
    entries_match_sizes,
);
