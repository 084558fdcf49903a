//! *Soak*: traffic of every kind, good and bad, for as long as it takes to see that nothing grows.
//!
//! The long version takes `SOAK_SECONDS`, or an hour.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use dataserver_core::{Key, StartPacket};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{
    Any, Do, End, Process, Raw, Smol, Std, kernel, object, patient, reset, servers, start,
    start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// How many do what there is to do, at a time.
const BUSY: usize = 16;
/// And how many wait for a timeout.
const SILENT: usize = 4;

/// How often the memory is looked at in each quarter of the time.
const SAMPLES: u32 = 20;

/// The median of the last quarter may be above that of the second by so many KiB: what some threads more
/// touch of their stacks.
const MARGIN: u64 = 1024;

/// And at rest there may be so many bytes more on the heap than in the beginning, however many
/// connections there were: async tables and queues keep the room that they once had.
const KEPT: u64 = 32 << 10;

/// In seconds, the program still touches its memory for the first time here and there: only what is on
/// the heap can be told.
fn nothing_grows(server: Any) {
    soak(server, Duration::from_secs(8));
}

fn nothing_grows_in_an_hour(server: Any) {
    let seconds = env::var("SOAK_SECONDS").map_or(3600, |n| n.parse().expect("a number"));
    for (whose, quarters) in soak(server, Duration::from_secs(seconds)) {
        assert!(quarters[3] <= quarters[1] + MARGIN, "{whose}: it grows: {quarters:?}");
    }
}

/// What was resident of whom, quarter by quarter.
fn soak(server: Any, time: Duration) -> [(&'static str, [u64; 4]); 2] {
    let (mut process, address) = Process::server(PROGRAM, server, &["impatient", "quiet"]);
    let before = process.at_rest();
    let done = AtomicU64::new(0);
    let end = Instant::now() + time;
    let quarters = thread::scope(|scope| {
        for n in 0..BUSY {
            let client: Any = if n % 2 == 0 { &Std } else { &Smol };
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
    let after = process.at_rest();
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

/// The medians of what the server and the clients have resident in this time.
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

/// One of all there is to do, and what must come of it.
fn transfer(client: Any, address: SocketAddr, turn: usize) {
    let put = |name| StartPacket::put(Key::from_name(name));
    let get = |name| StartPacket::get(Key::from_name(name));
    let wire = |kind, size, name| start_for(kind, size, Key::from_name(name));
    let run = |packet, script: &[Do]| client.client(address, packet, patient(), script);
    let (send, fetch) = ([Do::Send(object(1000))], [Do::ReadToEnd, Do::Commit]);
    let begun = [wire(0, 100, entry::PUT), object(50)].concat();
    match turn % 12 {
        0 => drop(run(put(entry::PUT).with_size(1000).expect("a size"), &send).expect("a put")),
        1 => drop(run(put(entry::PUT), &[Do::Send(object(100_000))]).expect("a long put")),
        2 => drop(run(get(entry::GET), &fetch).expect("a get")),
        3 => drop(run(get(entry::GET), &[Do::ReadToEnd]).expect("a get without a receipt")),
        4 => reset(&run(put("nobody knows"), &send)),
        5 => reset(&run(put(entry::PANICKING_PUT), &send)),
        6 => reset(&run(get(entry::PANICKING_GET), &fetch)),
        7 => reset(&run(put(entry::FULL_DISK_PUT), &send)),
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

/// In the start packet, behind it, or in the object.
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
