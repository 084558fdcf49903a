//! How a server gets back the places of sessions that wait for their next object.

use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use dataserver_common::{GRACE, SHARE};

/// What the sessions of a server watch while they wait.
pub(crate) struct Recall {
    /// No further connection may be accepted.
    crowded: AtomicBool,
    /// A message asks one session to end, and the end of the channel asks all.
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Recall {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = async_channel::bounded(1);
        Self { crowded: AtomicBool::new(false), sender, receiver }
    }

    /// Tells whether the server has no place for the next connection. If so, one session is asked to end,
    /// and those that begin to wait end soon.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::SeqCst);
        _ = match crowded {
            true => self.sender.try_send(()).is_ok(), // or one is asked already
            false => self.receiver.try_recv().is_ok(), // or it has ended
        };
    }

    /// Asks all sessions to end, also those that begin to wait later.
    pub(crate) fn close(&self) {
        self.sender.close();
    }

    /// Is ready when a session that waits, and has carried this many objects, is to end.
    pub(crate) async fn asked(&self, objects: u32) {
        match self.crowded.load(Ordering::SeqCst) {
            true if objects >= SHARE => {}
            true => _ = Timer::after(GRACE).await,
            false => _ = self.receiver.recv().await,
        }
    }
}
