//! Many small objects, a new connection each.

use std::io;
use std::time::Duration;

use dataserver_core::Direction;

use super::{Pair, Turns, best, measure};
use crate::bare::{Bare, Structure};
use crate::contender::{Contender, Job};
use crate::cpu::Cpu;
use crate::measure::Effort;
use crate::report::{Report, Row, Target};
use crate::serving::Serving;

/// The size of a small object in bytes.
pub(crate) const OBJECT: u64 = 1024;

/// How long each is measured in a round.
const TIME: Duration = Duration::from_millis(300);

/// Linux gives a port out again a second after its connection ended. Without a pause of that length,
/// clients would look for one for most of the time: those that closed first, as in a put, and those
/// beside many idle connections.
pub(crate) const PORTS_ARE_FREE: Duration = Duration::from_millis(1_100);

/// The structures that a bare server may have for many small objects.
pub(crate) const STRUCTURES: [Bare; 5] = [
    Bare::crowded(Structure::Pool(2)),
    Bare::crowded(Structure::Pool(4)),
    Bare::crowded(Structure::Pool(8)),
    Bare::crowded(Structure::Ready(1)),
    Bare::crowded(Structure::Ready(2)),
];

/// So many at a time. How many transfers that were.
pub(crate) fn crowd(
    at_once: usize,
    effort: Effort,
) -> impl Fn(&Pair<'_>, &Serving) -> io::Result<f64> {
    move |pair, serving| {
        let time = TIME / effort.haste;
        Ok(pair.client.crowd(serving.address()?, &pair.job, at_once, time)? as f64)
    }
}

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, a new connection each");
    for direction in [Direction::Put, Direction::Get] {
        for at_once in [1, 64] {
            let job = Job::new(direction, OBJECT);
            let crowd = crowd(at_once, effort);
            let bare = |bare| Pair::both(bare, job.clone());
            let pause = match direction {
                Direction::Put => PORTS_ARE_FREE,
                Direction::Get => Duration::ZERO,
            };
            let bare = best(
                Turns { rounds: 3, pause },
                STRUCTURES.iter().map(|it| bare(it)).collect(),
                &crowd,
            )?;
            let baseline = bare.server.name();
            let mut pairs = vec![
                Pair::both(ours, job.clone()),
                Pair { server: ours, client: bare.client, job: job.clone() },
                bare,
            ];
            let runtime = ours.runtime();
            pairs.extend(runtime.map(|runtime| Pair::both(runtime, job)));
            let measured = measure(Turns { rounds: effort.rounds, pause }, &pairs, &crowd)?;
            let [both, server, bare, rest @ ..] = &measured[..] else { continue };
            let what = format!("{direction}, {at_once} at a time");
            let row = |what, unit, ours, theirs, target| Row {
                what,
                baseline: baseline.clone(),
                unit,
                ours,
                theirs,
                target,
            };
            let rate = |what, ours: &super::Measured| {
                let (ours, theirs) = (ours.rate.clone(), bare.rate.clone());
                row(what, "a second", ours, theirs, Target::AtLeast(0.90))
            };
            report.add(rate(format!("{what}, both sides"), both));
            report.add(rate(format!("{what}, server"), server));
            for (runtime, of_runtime) in runtime.iter().zip(rest) {
                report.add(Row {
                    what: format!("{what}, both sides"),
                    baseline: runtime.name(),
                    unit: "a second",
                    ours: both.rate.clone(),
                    theirs: of_runtime.rate.clone(),
                    target: Target::None,
                });
            }
            let cpu = |it: &super::Measured| it.server(|cpu| cpu.total() * 1e6);
            let what = format!("{what}, server");
            report.add(row(what, "CPU us each", cpu(server), cpu(bare), Target::None));
            let what = format!("{direction}, {at_once} at a time, client");
            let cpu = |it: &super::Measured| it.client(|cpu: &Cpu| cpu.total() * 1e6);
            report.add(row(what, "CPU us each", cpu(both), cpu(bare), Target::None));
        }
    }
    Ok(())
}
