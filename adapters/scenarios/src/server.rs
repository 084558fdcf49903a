//! A server in a scenario.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use dataserver_adapter::{Error, Receipt};
use dataserver_core::Entry;

use crate::adapter::{Any, Running, Setup};
use crate::patience::{Soon, spawn};
use crate::script::Do;

/// A server that runs until it is dropped, and keeps what it is told of its connections.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// How connections ended, as reported.
    pub outcomes: Receiver<io::Result<Receipt>>,
    running: Option<Box<dyn Running>>,
}

impl Server {
    /// Starts one.
    pub fn start(adapter: Any, setup: Setup) -> Self {
        let (told, outcomes) = mpsc::channel();
        let also = Arc::clone(&setup.report);
        let setup = setup.report(move |outcome| {
            let copy = match &outcome {
                Ok(receipt) => Ok(*receipt),
                Err(error) => Err(match Error::of(error) {
                    Some(known) => known.clone().into(),
                    None => io::Error::new(error.kind(), error.to_string()),
                }),
            };
            let _the_scenario_is_over = told.send(outcome);
            also(copy);
        });
        let running = adapter.serve(setup);
        Self { address: running.address(), outcomes, running: Some(running) }
    }

    /// Registers a handler while it runs.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn add(&self, entry: impl Into<Entry>, script: impl Into<Vec<Do>>) -> Result<(), Error> {
        let entry = entry.into();
        self.running().add(entry.direction(), entry, script.into())
    }

    /// Takes an entry out. Whether there was one.
    pub fn remove(&self, entry: impl Into<Entry>) -> bool {
        self.running().remove(entry.into())
    }

    /// Says stop.
    pub fn stop(&self, grace: Duration) {
        self.running().stop(grace);
    }

    /// Waits for `run` to return. How connections ended of which nobody has heard yet.
    ///
    /// # Panics
    /// It does not, or with an error.
    #[track_caller]
    pub fn ends(mut self) -> Vec<io::Result<Receipt>> {
        self.join().expect("an end without an error");
        self.outcomes.try_iter().collect()
    }

    /// What `run` returns.
    ///
    /// # Errors
    /// What `run` says.
    ///
    /// # Panics
    /// It does not return.
    #[track_caller]
    pub fn end(mut self) -> io::Result<()> {
        self.join()
    }

    #[track_caller]
    fn join(&mut self) -> io::Result<()> {
        let running = self.running.take().expect("a server that runs");
        spawn(|| running.join()).soon()
    }

    /// The server itself.
    ///
    /// # Panics
    /// It has ended.
    pub fn running(&self) -> &dyn Running {
        self.running.as_deref().expect("a server that runs")
    }
}

/// Without waiting: its handlers may be behind gates that will not open.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop(Duration::ZERO);
        }
    }
}
