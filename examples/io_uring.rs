//! The core with completions: io_uring, through compio, without unsafe code.
//!
//! ```text
//! cargo run --release --features io_uring --example io_uring
//! ```
//!
//! A readiness loop reads into any buffer when a socket is ready. A completion loop gives the kernel an
//! operation and its buffer, and gets the buffer back when the operation is complete. The core works with
//! both, since it never sees a buffer. One turn of the loop:
//!
//! 1. ask [`step`](Connection::step), which borrows the connection, and copy its contents;
//! 2. submit the operation, with a buffer that it owns;
//! 3. wait for its completion; at the deadline, cancel it and wait for its completion;
//! 4. take the buffer back, and report the bytes that moved, or that the stream was not ready.
//!
//! At most one operation is submitted, so the step does not change between 1 and 4. A canceled operation
//! still reports the bytes that it has moved. It can be submitted again, and the kernel then tries it at
//! once, as the core requires at a deadline.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::bytes::Bytes;
use compio::driver::{OpCode, OpEntry};
use compio::io::{AsyncRead, AsyncWrite};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{self, Runtime, spawn};
use compio::time;
use dataserver_common::{socket, tcp};
use dataserver_core::{Config, Connection, Direction, Instant, Refusal, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use io_uring::opcode::AsyncCancel2;
use io_uring::types::{CancelBuilder, Fd};

/// One connection, its stream and its object.
///
/// If it is dropped before its end, the connection is reset.
struct Transfer<'a> {
    connection: Connection,
    stream: TcpStream,
    outgoing: Bytes,
    incoming: Vec<u8>,
    store: &'a Store,
    epoch: StdInstant,
}

impl<'a> Transfer<'a> {
    fn new(
        stream: TcpStream,
        config: Config,
        client: Option<StartPacket>,
        store: &'a Store,
    ) -> io::Result<Self> {
        tcp::arm(&stream)?; // to reset
        dataserver_common::limit_unsent(&stream)?;
        let connection = match client {
            Some(packet) => Connection::client(config, packet, Instant::default()),
            None => Connection::server(config, Instant::default()),
        };
        let outgoing = match client.map(|packet| packet.direction()) {
            Some(Direction::Put) => store.newest.borrow().clone(),
            Some(Direction::Get) | None => Bytes::new(),
        };
        let epoch = StdInstant::now();
        Ok(Self { connection, stream, outgoing, incoming: Vec::new(), store, epoch })
    }

    /// Serves a client: one object, or any number of framed ones.
    async fn serve(mut self, config: Config, outcomes: mpsc::Sender<Outcome>) -> io::Result<()> {
        loop {
            let outcome = self.drive().await;
            let packet = self.connection.packet();
            if packet.is_some() || outcome.is_err() {
                outcomes.send(outcome).map_err(io::Error::other)?;
            } // else the session has ended behind its last object
            match packet {
                Some(packet) if packet.is_framed() && outcome.is_ok() => {
                    self.connection = self.connection.next_server(config, self.now());
                    self.incoming.clear();
                }
                _ => return self.close(outcome.is_ok()),
            }
        }
    }

    /// Closes the stream. No operation is submitted, so that happens at once.
    fn close(self, gracefully: bool) -> io::Result<()> {
        if gracefully { tcp::disarm(&self.stream) } else { Ok(()) }
    }

    /// Drives one object to its end.
    async fn drive(&mut self) -> Outcome {
        loop {
            if let Step::Done(outcome) = self.connection.step() {
                return outcome;
            }
            let submitted = self.now();
            match self.step(submitted).await {
                Ok(()) => self.connection.handle_timeout(self.now()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.connection.handle_blocked(submitted),
                    io::ErrorKind::Interrupted => {}
                    _ => self.connection.handle_reset(),
                },
            }
        }
    }

    /// Does one step, or tries it. Each operation owns its buffer until it is complete.
    async fn step(&mut self, now: Instant) -> io::Result<()> {
        let deadline = self.connection.deadline(now);
        let Self { connection, stream, outgoing, incoming, store, .. } = self;
        let left = deadline.map_or(MAX_WAIT, |due| due.saturating_since(now).min(MAX_WAIT));
        let limit = Limit { left, socket: stream.as_raw_fd() };
        match connection.step() {
            Step::Read { max } => {
                let packet = Vec::with_capacity(StartPacket::LEN);
                let BufResult(read, packet) = limit.on(stream.read(packet.slice(..max))).await;
                match read? {
                    0 => connection.handle_end_of_stream(),
                    _ => _ = connection.handle_read(&packet),
                }
            }
            Step::Decide(packet) if packet.has_digest() => connection.refuse(Refusal::Unsupported),
            Step::Decide(packet) => match (packet.key(), packet.direction()) {
                (KEY, direction) => {
                    if direction == Direction::Get {
                        *outgoing = store.newest.borrow().clone();
                    }
                    connection.accept(Some(LIMIT));
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            // One operation with two buffers: the start packet should leave in one piece.
            Step::Write { bytes, payload } => {
                let payload = rest(outgoing, connection.moved(), payload);
                let slices = [Bytes::copy_from_slice(bytes), payload];
                let BufResult(written, _) = limit.on(stream.write_vectored(slices)).await;
                connection.handle_moved(written?);
            }
            // The kernel reads into the spare capacity of the object, which the operation owns until then.
            Step::Receive { max } => {
                let (start, room) = (incoming.len(), max.min(MAX_READ));
                incoming.reserve(room);
                let object = mem::take(incoming).slice(start..start + room);
                let BufResult(read, object) = limit.on(stream.read(object)).await;
                *incoming = object.into_inner();
                match read? {
                    0 => connection.handle_end_of_stream(),
                    n => connection.handle_moved(n),
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                piece if piece.is_empty() => connection.offer(0, true),
                piece => {
                    let BufResult(written, _) = limit.on(stream.write(piece)).await;
                    connection.handle_moved(written?);
                }
            },
            Step::Offer { max } => {
                let left = rest(outgoing, connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(&*stream)? {
                true => connection.handle_end_of_stream(),
                false => connection.handle_still_open(),
            },
            Step::Commit => {
                *store.newest.borrow_mut() = mem::take(incoming).into();
                connection.committed();
            }
            Step::Resume | Step::Digest => connection.abort("no digest was agreed upon"),
            Step::Shutdown => {
                stream.shutdown().await?; // of the write half only
                connection.handle_shutdown();
            }
            Step::AwaitEnd => {
                let BufResult(read, _) = limit.on(stream.read([0; 4096])).await;
                match read? {
                    0 => connection.handle_end_of_stream(),
                    n => connection.handle_moved(n),
                }
            }
            Step::Done(_) => {}
        }
        Ok(())
    }

    /// The time for the core: since this connection began.
    fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }
}

/// How long an operation on a socket may take.
struct Limit {
    left: Duration,
    socket: RawFd,
}

impl Limit {
    /// Awaits the operation. When its time is over, cancels it, and it fails with `WouldBlock`. Even if no
    /// time is left, the kernel tries it once.
    ///
    /// The operation is always awaited. If it were dropped, the bytes that it moved would be unknown.
    async fn on<B>(
        &self,
        operation: impl Future<Output = BufResult<usize, B>>,
    ) -> BufResult<usize, B> {
        let mut operation = pin!(operation);
        if let Some(done) = within(self.left, operation.as_mut()).await {
            return done;
        }
        let mut canceled = false;
        loop {
            canceled |= runtime::submit(Cancel(self.socket)).await.0.is_ok();
            if let Some(BufResult(done, buffer)) =
                within(CANCEL_AGAIN_AFTER, operation.as_mut()).await
            {
                let done = done.map_err(|error| match error.kind() {
                    _ if canceled => io::ErrorKind::WouldBlock.into(),
                    // A kernel thread was in an attempt, which was canceled.
                    io::ErrorKind::Interrupted => io::ErrorKind::WouldBlock.into(),
                    _ => error,
                });
                return BufResult(done, buffer);
            }
            // The kernel was in an attempt, and did not find the operation.
        }
    }
}

/// Awaits the operation for at most this long.
async fn within<F: Future>(left: Duration, mut operation: Pin<&mut F>) -> Option<F::Output> {
    let mut alarm = pin!(time::sleep(left));
    // The operation first: it is submitted when it is polled.
    poll_fn(|cx| match operation.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// How long to wait for the completion of a canceled operation before canceling it again.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Cancels the operation on this socket, or fails if there is none. Needs Linux 5.19.
struct Cancel(RawFd);

impl OpCode for Cancel {
    fn create_entry(self: Pin<&mut Self>) -> OpEntry {
        AsyncCancel2::new(CancelBuilder::fd(Fd(self.0))).build().into()
    }
}

/// The longest wait, within the range of the clock.
const MAX_WAIT: Duration = Duration::from_secs(365 * 86_400);

/// The most bytes of one read.
const MAX_READ: usize = 64 * 1024;

/// At most `max` bytes after the first `sent`, without a copy.
fn rest(outgoing: &Bytes, sent: u64, max: usize) -> Bytes {
    let start = outgoing.len().min(sent as usize); // it is in memory, so it fits
    let end = outgoing.len().min(start.saturating_add(max));
    outgoing.slice(start..end)
}

/// The application: it accepts any object, and a get returns the newest. All connections are on one
/// thread, as usual with io_uring.
#[derive(Default)]
struct Store {
    newest: RefCell<Bytes>,
}

async fn serve(
    listener: TcpListener,
    config: Config,
    outcomes: mpsc::Sender<Outcome>,
) -> io::Result<()> {
    let store = Rc::new(Store::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let (store, outcomes) = (Rc::clone(&store), outcomes.clone());
        spawn(async move {
            Transfer::new(stream, config, None, &store)?.serve(config, outcomes).await
        })
        .detach();
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("io_uring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (address, outcomes) = start(peers::impatient())?;
    peers::visit(address, &outcomes)?;
    peers::receive(transfer)
}

/// A server in another thread.
fn start(config: Config) -> Result<(SocketAddr, mpsc::Receiver<Outcome>), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, outcomes) = mpsc::channel();
    thread::spawn(move || {
        let serve = || {
            Runtime::new()?
                .block_on(async { serve(TcpListener::from_std(listener)?, config, sender).await })
        };
        if let Err(error) = serve() {
            eprintln!("io_uring: the server: {error}");
        }
    });
    Ok((address, outcomes))
}

/// One transfer.
fn transfer(
    address: SocketAddr,
    packet: StartPacket,
    object: &[u8],
) -> io::Result<(Outcome, Vec<u8>)> {
    let store = Store { newest: RefCell::new(Bytes::copy_from_slice(object)) };
    let outcome = Runtime::new()?.block_on(async {
        let stream = TcpStream::connect(address).await?;
        let mut transfer = Transfer::new(stream, peers::impatient(), Some(packet), &store)?;
        let outcome = transfer.drive().await;
        transfer.close(outcome.is_ok())?;
        Ok::<_, io::Error>(outcome)
    })?;
    Ok((outcome, store.newest.into_inner().into()))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
