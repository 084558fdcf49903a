//! *Once* means once, and *until delivered* until delivered.

use std::io;
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use dataserver_adapter::{Error, after};
use dataserver_core::{Direction, Entry, Error as Cause, Refusal};
use dataserver_scenarios::{
    Any, Do, End, Gate, Raw, Server, Setup, Soon, cause, get, object, pairs, patient, put, reset,
    servers, spawn, start,
};

const RACERS: usize = 64;

/// The handler that runs stays until all others have been turned away.
fn once_is_once_for_raw_clients(server: Any) {
    for (entry, kind) in [(put(Some(10)), 0), (get(Some(10)), 1)] {
        let (ran, running) = channel();
        let gate = Gate::new();
        let mut script = vec![Do::Tell(ran), Do::Wait(gate.clone())];
        script.push(if kind == 0 { Do::ReadToEnd } else { Do::Send(object(10)) });
        let server = Server::start(server, Setup::new().on(Entry::exact(entry).once(), script));

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
                let _the_scenario_is_over = ended.send(client.rest());
            });
        }
        for _ in 1..RACERS {
            assert_eq!(ending.soon(), (vec![], End::Reset));
        }
        running.soon();
        gate.open();
        assert_eq!(ending.soon().1, End::Orderly);
        assert!(running.try_recv().is_err(), "a second handler ran");

        let outcomes: Vec<_> = (0..RACERS).map(|_| server.outcomes.soon()).collect();
        let refused = outcomes.iter().filter(|outcome| {
            outcome.is_err() && cause(outcome) == Cause::Refused(Refusal::NotRegistered)
        });
        assert_eq!(refused.count(), RACERS - 1);
    }
}

fn once_is_once(server: Any, client: Any) {
    for (packet, handler, script) in [
        (put(Some(10)), vec![Do::ReadToEnd], vec![Do::Send(object(10))]),
        (get(Some(10)), vec![Do::Send(object(10))], vec![Do::ReadToEnd, Do::Commit]),
    ] {
        let (ran, running) = channel();
        let handler = [&[Do::Tell(ran)], &handler[..]].concat();
        let server = Server::start(server, Setup::new().on(Entry::exact(packet).once(), handler));
        let barrier = Arc::new(Barrier::new(RACERS));
        let (ended, ending) = channel();
        for _ in 0..RACERS {
            let (barrier, ended, script) = (Arc::clone(&barrier), ended.clone(), script.clone());
            let address = server.address;
            thread::spawn(move || {
                barrier.wait();
                let _the_scenario_is_over =
                    ended.send(client.client(address, packet, patient(), &script));
            });
        }
        let outcomes: Vec<_> = (0..RACERS).map(|_| ending.soon()).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(io::Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
        lost.iter().for_each(reset);
        running.soon();
        assert!(running.try_recv().is_err(), "a second handler ran");
    }
}

/// Once is over at the claim: a failed transfer does not bring it back.
fn once_is_over_when_it_fails(server: Any, client: Any) {
    let setup = Setup::new().on(Entry::exact(put(None)).once(), [Do::Fail]);
    let server = Server::start(server, setup);
    for expected in ["aborted", "refused"] {
        let script = [Do::Send(object(10))];
        reset(&client.client(server.address, put(None), patient(), &script));
        let reported = server.outcomes.soon().unwrap_err().to_string();
        assert!(reported.contains(expected), "{reported}");
    }
}

fn until_delivered_can_be_repeated(server: Any, client: Any) {
    let entry = Entry::exact(get(None)).until_delivered();
    let server = Server::start(server, Setup::new().on(entry, [Do::Send(object(10))]));
    let fetch = |script: &[Do]| client.client(server.address, get(None), patient(), script);
    for _ in 0..2 {
        fetch(&[Do::ReadToEnd]).unwrap(); // without a commit
        reset(&server.outcomes.soon());
    }
    assert_eq!(fetch(&[Do::ReadToEnd, Do::Commit]).unwrap().bytes, object(10));
    server.outcomes.soon().unwrap();
    reset(&fetch(&[Do::ReadToEnd, Do::Commit]));
    assert_eq!(cause(&server.outcomes.soon()), Cause::Refused(Refusal::NotRegistered));
}

/// Whoever sees a failure may come again at once.
fn until_delivered_is_free_before_the_peer_knows(server: Any, client: Any) {
    let entry = |packet| Entry::exact(packet).until_delivered();
    let (ran, running) = channel();
    let failing = [Do::Tell(ran.clone()), Do::Read(5), Do::Fail];
    let panicking = [Do::Tell(ran), Do::Panic];
    let setup = Setup::new().on(entry(put(Some(10))), failing).on(entry(get(None)), panicking);
    let server = Server::start(server, setup);
    for _ in 0..100 {
        let script = [Do::Send(object(10))];
        reset(&client.client(server.address, put(Some(10)), patient(), &script));
        running.soon();
        let script = [Do::ReadToEnd];
        reset(&client.client(server.address, get(None), patient(), &script));
        running.soon(); // refused, it would not have run
    }
}

fn until_delivered_put(server: Any, client: Any) {
    let (stored, storing) = channel();
    let entry = Entry::any_size(put(None), 100).until_delivered();
    let setup = Setup::new().on(entry, [Do::ReadToEnd, Do::Tell(stored)]);
    let server = Server::start(server, setup);
    let attempt = |script: &[Do]| client.client(server.address, put(Some(10)), patient(), script);
    for _ in 0..2 {
        attempt(&[Do::Write(object(9)), Do::Finish]).unwrap_err();
        server.outcomes.soon().unwrap_err();
    }
    attempt(&[Do::Send(object(10))]).unwrap();
    server.outcomes.soon().unwrap();
    assert_eq!(storing.soon(), object(10));
    reset(&attempt(&[Do::Send(object(10))]));
    assert!(storing.try_recv().is_err());
}

fn until_delivered_is_for_one_at_a_time(server: Any, client: Any) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let entry = Entry::exact(put(None)).until_delivered();
    let script = [Do::Tell(ran), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(entry, script));
    let address = server.address;
    let first =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    running.soon();
    reset(&client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    assert_eq!(cause(&server.outcomes.soon()), Cause::Refused(Refusal::InUse));
    gate.open();
    first.soon().unwrap();
    server.outcomes.soon().unwrap();
}

fn standing_is_for_any_number(server: Any, client: Any) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(ran), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting: Vec<mpsc::Receiver<_>> = (0..8)
        .map(|_| {
            spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]))
        })
        .collect();
    (0..8).for_each(|_| drop(running.soon())); // at once
    gate.open();
    for putting in putting {
        putting.soon().unwrap();
    }
}

fn expired_is_refused(server: Any, client: Any) {
    let entry = Entry::exact(put(None)).expires(after(Duration::ZERO));
    let server = Server::start(server, Setup::new().on(entry, [Do::ReadToEnd]));
    let attempt = |script: &[Do]| client.client(server.address, put(None), patient(), script);
    reset(&attempt(&[Do::Send(object(10))]));
    assert_eq!(cause(&server.outcomes.soon()), Cause::Refused(Refusal::NotRegistered));
    // There is room for another one now.
    let entry = Entry::exact(put(None)).expires(after(Duration::from_secs(600)));
    server.add(entry, [Do::ReadToEnd]).unwrap();
    attempt(&[Do::Send(object(10))]).unwrap();
}

/// Neither the end of an entry nor its removal ends what it has begun.
fn what_has_begun_goes_on(server: Any, client: Any) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(ran), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    running.soon();
    assert!(server.remove(put(None)));
    assert!(!server.remove(put(None)));
    reset(&client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    gate.open();
    putting.soon().unwrap();
}

fn entries_are_checked(server: Any) {
    let server = Server::start(server, Setup::new().on(put(None), []).on(get(None), []));
    let add = |direction, packet| server.running().add(direction, Entry::exact(packet), vec![]);
    assert!(matches!(add(Direction::Put, put(None)), Err(Error::AlreadyRegistered(_))));
    assert!(matches!(add(Direction::Get, get(None)), Err(Error::AlreadyRegistered(_))));
    assert!(matches!(add(Direction::Put, get(Some(1))), Err(Error::Direction { .. })));
    assert!(matches!(add(Direction::Get, put(Some(1))), Err(Error::Direction { .. })));
    assert!(add(Direction::Put, put(Some(1))).is_ok());
}

fn sizes_find_their_entry(server: Any, client: Any) {
    let setup = Setup::new()
        .on(get(Some(5)), [Do::Send(object(5))])
        .on(Entry::any_size(get(None), 100), [Do::Send(object(6))]);
    let server = Server::start(server, setup);
    let script = [Do::ReadToEnd, Do::Commit];
    for (declared, size) in [(Some(5), 5), (Some(6), 6), (None, 6)] {
        let got = client.client(server.address, get(declared), patient(), &script).unwrap();
        assert_eq!(got.bytes, object(size));
    }
}

servers!(once_is_once_for_raw_clients, entries_are_checked);
pairs!(
    once_is_once,
    once_is_over_when_it_fails,
    until_delivered_can_be_repeated,
    until_delivered_is_free_before_the_peer_knows,
    until_delivered_put,
    until_delivered_is_for_one_at_a_time,
    standing_is_for_any_number,
    expired_is_refused,
    what_has_begun_goes_on,
    sizes_find_their_entry,
);
