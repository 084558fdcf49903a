//! The blocking adapter compared with plain sockets.
//!
//! `cargo bench -p dataserver-bench --bench std_adapter` runs all cases, and `-- small idle` only these two. With
//! `BENCH_QUICK=1` it is fast, with results not comparable.

mod std_subject;

use std::io;

use dataserver_bench::measure::Effort;
use dataserver_bench::report::Report;
use dataserver_bench::{cases, server_process};
use std_subject::Std;

fn main() -> io::Result<()> {
    server_process::run_child(&Std)?;
    let effort = Effort::from_env();
    let mut report = Report::new("std", effort.rounds);
    cases::all(&Std, &mut report, effort)?;
    report.finish()
}
