//! Alternating measurements and their statistics.

use std::io;
use std::time::Instant;

/// How thoroughly a bench measures.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The number of rounds. Published figures need at least 11.
    pub rounds: usize,
    /// Divisor for object sizes and durations in quick mode.
    pub scale_divisor: u32,
}

impl Effort {
    /// Full effort, or quick mode if the environment has `BENCH_QUICK`.
    pub fn from_env() -> Self {
        match std::env::var_os("BENCH_QUICK") {
            None => Self { rounds: 11, scale_divisor: 1 },
            Some(_) => Self { rounds: 3, scale_divisor: 8 },
        }
    }
}

/// Whether the command line names this part of a bench, or none: `cargo bench --bench std_adapter -- small idle`
/// runs only these two.
pub fn is_selected(name: &str) -> bool {
    let arguments = std::env::args().skip(1);
    let mut names = arguments.filter(|argument| !argument.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|argument| argument == name)
}

/// The measurements of one value.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The first and the third quartile.
    pub fn spread(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// The ratio of each measurement to that of the same round in `other`.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Seconds per unit, if these are transfers per second of `units` each.
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

/// Calls `measure` for each of `count` subjects once per round, in alternating order. Returns a list of
/// results for each subject. The results of a first warm-up round are dropped.
///
/// # Errors
/// Returns the first error of `measure`.
pub fn alternate<T>(
    rounds: usize,
    count: usize,
    mut measure: impl FnMut(usize) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    for subject in 0..count {
        measure(subject)?;
    }
    let mut results: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..count {
            let subject = if round % 2 == 0 { turn } else { count - 1 - turn };
            results[subject].push(measure(subject)?);
        }
    }
    Ok(results)
}

/// How many seconds `operation` takes.
///
/// # Errors
/// Returns its error.
pub fn seconds(operation: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let begin = Instant::now();
    operation()?;
    Ok(begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles() {
        let samples: Samples = [5.0, 1.0, 2.0, 4.0, 3.0].into_iter().collect();
        assert_eq!(samples.median(), 3.0);
        assert_eq!(samples.spread(), (2.0, 4.0));
        assert_eq!(samples.over(&samples).median(), 1.0);
    }

    #[test]
    fn the_order_alternates() {
        let mut order = Vec::new();
        let results = alternate(2, 2, |subject| {
            order.push(subject);
            Ok(subject)
        });
        assert_eq!(results.unwrap(), [[0, 0], [1, 1]]);
        assert_eq!(order, [0, 1, 0, 1, 1, 0]);
    }
}
