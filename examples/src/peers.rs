//! The peers that an event loop of one's own is shown against: the std adapter, and peers that do
//! it wrong. Nothing in here needs to be copied.

use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dataserver_adapter::tcp;
use dataserver_std::core::{
    Direction, Error as Cause, LocalError, Malformed, PeerError, Refusal, Timer,
};
use dataserver_std::{Client, Config, Entry, Key, Server, StartPacket, Timeouts};
use rustix::net::sockopt;

/// How one connection ended, as [`Step::Done`](dataserver_std::core::Step::Done) says.
pub type Outcome = Result<u64, Cause>;

/// What the servers here have: any object may be put, and the newest is what a get returns.
pub const KEY: Key = Key::from_name("newest");

/// The largest object that is taken: it is kept in memory.
pub const LIMIT: u64 = 64 << 20;

const UNKNOWN_KEY: Key = Key::from_name("nobody registered this");

/// How long to wait for what must come at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// More than a socket takes while nobody reads.
const LONG: usize = 16 << 20;

/// Long enough for what has been sent to arrive.
const MOMENT: Duration = Duration::from_millis(100);

/// Timeouts short enough to watch them run out.
pub fn impatient() -> Config {
    let soon = Duration::from_secs(1);
    let timeouts = Timeouts { start: soon, idle: soon, end: soon, ..Timeouts::default() };
    Config { timeouts, ..Config::default() }
}

/// `len` bytes that tell where they came from.
pub fn object(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// Shows a server, which is made with [`impatient`], to the std adapter's client and to peers that
/// do it wrong. It tells in `outcomes` how each connection ended.
///
/// # Errors
/// What did not go as it should.
pub fn visit(address: SocketAddr, outcomes: &Receiver<Outcome>) -> Result<(), Box<dyn Error>> {
    println!("our server, and the client of dataserver-std:");
    let object = object((1 << 20) + 7);
    let size = object.len() as u64;
    let client = Client::new(address);
    for packet in both_sizes(StartPacket::put(KEY), size) {
        let receipt = client.put(packet)?.send(&object)?;
        check("the server", &outcomes.recv_timeout(PATIENCE)?, &Ok(size))?;
        println!("  {packet}: has its receipt for {} bytes", receipt.bytes);
    }
    for packet in both_sizes(StartPacket::get(KEY), size) {
        let mut received = client.get(packet)?;
        let mut bytes = Vec::new();
        received.read_to_end(&mut bytes)?;
        check("what came", &bytes, &object)?;
        received.commit()?;
        check("the server", &outcomes.recv_timeout(PATIENCE)?, &Ok(size))?;
        println!("  {packet}: got {} bytes, and gave its receipt", bytes.len());
    }

    println!("our server, and clients that do it wrong:");
    let offered =
        Offered { put: StartPacket::put(KEY), get: StartPacket::get(KEY), size, limit: LIMIT };
    for client in offered.broken_clients()? {
        let outcome = client.visit(address, || Ok(outcomes.recv_timeout(PATIENCE)?))?;
        check_cause(client.what, outcome, client.outcome)?;
        println!("  {}: {outcome}", client.what);
    }
    Ok(())
}

/// What a server has that broken clients can ask it for.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    /// A put of any size.
    pub put: StartPacket,
    /// A get of any size.
    pub get: StartPacket,
    /// How many bytes the get returns.
    pub size: u64,
    /// How many the put may have.
    pub limit: u64,
}

/// A client that sends this, and then waits for what comes.
#[derive(Debug)]
pub struct BrokenClient {
    /// What it does.
    pub what: &'static str,
    /// How a server that is made with [`impatient`] must end the connection.
    pub outcome: Cause,
    sends: Vec<u8>,
    then: Then,
    /// Whether it must see a reset: not where it may have had the server's end of stream before.
    sees_reset: bool,
}

/// What a broken peer does after all that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Reads until the other side has ended the connection.
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
            Self::Ends => _ = stream.shutdown(Shutdown::Write), // it may have been reset by now
            Self::Resets => tcp::arm(stream)?,
        }
        Ok(())
    }
}

impl BrokenClient {
    /// Whether the server ends the connection only when a timer has run out.
    pub fn is_slow(&self) -> bool {
        matches!(self.outcome, Cause::TimedOut(_))
    }

    /// Visits a server that tells in `outcome` how it ended the connection. Returns the server's error.
    ///
    /// # Errors
    /// The server ended the connection in order, or this client saw that it did.
    pub fn visit<E>(
        &self,
        address: SocketAddr,
        outcome: impl FnOnce() -> Result<Result<u64, E>, Box<dyn Error>>,
    ) -> Result<E, Box<dyn Error>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if self.then == Then::Ends {
            sockopt::set_tcp_cork(&stream, true)?; // all leaves together with the end, and none before
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
                Err(format!("{}: passed for an object of {bytes} bytes", self.what).into())
            }
            Err(error) => Ok(error),
        }
    }
}

impl Offered {
    /// Clients that do it wrong. None of them may leave the server in the belief that an object has
    /// crossed, or see an orderly end of its own.
    ///
    /// # Errors
    /// A size is out of range.
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
                "24 bytes, then its end",
                put.as_bytes()[..24].to_vec(),
                Then::Ends,
                PeerError::TruncatedStartPacket { received: 24 }.into(),
            ),
            broken(
                "something else than a start packet",
                [b"G", &put.as_bytes()[1..]].concat(),
                Then::Waits,
                PeerError::Malformed(Malformed::Type(b'G')).into(),
            ),
            broken(
                "a key that nobody registered",
                with(StartPacket::put(UNKNOWN_KEY), 100),
                Then::Ends,
                Refusal::NotRegistered.into(),
            ),
            broken(
                "more declared than is allowed",
                with(put.with_size(limit + 1)?, 100),
                Then::Waits,
                Refusal::TooLarge { declared: limit + 1, limit }.into(),
            ),
            broken(
                "an object that is cut short",
                with(put.with_size(100)?, 40),
                Then::Ends,
                PeerError::Truncated { received: 40, expected: 100 }.into(),
            ),
            broken(
                "an object that is cut short by a reset",
                with(put.with_size(100)?, 40),
                Then::Resets,
                reset(40),
            ),
            broken(
                "an object of unknown size that is cut short by a reset",
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
                "a get of less than the object has",
                with(get.with_size(100)?, 0),
                Then::Waits,
                LocalError::LongerThanDeclared { declared: 100 }.into(),
            ),
            broken(
                "a get of more than the object has",
                with(get.with_size(size + 1)?, 0),
                Then::Waits,
                LocalError::ShorterThanDeclared { sent: size, declared: size + 1 }.into(),
            ),
            broken(
                "a get, and its end before that of the object",
                with(get, 0),
                Then::Ends,
                PeerError::ClosedEarly { moved: size }.into(),
            ),
            broken("a get, and a reset", with(get, 0), Then::Resets, reset(0)),
            broken("nothing at all", Vec::new(), Then::Waits, Timer::Start.into()),
            broken(
                "the beginning of an object, and then nothing",
                with(put.with_size(100)?, 40),
                Then::Waits,
                Timer::Idle.into(),
            ),
            BrokenClient {
                what: "a get, and bytes behind it",
                sends: with(get.with_size(size)?, 1),
                then: Then::Waits,
                outcome: PeerError::NotSilent.into(),
                sees_reset: false,
            },
            BrokenClient {
                what: "a get, and no receipt",
                sends: with(get, 0),
                then: Then::Waits,
                outcome: Timer::End.into(),
                sees_reset: false,
            },
        ])
    }
}

/// Shows a client, whose connections are made with [`impatient`], to the std adapter's server and to
/// servers that do it wrong. It puts the bytes that it is given, or returns those that it got.
///
/// # Errors
/// What did not go as it should.
pub fn receive(
    mut transfer: impl FnMut(SocketAddr, StartPacket, &[u8]) -> io::Result<(Outcome, Vec<u8>)>,
) -> Result<(), Box<dyn Error>> {
    println!("our client, and the server of dataserver-std:");
    let server = Server::bind("127.0.0.1:0")?;
    let (address, stop) = (server.local_addr()?, server.stop_handle());
    let newest = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&newest);
    server.on_put(Entry::any_size(StartPacket::put(KEY), LIMIT), move |object| {
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(())
    })?;
    let kept = Arc::clone(&newest);
    server.on_get(Entry::any_size(StartPacket::get(KEY), u64::MAX), move |object| {
        let bytes = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        object.send(&bytes)
    })?;
    let running = thread::spawn(|| server.run());

    let object = object((1 << 20) + 11);
    let size = object.len() as u64;
    for packet in both_sizes(StartPacket::put(KEY), size) {
        newest.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (outcome, _) = transfer(address, packet, &object)?;
        check("the put", &outcome, &Ok(size))?;
        check("what was stored", &*newest.lock().unwrap_or_else(PoisonError::into_inner), &object)?;
        println!("  {packet}: the receipt for {size} bytes");
    }
    for packet in both_sizes(StartPacket::get(KEY), size) {
        let (outcome, bytes) = transfer(address, packet, &[])?;
        check("the get", &outcome, &Ok(size))?;
        check("what came", &bytes, &object)?;
        println!("  {packet}: got {} bytes", bytes.len());
    }
    let (refused, _) = transfer(address, StartPacket::get(UNKNOWN_KEY), &[])?;
    check("a get that is refused", &refused, &Err(PeerError::Reset { moved: 0 }.into()))?;
    println!("  a key that nobody registered: {}", PeerError::Reset { moved: 0 });
    stop.stop(Duration::ZERO);
    running.join().map_err(|_| "the server panicked")??;

    println!("our client, and servers that do it wrong:");
    for server in broken_servers()? {
        server.receive(&mut transfer)?;
    }
    Ok(())
}

/// A server that takes all that a client sends, and answers this.
struct BrokenServer {
    what: &'static str,
    packet: StartPacket,
    /// How many bytes the client has for it.
    object: usize,
    answers: Vec<u8>,
    then: Then,
    /// How the client must end the connection.
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
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut [0; StartPacket::LEN])?;
            stream.write_all(&answers)?;
            if then == Then::Resets {
                if packet.direction() == Direction::Put {
                    stream.read_to_end(&mut Vec::new())?;
                }
                return then.run(&stream);
            }
            then.run(&stream)?;
            thread::sleep(MOMENT);
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
            over.recv_timeout(PATIENCE).ok(); // open until the client has ended the connection
            Ok(())
        });
        let (outcome, _) = transfer(address, packet, &object(len))?;
        drop(still_open);
        match outcome {
            Ok(bytes) => return Err(format!("{what}: a receipt for {bytes} bytes").into()),
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
            "an object that is cut short",
            get.with_size(100)?,
            object(40),
            Then::Ends,
            PeerError::Truncated { received: 40, expected: 100 }.into(),
        ),
        broken(
            "an object of unknown size that is cut short by a reset",
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
        broken("nothing at all", get, Vec::new(), Then::Waits, Timer::Idle.into()),
        broken(
            "the beginning of an object, and then nothing",
            get,
            object(40),
            Then::Waits,
            Timer::Idle.into(),
        ),
        broken(
            "something else than a receipt",
            put.with_size(100)?,
            b"OK".to_vec(),
            Then::Ends,
            PeerError::NotSilent.into(),
        ),
        BrokenServer {
            object: LONG,
            ..broken(
                "its end before ours",
                put,
                Vec::new(),
                Then::Ends,
                PeerError::ClosedEarly { moved: LONG as u64 }.into(),
            )
        },
        broken("no receipt", put.with_size(100)?, Vec::new(), Then::Waits, Timer::End.into()),
        broken(
            "a reset instead of a receipt",
            put.with_size(100)?,
            Vec::new(),
            Then::Resets,
            PeerError::Reset { moved: 100 }.into(),
        ),
        broken(
            "a source of our own that is shorter than declared",
            put.with_size(101)?,
            Vec::new(),
            Then::Waits,
            LocalError::ShorterThanDeclared { sent: 100, declared: 101 }.into(),
        ),
        broken(
            "a source of our own that is longer than declared",
            put.with_size(99)?,
            Vec::new(),
            Then::Waits,
            LocalError::LongerThanDeclared { declared: 99 }.into(),
        ),
    ])
}

/// The packet without and with its size declared.
fn both_sizes(packet: StartPacket, size: u64) -> impl Iterator<Item = StartPacket> {
    [Ok(packet), packet.with_size(size)].into_iter().flatten()
}

/// That this is the error that was expected; how much had moved before a reset is not known.
fn check_cause(what: &str, got: Cause, expected: Cause) -> Result<(), String> {
    match (got, expected) {
        (Cause::Peer(PeerError::Reset { .. }), Cause::Peer(PeerError::Reset { .. })) => Ok(()),
        _ => check(what, &got, &expected),
    }
}

/// That this is what was expected.
///
/// # Errors
/// The two, where they differ.
pub fn check<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    let mut line = format!("{what}: expected {expected:?}, got {got:?}");
    line.truncate(500); // an object can be long
    Err(line)
}
