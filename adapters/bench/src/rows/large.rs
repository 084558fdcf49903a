//! A large object, from memory to memory.

use std::io;

use dataserver_core::Direction;

use super::{Pair, best, measure, one};
use crate::bare::{Bare, Files};
use crate::contender::{Contender, Job};
use crate::measure::Effort;
use crate::plot::binary;
use crate::report::{Report, Row, Target};

const OBJECT: u64 = 1 << 30;

/// What an application may read and write with.
pub(crate) const BUFFERS: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 4 << 20];

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 GiB from memory to memory");
    for direction in [Direction::Put, Direction::Get] {
        let bare: &dyn Contender = &Bare::new(Files::ReadWrite);
        let pairs = [ours, bare].map(|contender| {
            let with = |buffer| {
                let job = Job { buffer, ..Job::new(direction, OBJECT / u64::from(effort.haste)) };
                Pair::both(contender, job)
            };
            best(3, BUFFERS.map(with).into(), one)
        });
        let [ours, bare] = pairs;
        let pairs = [ours?, bare?];
        let measured = measure(effort.rounds, &pairs, one)?;
        let buffers = pairs.map(|pair| binary(pair.job.buffer as f64));
        report.add(Row {
            what: format!("{direction}, buffers of {}", buffers[0]),
            baseline: format!("bare loop, best buffer: {}", buffers[1]),
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.97),
        });
    }
    Ok(())
}
