//! Compares a framed connection with a reference implementation, under any reports in either role, legal or
//! not, and any bytes of the peer.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/reference/framed.rs"]
mod reference;

fuzz_target!(|bytes: &[u8]| {
    reference::run(Unstructured::new(bytes));
});
