//! Detects leaks of threads, descriptors and memory.

use std::alloc::System;

use dataserver_tests::{eventually, kernel};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// By how many bytes the heap may vary over all runs. Tables keep the capacity of the busiest moment.
/// 450 runs that leak 150 bytes each would exceed this.
const SLACK: usize = 64 * 1024;

/// The resources of this process.
pub(crate) struct Resources {
    threads: usize,
    descriptors: usize,
    /// The size after the first batch, when tables have reached the capacity that they keep.
    heap: Option<usize>,
}

impl Resources {
    /// The resources before the first run.
    pub(crate) fn now() -> Self {
        Self {
            threads: kernel::threads_outside_blocking_pool(),
            descriptors: kernel::descriptors(),
            heap: None,
        }
    }

    /// Asserts that nothing was added. A thread may exist for a moment after it was joined.
    #[track_caller]
    pub(crate) fn assert_no_growth(&mut self, repeat: &str) {
        at_most(self.threads, "threads", kernel::threads_outside_blocking_pool, repeat);
        at_most(self.descriptors, "descriptors", kernel::descriptors, repeat);
        let heap_then = *self.heap.get_or_insert_with(heap);
        at_most(heap_then + SLACK, "bytes", heap, repeat);
    }
}

fn heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[track_caller]
fn at_most(limit: usize, what: &str, count: impl Fn() -> usize, repeat: &str) {
    let is = count();
    eventually(&format!("at most {limit} {what}, not {is}\n{repeat}"), || count() <= limit);
}
