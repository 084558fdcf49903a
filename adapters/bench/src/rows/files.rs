//! Files, in page cache.

use std::io;

use dataserver_core::Direction;

use super::large::BUFFERS;
use super::{Measured, Pair, best, measure, one};
use crate::bare::{Bare, Files};
use crate::contender::{Contender, End, Job};
use crate::cpu::Cpu;
use crate::measure::{Effort, Samples};
use crate::report::{Report, Row, Target};
use crate::scratch::Scratch;

/// One part of processor time, and that of one side.
type Part = fn(&Cpu) -> f64;
type Side = fn(&Measured, Part) -> Samples;

const OBJECT: u64 = 1 << 29;

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    let bytes = OBJECT / u64::from(effort.haste);
    let scratch = Scratch::new(bytes)?;
    let kernel = Bare::new(Files::Kernel);
    let read_write = Bare::new(Files::ReadWrite);

    report.begin("a file to a socket");
    for direction in [Direction::Put, Direction::Get] {
        let source = End::File(scratch.source());
        let job = Job { source, ..Job::new(direction, bytes) };
        let pairs = [ours, &kernel].map(|contender| Pair::both(contender, job.clone()));
        let measured = measure(effort.rounds, &pairs, one)?;
        report.add(Row {
            what: direction.to_string(),
            baseline: "bare sendfile loop".to_owned(),
            unit: "GB/s",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.97),
        });
    }

    report.begin("a file to a file");
    for direction in [Direction::Put, Direction::Get] {
        let (source, sink) = (End::File(scratch.source()), End::File(scratch.sink()));
        let job = Job { source, sink, ..Job::new(direction, bytes) };
        let with = |buffer| Pair::both(&read_write, Job { buffer, ..job.clone() });
        let pairs = [
            Pair::both(ours, job.clone()),
            Pair::both(&kernel, job.clone()),
            best(3, BUFFERS.map(with).into(), one)?,
        ];
        let measured = measure(effort.rounds, &pairs, one)?;
        let [of_ours, of_kernel, of_read_write] = &measured[..] else { continue };
        let row = |baseline: &str, theirs: &Measured, target| Row {
            what: direction.to_string(),
            baseline: baseline.to_owned(),
            unit: "GB/s",
            ours: of_ours.rate.clone(),
            theirs: theirs.rate.clone(),
            target,
        };
        report.add(row("bare sendfile into splice", of_kernel, Target::AtLeast(0.95)));
        report.add(row("bare read + write, best buffer", of_read_write, Target::AtLeast(1.4)));
        for (baseline, theirs) in
            [("sendfile into splice", of_kernel), ("read + write", of_read_write)]
        {
            for (side, cpu) in [("server", Measured::server as Side), ("client", Measured::client)]
            {
                for (part, of) in [("user", (|cpu| cpu.user) as Part), ("system", |cpu| cpu.system)]
                {
                    report.add(Row {
                        what: format!("{direction}, {side}, {part}"),
                        baseline: baseline.to_owned(),
                        unit: "CPU s/GB",
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
