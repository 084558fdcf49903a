//! The core in tokio, without an adapter: [`Transfer`] is all of it, for both roles.
//!
//! ```text
//! cargo run --release --example tokio
//! ```

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use dataserver_adapter::{socket, tcp};
use dataserver_core::{Config, Connection, Direction, Instant, Refusal, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::task::coop;
use tokio::time::{self, Instant as TokioInstant};

/// One connection, and the object that it is about.
struct Transfer<'a> {
    connection: Connection,
    outgoing: Arc<[u8]>,
    incoming: Vec<u8>,
    store: &'a Store,
    epoch: TokioInstant,
}

impl<'a> Transfer<'a> {
    fn new(config: Config, client: Option<StartPacket>, store: &'a Store) -> Self {
        let connection = match client {
            Some(packet) => Connection::client(config, packet, Instant::default()),
            None => Connection::server(config, Instant::default()),
        };
        let outgoing = match client.map(|packet| packet.direction()) {
            Some(Direction::Put) => store.newest(),
            Some(Direction::Get) | None => Arc::default(),
        };
        Self { connection, outgoing, incoming: Vec::new(), store, epoch: TokioInstant::now() }
    }

    /// Does all that the core asks, to the end.
    ///
    /// However this is dropped, also in the middle, the stream is reset unless all is done.
    async fn drive(mut self, stream: TcpStream) -> io::Result<Outcome> {
        tcp::arm(&stream)?; // to reset
        tcp::limit_unsent(&stream)?;
        loop {
            if let Step::Done(outcome) = self.connection.step() {
                if outcome.is_ok() {
                    tcp::disarm(&stream)?; // dropped in order, from here on
                }
                return Ok(outcome);
            }
            coop::consume_budget().await; // others have their turn, also if the peer is always ready
            let began = self.now();
            // Also if tokio has not heard that the stream is ready: it can have room long before it
            // counts as writable.
            let tried = match self.step(&stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.would_block(began);
                    self.step_when_ready(&stream, began).await
                }
                tried => tried,
            };
            match tried {
                Ok(()) => self.connection.handle_timeout(self.now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.connection.reset(),
            }
        }
    }

    /// Does the step once the stream is ready; or does nothing, if the deadline comes first.
    async fn step_when_ready(&mut self, stream: &TcpStream, now: Instant) -> io::Result<()> {
        let interest = match self.connection.step() {
            Step::Done(_) => return Ok(()),
            Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd => Interest::READABLE,
            _ => Interest::WRITABLE,
        };
        let due = self.connection.deadline(now).map_or(FOR_EVER, Instant::since_epoch);
        let due = self.epoch + due.min(FOR_EVER);
        // A step that is not done within `async_io` leaves tokio in the belief that the stream is ready.
        let step = stream.async_io(interest, || self.step(stream));
        time::timeout_at(due, step).await.unwrap_or(Ok(()))
    }

    /// Does what the core asks, once, without waiting, and tells it what happened. Nobody but the peer
    /// can hold it up, since the object is in memory. If it comes from something slower, have its next
    /// bytes here before the stream is tried.
    fn step(&mut self, stream: &TcpStream) -> io::Result<()> {
        let Self { connection, outgoing, incoming, store, .. } = self;
        match connection.step() {
            Step::Read { max } => {
                let mut packet = [0; StartPacket::LEN]; // so what follows it stays where it is
                match socket::read(stream, &mut packet[..max])? {
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
                let n = socket::write(stream, &[IoSlice::new(bytes), IoSlice::new(payload)])?;
                connection.advance(n);
            }
            // A connection that waits has no buffer.
            Step::Receive { max } => {
                let mut buffer = [0; READ];
                match socket::read(stream, &mut buffer[..max.min(READ)])? {
                    0 => connection.end_of_stream(),
                    n => {
                        incoming.extend_from_slice(&buffer[..n]);
                        connection.advance(n);
                    }
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                [] => connection.offer(0, true),
                piece => {
                    let n = socket::write(stream, &[IoSlice::new(piece)])?;
                    connection.advance(n);
                }
            },
            Step::Offer { max } => {
                let left = rest(outgoing, connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(stream)? {
                true => connection.end_of_stream(),
                false => connection.still_open(),
            },
            Step::Commit => {
                store.commit(incoming);
                connection.commit();
            }
            Step::Shutdown => {
                socket::shut_down(stream)?;
                connection.shut_down();
            }
            Step::AwaitEnd => match socket::read(stream, &mut [0])? {
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
}

/// What tokio's clock can hold.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How much one read may take.
const READ: usize = 16 * 1024;

/// At most `max` bytes of what is behind the first `sent`.
fn rest(outgoing: &[u8], sent: u64, max: usize) -> &[u8] {
    let rest = outgoing.get(sent as usize..).unwrap_or_default(); // it is in memory, and so is this
    &rest[..rest.len().min(max)]
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

async fn serve(
    listener: TcpListener,
    config: Config,
    outcomes: mpsc::Sender<Outcome>,
) -> io::Result<()> {
    let store = Arc::new(Store::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let (store, outcomes) = (Arc::clone(&store), outcomes.clone());
        tokio::spawn(async move {
            let outcome = Transfer::new(config, None, &store).drive(stream).await?;
            outcomes.send(outcome).map_err(io::Error::other)
        });
    }
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
    let (address, outcomes) = start(peers::impatient())?;
    peers::visit(address, &outcomes)?;
    peers::receive(transfer)
}

/// A server in a thread of its own.
fn start(config: Config) -> Result<(SocketAddr, mpsc::Receiver<Outcome>), Box<dyn Error>> {
    let runtime = runtime()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let (sender, outcomes) = mpsc::channel();
    thread::spawn(move || {
        if let Err(error) = runtime.block_on(serve(listener, config, sender)) {
            eprintln!("tokio: the server: {error}");
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
    let store = Store { newest: Mutex::new(object.into()) };
    let outcome = runtime()?.block_on(async {
        let stream = TcpStream::connect(address).await?;
        Transfer::new(peers::impatient(), Some(packet), &store).drive(stream).await
    })?;
    Ok((outcome, store.newest().to_vec()))
}

/// One thread is enough here; nothing above depends on that.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
