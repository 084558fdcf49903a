//! The loop that does on a transport what the core asks for.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use dataserver_common::{Action, BoxError, Error, Exchange, Goal, Receipt, Request, now, to_std};
use dataserver_core::{Config, Direction, Instant, Side, StartPacket, Step};
use futures_lite::FutureExt;

use crate::transport::Transport;

/// A connection and its transport.
pub(crate) struct Driver<T: ?Sized = dyn Transport + Send> {
    pub(crate) exchange: Exchange,
    timer: Timer,
    /// When the timer is set to go off: at the deadline, or before it.
    timer_due: Option<Instant>,
    /// How many attempts in a row did not wait.
    attempts: u32,
    pub(crate) transport: T,
}

/// After this many attempts in a row the task yields: a transport that is always ready would keep other
/// tasks from running, and this one from being cancelled.
const YIELD_AFTER: u32 = 8;

impl Driver {
    pub(crate) fn server(transport: impl Transport + Send + 'static, config: &Config) -> Box<Self> {
        Self::new(Exchange::server(config), transport)
    }

    pub(crate) fn client(
        transport: impl Transport + Send + 'static,
        direction: Direction,
        request: Request,
        config: &Config,
    ) -> Box<Self> {
        Self::new(Exchange::client(direction, request, config), transport)
    }

    fn new(exchange: Exchange, transport: impl Transport + Send + 'static) -> Box<Self> {
        let timer = Timer::never();
        Box::new(Driver { exchange, timer, timer_due: None, attempts: 0, transport })
    }

    /// Goes on until the application has what it wants. Returns how many bytes of the object moved.
    pub(crate) async fn run(&mut self, mut goal: Goal<'_>) -> Result<usize, Error> {
        poll_fn(|cx| self.poll_run(cx, &mut goal)).await
    }

    /// [`run`](Self::run), to be polled. Nothing is lost if it is not polled again: what has happened was
    /// reported to the core.
    pub(crate) fn poll_run(
        &mut self,
        cx: &mut Context<'_>,
        goal: &mut Goal<'_>,
    ) -> Poll<Result<usize, Error>> {
        loop {
            let before = self.exchange.connection.moved();
            match self.exchange.next(goal) {
                Action::ReadPacket { max } => {
                    let mut packet = [0; StartPacket::LEN];
                    if let Some(n) = ready!(self.poll_read(cx, &mut packet[..max])) {
                        self.exchange.connection.handle_read(&packet[..n]);
                    }
                }
                Action::Write { packet, object, last } => {
                    let slices = [IoSlice::new(packet.as_slice()), IoSlice::new(object)];
                    ready!(self.poll_write(cx, &slices, last));
                    if self.exchange.connection.side() == Some(Side::Receiver) {
                        self.yield_next(); // the peer has work to do: an attempt now would fail
                    }
                }
                Action::Read(buffer) => {
                    if let Some(n) = ready!(self.poll_read(cx, buffer)) {
                        self.exchange.connection.handle_moved(n);
                    }
                }
                Action::ReceiveFile { file, max } => {
                    let received = self.poll_attempt(cx, |transport, cx| {
                        transport.poll_receive_file(cx, file, max)
                    });
                    match ready!(received) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        received => self.exchange.connection.handle_moved(received.unwrap_or(0)),
                    }
                }
                Action::SendFile { file, max } => {
                    let sent = self
                        .poll_attempt(cx, |transport, cx| transport.poll_send_file(cx, file, max));
                    match ready!(sent) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        sent => self.exchange.connection.handle_moved(sent.unwrap_or(0)),
                    }
                }
                Action::ReadEnd => {
                    if let Some(n) = ready!(self.poll_read(cx, &mut [0])) {
                        self.exchange.handle_unexpected(n);
                    }
                }
                Action::Peek => match self.transport.has_ended() {
                    Ok(true) => self.exchange.connection.handle_end_of_stream(),
                    Ok(false) => self.exchange.connection.handle_still_open(),
                    Err(error) => self.exchange.transport_failed(error),
                },
                Action::Shutdown => {
                    let closed = self
                        .poll_attempt(cx, |transport, cx| transport.poll_close(cx).map_ok(|()| 0));
                    if ready!(closed).is_some() {
                        self.exchange.connection.handle_shutdown();
                        self.yield_next(); // the peer has work to do: an attempt now would fail
                    }
                }
                Action::Return => return Poll::Ready(Ok(0)),
                Action::Fail => return Poll::Ready(Err(self.error())),
            }
            // Progress does not put off the total timer.
            self.exchange.connection.handle_timeout(now());
            match self.exchange.connection.moved() - before {
                0 => {}
                moved => return Poll::Ready(Ok(moved as usize)),
            }
        }
    }

    /// Ends the object, and leaves the transport to be closed gracefully.
    pub(crate) async fn finish(&mut self) -> Result<Receipt, Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// [`finish`](Self::finish), to be polled.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receipt, Error>> {
        ready!(self.poll_run(cx, &mut Goal::End))?;
        Poll::Ready(match self.transport.disarm() {
            Ok(()) => self.exchange.receipt(self.transport.peer_addr()),
            Err(error) => {
                Err(self.abort("the transport cannot be closed gracefully", Some(error.into())))
            }
        })
    }

    /// The application failed. If the connection had failed before, its first error stays.
    pub(crate) fn abort(&mut self, reason: &'static str, source: Option<BoxError>) -> Error {
        self.exchange.abort(reason, source);
        self.error()
    }

    fn error(&self) -> Error {
        self.exchange.error(self.transport.peer_addr())
    }

    fn yield_next(&mut self) {
        self.attempts = YIELD_AFTER;
    }

    /// Reads some bytes. `None` if something else was reported to the core.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<usize>> {
        let read = ready!(self.poll_attempt(cx, |transport, cx| transport.poll_read(cx, buffer)));
        if read == Some(0) {
            self.exchange.connection.handle_end_of_stream();
        }
        Poll::Ready(read.filter(|n| *n > 0))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>], last: bool) -> Poll<()> {
        let written = self.poll_attempt(cx, |transport, cx| match last {
            true => transport.poll_write_last(cx, slices),
            false => transport.poll_write_vectored(cx, slices),
        });
        match ready!(written) {
            Some(0) => self.exchange.transport_failed(io::ErrorKind::WriteZero.into()),
            written => self.exchange.connection.handle_moved(written.unwrap_or(0)),
        }
        Poll::Ready(())
    }

    /// Does something on the transport that may wait for the peer, until the core's deadline. `None` if
    /// something else was reported to the core.
    fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
        io: impl FnOnce(Pin<&mut (dyn Transport + Send)>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<Option<usize>> {
        if self.attempts == YIELD_AFTER {
            self.attempts = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.attempts += 1;
        Poll::Ready(match io(Pin::new(&mut self.transport), cx) {
            Poll::Ready(Ok(moved)) => Some(moved),
            Poll::Ready(Err(error)) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.exchange.transport_failed(error);
                }
                None
            }
            Poll::Pending => {
                self.attempts = 0;
                let now = now();
                self.exchange.connection.handle_blocked(now);
                if !matches!(self.exchange.connection.step(), Step::Done(_)) {
                    ready!(self.poll_deadline(cx, now));
                }
                None
            }
        })
    }

    /// Waits until the step is to be tried again, also if the transport does not become ready.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        loop {
            let Some(deadline) = self.exchange.connection.deadline(now) else {
                return Poll::Pending;
            };
            // Most deadlines are put off before they are due: a timer that goes off early costs less than
            // one that is set anew each time.
            if self.timer_due.is_none_or(|due| deadline < due) {
                self.timer_due = Some(deadline);
                match to_std(deadline) {
                    Some(due) => self.timer.set_at(due),
                    None => self.timer = Timer::never(),
                }
            }
            ready!(self.timer.poll(cx));
            if self.timer_due.take() == Some(deadline) {
                return Poll::Ready(());
            }
        }
    }
}
