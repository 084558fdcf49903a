//! Traffic of every kind over a long time: memory, threads and descriptors do not grow.
//!
//! The long version takes `SOAK_SECONDS`, or an hour.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use dataserver_core::{Key, StartPacket};
use dataserver_tests::process::entry;
use dataserver_tests::{
    DynAdapter, End, Op, Process, Raw, Smol, Std, assert_reset, kernel, long_timeouts, object,
    servers, start, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// The number of busy clients.
const BUSY: usize = 16;
/// The number of clients that run into a timeout.
const SILENT: usize = 4;

/// The number of samples of the memory in each quarter of the time.
const SAMPLES: u32 = 20;

/// By how many KiB the median of the last quarter may exceed that of the second, for the stacks of
/// additional threads.
const MARGIN: u64 = 1024;

/// By how many bytes the heap may grow, whatever the number of connections. Async tables and queues
/// keep their capacity.
const KEPT: u64 = 32 << 10;

/// In a few seconds, the resident memory still grows by first use. Only the heap is checked.
fn nothing_grows(server: DynAdapter) {
    soak(server, Duration::from_secs(8));
}

fn nothing_grows_in_an_hour(server: DynAdapter) {
    let seconds = env::var("SOAK_SECONDS").map_or(3600, |n| n.parse().expect("a number"));
    for (whose, quarters) in soak(server, Duration::from_secs(seconds)) {
        assert!(
            quarters[3] <= quarters[1] + MARGIN,
            "the memory of the {whose} grows: {quarters:?}"
        );
    }
}

/// The resident memory of the server and of the clients, for each quarter.
fn soak(server: DynAdapter, time: Duration) -> [(&'static str, [u64; 4]); 2] {
    let (mut process, address) = Process::server(PROGRAM, server, &["default-config", "quiet"]);
    transfer(&Std::TCP, address, 2); // the server has set itself up when a get has succeeded
    let before = process.heap_without_connections();
    let done = AtomicU64::new(0);
    let end = Instant::now() + time;
    let quarters = thread::scope(|scope| {
        for n in 0..BUSY {
            let client: DynAdapter = if n % 2 == 0 { &Std::TCP } else { &Smol::TCP };
            let done = &done;
            scope.spawn(move || {
                for turn in n.. {
                    transfer(client, address, turn);
                    done.fetch_add(1, Ordering::Relaxed);
                    if Instant::now() >= end {
                        break;
                    }
                }
            });
        }
        for n in 0..SILENT {
            scope.spawn(move || {
                while Instant::now() < end {
                    times_out(address, n);
                }
            });
        }
        [(); 4].map(|()| sampled(&process, time / 4))
    });
    let after = process.heap_without_connections();
    println!("{}: {} connections in {time:?}", server.name(), done.into_inner());
    println!("heap at rest, in bytes: {before} before, {after} after");
    assert!(after <= before + KEPT, "{before} bytes before, {after} after");
    let resident = [
        ("server", quarters.map(|(server, _)| server)),
        ("clients", quarters.map(|(_, clients)| clients)),
    ];
    for (whose, quarters) in resident {
        println!("resident, {whose}, in KiB, median of each quarter: {quarters:?}");
    }
    resident
}

/// The medians of the resident memory of the server and of the clients.
fn sampled(server: &Process, time: Duration) -> (u64, u64) {
    let samples = [(); SAMPLES as usize].map(|()| {
        thread::sleep(time / SAMPLES);
        [server.id(), process::id()].map(|process| kernel::resident_and_threads(process).0)
    });
    let median = |whose: usize| {
        let mut samples = samples.map(|sample| sample[whose]);
        samples.sort_unstable();
        samples[samples.len() / 2]
    };
    (median(0), median(1))
}

/// Runs one of the kinds of transfers, and checks its result.
fn transfer(client: DynAdapter, address: SocketAddr, turn: usize) {
    let put = |name| StartPacket::put(Key::from_name(name));
    let get = |name| StartPacket::get(Key::from_name(name));
    let wire = |kind, size, name| start_for(kind, size, Key::from_name(name));
    let run = |packet, script: &[Op]| client.client(address, packet, long_timeouts(), script);
    let (send, fetch) = ([Op::Send(object(1000))], [Op::ReadToEnd, Op::Commit]);
    let begun = [wire(0, 100, entry::PUT), object(50)].concat();
    match turn % 12 {
        0 => drop(run(put(entry::PUT).with_size(1000).expect("a size"), &send).expect("a put")),
        1 => drop(run(put(entry::PUT), &[Op::Send(object(100_000))]).expect("a long put")),
        2 => drop(run(get(entry::GET), &fetch).expect("a get")),
        3 => drop(run(get(entry::GET), &[Op::ReadToEnd]).expect("a get without a receipt")),
        4 => assert_reset(&run(put("not registered"), &send)),
        5 => assert_reset(&run(put(entry::PANICKING_PUT), &send)),
        6 => assert_reset(&run(get(entry::PANICKING_GET), &fetch)),
        7 => assert_reset(&run(put(entry::FULL_DISK_PUT), &send)),
        8 => assert_eq!(Raw::client(address, &start(2, 10)).end(), End::Reset),
        9 => {
            let mut truncated = Raw::client(address, &begun);
            truncated.half_close();
            assert_eq!(truncated.end(), End::Reset);
        }
        10 => Raw::client(address, &begun).reset(),
        _ => drop(Raw::client(address, &begun[..24])),
    }
}

/// During the start packet, after it, or during the object.
fn times_out(address: SocketAddr, turn: usize) {
    let bytes = [start_for(0, 100, Key::from_name(entry::PUT)), object(50)].concat();
    let silent = Raw::client(address, &bytes[..[0, 24, 25, 50][turn]]);
    silent.wait_for_reset();
}

servers!(
    nothing_grows,
    #[ignore = "long: SOAK_SECONDS, or an hour"]
    nothing_grows_in_an_hour,
);
