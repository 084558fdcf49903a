//! Servers and clients on executors. They have one thread. Over TLS they have one for each processor, because
//! handshakes and records are computation.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_bench::{Job, on_threads};
use futures_lite::future;
use smol::{Executor, LocalExecutor};

/// The executor of a server.
pub(crate) static EXECUTOR: Executor<'static> = Executor::new();

fn threads(job: &Job) -> usize {
    if job.tls { thread::available_parallelism().map_or(1, NonZeroUsize::get) } else { 1 }
}

/// Runs a server, whose connections are on [`EXECUTOR`].
pub(crate) fn run_server<T>(job: &Job, server: impl Future<Output = T>) -> T {
    for _ in 1..threads(job) {
        thread::spawn(|| async_io::block_on(EXECUTOR.run(future::pending::<()>())));
    }
    async_io::block_on(EXECUTOR.run(server))
}

/// Does transfers, `at_once` at a time, for the given time. Returns how many.
pub(crate) fn transfer_concurrently(
    job: &Job,
    at_once: usize,
    time: Duration,
    transfer: impl AsyncFn() -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let end = Instant::now() + time;
    let threads = threads(job).min(at_once);
    let client = async || {
        let mut done = 0;
        while Instant::now() < end {
            transfer().await?;
            done += 1;
        }
        io::Result::Ok(done)
    };
    on_threads(threads, || {
        let executor = LocalExecutor::new();
        let clients: Vec<_> = (0..at_once / threads).map(|_| executor.spawn(client())).collect();
        let all = async {
            let mut done = 0;
            for client in clients {
                done += client.await?;
            }
            Ok(done)
        };
        async_io::block_on(executor.run(all))
    })
}
