//! Waiting with a timeout.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// The timeout of every wait. A test that passes waits for much less.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A value that is expected within [`TIMEOUT`].
pub trait Wait {
    /// The type of the value.
    type Output;

    /// Waits for the value.
    ///
    /// # Panics
    /// Panics if it does not arrive in time.
    fn wait(&self) -> Self::Output;
}

impl<T> Wait for Receiver<T> {
    type Output = T;

    #[track_caller]
    fn wait(&self) -> T {
        match self.recv_timeout(TIMEOUT) {
            Ok(value) => value,
            Err(error) => panic!("an expected value did not arrive: {error}"),
        }
    }
}

/// Runs a function on a thread, and sends its result.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        _ = sender.send(work()); // fails if the result is not needed
    });
    receiver
}

/// Polls a condition until it holds.
///
/// # Panics
/// Panics if it does not hold in time.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "this did not happen: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
