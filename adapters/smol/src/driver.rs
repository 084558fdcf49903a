//! The loop that does what the core asks, over any stream.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use dataserver_adapter::{Error, Failure, Receipt, Want, now, to_std};
use dataserver_core::{Config, Connection, Direction, Instant, Side, StartPacket, Step};
use futures_lite::FutureExt;

use crate::stream::Stream;

/// A connection, and the stream that carries it, whichever that is.
pub(crate) struct Driver<S: ?Sized = dyn Stream + Send> {
    pub(crate) connection: Connection,
    timer: Timer,
    /// When the timer is set to go off: at the deadline, or before it.
    alarm: Option<Instant>,
    /// How often in a row the stream was ready: at [`TURN`], others have their turn.
    streak: u32,
    failure: Failure,
    pub(crate) stream: S,
}

/// After so many moves in a row, other tasks have their turn: a stream that is always ready would
/// keep them from it, and itself from being stopped.
const TURN: u32 = 8;

impl Driver {
    pub(crate) fn server(stream: impl Stream + Send + 'static, config: &Config) -> Box<Self> {
        Self::new(Connection::server(*config, now()), stream)
    }

    pub(crate) fn client(
        stream: impl Stream + Send + 'static,
        packet: StartPacket,
        expected: Direction,
        config: &Config,
    ) -> Result<Box<Self>, Error> {
        Error::check_direction(packet, expected)?;
        Ok(Self::new(Connection::client(*config, packet, now()), stream))
    }

    fn new(connection: Connection, stream: impl Stream + Send + 'static) -> Box<Self> {
        let timer = Timer::never();
        Box::new(Driver {
            connection,
            timer,
            alarm: None,
            streak: 0,
            failure: Failure::default(),
            stream,
        })
    }

    /// Goes on until the application has what it wants. How many bytes of the object moved.
    pub(crate) async fn run(&mut self, mut want: Want<'_>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_run(cx, &mut want)).await
    }

    /// [`run`](Self::run), to be polled. Nothing is lost where it is not polled again: what has
    /// happened has been reported to the core.
    pub(crate) fn poll_run(
        &mut self,
        cx: &mut Context<'_>,
        want: &mut Want<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = self.connection.moved();
            match (self.connection.step(), &mut *want) {
                (Step::Read { max }, _) => {
                    let mut packet = [0; StartPacket::LEN];
                    let n = ready!(self.poll_read(cx, &mut packet[..max]));
                    self.connection.feed(&packet[..n]);
                }
                (Step::Write { bytes, payload }, want) => {
                    let mut packet = [0; StartPacket::LEN];
                    let packet = &mut packet[..bytes.len()];
                    packet.copy_from_slice(bytes);
                    let (object, last) = want.bytes(payload);
                    let slices = [IoSlice::new(packet), IoSlice::new(object)];
                    let n = ready!(self.poll_write(cx, &slices, last));
                    self.connection.advance(n);
                    if self.connection.side() == Some(Side::Receiver) {
                        self.let_others_go_first();
                    }
                }
                (Step::Receive { max }, Want::Receive(buffer)) => {
                    let max = max.min(buffer.len());
                    let n = ready!(self.poll_read(cx, &mut buffer[..max]));
                    self.connection.advance(n);
                }
                (Step::Receive { max }, Want::ReceiveFile(file)) => {
                    let received =
                        self.poll_attempt(cx, |stream, cx| stream.poll_receive_file(cx, file, max));
                    match ready!(received) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        received => self.connection.advance(received.unwrap_or(0)),
                    }
                }
                (Step::Receive { .. }, Want::End) => {
                    if ready!(self.poll_read(cx, &mut [0])) > 0 {
                        self.connection.abort("the object was not read to its end");
                    }
                }
                (Step::Send { max }, want @ (Want::Send(_) | Want::SendLast(_))) => {
                    let (object, last) = want.bytes(max);
                    let n = ready!(self.poll_write(cx, &[IoSlice::new(object)], last));
                    self.connection.advance(n);
                }
                (Step::Send { max }, Want::SendFile(file)) => {
                    let sent =
                        self.poll_attempt(cx, |stream, cx| stream.poll_send_file(cx, file, max));
                    match ready!(sent) {
                        Some(0) => return Poll::Ready(Ok(0)),
                        sent => self.connection.advance(sent.unwrap_or(0)),
                    }
                }
                (Step::Send { .. } | Step::Offer { .. }, Want::End) => {
                    self.connection.offer(0, true);
                }
                (Step::Offer { .. }, Want::Send(more) | Want::SendLast(more)) => {
                    self.connection.offer(more.len(), false);
                }
                (Step::Peek, Want::End) => match self.stream.has_ended() {
                    Ok(true) => self.connection.end_of_stream(),
                    Ok(false) => self.connection.still_open(),
                    Err(error) => self.fail(error),
                },
                (Step::Shutdown, Want::End) => {
                    let close = |stream: Pin<&mut (dyn Stream + Send)>, cx: &mut Context<'_>| {
                        stream.poll_close(cx).map_ok(|()| 0)
                    };
                    if ready!(self.poll_attempt(cx, close)).is_some() {
                        self.connection.shut_down();
                        self.let_others_go_first();
                    }
                }
                (Step::AwaitEnd, Want::Receive(_) | Want::End) => {
                    let n = ready!(self.poll_read(cx, &mut [0]));
                    self.connection.advance(n);
                }
                (Step::Commit, Want::End) => self.connection.commit(),
                (Step::Done(Err(_)), _) => return Poll::Ready(Err(self.error().into())),
                (
                    Step::Decide(_)
                    | Step::Receive { .. }
                    | Step::Send { .. }
                    | Step::Offer { .. }
                    | Step::Peek
                    | Step::Commit
                    | Step::Shutdown
                    | Step::AwaitEnd
                    | Step::Done(Ok(_)),
                    _,
                ) => return Poll::Ready(Ok(0)),
            }
            // Progress does not put off every timer: who always makes some must meet them too.
            self.connection.handle_timeout(now());
            match self.connection.moved() - before {
                0 => {}
                moved => return Poll::Ready(Ok(moved as usize)),
            }
        }
    }

    /// Ends the object, and leaves the stream to be closed in order.
    pub(crate) async fn finish(&mut self, packet: StartPacket) -> io::Result<Receipt> {
        self.run(Want::End).await?;
        self.stream.disarm()?;
        Ok(Receipt { peer: self.stream.peer(), packet, bytes: self.connection.moved() })
    }

    /// The application failed, unless the connection had before.
    pub(crate) fn abort(&mut self, reason: &'static str, source: Option<io::Error>) -> io::Error {
        self.failure.of_application(&mut self.connection, reason, source);
        self.error().into()
    }

    /// Aborts, unless the connection had ended before.
    pub(crate) fn give_up(&mut self, reason: &'static str) {
        self.failure.of_application(&mut self.connection, reason, None);
    }

    fn error(&self) -> Error {
        self.failure.error(&self.connection, self.stream.peer())
    }

    /// The peer has something to do: to try at once would be in vain.
    fn let_others_go_first(&mut self) {
        self.streak = TURN;
    }

    /// Reads some bytes. None where the stream ended or failed, as the core now knows.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let read = ready!(self.poll_attempt(cx, |stream, cx| stream.poll_read(cx, buffer)));
        if read == Some(0) {
            self.connection.end_of_stream();
        }
        Poll::Ready(read.unwrap_or(0))
    }

    /// Writes some bytes. None where the stream failed, as the core now knows.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        last: bool,
    ) -> Poll<usize> {
        let written = ready!(self.poll_attempt(cx, |stream, cx| match last {
            true => stream.poll_write_last(cx, slices),
            false => stream.poll_write_vectored(cx, slices),
        }));
        if written == Some(0) {
            self.fail(io::ErrorKind::WriteZero.into());
        }
        Poll::Ready(written.unwrap_or(0))
    }

    /// Does something on the stream that may wait for the peer, until the core's deadline.
    fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
        io: impl FnOnce(Pin<&mut (dyn Stream + Send)>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<Option<usize>> {
        if self.streak == TURN {
            self.streak = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.streak += 1;
        Poll::Ready(match io(Pin::new(&mut self.stream), cx) {
            Poll::Ready(Ok(moved)) => Some(moved),
            Poll::Ready(Err(error)) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.fail(error);
                }
                None
            }
            Poll::Pending => {
                self.streak = 0;
                let now = now();
                self.connection.would_block(now);
                if !matches!(self.connection.step(), Step::Done(_)) {
                    ready!(self.poll_deadline(cx, now));
                }
                None
            }
        })
    }

    /// Waits until the step is to be tried again, also if the stream does not become ready.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        loop {
            let Some(deadline) = self.connection.deadline(now) else {
                return Poll::Pending;
            };
            // Most deadlines are put off before they are due: one that goes off early costs less
            // than setting it anew each time.
            if self.alarm.is_none_or(|alarm| deadline < alarm) {
                self.alarm = Some(deadline);
                match to_std(deadline) {
                    Some(alarm) => self.timer.set_at(alarm),
                    None => self.timer = Timer::never(),
                }
            }
            ready!(self.timer.poll(cx));
            if self.alarm.take() == Some(deadline) {
                return Poll::Ready(());
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failure.of_stream(&mut self.connection, error);
    }
}
