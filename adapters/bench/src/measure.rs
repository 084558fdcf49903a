//! Measuring in turn, and what to say of it.

use std::io;
use std::time::Instant;

/// How many times each thing is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds that count; at least 11 where the figures do.
    pub rounds: usize,
    /// By how much objects and times are cut short.
    pub haste: u32,
}

impl Effort {
    /// What counts, or a quick look where the environment has `BENCH_QUICK`.
    pub fn from_env() -> Self {
        match std::env::var_os("BENCH_QUICK") {
            None => Self { rounds: 11, haste: 1 },
            Some(_) => Self { rounds: 3, haste: 8 },
        }
    }
}

/// A set of measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The value that half of them do not exceed.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Between which values the middle half of them lies.
    pub fn spread(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// Each of these to the one of the same round there.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Seconds per unit, where these are transfers a second of so many units each.
    #[must_use]
    pub fn per(&self, units: f64) -> Self {
        self.0.iter().map(|rate| 1.0 / (rate * units)).collect()
    }

    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = part * (sorted.len().saturating_sub(1)) as f64;
        let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
        at(index.floor()).midpoint(at(index.ceil()))
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Does each of these once in a round, and in the opposite order in every other round, so that none
/// is always first. What they returned, one list for each.
///
/// One round goes ahead that does not count.
///
/// # Errors
/// Those of the things measured.
pub fn in_turn<T>(
    rounds: usize,
    things: usize,
    mut measure: impl FnMut(usize) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    for thing in 0..things {
        measure(thing)?;
    }
    let mut results: Vec<Vec<T>> = (0..things).map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..things {
            let thing = if round % 2 == 0 { turn } else { things - 1 - turn };
            results[thing].push(measure(thing)?);
        }
    }
    Ok(results)
}

/// How many seconds something takes.
///
/// # Errors
/// Its own.
pub fn seconds(thing: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let begin = Instant::now();
    thing()?;
    Ok(begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let samples: Samples = [5.0, 1.0, 2.0, 4.0, 3.0].into_iter().collect();
        assert_eq!(samples.median(), 3.0);
        assert_eq!(samples.spread(), (2.0, 4.0));
        assert_eq!(samples.over(&samples).median(), 1.0);
    }

    #[test]
    fn nobody_is_always_first() {
        let mut order = Vec::new();
        let results = in_turn(2, 2, |thing| {
            order.push(thing);
            Ok(thing)
        });
        assert_eq!(results.unwrap(), [[0, 0], [1, 1]]);
        assert_eq!(order, [0, 1, 0, 1, 1, 0]);
    }
}
