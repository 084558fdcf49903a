//! Compares the connection with a reference implementation, under random reports. See
//! `reference/connection.rs`.

#[path = "reference/connection.rs"]
mod reference;

use std::collections::BTreeSet;

use arbitrary::Unstructured;

const VERBS: [&str; 14] = [
    "handle_read",
    "handle_moved",
    "handle_blocked",
    "handle_end_of_stream",
    "handle_still_open",
    "handle_shutdown",
    "reset",
    "accept",
    "refuse",
    "offer",
    "committed",
    "abort",
    "declare",
    "handle_timeout",
];

/// Each step, and whether the connection sends the object.
const STEPS: [(&str, bool); 13] = [
    ("Read", false),
    ("Decide", false),
    ("Write", false),
    ("Write", true),
    ("Receive", false),
    ("Send", true),
    ("Offer", true),
    ("Peek", true),
    ("Commit", false),
    ("Shutdown", false),
    ("Shutdown", true),
    ("AwaitEnd", false),
    ("AwaitEnd", true),
];

#[test]
fn the_connection_behaves_like_the_reference() {
    let mut reached = BTreeSet::new();
    for seed in 0..16_000 {
        let guard = PrintOnPanic(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(16..256)];
        random.fill(&mut bytes);
        let seen = reference::run(Unstructured::new(&bytes));
        reached.extend(seen.iter().map(|seen| (seen.due, seen.sends, seen.verb)));
        drop(guard);
    }
    for (step, sends) in STEPS {
        for verb in VERBS {
            assert!(
                reached.contains(&(step, sends, verb)),
                "{verb} in {step} was not reached, sends: {sends}"
            );
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
