//! What a claim from Redis costs, on loopback: `cargo bench -p dataserver-redis --bench claim`.
//!
//! - A claim against a bare EVALSHA round trip over a connection of the client: at most 1.3 times.
//! - Framed gets of 1 KiB with a ticket each, 64 at a time, against those from the registry in memory: at least
//!   0.8, or 0.9 of the EVALSHA that `redis-benchmark` gets from 64 connections, whichever is lower.
//!
//! Both sides of a ratio are measured in turns. The lines give the median of the rounds, the lowest and the highest.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Key, StartPacket};
use dataserver_redis::{Ticket, TicketStore};
use dataserver_std::{Client, Entry, Request, Server, TicketObject};
use redis::ConnectionLike;
use support::Redis;

const ROUNDS: usize = 9;
const CLAIMS: usize = 5_000;
const CLIENTS: usize = 64;
const GETS: usize = 6_400;
const OBJECT: [u8; 1024] = [7; 1024];

/// The same work for a script that does nothing.
const NOTHING: &str = "return {'once', '', ''}";

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // `cargo test` only builds it
    }
    // Without a file: the cost of the disk is that of the policy of the operator.
    let redis = Redis::start_with(&["--appendonly", "no"]);
    claims(&redis);
    gets(&redis);
}

fn claims(redis: &Redis) {
    let tickets = redis.tickets();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut bare = client.get_connection().unwrap();
    let digest: String = redis::cmd("SCRIPT").arg("LOAD").arg(NOTHING).query(&mut bare).unwrap();
    let (mut claims, mut calls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..CLAIMS).map(|number| key(round, number)).collect();
        keys.iter().for_each(|key| tickets.issue(&Ticket::get(*key)).unwrap());
        // In turns, so that both meet the same load, and each by its median, which a preemption leaves alone.
        let (mut of_claims, mut of_calls) = (Vec::new(), Vec::new());
        for key in &keys {
            let packet = StartPacket::get(*key).framed();
            of_claims.push(measure(|| drop(tickets.claim(&packet, None).unwrap())));
            of_calls.push(measure(|| {
                let mut command = redis::cmd("EVALSHA");
                command.arg(&digest).arg(1).arg(format!("dataserver:get:{key}"));
                command.arg("").arg("").arg("00000000000000000000000000000000").arg("1000");
                bare.req_command(&command).unwrap();
            }));
        }
        let (claim, call) = (median(&mut of_claims), median(&mut of_calls));
        claims.push(claim * 1e6);
        calls.push(call * 1e6);
        ratios.push(claim / call);
    }
    report("a claim (µs)", &mut claims);
    report("a bare EVALSHA (µs)", &mut calls);
    report("claim / bare EVALSHA (at most 1.3)", &mut ratios);
}

fn gets(redis: &Redis) {
    let tickets = redis.tickets();
    let server = Server::bind("127.0.0.1:0").unwrap();
    server.on_tickets(tickets.clone(), |object, _| match object {
        TicketObject::Get(object) => object.send(&OBJECT),
        TicketObject::Put(object) => object.receive_to("/dev/null"),
    });
    let in_memory = dataserver_std::Handlers::new();
    let memory = Server::bind("127.0.0.1:0").unwrap().handlers(in_memory.clone());
    let addresses = (server.local_addr(), memory.local_addr());
    thread::spawn(move || server.run());
    thread::spawn(move || memory.run());

    let [mut scripts, mut shared, mut local, mut of_local, mut of_scripts] =
        [(); 5].map(|()| Vec::new());
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..GETS).map(|number| key(100 + round, number)).collect();
        for key in &keys {
            tickets.issue(&Ticket::get(*key)).unwrap();
            in_memory.on_get(Entry::new(*key).once(), |object| object.send(&OBJECT)).unwrap();
        }
        let script = redis_benchmark(redis);
        let from_redis = GETS as f64 / measure(|| get_all(addresses.0, &keys));
        let from_memory = GETS as f64 / measure(|| get_all(addresses.1, &keys));
        scripts.push(script);
        shared.push(from_redis);
        local.push(from_memory);
        of_local.push(from_redis / from_memory);
        of_scripts.push(from_redis / script);
    }
    report("gets with tickets of Redis (1/s)", &mut shared);
    report("gets with entries in memory (1/s)", &mut local);
    report("EVALSHA of redis-benchmark (1/s)", &mut scripts);
    report("Redis / memory (at least 0.8, or the next)", &mut of_local);
    report("Redis / redis-benchmark (at least 0.9)", &mut of_scripts);
}

/// Gets these objects, each once, by clients that have a session each.
fn get_all(address: std::net::SocketAddr, keys: &[Key]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut session = Client::new(address).unwrap().session();
                let mut buffer = Vec::with_capacity(OBJECT.len());
                while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    buffer.clear();
                    let mut object = session.get(Request::new(*key)).unwrap();
                    object.read_to_end(&mut buffer).unwrap();
                    object.commit().unwrap();
                    assert_eq!(buffer, OBJECT);
                }
            });
        }
    });
}

/// EVALSHA calls per second over as many connections, without pipelining.
fn redis_benchmark(redis: &Redis) -> f64 {
    let digest = redis.cli(&["SCRIPT", "LOAD", NOTHING]);
    let mut command = Command::new("redis-benchmark");
    command.args([
        "-p",
        &redis.port.to_string(),
        "-c",
        &CLIENTS.to_string(),
        "-n",
        "50000",
        "--csv",
    ]);
    let output = command.args(["EVALSHA", &digest, "1", "key"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("EVALSHA")).expect("a line for EVALSHA");
    let field = line.rsplit("\",\"").nth(6).expect("requests per second");
    field.trim_matches('"').parse().unwrap()
}

fn key(round: usize, number: usize) -> Key {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&round.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    Key::from_bytes(bytes)
}

/// How many seconds it takes.
fn measure(run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(what: &str, values: &mut [f64]) {
    let median = median(values);
    let (low, high) = (values[0], values[values.len() - 1]);
    println!("{what:<45} {median:>10.2}   ({low:.2} to {high:.2})");
}
