//! `share` and `collect`: one object for one peer, without a server that stays.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_std::{Entry, Error, Handlers, Receipt};

use crate::arguments::{Single, is_standard_stream};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::host;
use crate::signals;
use crate::source::Source;
use crate::target::Target;
use crate::ticket::random_key;
use crate::tls;

/// How long other connections may go on once the object has been transferred.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) fn share(options: &Single) -> Status {
    let console = Arc::new(Console::new(&options.output, false));
    console.conclude(&try_share(options, &console))
}

pub(crate) fn collect(options: &Single) -> Status {
    let console = Arc::new(Console::new(&options.output, is_standard_stream(&options.path)));
    console.conclude(&try_collect(options, &console))
}

fn try_share(options: &Single, console: &Arc<Console>) -> Result<Receipt, Failure> {
    let source = Source::open(&options.path)?;
    let once = source.is_stream(); // a stream cannot be sent again
    let (rate, shown) = (options.limits.limit_rate, Arc::clone(console));
    // One connection at a time reads the source: its entry is in use meanwhile.
    let source = Mutex::new(source);
    let kind = Kind { once, data_to_stdout: false };
    run(options, console, kind, |handlers, entry| {
        handlers.on_get(entry, move |object| {
            let source = source.lock().unwrap_or_else(PoisonError::into_inner);
            match source.rewind() {
                true => source.send(object, rate, &shown),
                false => Err(Failure::new(Status::File, "the object cannot be read again")),
            }
        })
    })
}

fn try_collect(options: &Single, console: &Arc<Console>) -> Result<Receipt, Failure> {
    let first = Target::open(&options.path)?;
    let once = first.is_in_place(); // what it was given cannot be taken back
    let first = Mutex::new(Some(first));
    let (rate, shown) = (options.limits.limit_rate, Arc::clone(console));
    let path = options.path.clone();
    let kind = Kind { once, data_to_stdout: is_standard_stream(&options.path) };
    run(options, console, kind, |handlers, entry| {
        handlers.on_put(entry, move |object| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let target = first.map_or_else(|| Target::open(&path), Ok)?;
            target.receive(object, rate, &shown)
        })
    })
}

struct Kind {
    /// Whether there can be only one attempt.
    once: bool,
    /// Whether the object is written to standard output. The ticket goes to standard error then.
    data_to_stdout: bool,
}

/// Serves one entry until its object has been transferred, and prints its ticket.
fn run(
    options: &Single,
    console: &Arc<Console>,
    Kind { once, data_to_stdout }: Kind,
    register: impl FnOnce(&Handlers, Entry) -> Result<(), Error>,
) -> Result<Receipt, Failure> {
    signals::on_termination(|signal| signals::end_process(signal))?;
    let key = random_key()?;
    let handlers = Handlers::new();
    let entry = if once { Entry::new(key).once() } else { Entry::new(key).until_delivered() };
    register(&handlers, entry)?;

    let (report, reports) = mpsc::sync_channel(1);
    let server = host::listen(&options.listen)?.handlers(handlers);
    let server = server.config(options.limits.timeouts.config());
    let server = server.on_complete(forward(report, Arc::clone(console), once));
    let (server, certificate) = tls::secure_one(server, &options.tls)?;
    let ticket = host::ticket(&server, options.host.as_deref(), key, certificate);
    let shutdown = server.shutdown_handle();
    let serve = move || server.run();
    let serving = thread::Builder::new().spawn(serve).map_err(Error::listen)?;

    match data_to_stdout {
        true => writeln!(io::stderr(), "{ticket}")?,
        false => writeln!(io::stdout(), "{ticket}")?,
    }
    let outcome = wait(&reports, options.expires);
    shutdown.shutdown(GRACE);
    match (outcome, serving.join()) {
        (Some(outcome), _) => outcome,
        (None, Ok(Err(error))) => Err(error.into()),
        (None, _) => Err(Failure::new(Status::TimedOut, "the ticket expired before it was used")),
    }
}

/// Passes on the end of the object. Connections that fail before are reported, and another one may follow.
fn forward(
    report: SyncSender<Result<Receipt, Failure>>,
    console: Arc<Console>,
    once: bool,
) -> impl Fn(Result<Receipt, Error>) + Send + Sync + 'static {
    move |outcome| {
        let concerns_object =
            matches!(&outcome, Ok(_) | Err(Error::Transfer { packet: Some(_), .. }))
                && !outcome.as_ref().is_err_and(Error::is_refused);
        match outcome {
            Err(error) if !concerns_object => console.detail(&error.to_string()),
            Err(error) if !once => console.error(&format!("{error}; waiting for another try")),
            // The first outcome is the one that counts.
            outcome => drop(report.try_send(outcome.map_err(Failure::from))),
        }
    }
}

/// Waits for the outcome; `None` if the ticket expires, or the server has failed.
fn wait(
    reports: &Receiver<Result<Receipt, Failure>>,
    expires: Option<Duration>,
) -> Option<Result<Receipt, Failure>> {
    let deadline = expires.and_then(|duration| Instant::now().checked_add(duration));
    match deadline {
        None => reports.recv().ok(),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            reports.recv_timeout(left).ok()
        }
    }
}
