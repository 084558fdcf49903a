//! Idle connections do not starve active clients and leak nothing.
//!
//! The server is a process of its own, and so are the idle clients.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Key, StartPacket};
use dataserver_tests::process::entry;
use dataserver_tests::{DynAdapter, IdleFlood, Op, Process, kernel, long_timeouts, pairs, servers};
use rustix::process::setpriority_process;

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// The number of active clients.
const ACTIVE: usize = 64;
const OBJECT: usize = 64 << 10;

/// Enough connections for all clients.
const MANY_CONNECTIONS: &str = "connections=16384";

/// The duration of a measurement.
const PHASE: Duration = Duration::from_secs(8);

/// How many more bytes a server may hold after a second flood than after the first. The size of the
/// heap varies, since async tables and queues keep their capacity.
const MARGIN: u64 = 160 << 10;

/// The results of 64 clients that put and get objects in a loop.
struct ActiveClients {
    rounds: usize,
    failures: Vec<io::Error>,
    longest: Duration,
    took: Duration,
}

impl ActiveClients {
    fn work(client: DynAdapter, address: SocketAddr, go_on: fn(usize, Instant) -> bool) -> Self {
        let begun = Instant::now();
        let work = || {
            // Otherwise the idle clients do not get enough CPU time to connect.
            setpriority_process(None, 10).expect("a lower priority");
            let mut done = Vec::new();
            while go_on(done.len(), begun) {
                let before = Instant::now();
                let outcome = round(client, address);
                done.push((outcome, before.elapsed()));
            }
            done
        };
        let done: Vec<_> = thread::scope(|scope| {
            let working: Vec<_> = (0..ACTIVE).map(|_| scope.spawn(work)).collect();
            working.into_iter().flat_map(|work| work.join().expect("no panic")).collect()
        });
        let longest = done.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let rounds = done.iter().filter(|(outcome, _)| outcome.is_ok()).count();
        let failures = done.into_iter().filter_map(|(outcome, _)| outcome.err()).collect();
        Self { rounds, failures, longest, took: begun.elapsed() }
    }

    fn rate(&self) -> f64 {
        self.rounds as f64 / self.took.as_secs_f64()
    }

    fn show(&self, what: &str) {
        let (rate, longest, failures) = (self.rate(), self.longest, self.failures.len());
        println!("{what}: {rate:.0} rounds a second, {failures} failed, the longest {longest:.1?}");
    }
}

fn round(client: DynAdapter, address: SocketAddr) -> io::Result<()> {
    let packet = StartPacket::put(Key::from_name(entry::PUT)).with_size(OBJECT as u64).unwrap();
    let put = client.client(address, packet, long_timeouts(), &[Op::Send(vec![7; OBJECT])])?;
    assert_eq!(put.receipt.unwrap().bytes, OBJECT as u64);
    let packet = StartPacket::get(Key::from_name(entry::GET));
    let got = client.client(address, packet, long_timeouts(), &[Op::ReadToEnd, Op::Commit])?;
    assert_eq!(got.receipt.unwrap().bytes, 1000);
    Ok(())
}

fn ten_rounds(done: usize, _: Instant) -> bool {
    done < 10
}

fn one_phase(_: usize, begun: Instant) -> bool {
    begun.elapsed() < PHASE
}

fn active_clients_are_served(server: DynAdapter, client: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &[MANY_CONNECTIONS, "quiet"]);
    let [first, second] = [(); 2].map(|()| {
        let flood = IdleFlood::start(PROGRAM, address, 1000, 200);
        flood.wait_until_connected();
        let active = ActiveClients::work(client, address, ten_rounds);
        assert_eq!(active.rounds, 10 * ACTIVE, "{:?}", active.failures);
        drop(flood);
        process.heap_without_connections()
    });
    assert!(
        second <= first + MARGIN,
        "{first} bytes after the first flood, {second} after the second"
    );
}

/// 10,000 silent and 2,000 slow clients, with a server whose timeouts do not run out.
fn twelve_thousand_idle_clients(server: DynAdapter) {
    measure_twelve_thousand(server, &[MANY_CONNECTIONS, "quiet"]);
}

/// The same with the default timeouts: the server disconnects the clients repeatedly, and they connect
/// again at once.
fn twelve_thousand_idle_clients_that_reconnect(server: DynAdapter) {
    measure_twelve_thousand(server, &[MANY_CONNECTIONS, "default-config", "quiet"]);
}

fn measure_twelve_thousand(server: DynAdapter, options: &[&str]) {
    println!("-- {} server and clients, {options:?}", server.name());
    let (mut process, address) = Process::server(PROGRAM, server, options);
    let alone = ActiveClients::work(server, address, one_phase);
    alone.show("alone");
    let untouched = process.heap_without_connections();
    let start_flood = || {
        let flood = IdleFlood::start(PROGRAM, address, 10_000, 2_000);
        flood.wait_until_connected();
        flood
    };
    drop(start_flood());
    let first = process.heap_without_connections();

    let flood = start_flood();
    let cpu = || [process.id(), flood.id()].map(kernel::cpu_time);
    let cpu_before = cpu();
    let beside = ActiveClients::work(server, address, one_phase);
    beside.show("beside 12,000");
    let [ours, theirs] = cpu();
    let share = |spent| spent as f64 / 100.0 / beside.took.as_secs_f64();
    println!(
        "CPU usage: {:.2} by the server, {:.2} by the idle clients",
        share(ours - cpu_before[0]),
        share(theirs - cpu_before[1])
    );
    let (meanwhile, threads) = kernel::resident_and_threads(process.id());
    drop(flood);
    let second = process.heap_without_connections();
    let again = ActiveClients::work(server, address, one_phase);
    again.show("alone again");

    let ratio = 2.0 * beside.rate() / (alone.rate() + again.rate());
    println!("{ratio:.2} of the rate without idle clients");
    let resident = kernel::resident_and_threads(process.id()).0;
    println!("heap: {untouched} bytes before, {first} after one flood, {second} after two");
    println!("resident: {meanwhile} KiB and {threads} threads beside them, {resident} KiB after");
    assert!(beside.failures.is_empty(), "{:?}", beside.failures);
    assert!(second <= first + MARGIN, "memory was not released");
}

/// With the defaults, there may be fewer connections than idle clients. Measures how long active
/// clients wait then, and how many fail.
fn more_idle_clients_than_connections(server: DynAdapter) {
    for (silent, slow) in [(1_000, 200), (2_000, 400), (10_000, 2_000)] {
        println!("-- {} server and clients, all defaults, {silent} + {slow}", server.name());
        let (mut process, address) = Process::server(PROGRAM, server, &["default-config", "quiet"]);
        let flood = IdleFlood::start(PROGRAM, address, silent, slow);
        thread::sleep(PHASE); // until the idle clients have all connections
        let beside = ActiveClients::work(server, address, one_phase);
        beside.show("beside them");
        println!("first failure: {:?}", beside.failures.first());
        drop(flood);
        process.heap_without_connections();
        ActiveClients::work(server, address, one_phase).show("alone");
    }
}

pairs!(active_clients_are_served);
servers!(
    #[ignore = "long: half a minute, and 12,000 connections"]
    twelve_thousand_idle_clients,
    #[ignore = "long: half a minute, and 12,000 connections"]
    twelve_thousand_idle_clients_that_reconnect,
    #[ignore = "long: two minutes, and 12,000 connections"]
    more_idle_clients_than_connections,
);
