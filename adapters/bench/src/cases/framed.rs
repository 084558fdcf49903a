//! The framed format, compared with the bare one, and sessions with a connection that is kept.

use std::io;

use dataserver_core::Direction;

use super::small::{OBJECT, PORT_REUSE, transfer_concurrently};
use super::{Measured, Pair, Rounds, measure, transfer_one};
use crate::baseline::{Baseline, Structure};
use crate::measure::Effort;
use crate::report::{Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{End, Format, Job, Subject};
use crate::temp_files::TempFiles;

const BARE: &str = "the bare format";

/// Large objects.
pub(crate) fn large(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    let bytes = (1 << 29) / u64::from(effort.scale_divisor);
    let files = TempFiles::new(bytes)?;
    let (source, sink) = (End::File(files.source()), End::File(files.sink()));
    report.begin("large objects, framed");
    for (what, source, sink) in [
        ("memory to memory", End::Memory, End::Memory),
        ("file to memory", source.clone(), End::Memory),
        ("file to file", source, sink),
    ] {
        for direction in [Direction::Put, Direction::Get] {
            let job =
                Job { source: source.clone(), sink: sink.clone(), ..Job::new(direction, bytes) };
            let formats = [Format::Framed, Format::Bare].map(|format| job.clone().format(format));
            let pairs = formats.map(|job| Pair::both(ours, job));
            let measured = measure(effort.rounds, &pairs, transfer_one)?;
            report.add(against_bare(format!("{what}, {direction}"), "GB/s", &measured, 0.97));
        }
    }
    Ok(())
}

fn against_bare(what: String, unit: &'static str, measured: &[Measured], least: f64) -> Row {
    Row {
        what,
        baseline: BARE.to_owned(),
        label: BARE,
        unit,
        ours: measured[0].rate.clone(),
        theirs: measured[1].rate.clone(),
        target: Target::AtLeast(least),
    }
}

/// Small objects, 1 and 64 at a time.
pub(crate) fn small(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    for direction in [Direction::Put, Direction::Get] {
        for at_once in [1, 64] {
            small_objects(ours, report, effort, direction, at_once)?;
        }
    }
    Ok(())
}

fn small_objects(
    ours: &dyn Subject,
    report: &mut Report,
    effort: Effort,
    direction: Direction,
    at_once: usize,
) -> io::Result<()> {
    report.begin("1 KiB objects, framed");
    let job = Job::new(direction, OBJECT);
    let transfer = transfer_concurrently(at_once, effort);
    let what = format!("{direction}, {at_once} at a time");

    let kept = Baseline::concurrent(Structure::Pool(at_once));
    let session = job.clone().format(Format::Session);
    let pairs = [Pair::both(ours, session.clone()), Pair::both(&kept, session)];
    let measured = measure(effort.rounds, &pairs, &transfer)?;
    report.add(Row {
        what: format!("{what}, in a session"),
        baseline: "plain sockets, a connection that is kept".to_owned(),
        label: WITHOUT_DATASERVER,
        unit: "per second",
        ours: measured[0].rate.clone(),
        theirs: measured[1].rate.clone(),
        target: Target::AtLeast(0.90),
    });

    let plain = Baseline::concurrent(Structure::Pool(8));
    let formats = [Format::Framed, Format::Bare].map(|format| job.clone().format(format));
    let subjects = [ours, &plain];
    let pairs = subjects.map(|subject| formats.clone().map(|job| Pair::both(subject, job)));
    // In a framed transfer the client closes first.
    let pause = PORT_REUSE;
    let rounds = Rounds { rounds: effort.rounds, pause };
    let measured = measure(rounds, pairs.as_flattened(), &transfer)?;
    let what = format!("{what}, a new connection each");
    report.add(against_bare(what.clone(), "per second", &measured[..2], 0.95));
    // What the format costs by itself: the server must wait until the client has its receipt and closes.
    report.add(Row {
        baseline: "plain sockets with the bytes of the bare format".to_owned(),
        target: Target::None,
        ..against_bare(format!("{what}, plain sockets"), "per second", &measured[2..], 0.0)
    });
    Ok(())
}
