//! Compares registries with a reference implementation, under any actions.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/reference/registry.rs"]
mod reference;

fuzz_target!(|bytes: &[u8]| {
    reference::run(Unstructured::new(bytes));
});
