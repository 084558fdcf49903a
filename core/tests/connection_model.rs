//! A connection against its model, under random reports. See `models/connection.rs`.

#[path = "models/connection.rs"]
mod model;

use std::collections::BTreeSet;

use arbitrary::Unstructured;

const VERBS: [&str; 13] = [
    "feed",
    "advance",
    "would_block",
    "end_of_stream",
    "still_open",
    "shut_down",
    "reset",
    "accept",
    "refuse",
    "offer",
    "commit",
    "abort",
    "handle_timeout",
];

/// Each step, and whether it is of a sender.
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
fn the_connection_does_as_the_model_says() {
    let mut reached = BTreeSet::new();
    for seed in 0..8_000 {
        let shown = ShownOnPanic(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(16..256)];
        random.fill(&mut bytes);
        let seen = model::run(Unstructured::new(&bytes));
        reached.extend(seen.iter().map(|seen| (seen.due, seen.sends, seen.verb)));
        drop(shown);
    }
    for (step, sends) in STEPS {
        for verb in VERBS {
            assert!(reached.contains(&(step, sends, verb)), "{verb} in {step}, sends: {sends}");
        }
    }
}

/// Shows the seed that fails, to be run again alone.
struct ShownOnPanic(u64);

impl Drop for ShownOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
