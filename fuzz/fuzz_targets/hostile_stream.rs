//! A client and a server that are connected by any hostile stream, with the invariants of
//! `core/tests/hostile_stream.rs`.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "only the test uses the report, to count the outcomes")]
#[path = "../../core/tests/harness/mod.rs"]
mod harness;

fuzz_target!(|bytes: &[u8]| {
    harness::run(Unstructured::new(bytes));
});
