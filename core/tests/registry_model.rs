//! The registry against its model, under random actions. See `models/registry.rs`.

#![cfg(feature = "registry")]

#[path = "models/registry.rs"]
mod model;

use std::collections::BTreeMap;

use arbitrary::Unstructured;

#[test]
fn the_registry_does_as_the_model_says() {
    let mut reached = BTreeMap::new();
    for seed in 0..300 {
        let shown = ShownOnPanic(seed);
        let mut bytes = [0; 2_000];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        for outcome in model::run(Unstructured::new(&bytes)) {
            *reached.entry(outcome).or_insert(0) += 1;
        }
        drop(shown);
    }
    let all = [
        "added",
        "replaced",
        "already registered",
        "claimed",
        "not registered",
        "in use",
        "too large",
        "released",
        "delivered",
        "released without effect",
        "removed",
        "nothing to remove",
        "expired",
        "taken out",
        "nothing has expired",
        "popped",
        "empty",
    ];
    for outcome in all {
        assert!(reached.get(outcome) > Some(&100), "{outcome}: {reached:?}");
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
