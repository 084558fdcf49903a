//! Very many idle connections, and a few that are busy: from another process, since each end costs
//! a descriptor. Nothing in here needs to be copied.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use dataserver_core::{Config, StartPacket, Timeouts, Timer};
use dataserver_examples::peers::{self, KEY};
use dataserver_std::Client;

use crate::driver::SLOT;

/// How many transfers run at once, half of them puts.
const BUSY: usize = 20;
const SIZE: usize = 16 << 20;

/// How many are done in all: the busy ones twice, and three puts between.
const TRANSFERS: usize = 2 * BUSY + 3;

/// Serves a crowd, and checks that nobody was lost: the busy are done, the idle are timed out.
pub(crate) fn watch(connections: usize) -> Result<(), Box<dyn Error>> {
    println!(
        "our server, {connections} idle connections, and {BUSY} busy ones; {SLOT} bytes each:"
    );
    // Long enough for all to come and for the busy ones to be done; short enough to watch.
    let start = Duration::from_secs(3) + Duration::from_millis(connections as u64);
    let config =
        Config { timeouts: Timeouts { start, ..Timeouts::default() }, ..Config::default() };
    let (address, outcomes) = super::start(config)?;

    let mut crowd = Command::new(env::current_exe()?)
        .args(["--crowd", &address.to_string(), "--connections", &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(crowd.stdout.take().ok_or("no pipe")?).lines();
    for line in lines {
        println!("  {}; resident: {} KiB", line?, resident_kib()?);
    }
    if !crowd.wait()?.success() {
        return Err("the crowd failed".into());
    }

    let (mut done, mut late) = (0, 0);
    for outcome in outcomes.iter().take(TRANSFERS + connections) {
        match outcome {
            Ok(_) => done += 1,
            Err(error) if error == Timer::Start.into() => late += 1,
            Err(error) => return Err(format!("a connection of the crowd: {error}").into()),
        }
    }
    println!("  the server: {done} transfers are done, and {late} start timeouts ran out");
    if (done, late) == (TRANSFERS, connections) {
        return Ok(());
    }
    Err(format!("expected {TRANSFERS} and {connections}").into())
}

/// The crowd itself, in its own process. Each line that it prints is watched.
pub(crate) fn visit(address: SocketAddr, connections: usize) -> Result<(), Box<dyn Error>> {
    put(address, &[])?;
    println!("nobody is here");

    let begun = Instant::now();
    let idle: Vec<_> =
        (0..connections).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    put(address, &[])?; // behind all of them, and so they have been accepted
    println!("{connections} idle connections were made in {:.0?}", begun.elapsed());

    let object = peers::object(SIZE);
    put(address, &object)?; // something to be got
    let beside = transfer(address, &object)?;
    println!("{BUSY} transfers of {} MiB at once beside them took {beside:.0?}", SIZE >> 20);

    for mut stream in idle {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => return Err(format!("an idle connection: {other:?}").into()),
        }
    }
    println!("all {connections} were reset {:.1?} after the first came", begun.elapsed());

    let alone = transfer(address, &object)?;
    println!("the same transfers alone took {alone:.0?}");
    Ok(())
}

fn transfer(address: SocketAddr, object: &[u8]) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let busy: Vec<_> = (0..BUSY)
            .map(|i| {
                scope.spawn(
                    move || if i % 2 == 0 { put(address, object) } else { get(address, object) },
                )
            })
            .collect();
        busy.into_iter()
            .try_for_each(|busy| busy.join().map_err(|_| io::Error::other("a client panicked"))?)
    })?;
    Ok(begun.elapsed())
}

fn put(address: SocketAddr, object: &[u8]) -> io::Result<()> {
    Client::new(address).put(StartPacket::put(KEY))?.send(object).map(drop)
}

fn get(address: SocketAddr, object: &[u8]) -> io::Result<()> {
    let mut received = Vec::with_capacity(object.len());
    let mut source = Client::new(address).get(StartPacket::get(KEY))?;
    source.read_to_end(&mut received)?;
    if received != object {
        return Err(io::Error::other("the object that came back is another one"));
    }
    source.commit().map(drop)
}

/// What of this process is in memory, as proc(5) says in pages of 4 KiB.
fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).ok_or("statm has no second field")?.parse::<u64>()? * 4)
}
