//! *Faults*: whatever happens between client and server, nobody holds a receipt for an object that is
//! not there, nobody has half of one, and nothing is left behind. Each run is made from its seed.
//!
//! A binary of its own, since it counts what its process holds.

mod leftovers;
mod oracle;
mod plan;
mod run;

use std::sync::{Mutex, PoisonError};

use dataserver_scenarios::seeds::{self, Counts};

use crate::leftovers::Held;

/// How many runs go on at the same time: most of them wait for a timer.
const AT_ONCE: usize = 50;

/// The one who counts is alone.
static ALONE: Mutex<()> = Mutex::new(());

fn runs(count: u64) -> Counts {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What a process sets up once, it may keep: for each pair of adapters, in both directions.
    run::warm_up();
    let mut before = Held::now();
    seeds::all("faults", 0..count, AT_ONCE, run::run, |repeat| before.is_all_there_is(repeat))
}

#[test]
fn short() {
    runs(500);
}

#[test]
#[ignore = "long: 10,000 runs"]
fn long() {
    let counts = runs(10_000);
    for wanted in oracle::EVERY_ENDING {
        assert!(counts.keys().any(|ending| ending.ends_with(wanted)), "no run ended so: {wanted}");
    }
}
