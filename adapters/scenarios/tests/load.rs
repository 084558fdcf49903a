//! *Load*: what is too much for now is delayed, and what goes wrong in one place stays there.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Key, StartPacket};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{
    Any, Do, End, Gate, Process, Raw, Server, Setup, Soon, get, kernel, object, pairs, patient,
    put, reset, servers, spawn, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// Eight clients and room for two, who are let out one by one: each makes room for one more.
fn limit_delays_and_loses_nobody(server: Any) {
    let key = |n: u8| Key::new([n; 16]);
    let gates: Vec<_> = (0..8).map(|_| Gate::new()).collect();
    let (entered, entering) = channel();
    let mut setup = Setup::new().max_connections(2);
    for (n, gate) in (0..8).zip(&gates) {
        let script =
            [Do::Read(1), Do::Tell(entered.clone()), Do::Wait(gate.clone()), Do::ReadToEnd];
        setup = setup.on(StartPacket::put(key(n)), script);
    }
    let server = Server::start(server, setup);
    let mut clients: Vec<_> = (0..8)
        .map(|n| {
            let packet = start_for(0, -1, key(n));
            let mut client = Raw::client(server.address, &[&packet[..], &[n, n]].concat());
            client.half_close();
            client
        })
        .collect();

    let mut inside = vec![entering.soon()[0], entering.soon()[0]];
    for out in 1..=8 {
        assert!(entering.try_recv().is_err(), "more than two at once");
        let leaving = usize::from(inside.remove(0));
        gates[leaving].open();
        assert_eq!(clients[leaving].end(), End::Orderly);
        server.outcomes.soon().unwrap();
        if out <= 6 {
            inside.push(entering.soon()[0]);
        }
    }
}

/// The same with clients that wait for their turn, of which none gives up.
fn clients_wait_for_their_turn(server: Any, client: Any) {
    let bytes = object(1000);
    let setup = Setup::new()
        .max_connections(2)
        .on(put(None), [Do::ReadToEnd])
        .on(get(None), [Do::Send(bytes.clone())]);
    let server = Server::start(server, setup);
    all_succeed(client, &server, &bytes);
}

fn many_at_once(server: Any, client: Any) {
    let bytes = object(1000);
    let setup =
        Setup::new().on(put(None), [Do::ReadToEnd]).on(get(None), [Do::Send(bytes.clone())]);
    let server = Server::start(server, setup);
    all_succeed(client, &server, &bytes);
}

/// 100 puts and 100 gets, from as many threads.
fn all_succeed(client: Any, server: &Server, bytes: &[u8]) {
    let address = server.address;
    let transfers: Vec<_> = (0..200)
        .map(|n| {
            let bytes = bytes.to_vec();
            spawn(move || {
                if n % 2 == 0 {
                    let outcome = client.client(address, put(None), patient(), &[Do::Send(bytes)]);
                    assert_eq!(outcome.unwrap().receipt.unwrap().bytes, 1000);
                } else {
                    let script = [Do::ReadToEnd, Do::Commit];
                    let outcome = client.client(address, get(None), patient(), &script);
                    assert_eq!(outcome.unwrap().bytes, bytes);
                }
            })
        })
        .collect();
    transfers.iter().for_each(Soon::soon);
    for _ in 0..200 {
        server.outcomes.soon().unwrap();
    }
}

fn panic_stays_in_its_connection(server: Any, client: Any) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let setup = Setup::new()
        .max_connections(2) // so that a place that is lost is missed
        .on(put(Some(10)), [Do::Read(5), Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd])
        .on(put(None), [Do::Read(5), Do::Panic])
        .on(get(None), [Do::Write(object(5)), Do::Panic])
        .on(get(Some(10)), [Do::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let attempt = |packet, script: &[Do]| client.client(address, packet, patient(), script);

    let putting =
        spawn(move || client.client(address, put(Some(10)), patient(), &[Do::Send(object(10))]));
    beginning.soon();
    for _ in 0..5 {
        reset(&attempt(put(None), &[Do::Send(object(10))]));
        reset(&attempt(get(None), &[Do::ReadToEnd, Do::Commit]));
    }
    let got = attempt(get(Some(10)), &[Do::ReadToEnd, Do::Commit]).unwrap();
    assert_eq!(got.bytes, object(10));
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
    server.stop(Duration::ZERO);
    server.ends();
}

/// Nor does the program's log: what panics there has ended already.
fn panic_of_the_report_costs_nothing(server: Any, client: Any) {
    let setup = Setup::new()
        .max_connections(1)
        .on(put(None), [Do::ReadToEnd])
        .on(get(None), [Do::Fail])
        .report(|_| panic!("as the scenario says"));
    let server = Server::start(server, setup);
    for _ in 0..3 {
        let script = [Do::Send(object(10))];
        client.client(server.address, put(None), patient(), &script).unwrap();
        reset(&client.client(server.address, get(None), patient(), &[Do::ReadToEnd]));
    }
    server.stop(Duration::ZERO);
    server.ends();
}

const NO_DESCRIPTOR: &str = "failed cannot take a connection for now: ";

/// More clients than a process of its own has descriptors for: they wait, it neither spins nor fills
/// the log, and it serves them all when there are descriptors again.
fn descriptors_run_out(server: Any) {
    let (process, address) = Process::server(PROGRAM, server, &["descriptors=5"]);
    let mut clients = many(address);
    process.told(NO_DESCRIPTOR);

    let before = kernel::cpu_time(process.id());
    thread::sleep(Duration::from_millis(500)); // to watch what it does meanwhile
    let spent = kernel::cpu_time(process.id()) - before;
    assert!(spent < 10, "{spent} hundredths of a second of 50 were spent on nothing");
    let logged = process.more().into_iter().filter(|line| line.starts_with("failed"));
    assert_eq!(logged.collect::<Vec<_>>(), Vec::<String>::new(), "it was said once");

    for client in &mut clients {
        client.half_close();
    }
    for client in &mut clients {
        assert_eq!(client.end(), End::Orderly);
    }
    drop(clients);
    for mut client in many(address) {
        client.half_close(); // one at a time, so there is a descriptor for each
        assert_eq!(client.end(), End::Orderly);
    }
    let logged = process.more().into_iter().filter(|line| line.starts_with("failed"));
    assert!(logged.count() <= 40, "more often than there were connections");
}

/// A program whose log fails at that very moment goes on all the same.
fn panic_of_the_report_when_descriptors_run_out(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &["descriptors=5", "panic"]);
    let mut clients = many(address);
    process.told(NO_DESCRIPTOR);
    for client in &mut clients {
        client.half_close();
    }
    for client in &mut clients {
        assert_eq!(client.end(), End::Orderly);
    }
    process.say("stop 0");
    process.say("end");
    process.told("after ");
}

/// 20 puts that have begun.
fn many(address: SocketAddr) -> Vec<Raw> {
    let packet = start_for(0, -1, Key::from_name(entry::PUT));
    let bytes = [packet, object(10)].concat();
    (0..20).map(|_| Raw::client(address, &bytes)).collect()
}

servers!(
    limit_delays_and_loses_nobody,
    descriptors_run_out,
    panic_of_the_report_when_descriptors_run_out,
);
pairs!(
    clients_wait_for_their_turn,
    many_at_once,
    panic_stays_in_its_connection,
    panic_of_the_report_costs_nothing,
);
