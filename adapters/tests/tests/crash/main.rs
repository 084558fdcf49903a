//! One side is killed with SIGKILL at any moment. There is no receipt without a stored file, no part of
//! a file under its name, and the call of the other side ends at once. A transfer that can be resumed is
//! then resumed, and is whole. Each run is derived from its seed.

mod plan;
mod run;

use dataserver_tests::seeds::{self, Counts};

/// The number of concurrent runs. Each has a process.
const CONCURRENT_RUNS: usize = 8;

fn runs(count: u64) -> Counts {
    seeds::all("crash", 0..count, CONCURRENT_RUNS, run::run, |_| {})
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

/// Asserts that the runs have covered this outcome.
fn assert_occurred(counts: &Counts, first: &str, last: &str) {
    let occurred = counts.keys().any(|ending| ending.starts_with(first) && ending.ends_with(last));
    assert!(occurred, "no run had this outcome: {first}, {last}");
}
