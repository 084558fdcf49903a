//! A client and a server over any hostile stream, against the model of `core/tests/pair.rs`.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the test looks at the report, to count what was reached")]
#[path = "../../core/tests/harness/mod.rs"]
mod harness;

fuzz_target!(|bytes: &[u8]| {
    harness::run(Unstructured::new(bytes));
});
