//! Tells the application how connections ended, on a thread of its own: an application that is slow to
//! take a report, or never returns from one, delays no connection.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dataserver_common::{
    Error, Receipt, catch_application_panic, drop_application_value, trace_server_error,
};

/// What the application gave to [`Server::on_complete`](crate::Server::on_complete).
pub(crate) type Report = dyn Fn(Result<Receipt, Error>) + Send + Sync;

/// How many reports may wait. Further ones are counted, and only their number is reported.
const QUEUE: usize = 1024;

/// How long a server that ends waits for one report to be taken.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Reporter {
    queue: SyncSender<Result<Receipt, Error>>,
    counts: Arc<Counts>,
    /// Closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Default)]
struct Counts {
    told: AtomicU64,
    lost: AtomicU64,
}

impl Reporter {
    /// Starts the thread.
    pub(crate) fn start(report: Box<Report>) -> io::Result<Self> {
        let (queue, reports) = mpsc::sync_channel(QUEUE);
        let (running, ended) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::Builder::new().spawn(move || {
            let _running = running;
            reports.into_iter().for_each(|outcome| shared.tell(&report, outcome));
        })?;
        Ok(Self { queue, counts, ended: Mutex::new(ended) })
    }

    /// Hands a report over. Never waits.
    pub(crate) fn report(&self, outcome: Result<Receipt, Error>) {
        if let Err(unsent) = self.queue.try_send(outcome) {
            drop_application_value(unsent);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the application has taken all reports, unless it takes none for a while.
    pub(crate) fn finish(self) {
        let Self { queue, counts, ended } = self;
        drop(queue);
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut told = None;
        while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let before = told.replace(counts.told.load(Ordering::Relaxed));
            if before == told {
                return;
            }
        }
    }
}

impl Counts {
    fn tell(&self, report: &Report, outcome: Result<Receipt, Error>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let unreported = || trace_server_error(Error::Unreported { connections: lost });
        let lost = (lost > 0).then(|| Err(unreported()));
        for outcome in [Some(outcome), lost].into_iter().flatten() {
            // A panic in there is the application's, and must not cost further reports.
            catch_application_panic(|| report(outcome));
            self.told.fetch_add(1, Ordering::Relaxed);
        }
    }
}
