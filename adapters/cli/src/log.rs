//! The log of a server: a line for each connection.
//!
//! A thread of its own writes the lines, so that no connection waits. If too many lines wait, further ones are
//! dropped and counted.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::arguments::LogFormat;

/// The target of the events of the adapter, and of those of the tool.
pub(crate) const TARGET: &str = "dataserver";

/// How many lines may wait to be written.
const WAITING: usize = 1024;

/// How long the process waits at its end for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the events of the adapter.
struct Log {
    format: LogFormat,
    level: Level,
    quiet: bool,
    lines: SyncSender<Option<String>>,
    dropped: Arc<AtomicU64>,
}

/// The thread that writes the lines. It ends when it takes a `None`.
#[must_use]
pub(crate) struct Writing {
    lines: SyncSender<Option<String>>,
    ended: Receiver<()>,
}

/// Writes the log to standard error from now on.
pub(crate) fn start(format: LogFormat, quiet: bool, verbose: bool) -> io::Result<Writing> {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    let (lines, waiting) = mpsc::sync_channel(WAITING);
    let dropped = Arc::new(AtomicU64::new(0));
    let (end, ended) = mpsc::sync_channel(1);
    let lost = Arc::clone(&dropped);
    thread::Builder::new().spawn(move || {
        write(&waiting, format, &lost);
        end.send(()).ok();
    })?;
    let log = Log { format, level, quiet, lines: lines.clone(), dropped };
    tracing::subscriber::set_global_default(Registry::default().with(log))
        .map_err(io::Error::other)?;
    Ok(Writing { lines, ended })
}

fn write(lines: &Receiver<Option<String>>, format: LogFormat, dropped: &AtomicU64) {
    while let Ok(Some(line)) = lines.recv() {
        writeln!(io::stderr(), "{line}").ok(); // it may be closed
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let record = Record { lost: Some(lost), ..Record::new("lines of the log were lost") };
            writeln!(io::stderr(), "{}", record.line(format)).ok();
        }
    }
}

impl Writing {
    /// Writes the lines that wait, for at most [`PATIENCE`].
    pub(crate) fn finish(self) {
        if self.lines.try_send(None).is_ok() {
            self.ended.recv_timeout(PATIENCE).ok();
        }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET && (metadata.is_span() || *metadata.level() <= self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::new("");
        event.record(&mut record);
        let has_failed = record.cause.is_some() && record.outcome.as_deref() != Some("refused");
        if self.quiet && !has_failed {
            return;
        }
        if self.lines.try_send(Some(record.line(self.format))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The fields of an event.
#[derive(Serialize)]
struct Record {
    time: String,
    event: String,
    peer: Option<String>,
    direction: Option<String>,
    key: Option<String>,
    size: Option<u64>,
    bytes: Option<u64>,
    seconds: Option<f64>,
    outcome: Option<String>,
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

impl Record {
    fn new(event: &str) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event: event.to_owned(),
            peer: None,
            direction: None,
            key: None,
            size: None,
            bytes: None,
            seconds: None,
            outcome: None,
            cause: None,
            lost: None,
        }
    }

    fn line(&self, format: LogFormat) -> String {
        match format {
            // Numbers and texts can always be written as JSON.
            LogFormat::Json => serde_json::to_string(self).unwrap_or_default(),
            LogFormat::Text => self.to_string(),
        }
    }
}

/// `PEER: put, key 0123abcd, 5 of 10 bytes in 0.2 s: failed: …`
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let (Some(direction), Some(key)) = (&self.direction, &self.key) {
            write!(text, "{direction}, key {key}, ")?;
        }
        match (self.bytes, self.size) {
            (Some(bytes), Some(size)) if bytes != size => {
                write!(text, "{bytes} of {size} bytes, ")?;
            }
            (Some(bytes), _) => write!(text, "{bytes} bytes, ")?,
            (None, _) => {}
        }
        if let Some(seconds) = self.seconds {
            write!(text, "{seconds:.3} s, ")?;
        }
        if let Some(lost) = self.lost {
            write!(text, "{lost} ")?;
        }
        let outcome = self.outcome.as_ref().unwrap_or(&self.event);
        match &self.cause {
            Some(cause) if cause.starts_with(outcome) => text += cause,
            Some(cause) => write!(text, "{outcome}: {cause}")?,
            None => text += outcome,
        }
        match &self.peer {
            Some(peer) => write!(f, "{peer}: {text}"),
            None => f.write_str(&text),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = match field.name() {
            "message" => return value.clone_into(&mut self.event),
            "peer" => &mut self.peer,
            "direction" => &mut self.direction,
            "key" => &mut self.key,
            "outcome" => &mut self.outcome,
            "cause" => &mut self.cause,
            _ => return,
        };
        *text = Some(value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "size" => self.size = Some(value),
            "bytes" => self.bytes = Some(value),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "seconds" {
            self.seconds = Some(value);
        }
    }
}
