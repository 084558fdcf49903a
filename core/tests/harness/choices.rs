//! Makes every choice of the harness from the bytes of the input.

use arbitrary::Unstructured;

/// When the input is used up, every choice is the first one, so that the run comes to an end.
pub(super) struct Choices<'a>(pub(super) Unstructured<'a>);

impl Choices<'_> {
    /// Returns a number from 0 to `limit` - 1.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.int_in_range(0..=limit.saturating_sub(1)).unwrap_or(0)
    }

    pub(super) fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Returns true one time in `times`, and false when the input is used up.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == times - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Returns a number from 1 to `most`, or 0 if `most` is 0.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        most - self.below(most as u64) as usize
    }
}
