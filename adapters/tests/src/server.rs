//! A server in a test.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use dataserver_common::{Error, Receipt};
use dataserver_core::{Direction, Entry};

use crate::adapter::{DynAdapter, RunningServer, Setup};
use crate::script::Op;
use crate::wait::{Wait, spawn};

/// A server that runs until it is dropped, and keeps the outcomes of its connections.
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The outcomes of its connections, in the order in which they were reported.
    pub outcomes: Receiver<io::Result<Receipt>>,
    running: Option<Box<dyn RunningServer>>,
}

impl Server {
    /// Starts a server.
    pub fn start(adapter: DynAdapter, setup: Setup) -> Self {
        let (sender, outcomes) = mpsc::channel();
        let on_complete = Arc::clone(&setup.on_complete);
        let setup = setup.on_complete(move |outcome| {
            _ = sender.send(outcome.clone().map_err(Into::into)); // fails if the test has ended
            on_complete(outcome);
        });
        let running = adapter.serve(setup);
        Self { address: running.address(), outcomes, running: Some(running) }
    }

    /// Registers a handler while the server runs.
    ///
    /// # Errors
    /// Returns the error of the adapter.
    pub fn add(
        &self,
        direction: Direction,
        entry: impl Into<Entry>,
        script: impl Into<Vec<Op>>,
    ) -> Result<(), Error> {
        self.running().add(direction, entry.into(), script.into())
    }

    /// Removes an entry, and returns whether there was one.
    pub fn remove(&self, direction: Direction, entry: impl Into<Entry>) -> bool {
        self.running().remove(direction, entry.into())
    }

    /// Starts a shutdown.
    pub fn stop(&self, grace: Duration) {
        self.running().stop(grace);
    }

    /// Waits until `run` returns, and returns the outcomes that were not received yet.
    ///
    /// # Panics
    /// Panics if `run` does not return, or returns an error.
    #[track_caller]
    pub fn join(mut self) -> Vec<io::Result<Receipt>> {
        self.wait_for_run().expect("`run` returns no error");
        self.outcomes.try_iter().collect()
    }

    /// Waits until `run` returns, and returns its result.
    ///
    /// # Errors
    /// Returns the error of `run`.
    ///
    /// # Panics
    /// Panics if `run` does not return.
    #[track_caller]
    pub fn result(mut self) -> Result<(), Error> {
        self.wait_for_run()
    }

    #[track_caller]
    fn wait_for_run(&mut self) -> Result<(), Error> {
        let running = self.running.take().expect("a running server");
        spawn(|| running.join()).wait()
    }

    /// The server of the adapter.
    ///
    /// # Panics
    /// Panics if it has ended.
    pub fn running(&self) -> &dyn RunningServer {
        self.running.as_deref().expect("a running server")
    }
}

/// Does not wait for the server: its handlers may wait for gates that are never opened.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop(Duration::ZERO);
        }
    }
}
