//! Many small objects, beside idle connections.

use std::io;

use dataserver_core::Direction;

use super::small::{OBJECT, PORT_REUSE, STRUCTURES, transfer_concurrently};
use super::{Pair, Rounds, measure_on};
use crate::measure::Effort;
use crate::report::{Report, Row, Target};
use crate::server_process::ServerProcess;
use crate::subject::{Job, Subject};

const IDLE: usize = 5_000;

pub(crate) fn run(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, 64 at a time, beside 5,000 idle connections");
    for direction in [Direction::Put, Direction::Get] {
        let pair = Pair { server: ours, client: &STRUCTURES[0], job: Job::new(direction, OBJECT) };
        let pairs = [pair.clone(), pair];
        let servers = [ours, ours].map(|ours| ServerProcess::start(ours, &pairs[0].job));
        let [beside, without] = servers;
        let servers = [beside?, without?];
        let _held = ServerProcess::hold(servers[0].address()?, IDLE)?;
        let turns = Rounds { rounds: effort.rounds, pause: PORT_REUSE };
        let measured = measure_on(turns, &pairs, &servers, transfer_concurrently(64, effort))?;
        report.add(Row {
            what: format!("{direction}, 64 at a time, beside 5,000 idle connections"),
            baseline: "without idle connections".to_owned(),
            label: "the same without idle connections",
            unit: "per second",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.95),
        });
    }
    Ok(())
}
