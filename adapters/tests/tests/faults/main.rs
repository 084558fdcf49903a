//! With any fault between client and server, there is no receipt for an object that was not stored, no
//! part of an object is stored, and nothing leaks. Each run is derived from its seed.
//!
//! This is a binary of its own, since it measures its process.

mod leaks;
mod oracle;
mod plan;
mod run;
mod sessions;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use dataserver_tests::seeds::{self, Counts};

use crate::leaks::Resources;

/// The number of concurrent runs. Most of them wait for a timer.
const CONCURRENT_RUNS: usize = 50;

/// Tests that measure the process exclude each other.
static EXCLUSIVE: Mutex<()> = Mutex::new(());

fn runs<T: Display + Send>(name: &str, count: u64, run: fn(u64) -> T) -> Counts {
    let _guard = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    // Sets up what a process keeps, for each pair of adapters and both directions.
    run::warm_up();
    let mut before = Resources::now();
    seeds::all(name, 0..count, CONCURRENT_RUNS, run, |repeat| {
        before.assert_no_growth(repeat);
    })
}

#[test]
fn short() {
    runs("faults", 500, run::bare);
}

#[test]
fn framed_short() {
    runs("faults", 500, run::framed);
}

#[test]
fn sessions_short() {
    runs("faults", 250, sessions::run);
}

#[test]
#[ignore = "long: 10,000 runs"]
fn sessions_long() {
    let counts = runs("faults", 10_000, sessions::run);
    for wanted in ["0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4"] {
        assert!(counts.keys().any(|ending| ending.contains(wanted)), "no run had {wanted} objects");
    }
}

#[test]
fn over_tls_short() {
    runs("faults", 250, run::over_tls);
}

#[test]
#[ignore = "long: 10,000 runs"]
fn over_tls_long() {
    let counts = runs("faults", 10_000, run::over_tls);
    for wanted in oracle::EVERY_FRAMED_ENDING {
        assert!(
            counts.keys().any(|ending| ending.ends_with(wanted)),
            "no run had this result: {wanted}"
        );
    }
}

#[test]
#[ignore = "long: 10,000 runs"]
fn long() {
    let counts = runs("faults", 10_000, run::bare);
    for wanted in oracle::EVERY_ENDING {
        assert!(
            counts.keys().any(|ending| ending.ends_with(wanted)),
            "no run had this result: {wanted}"
        );
    }
}

#[test]
#[ignore = "long: 10,000 runs"]
fn framed_long() {
    let counts = runs("faults", 10_000, run::framed);
    for wanted in oracle::EVERY_FRAMED_ENDING {
        assert!(
            counts.keys().any(|ending| ending.ends_with(wanted)),
            "no run had this result: {wanted}"
        );
    }
}
