//! The core on tokio, without an adapter: [`Transfer`] is the driver of both roles.
//!
//! ```text
//! cargo run --release --features tokio --example tokio
//! ```

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use dataserver_common::{socket, tcp};
use dataserver_core::{Config, Connection, Direction, Instant, Refusal, StartPacket, Step};
use dataserver_examples::peers::{self, KEY, LIMIT, Outcome};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::task::coop;
use tokio::time::{self, Instant as TokioInstant};

/// One connection and its object.
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

    /// Drives a client's connection to its end.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is reset.
    async fn transfer(mut self, stream: TcpStream) -> io::Result<Outcome> {
        arm(&stream)?;
        let outcome = self.drive(&stream).await;
        if outcome.is_ok() {
            tcp::disarm(&stream)?; // dropping it is now a graceful close
        }
        Ok(outcome)
    }

    /// Serves a client: one object, or any number of framed ones.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is reset.
    async fn serve(
        mut self,
        stream: TcpStream,
        config: Config,
        outcomes: mpsc::Sender<Outcome>,
    ) -> io::Result<()> {
        arm(&stream)?;
        loop {
            let outcome = self.drive(&stream).await;
            let packet = self.connection.packet();
            if packet.is_some() || outcome.is_err() {
                outcomes.send(outcome).map_err(io::Error::other)?;
            } // else the session has ended behind its last object
            match packet {
                Some(packet) if packet.is_framed() && outcome.is_ok() => {
                    self.connection = self.connection.next_server(config, self.now());
                    self.incoming.clear();
                }
                _ if outcome.is_ok() => return tcp::disarm(&stream),
                _ => return Ok(()),
            }
        }
    }

    /// Drives one object to its end.
    async fn drive(&mut self, stream: &TcpStream) -> Outcome {
        loop {
            if let Step::Done(outcome) = self.connection.step() {
                return outcome;
            }
            coop::consume_budget().await; // other tasks run, even if the peer is always ready
            let began = self.now();
            // Even if tokio does not know that the stream is ready: it can have room long before it counts
            // as writable.
            let tried = match self.step(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.handle_blocked(began);
                    self.step_when_ready(stream, began).await
                }
                tried => tried,
            };
            match tried {
                Ok(()) => self.connection.handle_timeout(self.now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.connection.handle_reset(),
            }
        }
    }

    /// Does the step when the stream is ready, or nothing if the deadline comes first.
    async fn step_when_ready(&mut self, stream: &TcpStream, now: Instant) -> io::Result<()> {
        let interest = match self.connection.step() {
            Step::Done(_) => return Ok(()),
            Step::Read { .. } | Step::Receive { .. } | Step::AwaitEnd => Interest::READABLE,
            _ => Interest::WRITABLE,
        };
        let due = self.connection.deadline(now).map_or(MAX_WAIT, Instant::since_epoch);
        let due = self.epoch + due.min(MAX_WAIT);
        // `async_io` lets tokio clear the readiness of the stream if the step would block.
        let step = stream.async_io(interest, || self.step(stream));
        time::timeout_at(due, step).await.unwrap_or(Ok(()))
    }

    /// Does one step without waiting, and reports what happened. The object is in memory, so only the peer
    /// can delay it. If an object comes from a slower source, read its next bytes before trying the
    /// stream.
    fn step(&mut self, stream: &TcpStream) -> io::Result<()> {
        let Self { connection, outgoing, incoming, store, .. } = self;
        match connection.step() {
            Step::Read { max } => {
                let mut packet = [0; StartPacket::LEN]; // the object stays in the stream
                match socket::read(stream, &mut packet[..max])? {
                    0 => connection.handle_end_of_stream(),
                    n => _ = connection.handle_read(&packet[..n]),
                }
            }
            Step::Decide(packet) if packet.has_digest() => connection.refuse(Refusal::Unsupported),
            Step::Decide(packet) => match (packet.key(), packet.direction()) {
                (KEY, direction) => {
                    if direction == Direction::Get {
                        *outgoing = store.newest();
                    }
                    connection.accept(Some(LIMIT));
                }
                _ => connection.refuse(Refusal::NotRegistered),
            },
            Step::Write { bytes, payload } => {
                let payload = rest(outgoing, connection.moved(), payload);
                let n = socket::write(stream, &[IoSlice::new(bytes), IoSlice::new(payload)])?;
                connection.handle_moved(n);
            }
            // The buffer is on the stack, so a connection that waits has none.
            Step::Receive { max } => {
                let mut buffer = [0; MAX_READ];
                match socket::read(stream, &mut buffer[..max.min(MAX_READ)])? {
                    0 => connection.handle_end_of_stream(),
                    n => {
                        incoming.extend_from_slice(&buffer[..n]);
                        connection.handle_moved(n);
                    }
                }
            }
            Step::Send { max } => match rest(outgoing, connection.moved(), max) {
                [] => connection.offer(0, true),
                piece => {
                    let n = socket::write(stream, &[IoSlice::new(piece)])?;
                    connection.handle_moved(n);
                }
            },
            Step::Offer { max } => {
                let left = rest(outgoing, connection.moved(), usize::MAX).len();
                connection.offer(left.min(max), left <= max);
            }
            Step::Peek => match socket::has_ended(stream)? {
                true => connection.handle_end_of_stream(),
                false => connection.handle_still_open(),
            },
            Step::Commit => {
                store.commit(incoming);
                connection.committed();
            }
            Step::Resume | Step::Digest => connection.abort("no digest was agreed upon"),
            Step::Shutdown => {
                socket::shut_down(stream)?;
                connection.handle_shutdown();
            }
            Step::AwaitEnd => match socket::read(stream, &mut [0; 4096])? {
                0 => connection.handle_end_of_stream(),
                n => connection.handle_moved(n),
            },
            Step::Done(_) => {}
        }
        Ok(())
    }

    /// The time for the core: since this connection began.
    fn now(&self) -> Instant {
        Instant::new(self.epoch.elapsed())
    }
}

fn arm(stream: &TcpStream) -> io::Result<()> {
    tcp::arm(stream)?; // to reset
    dataserver_common::limit_unsent(stream)
}

/// The longest time that tokio's clock supports.
const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The most bytes of one read.
const MAX_READ: usize = 16 * 1024;

/// At most `max` bytes after the first `sent`.
fn rest(outgoing: &[u8], sent: u64, max: usize) -> &[u8] {
    let rest = outgoing.get(sent as usize..).unwrap_or_default(); // it is in memory, so it fits
    &rest[..rest.len().min(max)]
}

/// The application: it accepts any object, and a get returns the newest.
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
            Transfer::new(config, None, &store).serve(stream, config, outcomes).await
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

/// A server in another thread.
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
        Transfer::new(peers::impatient(), Some(packet), &store).transfer(stream).await
    })?;
    Ok((outcome, store.newest().to_vec()))
}

/// One thread is enough here. The driver also works on several.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
