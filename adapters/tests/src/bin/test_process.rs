//! A process that is killed, measured or limited by tests: [`dataserver_tests::process_main`].

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what the program has allocated, without what the allocator keeps for reuse.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    dataserver_tests::process_main::run(|| {
        let stats = HEAP.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    });
}
