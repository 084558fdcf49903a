//! Runs that differ by a seed, of which each can be repeated alone.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::ParseIntError;
use std::ops::Range;
use std::time::Instant;
use std::{env, thread};

/// Where the seeds to repeat are taken from: `7`, or `0..50`.
const VARIABLE: &str = "DATASERVER_SEED";

/// What each run came to, and how many came to the same.
pub type Counts = BTreeMap<String, usize>;

/// Does a run for each seed, so many at once, or for those seeds that the environment names; and
/// something behind each batch, which is told how to repeat all up to there.
///
/// # Panics
/// A run does, and then this says how to repeat it. Or what is done behind a batch does.
pub fn all<T: Display + Send>(
    test: &str,
    seeds: Range<u64>,
    at_once: usize,
    run: impl Fn(u64) -> T + Sync,
    mut behind_each_batch: impl FnMut(&str),
) -> Counts {
    let begin = Instant::now();
    let seeds = env::var(VARIABLE).map_or(seeds, |named| parse(&named).expect("some seeds"));
    let first = seeds.start;
    let seeds: Vec<_> = seeds.collect();
    let mut counts = Counts::new();
    for batch in seeds.chunks(at_once) {
        for outcome in at_the_same_time(test, batch, &run) {
            *counts.entry(outcome.to_string()).or_default() += 1;
        }
        let behind = batch.last().map_or(first, |last| last + 1);
        behind_each_batch(&command(test, &format!("{first}..{behind}")));
    }
    println!("{test}: {} runs in {:.1} s", seeds.len(), begin.elapsed().as_secs_f64());
    for (outcome, count) in &counts {
        println!("{count:>8} {outcome}");
    }
    counts
}

fn parse(named: &str) -> Result<Range<u64>, ParseIntError> {
    let Some((first, behind)) = named.split_once("..") else {
        let seed = named.parse()?;
        return Ok(seed..seed + 1);
    };
    Ok(first.parse()?..behind.parse()?)
}

fn command(test: &str, seeds: &str) -> String {
    format!("{VARIABLE}={seeds} cargo test -p dataserver-scenarios --test {test} short")
}

fn at_the_same_time<T: Send>(
    test: &str,
    seeds: &[u64],
    run: &(impl Fn(u64) -> T + Sync),
) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = |seed: &u64| {
            let seed = *seed;
            let named = thread::Builder::new().name(format!("seed {seed}"));
            (seed, named.spawn_scoped(scope, move || run(seed)).expect("a thread"))
        };
        let running: Vec<_> = seeds.iter().map(spawn).collect();
        let ended = running.into_iter().map(|(seed, run)| (seed, run.join()));
        let (good, bad): (Vec<_>, Vec<_>) = ended.partition(|(_, outcome)| outcome.is_ok());
        let bad: Vec<_> = bad.iter().map(|(seed, _)| command(test, &seed.to_string())).collect();
        assert!(
            bad.is_empty(),
            "above is why; each of these repeats one alone:\n{}",
            bad.join("\n")
        );
        good.into_iter().filter_map(|(_, outcome)| outcome.ok()).collect()
    })
}
