//! Files in the page cache.

use std::io;

use dataserver_core::Direction;

use super::large::BUFFERS;
use super::{Measured, Pair, best, measure, transfer_one};
use crate::baseline::{Baseline, Files};
use crate::cpu::Cpu;
use crate::measure::{Effort, Samples};
use crate::report::{Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{End, Job, Subject};
use crate::temp_files::TempFiles;

/// Selects a part of the processor time, and the side.
type Part = fn(&Cpu) -> f64;
type Side = fn(&Measured, Part) -> Samples;

const OBJECT: u64 = 1 << 29;

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    let bytes = OBJECT / u64::from(effort.scale_divisor);
    let files = TempFiles::new(bytes)?;
    let kernel = Baseline::new(Files::Kernel);
    let read_write = Baseline::new(Files::ReadWrite);

    report.begin("from a file to memory");
    for direction in [Direction::Put, Direction::Get] {
        let source = End::File(files.source());
        let job = Job { source, ..Job::new(direction, bytes) };
        let pairs = [ours, &kernel].map(|subject| Pair::both(subject, job.clone()));
        let measured = measure(effort.rounds, &pairs, transfer_one)?;
        report.add(Row {
            what: direction.to_string(),
            baseline: "plain sockets, sendfile".to_owned(),
            label: WITHOUT_DATASERVER,
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.97),
        });
    }

    report.begin("from a file to a file");
    for direction in [Direction::Put, Direction::Get] {
        let (source, sink) = (End::File(files.source()), End::File(files.sink()));
        let job = Job { source, sink, ..Job::new(direction, bytes) };
        let with = |buffer| Pair::both(&read_write, Job { buffer, ..job.clone() });
        let pairs = [
            Pair::both(ours, job.clone()),
            Pair::both(&kernel, job.clone()),
            best(3, BUFFERS.map(with).into(), transfer_one)?,
        ];
        let measured = measure(effort.rounds, &pairs, transfer_one)?;
        let [of_ours, of_kernel, of_read_write] = &measured[..] else { continue };
        let row = |baseline: &str, theirs: &Measured, target| Row {
            what: direction.to_string(),
            baseline: baseline.to_owned(),
            label: WITHOUT_DATASERVER,
            unit: "GB/s",
            ours: of_ours.rate.clone(),
            theirs: theirs.rate.clone(),
            target,
        };
        report.add(row("plain sockets, sendfile and splice", of_kernel, Target::AtLeast(0.95)));
        report.add(row(
            "plain sockets, read and write, best buffer",
            of_read_write,
            Target::AtLeast(1.4),
        ));
        for (baseline, label, theirs) in [
            (
                "plain sockets, sendfile and splice",
                "without dataserver, sendfile and splice",
                of_kernel,
            ),
            ("plain sockets, read and write", "without dataserver, read and write", of_read_write),
        ] {
            for (side, cpu) in [("server", Measured::server as Side), ("client", Measured::client)]
            {
                for (part, of) in
                    [("user", (|cpu| cpu.user * 1e3) as Part), ("system", |cpu| cpu.system * 1e3)]
                {
                    report.add(Row {
                        what: format!("{direction}, {side}, {part} time"),
                        baseline: baseline.to_owned(),
                        label,
                        unit: "CPU ms/GB",
                        ours: cpu(of_ours, of),
                        theirs: cpu(theirs, of),
                        target: Target::None,
                    });
                }
            }
        }
    }
    Ok(())
}
