//! A test of the driver with many idle connections, and transfers beside them. The clients run in another
//! process, since each end of a connection takes a file descriptor.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use dataserver_core::{Config, Timeouts, Timer};
use dataserver_examples::peers::{self, KEY};
use dataserver_std::Client;

use crate::driver::SLOT;

/// How many transfers run at once, half of them puts.
const ACTIVE: usize = 20;
const SIZE: usize = 16 << 20;

/// The number of all transfers: the active ones twice, and three puts.
const TRANSFERS: usize = 2 * ACTIVE + 3;

/// Serves them, and checks that all transfers succeed and that all idle connections time out.
pub(crate) fn serve(connections: usize) -> Result<(), Box<dyn Error>> {
    println!(
        "our server, {connections} idle connections of {SLOT} bytes each, and {ACTIVE} active ones:"
    );
    // Long enough for all connections to be made and for the transfers to end.
    let start = Duration::from_secs(3) + Duration::from_millis(connections as u64);
    let config = Config::default().timeouts(Timeouts::default().start(start));
    let (address, outcomes) = super::start(config)?;

    let mut clients = Command::new(env::current_exe()?)
        .args(["--connect", &address.to_string(), "--connections", &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(clients.stdout.take().ok_or("no pipe")?).lines();
    for line in lines {
        println!("  {}; resident: {} KiB", line?, resident_kib()?);
    }
    if !clients.wait()?.success() {
        return Err("the clients failed".into());
    }

    let (mut succeeded, mut timed_out) = (0, 0);
    for outcome in outcomes.iter().take(TRANSFERS + connections) {
        match outcome {
            Ok(_) => succeeded += 1,
            Err(error) if error == Timer::Start.into() => timed_out += 1,
            Err(error) => return Err(format!("a connection failed: {error}").into()),
        }
    }
    println!(
        "  the server: {succeeded} transfers succeeded, and {timed_out} start timeouts ran out"
    );
    if (succeeded, timed_out) == (TRANSFERS, connections) {
        return Ok(());
    }
    Err(format!("expected {TRANSFERS} and {connections}").into())
}

/// The clients, in another process. The server prints their lines.
pub(crate) fn connect(address: SocketAddr, connections: usize) -> Result<(), Box<dyn Error>> {
    put(address, &[])?;
    println!("no idle connection");

    let begun = Instant::now();
    let idle: Vec<_> =
        (0..connections).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    put(address, &[])?; // it was accepted after all of them
    println!("{connections} idle connections were made in {:.0?}", begun.elapsed());

    let object = peers::object(SIZE);
    put(address, &object)?; // the object of the gets
    let beside = transfer(address, &object)?;
    println!("{ACTIVE} transfers of {} MiB at once beside them took {beside:.0?}", SIZE >> 20);

    for mut stream in idle {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => return Err(format!("an idle connection: {other:?}").into()),
        }
    }
    println!("all {connections} were reset {:.1?} after the first connection", begun.elapsed());

    let alone = transfer(address, &object)?;
    println!("the same transfers without them took {alone:.0?}");
    Ok(())
}

fn transfer(address: SocketAddr, object: &[u8]) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let active: Vec<_> = (0..ACTIVE)
            .map(|i| {
                scope.spawn(
                    move || if i % 2 == 0 { put(address, object) } else { get(address, object) },
                )
            })
            .collect();
        active.into_iter().try_for_each(|transfer| {
            transfer.join().map_err(|_| io::Error::other("a client panicked"))?
        })
    })?;
    Ok(begun.elapsed())
}

fn put(address: SocketAddr, object: &[u8]) -> io::Result<()> {
    Client::new(address)?.put(KEY)?.send(object)?;
    Ok(())
}

fn get(address: SocketAddr, object: &[u8]) -> io::Result<()> {
    let mut received = Vec::with_capacity(object.len());
    let mut source = Client::new(address)?.get(KEY)?;
    source.read_to_end(&mut received)?;
    if received != object {
        return Err(io::Error::other("the bytes of the get differ from those of the put"));
    }
    source.commit()?;
    Ok(())
}

/// The resident memory of this process. proc(5) gives it in pages of 4 KiB.
fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).ok_or("statm has no second field")?.parse::<u64>()? * 4)
}
