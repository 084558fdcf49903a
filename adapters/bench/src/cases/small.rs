//! Many small objects, with a new connection each.

use std::io;
use std::time::Duration;

use dataserver_core::Direction;

use super::{Pair, Rounds, best, measure};
use crate::baseline::{Baseline, Structure};
use crate::cpu::Cpu;
use crate::measure::Effort;
use crate::report::{Report, Row, Target, WITHOUT_DATASERVER};
use crate::server_process::ServerProcess;
use crate::subject::{Job, Subject};

/// The size of a small object in bytes.
pub(crate) const OBJECT: u64 = 1024;

/// The time of one measurement.
const TIME: Duration = Duration::from_millis(300);

/// Linux reuses a port one second after its connection has ended. Without such a pause, clients would spend
/// most of their time searching for a port if they close first, as in a put, or if there are many idle
/// connections.
pub(crate) const PORT_REUSE: Duration = Duration::from_millis(1_100);

/// The servers and clients that the baseline is chosen from.
pub(crate) const STRUCTURES: [Baseline; 5] = [
    Baseline::concurrent(Structure::Pool(2)),
    Baseline::concurrent(Structure::Pool(4)),
    Baseline::concurrent(Structure::Pool(8)),
    Baseline::concurrent(Structure::Epoll(1)),
    Baseline::concurrent(Structure::Epoll(2)),
];

/// Does transfers, `at_once` at a time, for [`TIME`]. Returns how many.
pub(crate) fn transfer_concurrently(
    at_once: usize,
    effort: Effort,
) -> impl Fn(&Pair<'_>, &ServerProcess) -> io::Result<f64> {
    move |pair, server| {
        let time = TIME / effort.scale_divisor;
        Ok(pair.client.transfer_concurrently(server.address()?, &pair.job, at_once, time)? as f64)
    }
}

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, a new connection each");
    for direction in [Direction::Put, Direction::Get] {
        for at_once in [1, 64] {
            let job = Job::new(direction, OBJECT);
            let transfer_concurrently = transfer_concurrently(at_once, effort);
            let pair = |baseline| Pair::both(baseline, job.clone());
            let pause = match direction {
                Direction::Put => PORT_REUSE,
                Direction::Get => Duration::ZERO,
            };
            let baseline = best(
                Rounds { rounds: 3, pause },
                STRUCTURES.iter().map(|it| pair(it)).collect(),
                &transfer_concurrently,
            )?;
            let name = baseline.server.name();
            let mut pairs = vec![
                Pair::both(ours, job.clone()),
                Pair { server: ours, client: baseline.client, job: job.clone() },
                baseline,
            ];
            let runtime = ours.runtime();
            pairs.extend(runtime.map(|runtime| Pair::both(runtime, job)));
            let measured =
                measure(Rounds { rounds: effort.rounds, pause }, &pairs, &transfer_concurrently)?;
            let [both, server, plain, rest @ ..] = &measured[..] else { continue };
            let what = format!("{direction}, {at_once} at a time");
            let row = |what, unit, ours, theirs, target| Row {
                what,
                baseline: name.clone(),
                label: WITHOUT_DATASERVER,
                unit,
                ours,
                theirs,
                target,
            };
            let rate = |what, ours: &super::Measured| {
                let (ours, theirs) = (ours.rate.clone(), plain.rate.clone());
                row(what, "per second", ours, theirs, Target::AtLeast(0.90))
            };
            report.add(rate(format!("{what}, both sides with dataserver"), both));
            report.add(rate(format!("{what}, only the server with dataserver"), server));
            for (runtime, of_runtime) in runtime.iter().zip(rest) {
                report.add(Row {
                    what: format!("{what}, both sides with dataserver"),
                    baseline: runtime.name(),
                    label: "plain sockets of async-io",
                    unit: "per second",
                    ours: both.rate.clone(),
                    theirs: of_runtime.rate.clone(),
                    target: Target::None,
                });
            }
            let cpu = |it: &super::Measured| it.server(|cpu| cpu.total() * 1e6);
            let what = format!("{what}, only the server with dataserver");
            report.add(row(what, "CPU µs each", cpu(server), cpu(plain), Target::None));
            let what = format!("{direction}, {at_once} at a time, client only");
            let cpu = |it: &super::Measured| it.client(|cpu: &Cpu| cpu.total() * 1e6);
            report.add(row(what, "CPU µs each", cpu(both), cpu(plain), Target::None));
        }
    }
    Ok(())
}
