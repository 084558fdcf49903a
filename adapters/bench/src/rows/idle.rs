//! Many small objects, beside connections that do nothing.

use std::io;

use dataserver_core::Direction;

use super::small::{OBJECT, PORTS_ARE_FREE, STRUCTURES, crowd};
use super::{Pair, Turns, measure_on};
use crate::contender::{Contender, Job};
use crate::measure::Effort;
use crate::report::{Report, Row, Target};
use crate::serving::Serving;

const IDLE: usize = 5_000;

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, 64 at a time, beside 5,000 idle connections");
    for direction in [Direction::Put, Direction::Get] {
        let pair = Pair { server: ours, client: &STRUCTURES[0], job: Job::new(direction, OBJECT) };
        let pairs = [pair.clone(), pair];
        let servers = [ours, ours].map(|ours| Serving::start(ours, &pairs[0].job));
        let [beside, without] = servers;
        let servers = [beside?, without?];
        let _held = Serving::hold(servers[0].address()?, IDLE)?;
        let turns = Turns { rounds: effort.rounds, pause: PORTS_ARE_FREE };
        let measured = measure_on(turns, &pairs, &servers, crowd(64, effort))?;
        report.add(Row {
            what: direction.to_string(),
            baseline: "the same without them".to_owned(),
            unit: "a second",
            ours: measured[0].rate.clone(),
            theirs: measured[1].rate.clone(),
            target: Target::AtLeast(0.95),
        });
    }
    Ok(())
}
