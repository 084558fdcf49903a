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

use dataserver_std::core::{Error as Cause, LocalError, Malformed, PeerError, Refusal, Timer};
use dataserver_std::{Client, Config, Entry, Key, Server, StartPacket, Timeouts};

/// How one connection ended, as [`Step::Done`](dataserver_std::core::Step::Done) says.
pub type Outcome = Result<u64, Cause>;

/// What the servers here have: any object may be put, and the newest is what a get returns.
pub const KEY: Key = Key::from_name("newest");

/// The largest object that is taken: it is kept in memory.
pub const LIMIT: u64 = 64 << 20;

const UNKNOWN_KEY: Key = Key::from_name("nobody registered this");

/// How long to wait for what must come at once.
const PATIENCE: Duration = Duration::from_secs(20);

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
    for client in broken_clients(size)? {
        client.visit(address, outcomes)?;
    }
    Ok(())
}

/// A client that sends this, and then waits for what comes.
struct BrokenClient {
    what: &'static str,
    sends: Vec<u8>,
    /// Whether it then shuts down its write half.
    ends: bool,
    /// How the server must end the connection.
    outcome: Cause,
    /// Whether it must see a reset: not where it may have had the server's end of stream before.
    reset: bool,
}

impl BrokenClient {
    fn visit(
        &self,
        address: SocketAddr,
        outcomes: &Receiver<Outcome>,
    ) -> Result<(), Box<dyn Error>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&self.sends)?;
        if self.ends {
            stream.shutdown(Shutdown::Write).ok(); // it may have been reset by now
        }
        let seen = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        check(self.what, &outcomes.recv_timeout(PATIENCE)?, &Err(self.outcome))?;
        if self.reset {
            check(self.what, &seen, &Err(io::ErrorKind::ConnectionReset))?;
        }
        println!("  {}: {}", self.what, self.outcome);
        Ok(())
    }
}

fn broken_clients(newest: u64) -> Result<[BrokenClient; 11], Box<dyn Error>> {
    let put = StartPacket::put(KEY);
    let with =
        |packet: StartPacket, payload: usize| [packet.as_bytes(), &vec![0; payload][..]].concat();
    let malformed = |kind: u8| [&[kind], &put.as_bytes()[1..]].concat();
    Ok([
        BrokenClient {
            what: "24 bytes, then its end",
            sends: put.as_bytes()[..24].to_vec(),
            ends: true,
            outcome: PeerError::TruncatedStartPacket { received: 24 }.into(),
            reset: true,
        },
        BrokenClient {
            what: "something else than a start packet",
            sends: malformed(b'G'),
            ends: false,
            outcome: PeerError::Malformed(Malformed::Type(b'G')).into(),
            reset: true,
        },
        BrokenClient {
            what: "a key that nobody registered",
            sends: with(StartPacket::put(UNKNOWN_KEY), 100),
            ends: true,
            outcome: Refusal::NotRegistered.into(),
            reset: true,
        },
        BrokenClient {
            what: "more declared than is allowed",
            sends: with(put.with_size(LIMIT + 1)?, 100),
            ends: false,
            outcome: Refusal::TooLarge { declared: LIMIT + 1, limit: LIMIT }.into(),
            reset: true,
        },
        BrokenClient {
            what: "an object that is cut short",
            sends: with(put.with_size(1000)?, 400),
            ends: true,
            outcome: PeerError::Truncated { received: 400, expected: 1000 }.into(),
            reset: true,
        },
        BrokenClient {
            what: "an object that is too long",
            sends: with(put.with_size(1000)?, 1001),
            ends: true,
            outcome: PeerError::LongerThanDeclared { declared: 1000 }.into(),
            reset: true,
        },
        BrokenClient {
            what: "a get of less than the object has",
            sends: with(StartPacket::get(KEY).with_size(1000)?, 0),
            ends: false,
            outcome: LocalError::LongerThanDeclared { declared: 1000 }.into(),
            reset: true,
        },
        BrokenClient {
            what: "nothing at all",
            sends: Vec::new(),
            ends: false,
            outcome: Timer::Start.into(),
            reset: true,
        },
        BrokenClient {
            what: "the beginning of an object, and then nothing",
            sends: with(put.with_size(1000)?, 400),
            ends: false,
            outcome: Timer::Idle.into(),
            reset: true,
        },
        BrokenClient {
            what: "a get, and bytes behind it",
            sends: with(StartPacket::get(KEY).with_size(newest)?, 1),
            ends: false,
            outcome: PeerError::NotSilent.into(),
            reset: false,
        },
        BrokenClient {
            what: "a get, and no receipt",
            sends: with(StartPacket::get(KEY), 0),
            ends: false,
            outcome: Timer::End.into(),
            reset: false,
        },
    ])
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
    /// Whether it then shuts down its write half.
    ends: bool,
    /// How the client must end the connection.
    outcome: Cause,
}

impl BrokenServer {
    fn receive(
        self,
        transfer: &mut impl FnMut(SocketAddr, StartPacket, &[u8]) -> io::Result<(Outcome, Vec<u8>)>,
    ) -> Result<(), Box<dyn Error>> {
        let Self { what, packet, object: len, answers, ends, outcome: expected } = self;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (still_open, over) = mpsc::channel::<()>();
        let running = thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut [0; StartPacket::LEN])?;
            stream.write_all(&answers)?;
            if ends {
                stream.shutdown(Shutdown::Write).ok(); // it may have been reset by now
            }
            thread::sleep(MOMENT);
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
            over.recv().ok(); // the connection stays open until the client has ended it
            Ok(())
        });
        let (outcome, _) = transfer(address, packet, &object(len))?;
        drop(still_open);
        check(what, &outcome, &Err(expected))?;
        running.join().map_err(|_| "the broken server panicked")??;
        println!("  {what}: {expected}");
        Ok(())
    }
}

fn broken_servers() -> Result<[BrokenServer; 7], Box<dyn Error>> {
    let (put, get) = (StartPacket::put(KEY), StartPacket::get(KEY));
    Ok([
        BrokenServer {
            what: "an object that is cut short",
            packet: get.with_size(1000)?,
            object: 1000,
            answers: object(400),
            ends: true,
            outcome: PeerError::Truncated { received: 400, expected: 1000 }.into(),
        },
        BrokenServer {
            what: "an object that is too long",
            packet: get.with_size(1000)?,
            object: 1000,
            answers: object(1001),
            ends: true,
            outcome: PeerError::LongerThanDeclared { declared: 1000 }.into(),
        },
        BrokenServer {
            what: "the beginning of an object, and then nothing",
            packet: get,
            object: 1000,
            answers: object(400),
            ends: false,
            outcome: Timer::Idle.into(),
        },
        BrokenServer {
            what: "something else than a receipt",
            packet: put.with_size(1000)?,
            object: 1000,
            answers: b"OK".to_vec(),
            ends: true,
            outcome: PeerError::NotSilent.into(),
        },
        BrokenServer {
            what: "its end before ours",
            packet: put,
            object: LONG,
            answers: Vec::new(),
            ends: true,
            outcome: PeerError::ClosedEarly { moved: LONG as u64 }.into(),
        },
        BrokenServer {
            what: "no receipt",
            packet: put.with_size(1000)?,
            object: 1000,
            answers: Vec::new(),
            ends: false,
            outcome: Timer::End.into(),
        },
        BrokenServer {
            what: "a source of our own that is shorter than declared",
            packet: put.with_size(1001)?,
            object: 1000,
            answers: Vec::new(),
            ends: false,
            outcome: LocalError::ShorterThanDeclared { sent: 1000, declared: 1001 }.into(),
        },
    ])
}

/// The packet without and with its size declared.
fn both_sizes(packet: StartPacket, size: u64) -> impl Iterator<Item = StartPacket> {
    [Ok(packet), packet.with_size(size)].into_iter().flatten()
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
