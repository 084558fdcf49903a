//! *Crowd*: thousands who want nothing do not keep out those who do, and leave nothing behind.
//!
//! The server is a process of its own, and so is the crowd.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Key, StartPacket};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{Any, Crowd, Do, Process, kernel, pairs, patient, servers};
use rustix::process::setpriority_process;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// Those who want something, at a time.
const HONEST: usize = 64;
const OBJECT: usize = 64 << 10;

/// Places for all, as who expects a crowd would have them.
const ROOM: &str = "connections=16384";

/// How long to measure at a time.
const PHASE: Duration = Duration::from_secs(8);

/// How many more bytes a server may hold when a second crowd has gone than after the first. It goes up
/// and down by some of that: async tables and queues keep the room that they once had.
const MARGIN: u64 = 160 << 10;

/// What came of 64 who put an object and get another, again and again.
struct Honest {
    rounds: usize,
    failures: Vec<io::Error>,
    longest: Duration,
    took: Duration,
}

impl Honest {
    fn work(client: Any, address: SocketAddr, go_on: fn(usize, Instant) -> bool) -> Self {
        let begun = Instant::now();
        let work = || {
            // Or else the crowd would not get the time that it needs to be one.
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
            let working: Vec<_> = (0..HONEST).map(|_| scope.spawn(work)).collect();
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

fn round(client: Any, address: SocketAddr) -> io::Result<()> {
    let packet = StartPacket::put(Key::from_name(entry::PUT)).with_size(OBJECT as u64).unwrap();
    let put = client.client(address, packet, patient(), &[Do::Send(vec![7; OBJECT])])?;
    assert_eq!(put.receipt.unwrap().bytes, OBJECT as u64);
    let packet = StartPacket::get(Key::from_name(entry::GET));
    let got = client.client(address, packet, patient(), &[Do::ReadToEnd, Do::Commit])?;
    assert_eq!(got.receipt.unwrap().bytes, 1000);
    Ok(())
}

fn ten_rounds(done: usize, _: Instant) -> bool {
    done < 10
}

fn one_phase(_: usize, begun: Instant) -> bool {
    begun.elapsed() < PHASE
}

fn nobody_is_kept_out(server: Any, client: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &[ROOM, "quiet"]);
    let [first, second] = [(); 2].map(|()| {
        let crowd = Crowd::gather(PROGRAM, address, 1000, 200);
        crowd.is_there();
        let honest = Honest::work(client, address, ten_rounds);
        assert_eq!(honest.rounds, 10 * HONEST, "{:?}", honest.failures);
        drop(crowd);
        process.at_rest()
    });
    assert!(
        second <= first + MARGIN,
        "{first} bytes after the first crowd, {second} after another"
    );
}

/// 10,000 and 2,000, with a server so patient that it drops nobody.
fn twelve_thousand_stay(server: Any) {
    twelve_thousand(server, &[ROOM, "quiet"]);
}

/// The same with the timeouts that a server has: it drops them all again and again, and they come
/// again at once.
fn twelve_thousand_come_again(server: Any) {
    twelve_thousand(server, &[ROOM, "impatient", "quiet"]);
}

fn twelve_thousand(server: Any, options: &[&str]) {
    println!("-- {} server and clients, {options:?}", server.name());
    let (mut process, address) = Process::server(PROGRAM, server, options);
    let alone = Honest::work(server, address, one_phase);
    alone.show("alone");
    let untouched = process.at_rest();
    let gather = || {
        let crowd = Crowd::gather(PROGRAM, address, 10_000, 2_000);
        crowd.is_there();
        crowd
    };
    drop(gather());
    let first = process.at_rest();

    let crowd = gather();
    let cpu = || [process.id(), crowd.id()].map(kernel::cpu_time);
    let cpu_before = cpu();
    let beside = Honest::work(server, address, one_phase);
    beside.show("beside 12,000");
    let [ours, theirs] = cpu();
    let share = |spent| spent as f64 / 100.0 / beside.took.as_secs_f64();
    println!(
        "meanwhile, the server took {:.2} of a processor, and the crowd itself {:.2}",
        share(ours - cpu_before[0]),
        share(theirs - cpu_before[1])
    );
    let (meanwhile, threads) = kernel::resident_and_threads(process.id());
    drop(crowd);
    let second = process.at_rest();
    let again = Honest::work(server, address, one_phase);
    again.show("alone again");

    let ratio = 2.0 * beside.rate() / (alone.rate() + again.rate());
    println!("{ratio:.2} of the undisturbed rate");
    let resident = kernel::resident_and_threads(process.id()).0;
    println!("heap: {untouched} bytes before, {first} after one crowd, {second} after two");
    println!("resident: {meanwhile} KiB and {threads} threads beside them, {resident} KiB after");
    assert!(beside.failures.is_empty(), "{:?}", beside.failures);
    assert!(second <= first + MARGIN, "memory is not back");
}

/// With all defaults there may be fewer places than the crowd has members: how long the honest wait
/// then, and how many of them in vain.
fn more_than_there_is_room_for(server: Any) {
    for (idle, dripping) in [(1_000, 200), (2_000, 400), (10_000, 2_000)] {
        println!("-- {} server and clients, all defaults, {idle} + {dripping}", server.name());
        let (mut process, address) = Process::server(PROGRAM, server, &["impatient", "quiet"]);
        let crowd = Crowd::gather(PROGRAM, address, idle, dripping);
        thread::sleep(PHASE); // so that it has taken what it can get
        let beside = Honest::work(server, address, one_phase);
        beside.show("beside them");
        println!("the first failure: {:?}", beside.failures.first());
        drop(crowd);
        process.at_rest();
        Honest::work(server, address, one_phase).show("alone");
    }
}

pairs!(nobody_is_kept_out);
servers!(
    #[ignore = "long: half a minute, and 12,000 connections"]
    twelve_thousand_stay,
    #[ignore = "long: half a minute, and 12,000 connections"]
    twelve_thousand_come_again,
    #[ignore = "long: two minutes, and 12,000 connections"]
    more_than_there_is_room_for,
);
