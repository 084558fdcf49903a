//! The length of a chunk, from the original's to 16 MiB.

use std::io;
use std::num::NonZeroU32;

use dataserver_core::Direction;

use super::{Pair, measure, one};
use crate::bare::{Bare, Files};
use crate::contender::{Contender, Job};
use crate::measure::Effort;
use crate::plot::{Plot, binary};
use crate::report::{Report, Row, Target};

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

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("chunk length, put from memory to memory, buffers as long");
    let bare = Bare::new(Files::ReadWrite);
    let mut lines = [(ours.name(), Vec::new()), ("bare sockets".to_owned(), Vec::new())];
    for chunk in CHUNKS.into_iter().filter_map(NonZeroU32::new) {
        let length = u64::from(chunk.get());
        // As many bytes as take about as long.
        let bytes = (length << 14).clamp(1 << 19, 1 << 28) / u64::from(effort.haste);
        let job = Job { chunk, buffer: length as usize, ..Job::new(Direction::Put, bytes) };
        let pairs = [ours, &bare].map(|contender| Pair::both(contender, job.clone()));
        let measured = measure(effort.rounds, &pairs, one)?;
        for ((_, points), measured) in lines.iter_mut().zip(&measured) {
            points.push((length as f64, measured.rate.median()));
        }
        report.add(Row {
            what: binary(length as f64),
            baseline: "bare loop, the same buffer".to_owned(),
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::None,
        });
    }
    report.plot(Plot {
        name: "chunks",
        title: "Throughput over chunk length, memory to memory".to_owned(),
        across: "chunk length",
        up: "GB/s",
        lines: lines.into(),
    });
    Ok(())
}
