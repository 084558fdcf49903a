//! Compares a connection with a reference implementation, under any reports in either role, legal or not,
//! and at any time.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/reference/connection.rs"]
mod reference;

fuzz_target!(|bytes: &[u8]| {
    reference::run(Unstructured::new(bytes));
});
