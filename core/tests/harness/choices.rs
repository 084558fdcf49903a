//! Every choice of the harness, by words that say what for.

use arbitrary::Unstructured;

/// When the bytes are used up, every choice is the first one, and so the run comes to its end.
pub(super) struct Choices<'a>(pub(super) Unstructured<'a>);

impl Choices<'_> {
    /// 0 to `limit` - 1.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.int_in_range(0..=limit.saturating_sub(1)).unwrap_or(0)
    }

    pub(super) fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// True one time in `times`, and never when the bytes are used up.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == times - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// `most` or less, but at least 1 where that is.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        most - self.below(most as u64) as usize
    }
}
