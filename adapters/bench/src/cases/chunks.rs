//! The chunk size, from 21 bytes, as in the original, to 16 MiB.

use std::io;
use std::num::NonZeroU32;

use dataserver_core::Direction;

use super::{Pair, measure, transfer_one};
use crate::baseline::{Baseline, Files};
use crate::measure::Effort;
use crate::plot::{Plot, binary};
use crate::report::{PLAIN_SOCKETS, Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{Job, Subject};

const CHUNKS: [u32; 11] = [
    21,
    256,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    16 << 20,
];

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("chunk size, put from memory to memory, with buffers of the same size");
    let baseline = Baseline::new(Files::ReadWrite);
    let mut lines = [(ours.name(), Vec::new()), (PLAIN_SOCKETS.to_owned(), Vec::new())];
    for chunk in CHUNKS.into_iter().filter_map(NonZeroU32::new) {
        let length = u64::from(chunk.get());
        // Fewer bytes for small chunks, so that each takes about the same time.
        let bytes = (length << 14).clamp(1 << 19, 1 << 28) / u64::from(effort.scale_divisor);
        let job = Job { chunk, buffer: length as usize, ..Job::new(Direction::Put, bytes) };
        let pairs = [ours, &baseline].map(|subject| Pair::both(subject, job.clone()));
        let measured = measure(effort.rounds, &pairs, transfer_one)?;
        for ((_, points), measured) in lines.iter_mut().zip(&measured) {
            points.push((length as f64, measured.rate.median()));
        }
        report.add(Row {
            what: binary(length as f64),
            baseline: "plain sockets, buffer of the same size".to_owned(),
            label: WITHOUT_DATASERVER,
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::None,
        });
    }
    report.plot(Plot {
        name: "chunks",
        title: "Throughput by chunk size: put from memory to memory".to_owned(),
        x_label: "chunk size (for plain sockets: size of the buffer)",
        y_label: "GB/s",
        lines: lines.into(),
    });
    Ok(())
}
