//! Many concurrent transfers on one thread.

use std::io;
use std::time::{Duration, Instant};

use smol::LocalExecutor;

/// Does transfers, `at_once` at a time, for the given time. Returns how many.
pub(crate) fn transfer_concurrently(
    at_once: usize,
    time: Duration,
    transfer: impl AsyncFn() -> io::Result<()>,
) -> io::Result<u64> {
    let end = Instant::now() + time;
    let client = async || {
        let mut done = 0;
        while Instant::now() < end {
            transfer().await?;
            done += 1;
        }
        io::Result::Ok(done)
    };
    let executor = LocalExecutor::new();
    let clients: Vec<_> = (0..at_once).map(|_| executor.spawn(client())).collect();
    let all = async {
        let mut done = 0;
        for client in clients {
            done += client.await?;
        }
        Ok(done)
    };
    async_io::block_on(executor.run(all))
}
