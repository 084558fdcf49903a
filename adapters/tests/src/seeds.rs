//! Tests with random parameters, of which each run can be repeated by its seed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::ParseIntError;
use std::ops::Range;
use std::time::Instant;
use std::{env, thread};

/// The seeds to repeat: `7`, or `0..50`.
const VARIABLE: &str = "DATASERVER_SEED";

/// The outcomes of the runs, and how often each occurred.
pub type Counts = BTreeMap<String, usize>;

/// Runs a test for each seed, or for the seeds in the environment, with `at_once` runs at a time. After
/// each batch, `after_batch` is called with the command that repeats all runs so far.
///
/// # Panics
/// Panics if a run panics, with the command that repeats it, or if `after_batch` panics.
pub fn all<T: Display + Send>(
    test: &str,
    seeds: Range<u64>,
    at_once: usize,
    run: impl Fn(u64) -> T + Sync,
    mut after_batch: impl FnMut(&str),
) -> Counts {
    let begin = Instant::now();
    let seeds = env::var(VARIABLE).map_or(seeds, |seeds| parse(&seeds).expect("some seeds"));
    let first = seeds.start;
    let seeds: Vec<_> = seeds.collect();
    let mut counts = Counts::new();
    for batch in seeds.chunks(at_once) {
        for outcome in run_batch(test, batch, &run) {
            *counts.entry(outcome.to_string()).or_default() += 1;
        }
        let end = batch.last().map_or(first, |last| last + 1);
        after_batch(&command(test, &format!("{first}..{end}")));
    }
    println!("{test}: {} runs in {:.1} s", seeds.len(), begin.elapsed().as_secs_f64());
    for (outcome, count) in &counts {
        println!("{count:>8} {outcome}");
    }
    counts
}

fn parse(seeds: &str) -> Result<Range<u64>, ParseIntError> {
    let Some((first, end)) = seeds.split_once("..") else {
        let seed = seeds.parse()?;
        return Ok(seed..seed + 1);
    };
    Ok(first.parse()?..end.parse()?)
}

fn command(test: &str, seeds: &str) -> String {
    format!("{VARIABLE}={seeds} cargo test -p dataserver-tests --test {test} short")
}

fn run_batch<T: Send>(test: &str, seeds: &[u64], run: &(impl Fn(u64) -> T + Sync)) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = |seed: &u64| {
            let seed = *seed;
            let builder = thread::Builder::new().name(format!("seed {seed}"));
            (seed, builder.spawn_scoped(scope, move || run(seed)).expect("a thread"))
        };
        let running: Vec<_> = seeds.iter().map(spawn).collect();
        let ended = running.into_iter().map(|(seed, run)| (seed, run.join()));
        let (good, bad): (Vec<_>, Vec<_>) = ended.partition(|(_, outcome)| outcome.is_ok());
        let bad: Vec<_> = bad.iter().map(|(seed, _)| command(test, &seed.to_string())).collect();
        assert!(
            bad.is_empty(),
            "runs failed for the reasons above; each of these commands repeats one:\n{}",
            bad.join("\n")
        );
        good.into_iter().filter_map(|(_, outcome)| outcome.ok()).collect()
    })
}
