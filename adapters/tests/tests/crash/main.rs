//! One side is killed with SIGKILL at any moment. There is no receipt without a stored file, no part of
//! a file under its name, and the call of the other side ends at once. A transfer that can be resumed is
//! then resumed, and is whole. Each run is derived from its seed. The
//! framed runs go through an intermediary, which forwards no reset.

mod plan;
mod run;

use dataserver_tests::seeds::{self, Counts};

/// The number of concurrent runs. Each has a process.
const CONCURRENT_RUNS: usize = 8;

fn runs(count: u64, run: fn(u64) -> String) -> Counts {
    seeds::all("crash", 0..count, CONCURRENT_RUNS, run, |_| {})
}

#[test]
fn short() {
    runs(40, run::bare);
}

#[test]
fn framed_short() {
    runs(40, run::framed);
}

#[test]
fn over_tls_short() {
    runs(20, run::over_tls);
}

#[test]
#[ignore = "long: 1,000 runs"]
fn long() {
    assert_all_occurred(&runs(1000, run::bare), |_, _| false);
}

#[test]
#[ignore = "long: 1,000 runs"]
fn framed_long() {
    // A framed receiver sends its receipt right after the commit. Hardly any kill hits the time between them.
    let is_rare = |victim: &str, how: &str| victim == "receiver" && how == run::LOST;
    assert_all_occurred(&runs(1000, run::framed), is_rare);
}

#[test]
#[ignore = "long: 1,000 runs"]
fn over_tls_long() {
    let is_rare = |victim: &str, how: &str| victim == "receiver" && how == run::LOST;
    assert_all_occurred(&runs(1000, run::over_tls), is_rare);
}

/// Asserts that the runs have covered every outcome that is not rare.
fn assert_all_occurred(counts: &Counts, is_rare: impl Fn(&str, &str) -> bool) {
    for victim in run::VICTIMS {
        for when in run::WHEN {
            assert_occurred(counts, &format!("{victim} killed {when}"), "");
        }
        for how in run::HOW.into_iter().filter(|how| !is_rare(victim, how)) {
            assert_occurred(counts, victim, how);
        }
    }
}

/// Asserts that the runs have covered this outcome.
fn assert_occurred(counts: &Counts, first: &str, last: &str) {
    let occurred = counts.keys().any(|ending| ending.starts_with(first) && ending.ends_with(last));
    assert!(occurred, "no run had this outcome: {first}, {last}");
}
