//! Load that exceeds a limit is delayed, and a failure does not affect other connections.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Key, StartPacket};
use dataserver_tests::process::entry;
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Process, Raw, Server, Setup, Wait, assert_reset, get, kernel,
    long_timeouts, object, pairs, put, servers, spawn, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// Eight clients and a limit of two connections. Each connection that ends makes room for one more.
fn limit_delays_connections_and_loses_none(server: DynAdapter) {
    let key = |n: u8| Key::from_bytes([n; 16]);
    let gates: Vec<_> = (0..8).map(|_| Gate::new()).collect();
    let (entered, entering) = channel();
    let mut setup = Setup::new().max_connections(2);
    for (n, gate) in (0..8).zip(&gates) {
        let script =
            [Op::Read(1), Op::Notify(entered.clone()), Op::Wait(gate.clone()), Op::ReadToEnd];
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

    let mut inside = vec![entering.wait()[0], entering.wait()[0]];
    for out in 1..=8 {
        assert!(entering.try_recv().is_err(), "more than two connections");
        let leaving = usize::from(inside.remove(0));
        gates[leaving].open();
        assert_eq!(clients[leaving].end(), End::Graceful);
        server.outcomes.wait().unwrap();
        if out <= 6 {
            inside.push(entering.wait()[0]);
        }
    }
}

/// The same with clients of an adapter, of which none fails.
fn clients_wait_for_a_free_connection(server: DynAdapter, client: DynAdapter) {
    let bytes = object(1000);
    let setup = Setup::new()
        .max_connections(2)
        .on(put(None), [Op::ReadToEnd])
        .on(get(None), [Op::Send(bytes.clone())]);
    let server = Server::start(server, setup);
    all_succeed(client, &server, &bytes);
}

fn many_at_once(server: DynAdapter, client: DynAdapter) {
    let bytes = object(1000);
    let setup =
        Setup::new().on(put(None), [Op::ReadToEnd]).on(get(None), [Op::Send(bytes.clone())]);
    let server = Server::start(server, setup);
    all_succeed(client, &server, &bytes);
}

/// 100 puts and 100 gets, each from a thread of its own.
fn all_succeed(client: DynAdapter, server: &Server, bytes: &[u8]) {
    let address = server.address;
    let transfers: Vec<_> = (0..200)
        .map(|n| {
            let bytes = bytes.to_vec();
            spawn(move || {
                if n % 2 == 0 {
                    let outcome =
                        client.client(address, put(None), long_timeouts(), &[Op::Send(bytes)]);
                    assert_eq!(outcome.unwrap().receipt.unwrap().bytes, 1000);
                } else {
                    let script = [Op::ReadToEnd, Op::Commit];
                    let outcome = client.client(address, get(None), long_timeouts(), &script);
                    assert_eq!(outcome.unwrap().bytes, bytes);
                }
            })
        })
        .collect();
    transfers.iter().for_each(Wait::wait);
    for _ in 0..200 {
        server.outcomes.wait().unwrap();
    }
}

fn panic_affects_one_connection(server: DynAdapter, client: DynAdapter) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let setup = Setup::new()
        .max_connections(2) // so that a leaked connection is noticed
        .on(put(Some(10)), [Op::Read(5), Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd])
        .on(put(None), [Op::Read(5), Op::Panic])
        .on(get(None), [Op::Write(object(5)), Op::Panic])
        .on(get(Some(10)), [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let attempt = |packet, script: &[Op]| client.client(address, packet, long_timeouts(), script);

    let putting = spawn(move || {
        client.client(address, put(Some(10)), long_timeouts(), &[Op::Send(object(10))])
    });
    beginning.wait();
    for _ in 0..5 {
        assert_reset(&attempt(put(None), &[Op::Send(object(10))]));
        assert_reset(&attempt(get(None), &[Op::ReadToEnd, Op::Commit]));
    }
    let got = attempt(get(Some(10)), &[Op::ReadToEnd, Op::Commit]).unwrap();
    assert_eq!(got.bytes, object(10));
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
    server.stop(Duration::ZERO);
    server.join();
}

/// A panic in a report affects no connection.
fn panic_of_the_report_affects_nothing(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new()
        .max_connections(1)
        .on(put(None), [Op::ReadToEnd])
        .on(get(None), [Op::Fail])
        .on_complete(|_| panic!("as the test says"));
    let server = Server::start(server, setup);
    for _ in 0..3 {
        let script = [Op::Send(object(10))];
        client.client(server.address, put(None), long_timeouts(), &script).unwrap();
        assert_reset(&client.client(server.address, get(None), long_timeouts(), &[Op::ReadToEnd]));
    }
    server.stop(Duration::ZERO);
    server.join();
}

const NO_DESCRIPTOR: &str = "failed cannot take a connection for now: ";

/// More clients than the process of the server has descriptors for: they wait, the server neither spins
/// nor fills the log, and it serves all of them when there are descriptors again.
fn descriptors_run_out(server: DynAdapter) {
    let (process, address) = Process::server(PROGRAM, server, &["descriptors=5"]);
    let mut clients = many(address);
    process.wait_for_line(NO_DESCRIPTOR);

    let before = kernel::cpu_time(process.id());
    thread::sleep(Duration::from_millis(500)); // the time under observation
    let spent = kernel::cpu_time(process.id()) - before;
    assert!(spent < 10, "{spent} of 50 hundredths of a second of CPU time");
    let logged = process.arrived_lines().into_iter().filter(|line| line.starts_with("failed"));
    assert_eq!(logged.collect::<Vec<_>>(), Vec::<String>::new(), "the error was reported again");

    for client in &mut clients {
        client.half_close();
    }
    for client in &mut clients {
        assert_eq!(client.end(), End::Graceful);
    }
    drop(clients);
    for mut client in many(address) {
        client.half_close(); // one at a time, so that there is a descriptor for each
        assert_eq!(client.end(), End::Graceful);
    }
    let logged = process.arrived_lines().into_iter().filter(|line| line.starts_with("failed"));
    assert!(logged.count() <= 40, "more errors than connections");
}

/// The server goes on if the report of that error panics.
fn panic_of_the_report_when_descriptors_run_out(server: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &["descriptors=5", "panic"]);
    let mut clients = many(address);
    process.wait_for_line(NO_DESCRIPTOR);
    for client in &mut clients {
        client.half_close();
    }
    for client in &mut clients {
        assert_eq!(client.end(), End::Graceful);
    }
    process.command("stop 0");
    process.command("end");
    process.wait_for_line("after ");
}

/// 20 puts that have begun.
fn many(address: SocketAddr) -> Vec<Raw> {
    let packet = start_for(0, -1, Key::from_name(entry::PUT));
    let bytes = [packet, object(10)].concat();
    (0..20).map(|_| Raw::client(address, &bytes)).collect()
}

servers!(
    limit_delays_connections_and_loses_none,
    descriptors_run_out,
    panic_of_the_report_when_descriptors_run_out,
);
pairs!(
    clients_wait_for_a_free_connection,
    many_at_once,
    panic_affects_one_connection,
    panic_of_the_report_affects_nothing,
);
