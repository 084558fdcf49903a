//! The peers that the drivers among the examples are tested with: the std adapter, and peers that violate
//! the protocol. A driver of your own needs nothing from this file.

use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dataserver_common::tcp;
use dataserver_core::Malformed;
use dataserver_std::{
    Cause, Client, Config, Direction, Entry, Key, LocalError, PeerError, Refusal, Request, Server,
    StartPacket, Timeouts, Timer,
};
use rustix::net::sockopt;

/// How one connection ended, as [`Step::Done`](dataserver_core::Step::Done) reports it.
pub type Outcome = Result<u64, Cause>;

/// The key that the servers here serve: any object may be put, and a get returns the newest.
pub const KEY: Key = Key::from_name("newest");

/// The largest object that is accepted, since it is kept in memory.
pub const LIMIT: u64 = 64 << 20;

const UNKNOWN_KEY: Key = Key::from_name("not registered");

/// How long to wait for an event that must happen.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// More than sockets hold while the peer does not read.
const LONG: usize = 16 << 20;

/// Long enough for bytes that have been sent to arrive.
const ARRIVAL: Duration = Duration::from_millis(100);

/// Timeouts that are short enough for a test of what happens when they run out.
pub fn impatient() -> Config {
    let soon = Duration::from_secs(1);
    Config::default().timeouts(Timeouts::default().start(soon).idle(soon).receipt(soon))
}

/// An object of `len` bytes that differ with their place.
pub fn object(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// Tests a server, made with [`impatient`], with the std adapter's client and with broken clients. The
/// server sends the outcome of each connection to `outcomes`.
///
/// # Errors
/// Returns the first difference from what is expected.
pub fn visit(address: SocketAddr, outcomes: &Receiver<Outcome>) -> Result<(), Box<dyn Error>> {
    println!("our server, and the client of dataserver-std:");
    let object = object((1 << 20) + 7);
    let size = object.len() as u64;
    let client = Client::new(address)?;
    for packet in all_kinds(StartPacket::put(KEY), size) {
        let receipt = client.put(request(packet))?.send(&object)?;
        check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(size))?;
        println!("  {packet}: the receipt for {} bytes", receipt.bytes);
    }
    for packet in all_kinds(StartPacket::get(KEY), size) {
        let mut received = client.get(request(packet))?;
        let mut bytes = Vec::new();
        received.read_to_end(&mut bytes)?;
        check("the received object", &bytes, &object)?;
        received.commit()?;
        check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(size))?;
        println!("  {packet}: received and acknowledged {} bytes", bytes.len());
    }

    println!("our server, and broken clients:");
    let offered =
        Offered { put: StartPacket::put(KEY), get: StartPacket::get(KEY), size, limit: LIMIT };
    for client in offered.broken_clients()? {
        let outcome = client.visit(address, || Ok(outcomes.recv_timeout(MAX_WAIT)?))?;
        check_cause(client.what, outcome, client.outcome)?;
        println!("  {}: {outcome}", client.what);
    }
    Ok(())
}

/// What a server offers to broken clients.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    /// A put of any size.
    pub put: StartPacket,
    /// A get of any size.
    pub get: StartPacket,
    /// How many bytes the get returns.
    pub size: u64,
    /// The most bytes that the put may have.
    pub limit: u64,
}

/// A client that violates the protocol.
#[derive(Debug)]
pub struct BrokenClient {
    /// What it does.
    pub what: &'static str,
    /// The error with which a server made with [`impatient`] must end the connection.
    pub outcome: Cause,
    sends: Vec<u8>,
    then: Then,
    /// Whether it must see a reset. It need not if the server's end of stream may have come first.
    sees_reset: bool,
}

/// What a broken peer does after its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Reads until the other side closes the connection.
    Waits,
    /// Shuts down its write half, and reads.
    Ends,
    /// Resets the connection.
    Resets,
}

impl Then {
    fn run(self, stream: &TcpStream) -> io::Result<()> {
        match self {
            Self::Waits => {}
            Self::Ends => _ = stream.shutdown(Shutdown::Write), // it may be reset already
            Self::Resets => tcp::arm(stream)?,
        }
        Ok(())
    }
}

impl BrokenClient {
    /// Whether the server ends the connection only when a timer runs out.
    pub fn is_slow(&self) -> bool {
        matches!(self.outcome, Cause::TimedOut(_))
    }

    /// Connects to a server that reports in `outcome` how it ended the connection. Returns the server's
    /// error.
    ///
    /// # Errors
    /// Returns an error if the server reports success, or if this client sees no reset where it must.
    pub fn visit<E>(
        &self,
        address: SocketAddr,
        outcome: impl FnOnce() -> Result<Result<u64, E>, Box<dyn Error>>,
    ) -> Result<E, Box<dyn Error>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(MAX_WAIT))?;
        if self.then == Then::Ends {
            sockopt::set_tcp_cork(&stream, true)?; // all bytes leave together with the end of the stream
        }
        stream.write_all(&self.sends)?;
        self.then.run(&stream)?;
        if self.then == Then::Resets {
            drop(stream);
        } else {
            let seen = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
            if self.sees_reset {
                check(self.what, &seen, &Err(io::ErrorKind::ConnectionReset))?;
            }
        }
        match outcome()? {
            Ok(bytes) => {
                Err(format!("{}: the server reports success for {bytes} bytes", self.what).into())
            }
            Err(error) => Ok(error),
        }
    }
}

impl Offered {
    /// The broken clients. With none of them may the server report success, and none may see a graceful
    /// close.
    ///
    /// # Errors
    /// Returns an error if a size is out of range.
    pub fn broken_clients(self) -> Result<Vec<BrokenClient>, Box<dyn Error>> {
        let Self { put, get, size, limit } = self;
        let broken = |what, sends, then, outcome| BrokenClient {
            what,
            sends,
            then,
            outcome,
            sees_reset: true,
        };
        let with = |packet: StartPacket, payload: usize| {
            [packet.as_bytes(), &vec![0; payload][..]].concat()
        };
        let reset = |moved| PeerError::Reset { moved }.into();
        Ok(vec![
            broken(
                "24 bytes, then the end of the stream",
                put.as_bytes()[..24].to_vec(),
                Then::Ends,
                PeerError::TruncatedStartPacket { received: 24 }.into(),
            ),
            broken(
                "bytes that are not a start packet",
                [b"G", &put.as_bytes()[1..]].concat(),
                Then::Waits,
                PeerError::Malformed(Malformed::Type(b'G')).into(),
            ),
            broken(
                "a key that is not registered",
                with(StartPacket::put(UNKNOWN_KEY), 100),
                Then::Ends,
                Refusal::NotRegistered.into(),
            ),
            broken(
                "a declared size above the limit",
                with(put.with_size(limit + 1)?, 100),
                Then::Waits,
                Refusal::TooLarge { declared: limit + 1, limit }.into(),
            ),
            broken(
                "a truncated object",
                with(put.with_size(100)?, 40),
                Then::Ends,
                PeerError::Truncated { received: 40, expected: 100 }.into(),
            ),
            broken(
                "an object truncated by a reset",
                with(put.with_size(100)?, 40),
                Then::Resets,
                reset(40),
            ),
            broken(
                "an object of unknown size truncated by a reset",
                with(put, 40),
                Then::Resets,
                reset(40),
            ),
            broken(
                "an object that is too long",
                with(put.with_size(100)?, 101),
                Then::Ends,
                PeerError::LongerThanDeclared { declared: 100 }.into(),
            ),
            broken(
                "a get that declares less than the size of the object",
                with(get.with_size(100)?, 0),
                Then::Waits,
                LocalError::LongerThanDeclared { declared: 100 }.into(),
            ),
            broken(
                "a get that declares more than the size of the object",
                with(get.with_size(size + 1)?, 0),
                Then::Waits,
                LocalError::ShorterThanDeclared { sent: size, declared: size + 1 }.into(),
            ),
            broken(
                "a get, then the end of the stream before that of the object",
                with(get, 0),
                Then::Ends,
                PeerError::ClosedEarly { moved: size }.into(),
            ),
            broken("a get, then a reset", with(get, 0), Then::Resets, reset(0)),
            broken("no byte", Vec::new(), Then::Waits, Timer::Start.into()),
            broken(
                "the beginning of an object, then no byte",
                with(put.with_size(100)?, 40),
                Then::Waits,
                Timer::Idle.into(),
            ),
            BrokenClient {
                what: "a get, then more bytes",
                sends: with(get.with_size(size)?, 1),
                then: Then::Waits,
                outcome: PeerError::NotSilent.into(),
                sees_reset: false,
            },
            BrokenClient {
                what: "a get without a receipt",
                sends: with(get, 0),
                then: Then::Waits,
                outcome: Timer::Receipt.into(),
                sees_reset: false,
            },
        ])
    }
}

/// Tests a client, whose connections are made with [`impatient`], with the std adapter's server and with
/// broken servers. `transfer` puts the given bytes, or returns those that it received.
///
/// # Errors
/// Returns the first difference from what is expected.
pub fn receive(
    mut transfer: impl FnMut(SocketAddr, StartPacket, &[u8]) -> io::Result<(Outcome, Vec<u8>)>,
) -> Result<(), Box<dyn Error>> {
    println!("our client, and the server of dataserver-std:");
    let server = Server::bind("127.0.0.1:0")?;
    let (address, stop) = (server.local_addr(), server.shutdown_handle());
    let newest = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&newest);
    server.on_put(Entry::new(KEY).max_size(LIMIT), move |mut object| {
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok::<_, io::Error>(object.commit()?)
    })?;
    let kept = Arc::clone(&newest);
    server.on_get(KEY, move |object| {
        let bytes = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        object.send(&bytes)
    })?;
    let running = thread::spawn(|| server.run());

    let object = object((1 << 20) + 11);
    let size = object.len() as u64;
    for packet in all_kinds(StartPacket::put(KEY), size) {
        newest.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (outcome, _) = transfer(address, packet, &object)?;
        check("the put", &outcome, &Ok(size))?;
        check(
            "the stored object",
            &*newest.lock().unwrap_or_else(PoisonError::into_inner),
            &object,
        )?;
        println!("  {packet}: the receipt for {size} bytes");
    }
    for packet in all_kinds(StartPacket::get(KEY), size) {
        let (outcome, bytes) = transfer(address, packet, &[])?;
        check("the get", &outcome, &Ok(size))?;
        check("the received object", &bytes, &object)?;
        println!("  {packet}: received {} bytes", bytes.len());
    }
    let (refused, _) = transfer(address, StartPacket::get(UNKNOWN_KEY), &[])?;
    check("a get that is refused", &refused, &Err(PeerError::Reset { moved: 0 }.into()))?;
    println!("  a key that is not registered: {}", PeerError::Reset { moved: 0 });
    stop.shutdown(Duration::ZERO);
    running.join().map_err(|_| "the server panicked")??;

    println!("our client, and broken servers:");
    for server in broken_servers()? {
        server.receive(&mut transfer)?;
    }
    Ok(())
}

/// A server that accepts all bytes of a client, and violates the protocol in its answer.
struct BrokenServer {
    what: &'static str,
    packet: StartPacket,
    /// How many bytes the client puts.
    object: usize,
    answers: Vec<u8>,
    then: Then,
    /// The error with which the client must end the connection.
    outcome: Cause,
}

impl BrokenServer {
    fn receive(
        self,
        transfer: &mut impl FnMut(SocketAddr, StartPacket, &[u8]) -> io::Result<(Outcome, Vec<u8>)>,
    ) -> Result<(), Box<dyn Error>> {
        let Self { what, packet, object: len, answers, then, outcome: expected } = self;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (still_open, over) = mpsc::channel::<()>();
        let running = thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(MAX_WAIT))?;
            stream.read_exact(&mut [0; StartPacket::LEN])?;
            stream.write_all(&answers)?;
            if then == Then::Resets {
                if packet.direction() == Direction::Put {
                    stream.read_to_end(&mut Vec::new())?;
                }
                return then.run(&stream);
            }
            then.run(&stream)?;
            thread::sleep(ARRIVAL);
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
            over.recv_timeout(MAX_WAIT).ok(); // open until the client has closed the connection
            Ok(())
        });
        let (outcome, _) = transfer(address, packet, &object(len))?;
        drop(still_open);
        match outcome {
            Ok(bytes) => {
                return Err(format!("{what}: the client reports success for {bytes} bytes").into());
            }
            Err(error) => check_cause(what, error, expected)?,
        }
        running.join().map_err(|_| "the broken server panicked")??;
        println!("  {what}: {expected}");
        Ok(())
    }
}

fn broken_servers() -> Result<Vec<BrokenServer>, Box<dyn Error>> {
    let (put, get) = (StartPacket::put(KEY), StartPacket::get(KEY));
    let broken = |what, packet, answers, then, outcome| BrokenServer {
        what,
        packet,
        object: 100,
        answers,
        then,
        outcome,
    };
    Ok(vec![
        broken(
            "a truncated object",
            get.with_size(100)?,
            object(40),
            Then::Ends,
            PeerError::Truncated { received: 40, expected: 100 }.into(),
        ),
        broken(
            "an object of unknown size truncated by a reset",
            get,
            object(40),
            Then::Resets,
            PeerError::Reset { moved: 40 }.into(),
        ),
        broken(
            "an object that is too long",
            get.with_size(100)?,
            object(101),
            Then::Ends,
            PeerError::LongerThanDeclared { declared: 100 }.into(),
        ),
        broken("no byte", get, Vec::new(), Then::Waits, Timer::Idle.into()),
        broken(
            "the beginning of an object, then no byte",
            get,
            object(40),
            Then::Waits,
            Timer::Idle.into(),
        ),
        broken(
            "bytes instead of a receipt",
            put.with_size(100)?,
            b"OK".to_vec(),
            Then::Ends,
            PeerError::NotSilent.into(),
        ),
        BrokenServer {
            object: LONG,
            ..broken(
                "the end of the stream before that of the object",
                put,
                Vec::new(),
                Then::Ends,
                PeerError::ClosedEarly { moved: LONG as u64 }.into(),
            )
        },
        broken("no receipt", put.with_size(100)?, Vec::new(), Then::Waits, Timer::Receipt.into()),
        broken(
            "a reset instead of a receipt",
            put.with_size(100)?,
            Vec::new(),
            Then::Resets,
            PeerError::Reset { moved: 100 }.into(),
        ),
        broken(
            "a source that is shorter than declared",
            put.with_size(101)?,
            Vec::new(),
            Then::Waits,
            LocalError::ShorterThanDeclared { sent: 100, declared: 101 }.into(),
        ),
        broken(
            "a source that is longer than declared",
            put.with_size(99)?,
            Vec::new(),
            Then::Waits,
            LocalError::LongerThanDeclared { declared: 99 }.into(),
        ),
    ])
}

/// The request that leads to this packet.
pub fn request(packet: StartPacket) -> Request {
    let request = Request::new(packet.key()).size(packet.size());
    if packet.is_framed() { request.framed() } else { request }
}

/// The packet without and with a declared size, in both formats.
fn all_kinds(packet: StartPacket, size: u64) -> impl Iterator<Item = StartPacket> {
    let both_sizes = [Ok(packet), packet.with_size(size)].into_iter().flatten();
    both_sizes.flat_map(|packet| [packet, packet.framed()])
}

/// Checks an error. The number of bytes before a reset may differ.
fn check_cause(what: &str, got: Cause, expected: Cause) -> Result<(), String> {
    match (got, expected) {
        (Cause::Peer(PeerError::Reset { .. }), Cause::Peer(PeerError::Reset { .. })) => Ok(()),
        _ => check(what, &got, &expected),
    }
}

/// Checks that two values are equal.
///
/// # Errors
/// Returns a text with both values if they differ.
pub fn check<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    let mut line = format!("{what}: expected {expected:?}, got {got:?}");
    line.truncate(500); // objects can be long
    Err(line)
}
