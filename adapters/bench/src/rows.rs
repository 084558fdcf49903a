//! What is measured, one kind a file.

mod chunks;
mod files;
mod idle;
mod large;
mod sizes;
mod small;

use std::io;
use std::thread;
use std::time::Duration;

use crate::contender::{Contender, Job};
use crate::cpu::Cpu;
use crate::measure::{Effort, Samples, in_turn, seconds};
use crate::report::Report;
use crate::serving::Serving;

/// All of them, for one adapter.
///
/// # Errors
/// A transfer failed.
pub fn all(ours: &dyn Contender, report: &mut Report, effort: Effort) -> io::Result<()> {
    let rows: [(&str, Rows); 6] = [
        ("memory", large::rows),
        ("files", files::rows),
        ("small", small::rows),
        ("idle", idle::rows),
        ("chunks", chunks::rows),
        ("sizes", sizes::rows),
    ];
    // `cargo bench --bench adapters -- small idle` measures only those.
    let asked = |name: &str| {
        let mut names = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|word| word == name)
    };
    for (_, rows) in rows.iter().filter(|(name, _)| asked(name)) {
        rows(ours, report, effort)?;
    }
    Ok(())
}

type Rows = fn(&dyn Contender, &mut Report, Effort) -> io::Result<()>;

/// A server, a client and what they do.
#[derive(Clone)]
pub struct Pair<'a> {
    /// Which server.
    pub server: &'a dyn Contender,
    /// Which client.
    pub client: &'a dyn Contender,
    /// What they do.
    pub job: Job,
}

impl<'a> Pair<'a> {
    /// The same on both sides.
    pub fn both(contender: &'a dyn Contender, job: Job) -> Self {
        Self { server: contender, client: contender, job }
    }
}

/// What was measured of one pair, round by round.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Units a second.
    pub rate: Samples,
    /// Processor seconds a unit.
    server: Vec<Cpu>,
    client: Vec<Cpu>,
}

impl Measured {
    /// The server's processor seconds a unit: `part` says which.
    pub fn server(&self, part: fn(&Cpu) -> f64) -> Samples {
        self.server.iter().map(part).collect()
    }

    /// The client's.
    pub fn client(&self, part: fn(&Cpu) -> f64) -> Samples {
        self.client.iter().map(part).collect()
    }
}

/// How often things are measured in turn, and how long nothing happens before each.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Rounds that count.
    pub rounds: usize,
    /// For things whose traces would be in the way of the next.
    pub pause: Duration,
}

impl From<usize> for Turns {
    fn from(rounds: usize) -> Self {
        Self { rounds, pause: Duration::ZERO }
    }
}

/// Measures these in turn. `act` is the client, and says how many units of work it did.
///
/// # Errors
/// A transfer failed.
pub fn measure(
    turns: impl Into<Turns>,
    pairs: &[Pair<'_>],
    act: impl Fn(&Pair<'_>, &Serving) -> io::Result<f64>,
) -> io::Result<Vec<Measured>> {
    let servers = pairs.iter().map(|pair| Serving::start(pair.server, &pair.job));
    let servers = servers.collect::<io::Result<Vec<_>>>()?;
    measure_on(turns, pairs, &servers, act)
}

/// The same, on servers that run already.
///
/// # Errors
/// A transfer failed.
pub fn measure_on(
    turns: impl Into<Turns>,
    pairs: &[Pair<'_>],
    servers: &[Serving],
    act: impl Fn(&Pair<'_>, &Serving) -> io::Result<f64>,
) -> io::Result<Vec<Measured>> {
    let Turns { rounds, pause } = turns.into();
    let once = |thing: usize| {
        let (pair, serving) = (&pairs[thing], &servers[thing]);
        thread::sleep(pause);
        let before = (serving.cpu()?, Cpu::of(std::process::id())?);
        let mut units = 0.0;
        let seconds = seconds(|| act(pair, serving).map(|done| units = done))?;
        let after = (serving.cpu()?, Cpu::of(std::process::id())?);
        let each = |cpu: Cpu| Cpu { user: cpu.user / units, system: cpu.system / units };
        Ok((units / seconds, each(after.0 - before.0), each(after.1 - before.1)))
    };
    let measured = in_turn(rounds, pairs.len(), once)?;
    let gather = |results: Vec<(f64, Cpu, Cpu)>| Measured {
        rate: results.iter().map(|(rate, ..)| *rate).collect(),
        server: results.iter().map(|(_, server, _)| *server).collect(),
        client: results.iter().map(|(.., client)| *client).collect(),
    };
    Ok(measured.into_iter().map(gather).collect())
}

/// One transfer, in GB.
pub(crate) fn one(pair: &Pair<'_>, serving: &Serving) -> io::Result<f64> {
    pair.client.transfer(serving.address()?, &pair.job)?;
    Ok(pair.job.bytes as f64 / 1e9)
}

/// Which of these does best in a few rounds.
pub(crate) fn best<'a>(
    turns: impl Into<Turns>,
    pairs: Vec<Pair<'a>>,
    act: impl Fn(&Pair<'_>, &Serving) -> io::Result<f64>,
) -> io::Result<Pair<'a>> {
    let measured = measure(turns, &pairs, act)?;
    let rated = pairs.into_iter().zip(measured);
    let best = rated.max_by(|(_, a), (_, b)| a.rate.median().total_cmp(&b.rate.median()));
    best.map(|(pair, _)| pair).ok_or_else(|| io::Error::other("nothing to choose from"))
}
