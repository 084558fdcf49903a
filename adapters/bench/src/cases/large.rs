//! A large object, from memory to memory.

use std::io;

use dataserver_core::Direction;

use super::{Pair, best, measure, transfer_one};
use crate::baseline::{Baseline, Files};
use crate::measure::Effort;
use crate::plot::binary;
use crate::report::{Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{Job, Subject};

const OBJECT: u64 = 1 << 30;

/// The buffer sizes of applications.
pub(crate) const BUFFERS: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 4 << 20];

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 GiB from memory to memory");
    for direction in [Direction::Put, Direction::Get] {
        let baseline: &dyn Subject = &Baseline::new(Files::ReadWrite);
        let pairs = [ours, baseline].map(|subject| {
            let with = |buffer| {
                let job =
                    Job { buffer, ..Job::new(direction, OBJECT / u64::from(effort.scale_divisor)) };
                Pair::both(subject, job)
            };
            best(3, BUFFERS.map(with).into(), transfer_one)
        });
        let [ours, baseline] = pairs;
        let pairs = [ours?, baseline?];
        let measured = measure(effort.rounds, &pairs, transfer_one)?;
        let buffers = pairs.map(|pair| binary(pair.job.buffer as f64));
        report.add(Row {
            what: format!("{direction}, buffers of {}", buffers[0]),
            baseline: format!("plain sockets, buffers of {}", buffers[1]),
            label: WITHOUT_DATASERVER,
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.97),
        });
    }
    Ok(())
}
