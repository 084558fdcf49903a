//! Any reports on either role, right or not, at any times, against a model of the connection.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/models/connection.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    model::run(Unstructured::new(bytes));
});
