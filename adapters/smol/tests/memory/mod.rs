//! An in-memory transport that is never ready at the first poll: every read, write and close is an await
//! point. It can buffer until it is flushed, and it keeps what it has seen.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use dataserver_smol::Transport;
use futures_lite::{AsyncRead, AsyncWrite};

/// One end of a transport. If it is dropped before it is disarmed, the other end is reset.
pub(crate) struct End {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    armed: bool,
    /// Whether the next poll is pending.
    is_pending: bool,
    /// What was written since the last flush. `None` if it does not buffer.
    buffer: Option<Vec<u8>>,
    /// How many bytes can be written. The writes behind them fail.
    room: usize,
    seen: Arc<Mutex<Seen>>,
}

/// What an end has seen of its driver.
#[derive(Default)]
pub(crate) struct Seen {
    /// What was written.
    pub(crate) written: Vec<u8>,
    /// The sizes of the buffers of the reads that got something.
    pub(crate) reads: Vec<usize>,
    /// How many writes have failed for want of room.
    pub(crate) failed_writes: usize,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
    reset: bool,
    waiting: Option<Waker>,
}

/// The two ends of a transport.
pub(crate) fn transport() -> (End, End) {
    let (here, there) = (Arc::default(), Arc::default());
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| End {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        armed: true,
        is_pending: true,
        buffer: None,
        room: usize::MAX,
        seen: Arc::default(),
    };
    (end(&here, &there), end(&there, &here))
}

impl End {
    /// From now on what is written waits for a flush.
    pub(crate) fn buffering(mut self) -> Self {
        self.buffer = Some(Vec::new());
        self
    }

    /// The writes behind this many bytes fail.
    pub(crate) fn failing_after(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    pub(crate) fn seen(&self) -> Arc<Mutex<Seen>> {
        Arc::clone(&self.seen)
    }

    /// Every other poll is pending, and wakes the task at once.
    fn toggle_pending(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_pending = !self.is_pending;
        if !self.is_pending {
            cx.waker().wake_by_ref();
        }
        !self.is_pending
    }
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().expect("no test panics while it holds a pipe")
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.toggle_pending(cx) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.incoming);
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Some(byte) = pipe.bytes.pop_front() {
            buffer[0] = byte;
            self.seen.lock().expect("no panic").reads.push(buffer.len());
            return Poll::Ready(Ok(1));
        }
        if pipe.ended {
            return Poll::Ready(Ok(0));
        }
        pipe.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.toggle_pending(cx) {
            return Poll::Pending;
        }
        let End { outgoing, buffer, seen, room, .. } = &mut *self;
        let mut pipe = lock(outgoing);
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut seen = seen.lock().expect("no panic");
        if *room == 0 {
            seen.failed_writes += 1;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        *room -= 1;
        seen.written.push(bytes[0]);
        if let Some(buffer) = buffer {
            buffer.push(bytes[0]);
            return Poll::Ready(Ok(1));
        }
        pipe.bytes.push_back(bytes[0]);
        pipe.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(1))
    }

    /// If it buffers, all slices in one write: a header that was cut off would be noticed.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(buffer) = &mut self.buffer else {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        };
        let before = buffer.len();
        slices.iter().for_each(|slice| buffer.extend_from_slice(slice));
        Poll::Ready(Ok(buffer.len() - before))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.buffer.as_mut().map(std::mem::take).unwrap_or_default();
        let mut pipe = lock(&self.outgoing);
        pipe.bytes.extend(waiting);
        pipe.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.toggle_pending(cx) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.outgoing);
        pipe.ended = true;
        pipe.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Transport for End {
    fn disarm(&mut self) -> io::Result<()> {
        self.armed = false;
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.armed {
            let mut pipe = lock(&self.outgoing);
            pipe.ended = true;
            return pipe.waiting.take().into_iter().for_each(Waker::wake);
        }
        for pipe in [&self.incoming, &self.outgoing] {
            let mut pipe = lock(pipe);
            pipe.reset = true;
            pipe.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}
