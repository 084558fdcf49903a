//! The core in tokio, without an adapter: [`Transfer`] is all of it, for both roles.
//!
//! ```text
//! cargo run --release --example tokio
//! ```

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use dataserver_core::{Connection, Direction, Instant, Refusal, Side, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::time::{self, Instant as TokioInstant};

/// One connection, its stream, and the object that it is about.
///
/// However it is dropped, also in the middle of `drive`, the stream is reset unless all is done.
struct Transfer<'a> {
    connection: Connection,
    stream: TcpStream,
    outgoing: Arc<[u8]>,
    incoming: Vec<u8>,
    store: &'a Store,
    epoch: TokioInstant,
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
            Some(Direction::Put) => store.newest(),
            Some(Direction::Get) | None => Arc::default(),
        };
        let epoch = TokioInstant::now();
        Ok(Self { connection, stream, outgoing, incoming: Vec::new(), store, epoch })
    }

    /// Does all that the core asks, to the end.
    async fn drive(mut self) -> io::Result<Outcome> {
        loop {
            if let Step::Done(outcome) = self.connection.step() {
                if outcome.is_ok() {
                    sockopt::set_socket_linger(&self.stream, None)?; // dropped in order, from here on
                }
                return Ok(outcome);
            }
            // Nobody but the peer can make `step` wait, since the object is in memory. Where it
            // comes from something slower, have its next bytes here before the peer's time runs.
            self.connection.wait(self.now());
            match time::timeout_at(self.due(), self.step()).await {
                Err(_) | Ok(Ok(())) => {} // the time is looked at below
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => self.connection.reset(),
            }
            // Also after progress: `timeout_at` is not on time while the stream is always ready.
            self.connection.handle_timeout(self.now());
        }
    }

    /// One step. Each has one await at most, and has moved nothing where it is dropped there.
    async fn step(&mut self) -> io::Result<()> {
        let Self { connection, stream, outgoing, incoming, store, .. } = self;
        match connection.step() {
            Step::Read { max } => {
                let mut packet = [0; StartPacket::LEN]; // so what follows it stays where it is
                match stream.read(&mut packet[..max]).await? {
                    0 => connection.end_of_stream(),
                    n => _ = connection.feed(&packet[..n]),
                }
            }
            Step::Decide(packet) => match (packet.key(), packet.direction()) {
                (KEY, direction) => {
                    if direction == Direction::Get {
                        *outgoing = store.newest();
                    }
                    connection.accept(LIMIT);
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            Step::Write { bytes, payload } => {
                let payload = rest(outgoing, 0, payload);
                let slices = [IoSlice::new(bytes), IoSlice::new(payload)];
                let n = stream.write_vectored(&slices).await?;
                connection.advance(n);
            }
            // Into the spare room of the object itself: there is no other buffer.
            Step::Receive { max } => {
                incoming.reserve(max.min(READ));
                match stream.take(max as u64).read_buf(incoming).await? {
                    0 => connection.end_of_stream(),
                    n => connection.advance(n),
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                [] => connection.end_of_object(),
                piece => {
                    let n = stream.write(piece).await?;
                    connection.advance(n);
                }
            },
            Step::Commit => {
                store.commit(incoming);
                connection.commit();
            }
            Step::Shutdown => match rest(outgoing, connection.moved(), usize::MAX) {
                // Who has closed before our end has not taken the object: that is no receipt.
                [] if connection.side() == Some(Side::Sender) && has_ended(&*stream)? => {
                    connection.end_of_stream();
                }
                [] => {
                    stream.shutdown().await?; // of the write half only
                    connection.shut_down();
                }
                // As much has been sent as was declared, and yet there is more.
                more => connection.advance(more.len()),
            },
            Step::AwaitEnd => match stream.read(&mut [0]).await? {
                0 => connection.end_of_stream(),
                n => connection.advance(n),
            },
            Step::Done(_) => {}
        }
        Ok(())
    }

    /// The time as the core takes it: since this connection began.
    fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }

    /// The core's deadline, on tokio's clock.
    fn due(&self) -> TokioInstant {
        let in_time = self.connection.deadline().map_or(FOR_EVER, Instant::since_epoch);
        self.epoch + in_time.min(FOR_EVER)
    }
}

/// What tokio's clock can hold.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How much room there is made for one read.
const READ: usize = 64 * 1024;

/// At most `max` bytes of what is behind the first `sent`.
fn rest(outgoing: &[u8], sent: u64, max: usize) -> &[u8] {
    let rest = outgoing.get(sent as usize..).unwrap_or_default(); // it is in memory, and so is this
    &rest[..rest.len().min(max)]
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

/// The application: it takes any object, and returns the newest.
#[derive(Default)]
struct Store {
    newest: Mutex<Arc<[u8]>>,
}

impl Store {
    fn newest(&self) -> Arc<[u8]> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn commit(&self, object: &mut Vec<u8>) {
        let object = std::mem::take(object);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = object.into();
    }
}

async fn serve(listener: TcpListener, outcomes: mpsc::Sender<Outcome>) -> io::Result<()> {
    let store = Arc::new(Store::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let (store, outcomes) = (Arc::clone(&store), outcomes.clone());
        tokio::spawn(async move {
            let outcome = Transfer::new(stream, None, &store)?.drive().await?;
            outcomes.send(outcome).map_err(io::Error::other)
        });
    }
}

async fn transfer(
    address: SocketAddr,
    packet: StartPacket,
    object: &[u8],
) -> io::Result<(Outcome, Vec<u8>)> {
    let store = Store { newest: Mutex::new(object.into()) };
    let stream = TcpStream::connect(address).await?;
    let outcome = Transfer::new(stream, Some(packet), &store)?.drive().await?;
    Ok((outcome, store.newest().to_vec()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let server = runtime()?;
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let (sender, outcomes) = mpsc::channel();
    thread::spawn(move || {
        if let Err(error) = server.block_on(serve(listener, sender)) {
            eprintln!("tokio: the server: {error}");
        }
    });
    peers::visit(address, &outcomes)?;

    let client = runtime()?;
    peers::receive(|address, packet, object| client.block_on(transfer(address, packet, object)))
}

/// One thread is enough here; nothing above depends on that.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}
