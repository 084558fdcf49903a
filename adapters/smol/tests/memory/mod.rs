//! A stream in memory that is never ready at once: every read, write and close is an await point.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use dataserver_smol::Stream;
use futures_lite::{AsyncRead, AsyncWrite};

/// One end of a stream. Dropped before it is disarmed, it resets the other end.
pub(crate) struct End {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    armed: bool,
    /// Whether the next poll is to be turned away.
    hesitant: bool,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
    reset: bool,
    waiting: Option<Waker>,
}

/// The two ends of a stream.
pub(crate) fn stream() -> (End, End) {
    let (here, there) = (Arc::default(), Arc::default());
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| End {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        armed: true,
        hesitant: true,
    };
    (end(&here, &there), end(&there, &here))
}

impl End {
    /// Every other poll is turned away, and comes again.
    fn hesitates(&mut self, cx: &mut Context<'_>) -> bool {
        self.hesitant = !self.hesitant;
        if !self.hesitant {
            cx.waker().wake_by_ref();
        }
        !self.hesitant
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
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.incoming);
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Some(byte) = pipe.bytes.pop_front() {
            buffer[0] = byte;
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
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.outgoing);
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        pipe.bytes.push_back(bytes[0]);
        pipe.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(1))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.outgoing);
        pipe.ended = true;
        pipe.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Stream for End {
    fn disarm(&mut self) -> io::Result<()> {
        self.armed = false;
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        for pipe in [&self.incoming, &self.outgoing] {
            let mut pipe = lock(pipe);
            pipe.reset = true;
            pipe.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}
