//! *Crash*: one side is killed with SIGKILL at any moment, and the other one carries on. No receipt
//! without a file that is stored, no part of a file under its name, and the survivor's call ends at
//! once. Each run is made from its seed.

mod plan;
mod run;

use dataserver_scenarios::seeds::{self, Counts};

/// How many runs go on at the same time. Each has a process.
const AT_ONCE: usize = 8;

fn runs(count: u64) -> Counts {
    seeds::all("crash", 0..count, AT_ONCE, run::run, |_| {})
}

#[test]
fn short() {
    runs(40);
}

#[test]
#[ignore = "long: 1,000 runs"]
fn long() {
    let counts = runs(1000);
    for victim in run::VICTIMS {
        for when in run::WHEN {
            assert_occurred(&counts, &format!("{victim} killed {when}"), "");
        }
        for how in run::HOW {
            assert_occurred(&counts, victim, how);
        }
    }
}

/// Or else not every moment has been met.
fn assert_occurred(counts: &Counts, first: &str, last: &str) {
    let occurred = counts.keys().any(|ending| ending.starts_with(first) && ending.ends_with(last));
    assert!(occurred, "no run went so: {first} … {last}");
}
