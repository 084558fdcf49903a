//! What a process holds: threads, descriptors and memory.

use std::alloc::System;

use dataserver_scenarios::{eventually, kernel};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many bytes the heap may vary by, for all runs together: tables that keep their capacity. What
/// each of 500 runs could leave unnoticed is 131 bytes, and of 10,000 it is 6.
const SLACK: usize = 64 * 1024;

/// What was held at some time.
#[derive(Debug)]
pub(crate) struct Held {
    threads: usize,
    descriptors: usize,
    heap: usize,
}

impl Held {
    pub(crate) fn now() -> Self {
        let heap = HEAP.stats();
        Self {
            threads: kernel::threads(),
            descriptors: kernel::descriptors(),
            heap: heap.bytes_allocated - heap.bytes_deallocated,
        }
    }

    /// Now it is as it was then. A thread that has been joined may take a moment to be gone.
    #[track_caller]
    pub(crate) fn is_all_there_is(&self) {
        eventually(&format!("no more than {self:?}"), || {
            let now = Self::now();
            now.threads <= self.threads
                && now.descriptors <= self.descriptors
                && now.heap <= self.heap + SLACK
        });
    }
}
