//! Both adapters over a Unix socket, and what an abort looks like there.
//!
//! ```text
//! cargo run --release --example unix
//! ```
//!
//! Over TCP, whatever ends badly is a reset, and so no end of a stream is a lie. A Unix socket has
//! no reset that one could ask for: when a process dies, or drops its socket to abort, the peer sees
//!
//! - an end of stream, just as of an orderly end, where everything that the peer had sent was read;
//! - `ECONNRESET`, once, where some of it was not (see `unix_release_sock` in Linux);
//! - `EPIPE` where it writes on.
//!
//! A sender looks for either before it ends its object, which catches a refusal, and not what fails
//! after that.
//!
//! So over a Unix socket:
//!
//! - declare the size of every object: without it, half an object is taken for the whole;
//! - do not take the receipt of a put for more than "it was read": a receiver that fails after the
//!   last byte, and before its commit, looks the same. Where the commit matters, get something
//!   afterwards that shows it, or use TCP or TLS on the loopback.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use dataserver_examples::peers;
use dataserver_smol as on_smol;
use dataserver_std as on_std;
use dataserver_std::core::{Error as Cause, PeerError};
use dataserver_std::{Config, Entry, Error as TransferError, Key, Receipt, StartPacket};
use smol::Async;
use smol::future;
use smol::io::AsyncReadExt;

/// A put of this is read, and thrown away; one of the other is read, and then fails.
const TAKEN: StartPacket = StartPacket::put(Key::from_name("taken"));
const FAILS: StartPacket = StartPacket::put(Key::from_name("fails"));
const UNKNOWN: StartPacket = StartPacket::put(Key::from_name("nobody registered this"));
const GET: StartPacket = StartPacket::get(Key::from_name("object"));

const SIZE: u64 = 100_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    for server in [Adapter::Std, Adapter::Smol] {
        let path = directory.path().join(format!("{server:?}"));
        let (sender, outcomes) = mpsc::channel();
        server.serve(UnixListener::bind(&path)?, sender)?;
        for client in [Adapter::Std, Adapter::Smol] {
            println!("server: {server:?}, client: {client:?}");
            transfer(client, &path, &outcomes)?;
        }
        println!("server: {server:?}, and clients that do it wrong");
        meet_broken_clients(&path, &outcomes)?;
    }
    Ok(())
}

type Outcomes = Receiver<io::Result<Receipt>>;

fn transfer(client: Adapter, path: &Path, outcomes: &Outcomes) -> Result<(), Box<dyn Error>> {
    let object = peers::object(SIZE as usize);
    let got = client.get(path, GET.with_size(SIZE)?)?;
    peers::check("what was got", &got, &object)?;
    peers::check("the server", &cause(outcomes)?, &Ok(SIZE))?;
    println!("  get: {} bytes", got.len());

    peers::check("the receipt", &client.put(path, TAKEN.with_size(SIZE)?, &object)?.bytes, &SIZE)?;
    peers::check("the server", &cause(outcomes)?, &Ok(SIZE))?;
    println!("  put: the receipt for {SIZE} bytes");

    let refused = client.put(path, UNKNOWN.with_size(SIZE)?, &object);
    let Err(error) = refused else { return Err("a refusal was taken for a receipt".into()) };
    cause(outcomes)?.err().ok_or("the server has not refused")?;
    println!("  put that is refused, and not read: {error}");

    let failed = client.put(path, FAILS.with_size(SIZE)?, &object);
    let server = cause(outcomes)?.err().ok_or("the server has not failed")?;
    match failed {
        // Over TCP, this would be an error.
        Ok(receipt) => println!(
            "  put that is read, but not committed: the server says `{server}`, and yet there is a \
             receipt for {} bytes",
            receipt.bytes,
        ),
        Err(error) => return Err(format!("has Unix learned to reset? {error}").into()),
    }
    Ok(())
}

fn meet_broken_clients(path: &Path, outcomes: &Outcomes) -> Result<(), Box<dyn Error>> {
    send(path, &TAKEN.as_bytes()[..24])?;
    let truncated = PeerError::TruncatedStartPacket { received: 24 }.into();
    peers::check("24 bytes", &cause(outcomes)?, &Err(truncated))?;
    println!("  24 bytes, then its end: {truncated}");

    let declared = [TAKEN.with_size(1000)?.as_bytes(), &[0; 400][..]].concat();
    send(path, &declared)?;
    let truncated = PeerError::Truncated { received: 400, expected: 1000 }.into();
    peers::check("a part of a declared size", &cause(outcomes)?, &Err(truncated))?;
    println!("  killed after 400 bytes of 1000: {truncated}");

    let undeclared = [TAKEN.as_bytes(), &[0; 400][..]].concat();
    send(path, &undeclared)?;
    // Over TCP, this would be an error.
    peers::check("a part of an unknown size", &cause(outcomes)?, &Ok(400))?;
    println!("  killed after 400 bytes of an unknown size: taken for an object of 400 bytes");
    Ok(())
}

/// Sends this, and then does what the system does for a process that is killed.
fn send(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Both)
}

/// How the server's next connection has ended.
fn cause(outcomes: &Outcomes) -> Result<Result<u64, Cause>, Box<dyn Error>> {
    Ok(match outcomes.recv_timeout(Duration::from_secs(20))? {
        Ok(receipt) => Ok(receipt.bytes),
        Err(error) => Err(TransferError::of(&error).and_then(TransferError::cause).ok_or(error)?),
    })
}

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Std,
    Smol,
}

impl Adapter {
    /// Serves whoever connects: with a listener of one's own, there is one call for each stream.
    fn serve(
        self,
        listener: UnixListener,
        outcomes: Sender<io::Result<Receipt>>,
    ) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Std => {
                let handlers = std_handlers()?;
                thread::spawn(move || {
                    for stream in listener.incoming() {
                        let (handlers, outcomes) = (handlers.clone(), outcomes.clone());
                        thread::spawn(move || {
                            let serve = || {
                                let socket = on_std::Socket::try_from(stream?)?;
                                handlers.serve(socket, &Config::default())
                            };
                            outcomes.send(serve()).ok();
                        });
                    }
                });
            }
            Self::Smol => {
                let handlers = smol_handlers()?;
                let listener = Async::new(listener)?;
                let accept = async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (handlers, outcomes) = (handlers.clone(), outcomes.clone());
                        let serve = async move {
                            let socket = on_smol::Socket::try_from(stream)?;
                            handlers.serve(socket, &Config::default()).await
                        };
                        smol::spawn(async move { outcomes.send(serve.await).ok() }).detach();
                    }
                };
                smol::spawn(accept).detach();
            }
        }
        Ok(())
    }

    fn put(self, path: &Path, packet: StartPacket, object: &[u8]) -> io::Result<Receipt> {
        let (stream, config) = (UnixStream::connect(path)?, Config::default());
        match self {
            Self::Std => {
                let socket = on_std::Socket::try_from(stream)?;
                on_std::Sender::open(socket, packet, &config)?.send(object)
            }
            Self::Smol => future::block_on(async {
                let socket = on_smol::Socket::try_from(stream)?;
                on_smol::Sender::open(socket, packet, &config)?.send(object).await
            }),
        }
    }

    fn get(self, path: &Path, packet: StartPacket) -> io::Result<Vec<u8>> {
        let (stream, config) = (UnixStream::connect(path)?, Config::default());
        let mut bytes = Vec::new();
        match self {
            Self::Std => {
                let socket = on_std::Socket::try_from(stream)?;
                let mut object = on_std::Receiver::open(socket, packet, &config)?;
                object.read_to_end(&mut bytes)?;
                object.commit()?;
            }
            Self::Smol => future::block_on(async {
                let socket = on_smol::Socket::try_from(stream)?;
                let mut object = on_smol::Receiver::open(socket, packet, &config).await?;
                object.read_to_end(&mut bytes).await?;
                object.commit().await
            })
            .map(drop)?,
        }
        Ok(bytes)
    }
}

fn std_handlers() -> Result<on_std::Handlers, on_std::Error> {
    let handlers = on_std::Handlers::default();
    handlers
        .on_put(Entry::any_size(TAKEN, u64::MAX), |object| io::copy(object, &mut io::sink()))?;
    handlers.on_put(Entry::any_size(FAILS, u64::MAX), |object| {
        io::copy(object, &mut io::sink())?;
        Err::<(), _>(io::Error::other("the disk is full"))
    })?;
    handlers.on_get(Entry::any_size(GET, u64::MAX), |object| {
        object.send(&peers::object(SIZE as usize))
    })?;
    Ok(handlers)
}

fn smol_handlers() -> Result<on_smol::Handlers, on_smol::Error> {
    let handlers = on_smol::Handlers::new();
    handlers.on_put(Entry::any_size(TAKEN, u64::MAX), |object| {
        Box::pin(smol::io::copy(object, smol::io::sink()))
    })?;
    handlers.on_put(Entry::any_size(FAILS, u64::MAX), |object| {
        Box::pin(async {
            smol::io::copy(object, smol::io::sink()).await?;
            Err::<(), _>(io::Error::other("the disk is full"))
        })
    })?;
    handlers.on_get(Entry::any_size(GET, u64::MAX), |object| {
        Box::pin(async { object.send(&peers::object(SIZE as usize)).await })
    })?;
    Ok(handlers)
}
