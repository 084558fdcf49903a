//! The async adapter compared with plain sockets.
//!
//! `cargo bench -p dataserver-bench --bench smol_adapter` runs all cases, and `-- small idle` only these two. With
//! `BENCH_QUICK=1` it is fast, with results not comparable.

mod baseline;
mod concurrent;
mod subject;

use std::io;

use dataserver_bench::measure::Effort;
use dataserver_bench::report::Report;
use dataserver_bench::{cases, server_process};
use subject::Smol;

fn main() -> io::Result<()> {
    server_process::run_child(&Smol)?;
    let effort = Effort::from_env();
    let mut report = Report::new("smol", effort.rounds);
    cases::all(&Smol, &mut report, effort)?;
    report.finish()
}
