//! The size of an object, from nothing to 8 GiB.

use std::io;

use dataserver_core::Direction;

use super::{Pair, measure};
use crate::bare::{Bare, Files};
use crate::contender::{Contender, Job};
use crate::measure::{Effort, Samples};
use crate::plot::{Plot, binary};
use crate::report::{Report, Row, Target};

const SIZES: [u64; 7] = [0, 1 << 10, 1 << 16, 1 << 20, 1 << 26, 1 << 30, 1 << 33];

/// From this size on, time per byte should stay the same.
const LARGE: u64 = 1 << 26;

/// So many bytes are moved for each measurement of smaller ones, in so many transfers at most.
const WORK: (u64, u64) = (1 << 27, 1_000);

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("object size, put from memory to memory");
    let bare = Bare::new(Files::ReadWrite);
    let mut lines = [(ours.name(), Vec::new()), ("bare sockets".to_owned(), Vec::new())];
    let mut large: Option<Samples> = None;
    for bytes in SIZES.map(|bytes| bytes.min((1 << 33) / u64::from(effort.haste))) {
        let job = Job { buffer: 1 << 20, ..Job::new(Direction::Put, bytes) };
        let pairs = [ours, &bare].map(|contender| Pair::both(contender, job.clone()));
        let times = (WORK.0 / bytes.max(1)).clamp(1, WORK.1 / u64::from(effort.haste));
        // Seconds a transfer, so that a size of 0 means something too.
        let measured = measure(effort.rounds, &pairs, |pair, serving| {
            let address = serving.address()?;
            (0..times).try_for_each(|_| pair.client.transfer(address, &pair.job))?;
            Ok(times as f64)
        })?;
        report.add(Row {
            what: binary(bytes as f64),
            baseline: "bare loop".to_owned(),
            unit: "a second",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::None,
        });
        let per_byte = |rate: &Samples| rate.per(bytes as f64 / 1e9);
        for ((_, points), measured) in lines.iter_mut().zip(&measured) {
            if bytes > 0 {
                points.push((bytes as f64, 1.0 / per_byte(&measured.rate).median()));
            }
        }
        let times = per_byte(&measured[0].rate);
        match &large {
            None if bytes >= LARGE => large = Some(times),
            Some(smaller) => report.add(Row {
                what: format!("time per byte of {}", binary(bytes as f64)),
                baseline: format!("of {}", binary(LARGE as f64)),
                unit: "s/GB",
                ours: times,
                theirs: smaller.clone(),
                target: Target::AtMost(1.05),
            }),
            None => {}
        }
    }
    report.plot(Plot {
        name: "sizes",
        title: "Throughput over object size, memory to memory".to_owned(),
        across: "object size",
        up: "GB/s",
        lines: lines.into(),
    });
    Ok(())
}
