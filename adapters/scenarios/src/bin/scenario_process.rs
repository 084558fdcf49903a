//! A process of its own, to be killed, counted or starved: [`dataserver_scenarios::process`].

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// What the program holds, whatever the allocator keeps of it for later.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    dataserver_scenarios::process::main(|| {
        let stats = HEAP.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    });
}
