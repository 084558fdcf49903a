//! The object size, from 0 to 8 GiB.

use std::io;

use dataserver_core::Direction;

use super::{Pair, measure};
use crate::baseline::{Baseline, Files};
use crate::measure::{Effort, Samples};
use crate::plot::{Plot, binary};
use crate::report::{PLAIN_SOCKETS, Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{Job, Subject};

const SIZES: [u64; 7] = [0, 1 << 10, 1 << 16, 1 << 20, 1 << 26, 1 << 30, 1 << 33];

/// From this size on, the time per byte should be constant.
const LARGE: u64 = 1 << 26;

/// Small objects are transferred repeatedly, until this many bytes, but at most this many times.
const REPEAT: (u64, u64) = (1 << 27, 1_000);

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("object size, put from memory to memory");
    let baseline = Baseline::new(Files::ReadWrite);
    let mut lines = [(ours.name(), Vec::new()), (PLAIN_SOCKETS.to_owned(), Vec::new())];
    let mut large: Option<Samples> = None;
    for bytes in SIZES.map(|bytes| bytes.min((1 << 33) / u64::from(effort.scale_divisor))) {
        let job = Job { buffer: 1 << 20, ..Job::new(Direction::Put, bytes) };
        let pairs = [ours, &baseline].map(|subject| Pair::both(subject, job.clone()));
        let times = (REPEAT.0 / bytes.max(1)).clamp(1, REPEAT.1 / u64::from(effort.scale_divisor));
        // Transfers per second, which is meaningful for a size of 0, too.
        let measured = measure(effort.rounds, &pairs, |pair, server| {
            let address = server.address()?;
            (0..times).try_for_each(|_| pair.client.transfer(address, &pair.job))?;
            Ok(times as f64)
        })?;
        report.add(Row {
            what: binary(bytes as f64),
            baseline: "plain sockets".to_owned(),
            label: WITHOUT_DATASERVER,
            unit: "per second",
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
                baseline: format!("time per byte of {}", binary(LARGE as f64)),
                label: "64 MiB",
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
        title: "Throughput by object size: put from memory to memory".to_owned(),
        x_label: "object size",
        y_label: "GB/s",
        lines: lines.into(),
    });
    Ok(())
}
