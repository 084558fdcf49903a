//! TLS: large objects, handshakes, and what the loss of `sendfile` costs.

use std::io;
use std::time::Duration;

use dataserver_core::Direction;

use super::large::BUFFERS;
use super::small::{OBJECT as SMALL, PORT_REUSE, transfer_concurrently};
use super::{Pair, Rounds, best, measure, transfer_one};
use crate::measure::Effort;
use crate::report::{Report, Row, Target, WITHOUT_DATASERVER};
use crate::subject::{End, Job, Subject};
use crate::temp_files::TempFiles;
use crate::tls_baseline::TlsBaseline;

const LARGE: u64 = 1 << 30;

/// The size of a record, and those of [`BUFFERS`].
const TLS_BUFFERS: [usize; 5] = [16 << 10, BUFFERS[0], BUFFERS[1], BUFFERS[2], BUFFERS[3]];

/// An adapter without TLS has no rows.
pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    if !ours.has_tls() {
        return Ok(());
    }
    for direction in [Direction::Put, Direction::Get] {
        large(ours, report, effort, direction)?;
        for at_once in [1, 64] {
            handshakes(ours, report, effort, direction, at_once)?;
        }
        files(ours, report, effort, direction)?;
    }
    Ok(())
}

fn large(
    ours: &dyn Subject,
    report: &mut Report,
    effort: Effort,
    direction: Direction,
) -> io::Result<()> {
    report.begin("1 GiB from memory to memory over TLS 1.3");
    let job = Job::new(direction, LARGE / u64::from(effort.scale_divisor)).over_tls();
    let [ours, baseline] = [ours, &TlsBaseline(4)].map(|subject| {
        let with = |buffer| Pair::both(subject, Job { buffer, ..job.clone() });
        best(3, TLS_BUFFERS.map(with).into(), transfer_one)
    });
    let pairs = [ours?, baseline?];
    let measured = measure(effort.rounds, &pairs, transfer_one)?;
    let buffers = pairs.map(|pair| format!("{} KiB", pair.job.buffer >> 10));
    report.add(Row {
        what: format!("{direction}, buffers of {}", buffers[0]),
        baseline: format!("rustls over plain sockets, buffers of {}", buffers[1]),
        label: WITHOUT_DATASERVER,
        unit: "GB/s",
        ours: measured[0].rate.clone(),
        theirs: measured[1].rate.clone(),
        target: Target::AtLeast(0.90),
    });
    Ok(())
}

/// Small objects, with a new connection and a full handshake each.
fn handshakes(
    ours: &dyn Subject,
    report: &mut Report,
    effort: Effort,
    direction: Direction,
    at_once: usize,
) -> io::Result<()> {
    report.begin("1 KiB objects over TLS 1.3, a full handshake each");
    let job = Job::new(direction, SMALL).over_tls();
    let act = transfer_concurrently(at_once, effort);
    let pause = match direction {
        Direction::Put => PORT_REUSE,
        Direction::Get => Duration::ZERO,
    };
    let pair = |baseline| Pair::both(baseline, job.clone());
    let pairs = TlsBaseline::ALL.iter().map(|baseline| pair(baseline)).collect();
    let baseline = best(Rounds { rounds: 3, pause }, pairs, &act)?;
    let name = baseline.server.name();
    let server_only = Pair { server: ours, ..baseline.clone() };
    let mut pairs = vec![Pair::both(ours, job.clone()), server_only, baseline];
    pairs.extend(ours.runtime().map(|runtime| Pair::both(runtime, job)));
    let measured = measure(Rounds { rounds: effort.rounds, pause }, &pairs, &act)?;
    for (side, ours) in ["both sides", "only the server"].into_iter().zip(&measured) {
        report.add(Row {
            what: format!("{direction}, {at_once} at a time, {side} with dataserver"),
            baseline: name.clone(),
            label: WITHOUT_DATASERVER,
            unit: "per second",
            ours: ours.rate.clone(),
            theirs: measured[2].rate.clone(),
            target: Target::AtLeast(0.90),
        });
    }
    for (runtime, of_runtime) in ours.runtime().iter().zip(measured.iter().skip(3)) {
        report.add(Row {
            what: format!("{direction}, {at_once} at a time, both sides with dataserver"),
            baseline: format!("rustls over {}", runtime.name()),
            label: "rustls on the same runtime",
            unit: "per second",
            ours: measured[0].rate.clone(),
            theirs: of_runtime.rate.clone(),
            target: Target::AtLeast(0.90),
        });
    }
    Ok(())
}

/// The kernel cannot move files through TLS.
fn files(
    ours: &dyn Subject,
    report: &mut Report,
    effort: Effort,
    direction: Direction,
) -> io::Result<()> {
    report.begin("from a file to memory over TLS 1.3");
    let bytes = LARGE / 2 / u64::from(effort.scale_divisor);
    let files = TempFiles::new(bytes)?;
    let plain = Job { source: End::File(files.source()), ..Job::new(direction, bytes) };
    let pairs = [plain.clone().over_tls(), plain].map(|job| Pair::both(ours, job));
    let measured = measure(effort.rounds, &pairs, transfer_one)?;
    report.add(Row {
        what: direction.to_string(),
        baseline: "the same without TLS, by sendfile".to_owned(),
        label: "without TLS",
        unit: "GB/s",
        ours: measured[0].rate.clone(),
        theirs: measured[1].rate.clone(),
        target: Target::None,
    });
    Ok(())
}
