//! The async adapter against bare sockets.
//!
//! `cargo bench -p dataserver-smol --bench adapters`, and `-- small idle` for only those; quickly,
//! and to no effect, with `BENCH_QUICK=1`.

mod bare;
mod contender;
mod crowd;

use std::io;

use contender::Smol;
use dataserver_bench::measure::Effort;
use dataserver_bench::report::Report;
use dataserver_bench::{rows, serving};

fn main() -> io::Result<()> {
    serving::obey(&Smol)?;
    let effort = Effort::from_env();
    let mut report = Report::new("smol", effort.rounds);
    rows::all(&Smol, &mut report, effort)?;
    report.finish()
}
