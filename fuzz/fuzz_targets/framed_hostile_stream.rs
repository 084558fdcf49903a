//! A client and a server that transfer framed objects over any hostile stream, with the laws of
//! `core/tests/framed_hostile_stream.rs`.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "only the test uses the report, to count the outcomes")]
#[path = "../../core/tests/framed_harness/mod.rs"]
mod framed_harness;

fuzz_target!(|bytes: &[u8]| {
    framed_harness::run(Unstructured::new(bytes));
});
