//! The memory of idle connections: heap per connection with 10,000 of them, compared with a plain accept
//! loop on the same executor. It also checks that 100 transfers beside them succeed.
//!
//! `cargo bench -p dataserver-bench --bench idle_memory`. A child process holds the other ends, since the limit of
//! file descriptors is per process.

use std::alloc::System;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_io::Async;
use dataserver_common::tcp::Backlog;
use dataserver_smol::{Client, Config, Key, Server, Timeouts};
use futures_lite::{AsyncReadExt, future};
use smol::Executor;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const IDLE: usize = 10_000;
const ACTIVE: usize = 100;
const OBJECT: usize = 1 << 20;
const ROUNDS: usize = 3;
const TARGET: f64 = 1024.0;
const KEY: Key = Key::from_name("object");

fn main() -> io::Result<()> {
    if let Some(address) = std::env::args().skip_while(|word| word != "--hold").nth(1) {
        return hold(&address);
    }
    println!("heap bytes per connection");
    println!("{:>6} {:>14} {:>14} {:>14}", "round", "plain sockets", "dataserver", "difference");
    let mut differences = Vec::new();
    for round in 1..=ROUNDS {
        let plain = plain()?;
        let ours = ours()?;
        println!("{round:>6} {plain:>14.0} {ours:>14.0} {:>14.0}", ours - plain);
        differences.push(ours - plain);
    }
    differences.sort_by(f64::total_cmp);
    let median = differences[ROUNDS / 2];
    let verdict = if median <= TARGET { "met" } else { "MISSED" };
    println!("median {median:.0} bytes more than a plain connection, target {TARGET}: {verdict}");
    Ok(())
}

/// The child: opens the connections, prints their number, and holds them until its standard input ends.
fn hold(address: &str) -> io::Result<()> {
    let connections: Vec<_> =
        (0..IDLE).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
    println!("{}", connections.len());
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn hold_in_child(address: SocketAddr) -> io::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--hold", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    if let Some(stdout) = &mut child.stdout {
        BufReader::new(stdout).read_line(&mut ready)?;
    }
    assert_eq!(ready.trim(), IDLE.to_string());
    Ok(child)
}

fn release(mut child: Child) -> io::Result<()> {
    drop(child.stdin.take());
    assert!(child.wait()?.success());
    Ok(())
}

/// Heap bytes per connection of a loop that accepts connections and waits for a byte.
fn plain() -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Backlog::of(&listener)?;
    let address = listener.local_addr()?;
    let listener = Async::new(listener)?;
    let executor = Executor::new();
    let waiting = Arc::new(AtomicUsize::new(0));
    let accept = async {
        for _ in 0..IDLE {
            let (mut stream, _) = listener.accept().await?;
            let waiting = Arc::clone(&waiting);
            let serve = async move {
                waiting.fetch_add(1, Ordering::Relaxed);
                stream.read(&mut [0]).await
            };
            executor.spawn(serve).detach();
        }
        while waiting.load(Ordering::Relaxed) < IDLE {
            future::yield_now().await;
        }
        io::Result::Ok(())
    };
    let region = Region::new(HEAP);
    let child = std::thread::spawn(move || hold_in_child(address));
    future::block_on(executor.run(accept))?;
    let bytes = in_use(&region);
    release(child.join().expect("the thread does not panic")?)?;
    Ok(bytes / IDLE as f64)
}

/// Heap bytes per connection of dataserver, with transfers beside them.
fn ours() -> io::Result<f64> {
    let timeouts = Timeouts::default().start(Duration::from_secs(600));
    let server = Server::bind("127.0.0.1:0")?.config(Config::default().timeouts(timeouts));
    server.on_put(KEY, |mut object| async move {
        futures_lite::io::copy(&mut object, futures_lite::io::sink()).await?;
        Ok::<_, io::Error>(object.commit().await?)
    })?;
    let (address, handle) = (server.local_addr(), server.shutdown_handle());
    let executor = Executor::new();
    let spawned = AtomicUsize::new(0);
    let run = server.run(|connection| {
        spawned.fetch_add(1, Ordering::Relaxed);
        executor.spawn(connection).detach();
    });

    let region = Region::new(HEAP);
    let child = std::thread::spawn(move || hold_in_child(address));
    let watch = async {
        while spawned.load(Ordering::Relaxed) < IDLE {
            future::yield_now().await;
        }
        for _ in 0..IDLE {
            future::yield_now().await; // each connection now waits for a byte
        }
        let bytes = in_use(&region);

        let object: Arc<[u8]> = vec![7; OBJECT].into();
        let puts: Vec<_> = (0..ACTIVE)
            .map(|_| {
                let object = Arc::clone(&object);
                executor
                    .spawn(async move { Client::new(address)?.put(KEY).await?.send(object).await })
            })
            .collect();
        for put in puts {
            assert_eq!(put.await?.bytes, OBJECT as u64);
        }
        handle.shutdown(Duration::ZERO);
        Ok(bytes)
    };
    let (bytes, ()) = future::block_on(executor.run(future::try_zip(watch, run)))?;
    release(child.join().expect("the thread does not panic")?)?;
    Ok(bytes / IDLE as f64)
}

/// The growth of the heap since the region began.
fn in_use(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    change.bytes_allocated as f64 - change.bytes_deallocated as f64
}
