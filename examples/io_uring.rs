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
//! 3. wait for its completion, or for the deadline;
//! 4. take the buffer back, and report what happened.
//!
//! There is one operation under way at most, so the step cannot change between 1 and 4: but for
//! time, which ends the connection.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::bytes::Bytes;
use compio::io::{AsyncRead, AsyncWrite};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, spawn};
use compio::time;
use dataserver_core::{Connection, Direction, Instant, Refusal, Side, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};

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
    fn new(stream: TcpStream, client: Option<StartPacket>, store: &'a Store) -> io::Result<Self> {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?; // armed to reset
        sockopt::set_tcp_nodelay(&stream, true)?;
        let (config, start) = (peers::impatient(), Instant::default());
        let connection = match client {
            Some(packet) => Connection::client(config, packet, start),
            None => Connection::server(config, start),
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
                    sockopt::set_socket_linger(&self.stream, None)?; // closed in order, from here on
                }
                // An operation that was cancelled has the socket too, until the kernel has let go
                // of it. Only then it can be closed, and the peer see that.
                self.stream.close().await?;
                return Ok(outcome);
            }
            let now = Instant::new(self.epoch.elapsed());
            self.connection.wait(now);
            self.connection.handle_timeout(now); // who is never late must meet the transfer timer
            let deadline = self.connection.deadline();
            let left = deadline.map_or(FOR_EVER, |due| due.saturating_since(now).min(FOR_EVER));
            match time::timeout(left, self.step()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => self.connection.reset(),
                // The operation was cancelled, or had just been done: its bytes and its buffer are
                // lost. So there is no way back, and none is needed. Only what ends the connection
                // may be raced with an operation; keep the operation for anything else.
                Err(_elapsed) => self.connection.handle_timeout(deadline.unwrap_or_default()),
            }
        }
    }

    /// One step. Each operation owns its buffer until it is done.
    async fn step(&mut self) -> io::Result<()> {
        let Self { connection, stream, outgoing, incoming, store, .. } = self;
        match connection.step() {
            Step::Read { max } => {
                let packet = Vec::with_capacity(StartPacket::LEN);
                let BufResult(read, packet) = stream.read(packet.slice(..max)).await;
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
                let BufResult(written, _) = stream.write_vectored(slices).await;
                connection.advance(written?);
            }
            // The kernel writes into the spare room of the object itself: it owns it meanwhile.
            Step::Receive { max } => {
                let (start, room) = (incoming.len(), max.min(READ));
                incoming.reserve(room);
                let object = mem::take(incoming).slice(start..start + room);
                let BufResult(read, object) = stream.read(object).await;
                *incoming = object.into_inner();
                match read? {
                    0 => connection.end_of_stream(),
                    n => connection.advance(n),
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                piece if piece.is_empty() => connection.end_of_object(),
                piece => {
                    let BufResult(written, _) = stream.write(piece).await;
                    connection.advance(written?);
                }
            },
            Step::Commit => {
                *store.newest.borrow_mut() = mem::take(incoming).into();
                connection.commit();
            }
            Step::Shutdown => match rest(outgoing, connection.moved(), usize::MAX) {
                more if !more.is_empty() => connection.advance(more.len()), // than was declared
                // Who has closed before our end has not taken the object: that is no receipt.
                _ if connection.side() == Some(Side::Sender) && has_ended(&*stream)? => {
                    connection.end_of_stream();
                }
                _ => {
                    stream.shutdown().await?; // of the write half only
                    connection.shut_down();
                }
            },
            Step::AwaitEnd => {
                let BufResult(read, _) = stream.read([0]).await;
                match read? {
                    0 => connection.end_of_stream(),
                    n => connection.advance(n),
                }
            }
            Step::Done(_) => {}
        }
        Ok(())
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

/// Whether the peer has shut down its write half, and nothing is left to read before that.
fn has_ended(socket: impl AsFd) -> io::Result<bool> {
    match net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((read, _)) => Ok(read == 0),
        Err(Errno::AGAIN) => Ok(false),
        // A reset is told once. Who drops it here takes the end behind it for an orderly one.
        Err(errno) => Err(errno.into()),
    }
}

/// The application: it takes any object, and returns the newest. All on one thread, as io_uring
/// likes it.
#[derive(Default)]
struct Store {
    newest: RefCell<Bytes>,
}

async fn serve(listener: TcpListener, outcomes: mpsc::Sender<Outcome>) -> io::Result<()> {
    let store = Rc::new(Store::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let (store, outcomes) = (Rc::clone(&store), outcomes.clone());
        spawn(async move {
            let outcome = Transfer::new(stream, None, &store)?.drive().await?;
            outcomes.send(outcome).map_err(io::Error::other)
        })
        .detach();
    }
}

async fn transfer(
    address: SocketAddr,
    packet: StartPacket,
    object: &[u8],
) -> io::Result<(Outcome, Vec<u8>)> {
    let store = Store { newest: RefCell::new(Bytes::copy_from_slice(object)) };
    let stream = TcpStream::connect(address).await?;
    let outcome = Transfer::new(stream, Some(packet), &store)?.drive().await?;
    Ok((outcome, store.newest.into_inner().into()))
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
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, outcomes) = mpsc::channel();
    thread::spawn(move || {
        let serve = || {
            Runtime::new()?
                .block_on(async { serve(TcpListener::from_std(listener)?, sender).await })
        };
        if let Err(error) = serve() {
            eprintln!("io_uring: the server: {error}");
        }
    });
    peers::visit(address, &outcomes)?;

    let client = Runtime::new()?;
    peers::receive(|address, packet, object| client.block_on(transfer(address, packet, object)))
}
