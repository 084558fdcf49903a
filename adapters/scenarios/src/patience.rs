//! To wait for something that must happen, but not for ever.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for what must happen. No scenario that goes well waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Something that is to come.
pub trait Soon {
    /// What comes.
    type Thing;

    /// Waits for it.
    ///
    /// # Panics
    /// It does not come.
    fn soon(&self) -> Self::Thing;
}

impl<T> Soon for Receiver<T> {
    type Thing = T;

    #[track_caller]
    fn soon(&self) -> T {
        match self.recv_timeout(PATIENCE) {
            Ok(thing) => thing,
            Err(error) => panic!("what had to come did not: {error}"),
        }
    }
}

/// Does it on a thread, and says what came of it.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _nobody_waits = sender.send(work());
    });
    receiver
}

/// Waits until it is so, for what nobody reports.
///
/// # Panics
/// It never is.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
