//! Termination: no state can be reached again from itself, so every run ends.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

/// Returns the number of states, and the number of actions of the longest run. Returns `None` if a run
/// can come back to an earlier state, so that it need not end.
pub fn longest_run<M: Model<State: Clone + Hash>>(setup: &M) -> Option<(usize, usize)> {
    // A depth-first search. The states of the current path have no length yet.
    let mut lengths: HashMap<u64, Option<usize>> = HashMap::new();
    let mut path: Vec<Visit<M>> = Vec::new();
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

struct Visit<M: Model> {
    fingerprint: u64,
    /// The following states that have not been visited yet.
    next: Vec<M::State>,
    /// The most actions that follow, as far as it is known.
    length: usize,
}

impl<M: Model<State: Hash>> Visit<M> {
    fn new(setup: &M, state: &M::State) -> Self {
        Self { fingerprint: fingerprint(state), next: setup.next_states(state), length: 0 }
    }
}

/// States are identified by their hashes. Storing the states would take too much memory.
fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
