//! Compares framed connections with a reference implementation, under random reports. See
//! `reference/framed.rs`.

#[path = "reference/framed.rs"]
mod reference;

use std::collections::BTreeSet;

use arbitrary::Unstructured;

const EVENTS: [&str; 16] = [
    "read",
    "moved",
    "end of stream",
    "reset",
    "abort",
    "timeout",
    "offer",
    "accept",
    "refuse",
    "committed",
    "shutdown",
    "declare",
    "resume",
    "digest",
    "reject",
    "next",
];

const STATES: [&str; 18] = [
    "ReadPacket",
    "Decide",
    "Resume",
    "Offer",
    "WriteStart",
    "WriteHeader",
    "WriteThenRead",
    "WriteAbort",
    "WriteReceipt",
    "Body",
    "ReadFrame",
    "WriteThenReadOpen",
    "ReadOpen",
    "Digest",
    "ReadDigest",
    "Commit",
    "Drain",
    "Done",
];

#[test]
fn a_framed_connection_behaves_like_the_reference() {
    let mut reached = BTreeSet::new();
    for seed in 0..60_000 {
        let guard = PrintOnPanic(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(16..400)];
        random.fill(&mut bytes);
        let seen = reference::run(Unstructured::new(&bytes));
        reached.extend(seen.iter().map(|(state, event, _)| (*state, *event)));
        drop(guard);
    }
    for state in STATES {
        for event in EVENTS {
            assert!(reached.contains(&(state, event)), "{event} in {state} was not reached");
        }
    }
}

/// Prints the seed if the test panics.
struct PrintOnPanic(u64);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
