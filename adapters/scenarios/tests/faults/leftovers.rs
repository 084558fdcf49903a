//! What a process holds: threads, descriptors and memory.

use std::alloc::System;

use dataserver_scenarios::{eventually, kernel};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many bytes the heap may vary by, for all runs together: tables keep the room that they had when
/// most runs overlapped, and 450 runs that each leaked 150 bytes would be more.
const SLACK: usize = 64 * 1024;

/// What is held.
pub(crate) struct Held {
    threads: usize,
    descriptors: usize,
    /// As it was behind the first batch. Before that, tables have not yet the capacity that they keep.
    heap: Option<usize>,
}

impl Held {
    /// Before all.
    pub(crate) fn now() -> Self {
        Self { threads: kernel::threads(), descriptors: kernel::descriptors(), heap: None }
    }

    /// Behind a batch: nothing more than then. A thread that has been joined may take a moment to be gone.
    #[track_caller]
    pub(crate) fn is_all_there_is(&mut self, repeat: &str) {
        at_most(self.threads, "threads", kernel::threads, repeat);
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
