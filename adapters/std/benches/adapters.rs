//! The blocking adapter against bare sockets.
//!
//! `cargo bench -p dataserver-std --bench adapters`, and `-- small idle` for only those; quickly,
//! and to no effect, with `BENCH_QUICK=1`.

mod contender;

use std::io;

use contender::Std;
use dataserver_bench::measure::Effort;
use dataserver_bench::report::Report;
use dataserver_bench::{rows, serving};

fn main() -> io::Result<()> {
    serving::obey(&Std)?;
    let effort = Effort::from_env();
    let mut report = Report::new("std", effort.rounds);
    rows::all(&Std, &mut report, effort)?;
    report.finish()
}
