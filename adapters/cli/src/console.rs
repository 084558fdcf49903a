//! What the tool prints: messages, the progress, and the outcome.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dataserver_std::Receipt;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::arguments::{Output, When};
use crate::failure::{Failure, Status};

/// Prints an error or a note. Standard error may be closed, which is not a failure.
pub(crate) fn say(line: &str) {
    writeln!(io::stderr(), "dataserver: {line}").ok();
}

/// Prints for one transfer.
#[derive(Debug)]
pub(crate) struct Console {
    level: Level,
    progress: Progress,
    json: Option<JsonTo>,
    began: Instant,
    bar: Mutex<Option<ProgressBar>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Level {
    Quiet,
    Normal,
    Verbose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Hidden,
    Bar,
    /// A line every second.
    Lines,
}

#[derive(Clone, Copy, Debug)]
enum JsonTo {
    StandardOutput,
    StandardError,
}

/// The outcome, for programs.
#[derive(Serialize)]
struct Outcome<'a> {
    outcome: &'static str,
    status: u8,
    bytes: Option<u64>,
    seconds: f64,
    peer: Option<SocketAddr>,
    cause: Option<&'a str>,
}

impl Console {
    /// `data_to_stdout`: whether the object itself is written to standard output.
    pub(crate) fn new(output: &Output, data_to_stdout: bool) -> Self {
        let level = match (output.quiet, output.verbose) {
            (true, _) => Level::Quiet,
            (false, false) => Level::Normal,
            (false, true) => Level::Verbose,
        };
        let progress = match (output.progress, io::stderr().is_terminal()) {
            (When::Auto, true) if !output.quiet => Progress::Bar,
            (When::Always, true) => Progress::Bar,
            (When::Always, false) => Progress::Lines,
            _ => Progress::Hidden,
        };
        let json = output.json.then_some(match data_to_stdout {
            true => JsonTo::StandardError,
            false => JsonTo::StandardOutput,
        });
        Self { level, progress, json, began: Instant::now(), bar: Mutex::new(None) }
    }

    /// Prints nothing.
    pub(crate) fn silent() -> Self {
        let (level, progress, json) = (Level::Quiet, Progress::Hidden, None);
        Self { level, progress, json, began: Instant::now(), bar: Mutex::new(None) }
    }

    /// Prints an error.
    pub(crate) fn error(&self, line: &str) {
        self.print(Level::Quiet, line);
    }

    /// Prints what a user wants to know.
    pub(crate) fn say(&self, line: &str) {
        self.print(Level::Normal, line);
    }

    /// Prints a detail.
    pub(crate) fn detail(&self, line: &str) {
        self.print(Level::Verbose, line);
    }

    fn print(&self, level: Level, line: &str) {
        if self.level >= level {
            match &*self.lock() {
                Some(bar) => bar.suspend(|| say(line)),
                None => say(line),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the outcome, and returns the exit status.
    pub(crate) fn conclude(&self, result: &Result<Receipt, Failure>) -> Status {
        let (status, line) = match result {
            Ok(receipt) => (Status::Success, format!("{receipt}, confirmed")),
            Err(failure) => (failure.status, failure.to_string()),
        };
        match result {
            Ok(_) => self.say(&line),
            Err(_) => self.error(&line),
        }
        if let Some(to) = self.json {
            let receipt = result.as_ref().ok();
            let outcome = Outcome {
                outcome: if receipt.is_some() { "delivered" } else { "failed" },
                status: status as u8,
                bytes: receipt.map(|receipt| receipt.bytes),
                seconds: self.began.elapsed().as_secs_f64(),
                peer: result.as_ref().map_or_else(|failure| failure.peer, |receipt| receipt.peer),
                cause: result.is_err().then_some(&line),
            };
            // Numbers and texts can always be written as JSON.
            let json = serde_json::to_string(&outcome).unwrap_or_default();
            let written = match to {
                JsonTo::StandardOutput => writeln!(io::stdout(), "{json}"),
                JsonTo::StandardError => writeln!(io::stderr(), "{json}"),
            };
            if let Err(error) = written {
                self.error(&format!("the outcome cannot be written: {error}"));
                return Status::File;
            }
        }
        status
    }

    /// Shows the progress until the result is dropped. `position` returns how many bytes have moved.
    pub(crate) fn watch(
        self: &Arc<Self>,
        len: Option<u64>,
        position: impl Fn() -> u64 + Send + 'static,
    ) -> Watch {
        let (end, ended) = mpsc::channel();
        if self.progress == Progress::Hidden {
            return Watch { end, thread: None };
        }
        let console = Arc::clone(self);
        let lines = self.progress == Progress::Lines;
        let show = move || {
            // From what is there of an earlier attempt, which says nothing about the rate.
            let bar = bar(len);
            bar.set_position(position());
            bar.reset_eta();
            if !lines {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.tick();
            }
            *console.lock() = Some(bar.clone());
            let every = Duration::from_millis(if lines { 1000 } else { 100 });
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(position());
                match lines {
                    true => say(&line(&bar, len)),
                    false => bar.tick(),
                }
            }
            *console.lock() = None;
            bar.finish_and_clear();
        };
        // Without a thread there is no progress to see, and the transfer goes on.
        Watch { end, thread: thread::Builder::new().spawn(show).ok() }
    }
}

/// A bar that is not shown yet.
fn bar(len: Option<u64>) -> ProgressBar {
    let template = match len {
        Some(_) => "{percent:>3}% [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        None => "{spinner} {bytes}, {bytes_per_sec}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(len, ProgressDrawTarget::hidden()).with_style(style)
}

fn line(bar: &ProgressBar, len: Option<u64>) -> String {
    let (moved, rate) = (HumanBytes(bar.position()), HumanBytes(bar.per_sec() as u64));
    match len {
        Some(len) => {
            format!("{moved} of {}, {rate}/s, {} left", HumanBytes(len), HumanDuration(bar.eta()))
        }
        None => format!("{moved}, {rate}/s"),
    }
}

/// Ends the display of the progress when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.end.send(()).ok();
            thread.join().ok();
        }
    }
}
