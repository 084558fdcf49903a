//! Tables, JSON and plots of the results, and which targets were met.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::measure::Samples;
use crate::plot::{Bars, Plot, draw_bars};

/// The target for a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// None: the ratio is for information.
    None,
}

impl Target {
    fn verdict(self, ratio: f64) -> &'static str {
        match self {
            Self::AtLeast(least) if ratio >= least => "met",
            Self::AtMost(most) if ratio <= most => "met",
            Self::None => "",
            _ => "MISSED",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least:.2}"),
            Self::AtMost(most) => write!(f, "<= {most:.2}"),
            Self::None => Ok(()),
        }
    }
}

/// The label of the baseline in bar charts.
pub const WITHOUT_DATASERVER: &str = "the same without dataserver";

/// The label of the baseline in line charts.
pub const PLAIN_SOCKETS: &str = "the same without dataserver (plain sockets)";

/// A comparison of the subject with a baseline.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The baseline.
    pub baseline: String,
    /// The label of the baseline in bar charts.
    pub label: &'static str,
    /// The unit of the measurements.
    pub unit: &'static str,
    /// The measurements of the subject.
    pub ours: Samples,
    /// The measurements of the baseline, from the same rounds.
    pub theirs: Samples,
    /// The target for the ratio.
    pub target: Target,
}

/// The results of one bench. Each row is printed when it is added.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    rounds: usize,
    rows: Vec<(&'static str, Row)>,
    plots: Vec<Plot>,
    group: &'static str,
}

impl Report {
    /// An empty report of a bench of this name.
    pub fn new(name: &'static str, rounds: usize) -> Self {
        Self { name, rounds, rows: Vec::new(), plots: Vec::new(), group: "" }
    }

    /// Begins a table.
    pub fn begin(&mut self, group: &'static str) {
        self.group = group;
        println!("\n## {}: {group}\n", self.name);
        println!("| what | baseline | ours | theirs | unit | ratio | spread | target | |");
        println!("|---|---|---|---|---|---|---|---|---|");
    }

    /// Adds a row to the table.
    pub fn add(&mut self, row: Row) {
        println!("{}", line(&row));
        self.rows.push((self.group, row));
    }

    /// Adds a plot.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// Prints which targets were missed, and writes JSON and plots.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn finish(self) -> io::Result<()> {
        let missed: Vec<_> = self.rows.iter().filter(|(_, row)| verdict(row) == "MISSED").collect();
        let targets = self.rows.iter().filter(|(_, row)| !matches!(row.target, Target::None));
        println!(
            "\n{}: {} of {} targets met; medians of {} alternating rounds; spread: interquartile range",
            self.name,
            targets.clone().count() - missed.len(),
            targets.count(),
            self.rounds,
        );
        for (group, row) in missed {
            println!("MISSED: {group}: {}", line(row));
        }

        let directory = results()?;
        let path = directory.join(format!("{}.json", self.name));
        fs::write(&path, format!("{:#}\n", self.to_json()))?;
        println!("{}", path.display());
        for (unit, name, title) in [
            (
                "per second",
                "transfers",
                "Objects of 1 KiB per second, with a new connection for each",
            ),
            ("CPU ms/GB", "cpu", "Processor time in ms per GB, from a file to a file"),
        ] {
            let rows = self.rows.iter().filter(|(group, row)| {
                row.unit == unit && !group.starts_with("object size") // they are in a line chart
            });
            let pair = |row: &Row| Bars {
                title: row.what.clone(),
                bars: [
                    (format!("dataserver-{}", self.name), row.ours.median()),
                    (row.label.to_owned(), row.theirs.median()),
                ],
            };
            let pairs: Vec<_> = rows.map(|(_, row)| pair(row)).collect();
            if !pairs.is_empty() {
                let path = directory.join(format!("{}-{name}.svg", self.name));
                draw_bars(&path, title, &pairs)?;
                println!("{}", path.display());
            }
        }
        for plot in &self.plots {
            let path = directory.join(format!("{}-{}.svg", self.name, plot.name));
            plot.draw(&path)?;
            println!("{}", path.display());
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let row = |(group, row): &(&str, Row)| {
            let ratio = row.ours.over(&row.theirs);
            json!({
                "group": group,
                "what": row.what,
                "baseline": row.baseline,
                "unit": row.unit,
                "ours": row.ours.median(),
                "theirs": row.theirs.median(),
                "ratio": ratio.median(),
                "spread": [ratio.spread().0, ratio.spread().1],
                "target": row.target.to_string(),
                "verdict": verdict(row),
            })
        };
        json!({
            "bench": self.name,
            "rounds": self.rounds,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "plots": self.plots.iter().map(Plot::to_json).collect::<Vec<_>>(),
        })
    }
}

fn verdict(row: &Row) -> &'static str {
    row.target.verdict(row.ours.over(&row.theirs).median())
}

fn line(row: &Row) -> String {
    let Row { what, baseline, unit, ours, theirs, target, .. } = row;
    let ratio = ours.over(theirs);
    let (low, high) = ratio.spread();
    let (ours, theirs, ratio) = (figure(ours.median()), figure(theirs.median()), ratio.median());
    let verdict = verdict(row);
    format!(
        "| {what} | {baseline} | {ours} | {theirs} | {unit} | {ratio:.3} | {low:.3} to {high:.3} \
         | {target} | {verdict} |"
    )
}

/// A number with three significant digits.
fn figure(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The directory of the results, in the target directory of cargo.
fn results() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?; // target/release/deps/name
    let target = program.ancestors().nth(3).unwrap_or(Path::new("."));
    let directory = target.join("bench-results");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
