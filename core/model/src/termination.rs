//! That every run ends: from no state can it be reached again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

use super::{Setup, World};

/// How many states there are, and how many actions the longest run has; `None` where a run can come
/// back to where it was, and so need not end.
pub fn longest_path(setup: &Setup) -> Option<(usize, usize)> {
    // Depth first. A state that is on the path has no length yet.
    let mut lengths: HashMap<u64, Option<usize>> = HashMap::new();
    let mut path: Vec<Visit> = Vec::new();
    let mut longest = 0;
    for state in setup.init_states() {
        path.push(Visit::new(setup, &state));
        lengths.insert(fingerprint(&state), None);
        while let Some(visit) = path.last_mut() {
            let Some(next) = visit.next.pop() else {
                lengths.insert(visit.fingerprint, Some(visit.length));
                longest = longest.max(visit.length);
                let behind = visit.length + 1;
                path.pop();
                if let Some(before) = path.last_mut() {
                    before.length = before.length.max(behind);
                }
                continue;
            };
            match lengths.get(&fingerprint(&next)) {
                Some(None) => return None,
                Some(Some(known)) => visit.length = visit.length.max(known + 1),
                None => {
                    let next = Visit::new(setup, &next);
                    lengths.insert(next.fingerprint, None);
                    path.push(next);
                }
            }
        }
    }
    Some((lengths.len(), longest))
}

struct Visit {
    fingerprint: u64,
    /// What follows and is still to be visited.
    next: Vec<World>,
    /// How many actions can follow, as far as it is known.
    length: usize,
}

impl Visit {
    fn new(setup: &Setup, state: &World) -> Self {
        Self { fingerprint: fingerprint(state), next: setup.next_states(state), length: 0 }
    }
}

/// States are known by their hash: to keep them all would take too much memory.
fn fingerprint(state: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
