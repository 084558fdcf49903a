//! The cases that are measured.

mod chunks;
mod files;
mod framed;
mod idle;
mod large;
mod sizes;
mod small;
mod tls;

use std::io;
use std::thread;
use std::time::Duration;

use crate::cpu::Cpu;
use crate::measure::{Effort, Samples, alternate, is_selected, seconds};
use crate::report::Report;
use crate::server_process::ServerProcess;
use crate::subject::{Job, Subject};

/// Runs all cases for one adapter, or those that the command line names.
///
/// # Errors
/// Returns an error if a transfer fails.
pub fn all(ours: &dyn Subject, report: &mut Report, effort: Effort) -> io::Result<()> {
    let cases: [(&str, Case); 9] = [
        ("memory", large::run),
        ("files", files::run),
        ("small", small::run),
        ("framed_large", framed::large),
        ("framed_small", framed::small),
        ("idle", idle::run),
        ("chunks", chunks::run),
        ("sizes", sizes::run),
        ("tls", tls::run),
    ];
    for (_, run) in cases.iter().filter(|(name, _)| is_selected(name)) {
        run(ours, report, effort)?;
    }
    Ok(())
}

type Case = fn(&dyn Subject, &mut Report, Effort) -> io::Result<()>;

/// A server, a client and their job.
#[derive(Clone)]
pub struct Pair<'a> {
    /// The server.
    pub server: &'a dyn Subject,
    /// The client.
    pub client: &'a dyn Subject,
    /// The transfer.
    pub job: Job,
}

impl<'a> Pair<'a> {
    /// The same subject on both sides.
    pub fn both(subject: &'a dyn Subject, job: Job) -> Self {
        Self { server: subject, client: subject, job }
    }
}

/// The measurements of one pair.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Units per second.
    pub rate: Samples,
    /// Processor seconds per unit.
    server: Vec<Cpu>,
    client: Vec<Cpu>,
}

impl Measured {
    /// The processor seconds per unit of the server, of which `part` selects a part.
    pub fn server(&self, part: fn(&Cpu) -> f64) -> Samples {
        self.server.iter().map(part).collect()
    }

    /// The same for the client.
    pub fn client(&self, part: fn(&Cpu) -> f64) -> Samples {
        self.client.iter().map(part).collect()
    }
}

/// The number of rounds, and a pause before each measurement.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// The number of rounds.
    pub rounds: usize,
    /// Time for the system to recover from the previous measurement.
    pub pause: Duration,
}

impl From<usize> for Rounds {
    fn from(rounds: usize) -> Self {
        Self { rounds, pause: Duration::ZERO }
    }
}

/// Measures these pairs alternately. `act` runs the client, and returns how many units it transferred.
///
/// # Errors
/// Returns an error if a transfer fails.
pub fn measure(
    rounds: impl Into<Rounds>,
    pairs: &[Pair<'_>],
    act: impl Fn(&Pair<'_>, &ServerProcess) -> io::Result<f64>,
) -> io::Result<Vec<Measured>> {
    let servers = pairs.iter().map(|pair| ServerProcess::start(pair.server, &pair.job));
    let servers = servers.collect::<io::Result<Vec<_>>>()?;
    measure_on(rounds, pairs, &servers, act)
}

/// The same, with servers that are running already.
///
/// # Errors
/// Returns an error if a transfer fails.
pub fn measure_on(
    rounds: impl Into<Rounds>,
    pairs: &[Pair<'_>],
    servers: &[ServerProcess],
    act: impl Fn(&Pair<'_>, &ServerProcess) -> io::Result<f64>,
) -> io::Result<Vec<Measured>> {
    let Rounds { rounds, pause } = rounds.into();
    let measure_one = |index: usize| {
        let (pair, server) = (&pairs[index], &servers[index]);
        thread::sleep(pause);
        let before = (server.cpu()?, Cpu::of(std::process::id())?);
        let mut units = 0.0;
        let seconds = seconds(|| act(pair, server).map(|done| units = done))?;
        let after = (server.cpu()?, Cpu::of(std::process::id())?);
        let per_unit = |cpu: Cpu| Cpu { user: cpu.user / units, system: cpu.system / units };
        Ok((units / seconds, per_unit(after.0 - before.0), per_unit(after.1 - before.1)))
    };
    let measured = alternate(rounds, pairs.len(), measure_one)?;
    let gather = |results: Vec<(f64, Cpu, Cpu)>| Measured {
        rate: results.iter().map(|(rate, ..)| *rate).collect(),
        server: results.iter().map(|(_, server, _)| *server).collect(),
        client: results.iter().map(|(.., client)| *client).collect(),
    };
    Ok(measured.into_iter().map(gather).collect())
}

/// Does one transfer. Returns its size in GB.
pub(crate) fn transfer_one(pair: &Pair<'_>, server: &ServerProcess) -> io::Result<f64> {
    pair.client.transfer(server.address()?, &pair.job)?;
    Ok(pair.job.bytes as f64 / 1e9)
}

/// The fastest of these pairs.
pub(crate) fn best<'a>(
    rounds: impl Into<Rounds>,
    pairs: Vec<Pair<'a>>,
    act: impl Fn(&Pair<'_>, &ServerProcess) -> io::Result<f64>,
) -> io::Result<Pair<'a>> {
    let measured = measure(rounds, &pairs, act)?;
    let rated = pairs.into_iter().zip(measured);
    let best = rated.max_by(|(_, a), (_, b)| a.rate.median().total_cmp(&b.rate.median()));
    best.map(|(pair, _)| pair).ok_or_else(|| io::Error::other("there is no pair to measure"))
}
