//! Compares the registry with a reference implementation, under random actions. See
//! `reference/registry.rs`.

#![cfg(feature = "registry")]

#[path = "reference/registry.rs"]
mod reference;

use std::collections::BTreeMap;

use arbitrary::Unstructured;

#[test]
fn the_registry_behaves_like_the_reference() {
    let mut reached = BTreeMap::new();
    for seed in 0..300 {
        let guard = PrintOnPanic(seed);
        let mut bytes = [0; 2_000];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        for outcome in reference::run(Unstructured::new(&bytes)) {
            *reached.entry(outcome).or_insert(0) += 1;
        }
        drop(guard);
    }
    let all = [
        "inserted",
        "replaced",
        "already registered",
        "claimed",
        "not registered",
        "in use",
        "too large",
        "released",
        "delivered",
        "released a stale lease",
        "removed",
        "nothing to remove",
        "expired",
        "taken out",
        "nothing expired",
        "popped",
        "empty",
    ];
    for outcome in all {
        assert!(reached.get(outcome) > Some(&100), "{outcome}: {reached:?}");
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
