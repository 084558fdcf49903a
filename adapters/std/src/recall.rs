//! How a server gets back the places of sessions that wait for their next object.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dataserver_common::{SHARE, socket};

/// What the sessions of a server watch while they wait.
#[derive(Debug)]
pub(crate) struct Recall {
    /// No thread waits for a connection, and no further one may be started.
    crowded: AtomicBool,
    /// The server is shutting down.
    closing: AtomicBool,
    waiting: AtomicUsize,
    /// Each byte asks one session to end, and the end of the stream asks all.
    receiver: UnixStream,
    sender: UnixStream,
}

impl Recall {
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        let waiting = AtomicUsize::new(0);
        Ok(Self {
            crowded: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            waiting,
            receiver,
            sender,
        })
    }

    /// Tells whether the server has no place for the next connection. If so, one session is asked to end,
    /// and those that begin to wait end unless their next object is there.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::SeqCst);
        if crowded && self.waiting.load(Ordering::SeqCst) > 0 {
            // If it is full, enough of them are asked.
            _ = io::Write::write(&mut &self.sender, &[0]);
        }
    }

    /// Asks all sessions to end, also those that begin to wait later.
    pub(crate) fn close(&self) {
        if !self.closing.swap(true, Ordering::SeqCst) {
            _ = self.sender.shutdown(Shutdown::Write); // it is open
        }
    }
}

/// A session that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    recall: Arc<Recall>,
    /// How many objects it has carried.
    objects: u32,
}

impl Waiting {
    pub(crate) fn new(recall: Arc<Recall>, objects: u32) -> Self {
        recall.waiting.fetch_add(1, Ordering::SeqCst);
        Self { recall, objects }
    }

    /// Whether it is to end unless its next object is there.
    pub(crate) fn is_unwelcome(&self) -> bool {
        self.recall.crowded.load(Ordering::SeqCst) || self.recall.closing.load(Ordering::SeqCst)
    }

    /// Whether it is to end in any case.
    pub(crate) fn must_end(&self) -> bool {
        let has_had_its_share = self.objects >= SHARE && self.recall.crowded.load(Ordering::SeqCst);
        has_had_its_share || self.recall.closing.load(Ordering::SeqCst)
    }

    /// Whether this is the session that is to end, when the descriptor has become readable.
    pub(crate) fn is_asked(&self) -> bool {
        socket::read(&self.recall.receiver, &mut [0]).is_ok()
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.recall.receiver.as_fd()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.recall.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
