//! The loop that does on a transport what the core asks for.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use blocking::{Task, unblock};
use dataserver_common::object::LEASE_LOST;
use dataserver_common::{
    Action, BoxError, Error, Exchange, Goal, LeaseError, READ_AHEAD, Receipt, Request, now, to_std,
};
use dataserver_core::{Config, Direction, Instant, Step};
use futures_lite::FutureExt;

use crate::transport::Transport;

/// A connection and its transport.
pub(crate) struct Driver<T: Transport + ?Sized = dyn Transport + Send> {
    pub(crate) exchange: Exchange,
    /// Something was written, and may wait in a buffer of the transport.
    unflushed: bool,
    timer: Timer,
    /// When the timer is set to go off: at the deadline, or before it.
    timer_due: Option<Instant>,
    /// How many attempts in a row did not wait.
    attempts: u32,
    /// The lease of the ticket is renewed on a thread for blocking calls.
    renewal: Option<Task<Result<(), LeaseError>>>,
    /// The digest of the object, which waits for another thread.
    digest: Option<Task<io::Result<[u8; 32]>>>,
    pub(crate) transport: T,
}

/// After this many attempts in a row the task yields: a transport that is always ready would keep other
/// tasks from running, and this one from being cancelled.
const YIELD_AFTER: u32 = 8;

impl Driver {
    /// The server's side of a connection that was accepted at this time.
    pub(crate) fn server(
        transport: impl Transport + Send + 'static,
        config: &Config,
        accepted_at: Instant,
    ) -> Box<Self> {
        Self::new(Exchange::server_since(config, accepted_at), transport)
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
        let (unflushed, timer_due, attempts) = (false, None, 0);
        let (renewal, digest) = (None, None);
        Box::new(Driver {
            exchange,
            unflushed,
            timer,
            timer_due,
            attempts,
            renewal,
            digest,
            transport,
        })
    }

    /// Begins with the first object of a session, over a transport that is connected already.
    pub(crate) fn first_client(&mut self, direction: Direction, request: Request, config: &Config) {
        self.exchange = Exchange::client(direction, request, config);
    }

    /// Goes on with the next object of a session, if the last one has succeeded and nothing has arrived
    /// behind it, not even the end of the stream.
    pub(crate) fn next_client(
        &mut self,
        direction: Direction,
        request: Request,
        config: &Config,
    ) -> bool {
        let is_idle = self.exchange.has_ended_session() && !self.exchange.has_read_ahead();
        if !is_idle || !self.transport.is_quiet() {
            return false;
        }
        self.exchange.next_client(direction, request, config);
        true
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
                Action::ReadProtocol { max } => {
                    let mut buffer = [0; READ_AHEAD];
                    if let Some(n) = ready!(self.poll_read(cx, &mut buffer[..max])) {
                        self.exchange.handle_read(&buffer[..n]);
                    }
                }
                Action::Write { protocol, object, last } => {
                    let slices = [IoSlice::new(protocol.as_slice()), IoSlice::new(object)];
                    let written = ready!(self.poll_write(cx, &slices, last));
                    self.exchange.handle_written(&protocol, object, written);
                    if let Step::Read { .. } | Step::Receive { .. } | Step::Done(_) =
                        self.exchange.connection.step()
                    {
                        self.yield_next(); // the peer has work to do: an attempt now would fail
                    }
                }
                Action::Read(buffer) => {
                    if let Some(n) = ready!(self.poll_read(cx, buffer)) {
                        self.exchange.handle_received(&buffer[..n]);
                    }
                }
                Action::ReceiveFile { file, max } => {
                    ready!(self.poll_flush(cx));
                    let received = self.poll_attempt(cx, |transport, cx| {
                        transport.poll_receive_file(cx, file, max)
                    });
                    match ready!(received) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        received => self.exchange.handle_file(file, received.unwrap_or(0)),
                    }
                }
                Action::SendFile { file, max } => {
                    let sent = self
                        .poll_attempt(cx, |transport, cx| transport.poll_send_file(cx, file, max));
                    match ready!(sent) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        sent => self.exchange.handle_file(file, sent.unwrap_or(0)),
                    }
                }
                Action::ReadEnd => {
                    if let Some(n) = ready!(self.poll_read(cx, &mut [0; 4096])) {
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
                Action::Skipped(n) => return Poll::Ready(Ok(n)),
                Action::Digest => {
                    let digest = ready!(self.poll_digest(cx));
                    self.exchange.handle_digest(digest);
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

    /// Finishes the digest, on a thread for blocking calls if it waits for another thread.
    fn poll_digest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<[u8; 32]>> {
        if self.digest.is_none() {
            let digest = self.exchange.take_digest();
            if !digest.is_behind() {
                return Poll::Ready(digest.finish());
            }
            self.digest = Some(unblock(move || digest.finish()));
        }
        let digest = match &mut self.digest {
            Some(digest) => ready!(digest.poll(cx)),
            None => self.exchange.take_digest().finish(),
        };
        self.digest = None;
        Poll::Ready(digest)
    }

    /// Waits until what the system has moved is hashed, before bytes that are hashed here.
    pub(crate) async fn catch_up(&mut self) {
        if self.exchange.is_digest_behind() {
            let mut digest = self.exchange.take_digest();
            digest = unblock(move || {
                digest.catch_up();
                digest
            })
            .await;
            self.exchange.give_digest(digest);
        }
    }

    /// Ends the object. In the bare format this leaves the transport to be closed gracefully. In the framed
    /// format another object may follow.
    pub(crate) async fn finish(&mut self) -> Result<Receipt, Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// [`finish`](Self::finish), to be polled.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receipt, Error>> {
        ready!(self.poll_run(cx, &mut Goal::End))?;
        ready!(self.poll_flush_receipt(cx))?;
        if !self.exchange.is_framed() {
            if let Err(error) = self.transport.disarm() {
                let reason = "the transport cannot be closed gracefully";
                return Poll::Ready(Err(self.failed_at_end(reason, error)));
            }
        }
        Poll::Ready(self.exchange.receipt(self.transport.peer_addr()))
    }

    /// The application failed. If the connection had failed before, its first error stays. The peer is
    /// told, if the format and the moment allow it.
    pub(crate) async fn abort(&mut self, reason: &'static str, source: Option<BoxError>) -> Error {
        self.exchange.abort(reason, source);
        self.conclude().await
    }

    /// Ends a connection that has failed: the peer is told why, or its reason is read.
    pub(crate) async fn conclude(&mut self) -> Error {
        match self.run(Goal::End).await {
            Ok(_) => self.error(),
            Err(error) => error,
        }
    }

    /// Goes on with the next object of the client.
    pub(crate) fn next_object(&mut self, config: &Config) {
        self.exchange.next_server(config);
    }

    /// Ends a session before its next object.
    pub(crate) async fn end_session(&mut self) {
        self.exchange.abort("the session has ended", None);
        if self.run(Goal::End).await.is_ok() {
            _ = poll_fn(|cx| self.poll_flush_receipt(cx)).await; // the peer need not know
        }
    }

    /// After the end, no timer of the core runs: a transport that cannot flush now fails.
    fn poll_flush_receipt(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.transport).poll_flush(cx));
        self.unflushed = false;
        Poll::Ready(
            flushed.map_err(|error| self.failed_at_end("the receipt cannot be sent", error)),
        )
    }

    fn failed_at_end(&self, reason: &'static str, error: io::Error) -> Error {
        let packet = self.exchange.connection.packet();
        Error::aborted(self.transport.peer_addr(), packet, reason, Some(error.into()))
    }

    /// The receiver of an object commits it when it has read its end, so a lease is renewed before that.
    pub(crate) fn poll_renew_lease(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(lease) = self.exchange.lease() else { return Poll::Ready(Ok(())) };
        let renewal = self.renewal.get_or_insert_with(|| unblock(move || lease.renew()));
        let renewed = ready!(renewal.poll(cx));
        self.renewal = None;
        Poll::Ready(match renewed {
            Ok(()) => Ok(()),
            Err(error) => {
                self.exchange.abort(LEASE_LOST, Some(error.into()));
                Err(self.error()) // the peer is told when the claim is released
            }
        })
    }

    pub(crate) async fn renew_lease(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_renew_lease(cx)).await
    }

    fn error(&self) -> Error {
        self.exchange.error(self.transport.peer_addr())
    }

    fn yield_next(&mut self) {
        self.attempts = YIELD_AFTER;
    }

    /// Reads some bytes. `None` if something else was reported to the core.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<usize>> {
        match self.exchange.take_ahead(buffer) {
            0 => {}
            taken => return Poll::Ready(Some(taken)),
        }
        ready!(self.poll_flush(cx));
        let read = ready!(self.poll_attempt(cx, |transport, cx| transport.poll_read(cx, buffer)));
        if read == Some(0) {
            self.exchange.connection.handle_end_of_stream();
        }
        Poll::Ready(read.filter(|n| *n > 0))
    }

    /// Has the transport write what waits in a buffer of it: the peer may be waiting for that.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unflushed {
            let flushed = Pin::new(&mut self.transport).poll_flush(cx).map_ok(|()| 0);
            self.unflushed = ready!(self.poll_attempted(cx, flushed)).is_none();
        }
        Poll::Ready(())
    }

    /// Returns how many bytes were written.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        last: bool,
    ) -> Poll<usize> {
        self.unflushed = true;
        let written = self.poll_attempt(cx, |transport, cx| match last {
            true => transport.poll_write_last(cx, slices),
            false => transport.poll_write_vectored(cx, slices),
        });
        match ready!(written) {
            Some(0) => self.exchange.transport_failed(io::ErrorKind::WriteZero.into()),
            written => return Poll::Ready(written.unwrap_or(0)),
        }
        Poll::Ready(0)
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
        let attempted = io(Pin::new(&mut self.transport), cx);
        self.poll_attempted(cx, attempted)
    }

    fn poll_attempted(
        &mut self,
        cx: &mut Context<'_>,
        attempted: Poll<io::Result<usize>>,
    ) -> Poll<Option<usize>> {
        Poll::Ready(match attempted {
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

/// A stream whose last object has succeeded is closed gracefully.
impl<T: Transport + ?Sized> Drop for Driver<T> {
    fn drop(&mut self) {
        if self.exchange.has_ended_session() {
            _ = self.transport.disarm(); // then it is closed as it is
        }
    }
}
