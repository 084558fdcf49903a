//! Many small objects, beside connections that do nothing.

use std::io;
use std::time::Duration;

use dataserver_core::Direction;

use super::small::{OBJECT, STRUCTURES, crowd};
use super::{Pair, measure_on};
use crate::contender::{Contender, Job};
use crate::measure::Effort;
use crate::report::{Report, Row, Target};
use crate::serving::Serving;

const IDLE: usize = 5_000;

/// The idle connections hold many of the ports that a client may have here, and Linux gives one out
/// again a second after it was used: without a pause, clients would mostly look for a port.
const PAUSE: Duration = Duration::from_millis(1_100);

pub(crate) fn rows(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, 64 at a time, beside 5,000 idle connections");
    for direction in [Direction::Put, Direction::Get] {
        let pair = Pair { server: ours, client: &STRUCTURES[0], job: Job::new(direction, OBJECT) };
        let pairs = [pair.clone(), pair];
        let servers = [ours, ours].map(|ours| Serving::start(ours, &pairs[0].job));
        let [beside, without] = servers;
        let servers = [beside?, without?];
        let _held = Serving::hold(servers[0].address()?, IDLE)?;
        let measured = measure_on(effort.rounds, &pairs, &servers, PAUSE, crowd(64, effort))?;
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
