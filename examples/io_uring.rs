//! The core in a completion-based loop: io_uring, through compio, and no unsafe code.
//!
//! ```text
//! cargo run --release --example io_uring
//! ```
//!
//! Elsewhere a loop asks whether a socket is ready, and then reads into whatever buffer it likes.
//! Here it hands the kernel an operation *and its buffer*, and has the buffer back when that is
//! done. The core does not notice: it never sees a buffer. A turn of the loop is:
//!
//! 1. ask [`step`](Connection::step), which borrows the connection, and copy what it says;
//! 2. give the kernel the operation, with a buffer that it owns meanwhile;
//! 3. wait for its completion; at the deadline cancel it, and wait for its completion;
//! 4. take the buffer back, and report what happened: bytes, or that the stream was not ready.
//!
//! There is one operation under way at most, so the step cannot change between 1 and 4. An operation
//! that was cancelled has still told what it moved, so nothing is lost, and it can be given to the
//! kernel again: which tries it at once, as the core asks at a deadline.

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
use dataserver_adapter::{socket, tcp};
use dataserver_core::{Config, Connection, Direction, Instant, Refusal, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use io_uring::opcode::AsyncCancel2;
use io_uring::types::{CancelBuilder, Fd};

/// One connection, its stream, and the object that it is about.
///
/// However it is dropped, the stream is reset unless all is done.
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
        tcp::limit_unsent(&stream)?;
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

    /// Does all that the core asks, to the end.
    async fn drive(mut self) -> io::Result<Outcome> {
        loop {
            if let Step::Done(outcome) = self.connection.step() {
                if outcome.is_ok() {
                    tcp::disarm(&self.stream)?; // dropped in order, from here on
                }
                // The kernel has no operation of it any more: to drop the stream closes it at once.
                return Ok(outcome);
            }
            let submitted = self.now();
            match self.step(submitted).await {
                Ok(()) => self.connection.handle_timeout(self.now()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.connection.would_block(submitted),
                    io::ErrorKind::Interrupted => {}
                    _ => self.connection.reset(),
                },
            }
        }
    }

    /// One step, or one try at it. Each operation owns its buffer until it is done.
    async fn step(&mut self, now: Instant) -> io::Result<()> {
        let deadline = self.connection.deadline(now);
        let Self { connection, stream, outgoing, incoming, store, .. } = self;
        let left = deadline.map_or(FOR_EVER, |due| due.saturating_since(now).min(FOR_EVER));
        let limit = Limit { left, socket: stream.as_raw_fd() };
        match connection.step() {
            Step::Read { max } => {
                let packet = Vec::with_capacity(StartPacket::LEN);
                let BufResult(read, packet) = limit.on(stream.read(packet.slice(..max))).await;
                match read? {
                    0 => connection.end_of_stream(),
                    _ => _ = connection.feed(&packet),
                }
            }
            Step::Decide(packet) => match (packet.key(), packet.direction()) {
                (KEY, direction) => {
                    if direction == Direction::Get {
                        *outgoing = store.newest.borrow().clone();
                    }
                    connection.accept(LIMIT);
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            // Two buffers, and one operation: the start packet must not leave in pieces.
            Step::Write { bytes, payload } => {
                let payload = rest(outgoing, 0, payload);
                let slices = [Bytes::copy_from_slice(bytes), payload];
                let BufResult(written, _) = limit.on(stream.write_vectored(slices)).await;
                connection.advance(written?);
            }
            // The kernel writes into the spare room of the object itself: it owns it meanwhile.
            Step::Receive { max } => {
                let (start, room) = (incoming.len(), max.min(READ));
                incoming.reserve(room);
                let object = mem::take(incoming).slice(start..start + room);
                let BufResult(read, object) = limit.on(stream.read(object)).await;
                *incoming = object.into_inner();
                match read? {
                    0 => connection.end_of_stream(),
                    n => connection.advance(n),
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                piece if piece.is_empty() => connection.offer(0, true),
                piece => {
                    let BufResult(written, _) = limit.on(stream.write(piece)).await;
                    connection.advance(written?);
                }
            },
            Step::Offer { max } => {
                let left = rest(outgoing, connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(&*stream)? {
                true => connection.end_of_stream(),
                false => connection.still_open(),
            },
            Step::Commit => {
                *store.newest.borrow_mut() = mem::take(incoming).into();
                connection.commit();
            }
            Step::Shutdown => {
                stream.shutdown().await?; // of the write half only
                connection.shut_down();
            }
            Step::AwaitEnd => {
                let BufResult(read, _) = limit.on(stream.read([0])).await;
                match read? {
                    0 => connection.end_of_stream(),
                    n => connection.advance(n),
                }
            }
            Step::Done(_) => {}
        }
        Ok(())
    }

    /// The time as the core takes it: since this connection began.
    fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }
}

/// How long the operation of a socket may take.
struct Limit {
    left: Duration,
    socket: RawFd,
}

impl Limit {
    /// Awaits the operation, and cancels it when its time is over: then it fails with `WouldBlock`. If no
    /// time is left, the kernel still tries it once.
    ///
    /// The operation is awaited in any case. If it were dropped, nobody would know what it has moved.
    async fn on<B>(
        &self,
        operation: impl Future<Output = BufResult<usize, B>>,
    ) -> BufResult<usize, B> {
        let mut operation = pin!(operation);
        if let Some(done) = within(self.left, operation.as_mut()).await {
            return done;
        }
        let mut cancelled = false;
        loop {
            cancelled |= runtime::submit(Cancel(self.socket)).await.0.is_ok();
            if let Some(BufResult(done, buffer)) = within(MOMENT, operation.as_mut()).await {
                let done = done.map_err(|error| match error.kind() {
                    _ if cancelled => io::ErrorKind::WouldBlock.into(),
                    // The attempt of a thread of the kernel was cancelled.
                    io::ErrorKind::Interrupted => io::ErrorKind::WouldBlock.into(),
                    _ => error,
                });
                return BufResult(done, buffer);
            }
            // The kernel was in the middle of an attempt, and did not find the operation.
        }
    }
}

/// Awaits this for so long.
async fn within<F: Future>(left: Duration, mut operation: Pin<&mut F>) -> Option<F::Output> {
    let mut alarm = pin!(time::sleep(left));
    // The operation first: the kernel does not have it before it is polled.
    poll_fn(|cx| match operation.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// How long an operation may take that was cancelled.
const MOMENT: Duration = Duration::from_millis(10);

/// Cancels the operation that waits for this socket, or fails if none does. Needs Linux 5.19.
struct Cancel(RawFd);

impl OpCode for Cancel {
    fn create_entry(self: Pin<&mut Self>) -> OpEntry {
        AsyncCancel2::new(CancelBuilder::fd(Fd(self.0))).build().into()
    }
}

/// Longer than anyone waits, and within what the clock can hold.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// How much room there is made for one read.
const READ: usize = 64 * 1024;

/// At most `max` bytes of what is behind the first `sent`; it shares them, and copies nothing.
fn rest(outgoing: &Bytes, sent: u64, max: usize) -> Bytes {
    let start = outgoing.len().min(sent as usize); // it is in memory, and so is this
    let end = outgoing.len().min(start.saturating_add(max));
    outgoing.slice(start..end)
}

/// The application: it takes any object, and returns the newest. All on one thread, as io_uring
/// likes it.
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
            let outcome = Transfer::new(stream, config, None, &store)?.drive().await?;
            outcomes.send(outcome).map_err(io::Error::other)
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

/// A server in a thread of its own.
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
        Transfer::new(stream, peers::impatient(), Some(packet), &store)?.drive().await
    })?;
    Ok((outcome, store.newest.into_inner().into()))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
