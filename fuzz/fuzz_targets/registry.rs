//! Any actions on a registry, against a model of it: a list that is searched in full.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/models/registry.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    model::run(Unstructured::new(bytes));
});
