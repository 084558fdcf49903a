//! Both adapters over a Unix socket, and what an abortive close looks like there.
//!
//! ```text
//! cargo run --release --features unix --example unix
//! ```
//!
//! Use the framed format over a Unix socket: the end of the object, the receipt and the reason for a failure
//! are bytes, and hold here as they do over TCP.
//!
//! In the bare format they are a graceful close and a reset, and a Unix socket has no reset. If a process
//! ends, or drops its socket to abort, the peer sees
//!
//! - an end of stream, as in a graceful close, if all bytes from the peer had been read;
//! - `ECONNRESET`, once, if some had not been read (see `unix_release_sock` in Linux);
//! - `EPIPE` if it writes again.
//!
//! A sender checks for both before it ends its object. This detects a refusal, but not a failure after it.
//! And without a declared size, a truncated object is taken for a complete one. This program shows both.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use dataserver_core::Frame;
use dataserver_examples::peers;
use dataserver_smol as on_smol;
use dataserver_std as on_std;
use dataserver_std::{
    AbortReason, BoxError, Cause, Config, Error as TransferError, Failure, Key, ObjectSize,
    PeerError, Receipt, Request, StartPacket,
};
use smol::Async;
use smol::future;
use smol::io::AsyncReadExt;

/// The handler of puts reads and drops the object.
const DROPPED: Key = Key::from_name("dropped");
/// The handler of puts reads the object, and then fails.
const FAILS: Key = Key::from_name("fails");
const NOT_REGISTERED: Key = Key::from_name("not registered");
const GET: Key = Key::from_name("object");

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
        println!("server: {server:?}, and broken clients");
        meet_broken_clients(&path, &outcomes)?;
    }
    Ok(())
}

type Outcomes = Receiver<Result<Receipt, TransferError>>;

fn transfer(client: Adapter, path: &Path, outcomes: &Outcomes) -> Result<(), Box<dyn Error>> {
    let object = peers::object(SIZE as usize);
    transfer_framed(client, path, outcomes, &object)?;

    let received = client.get(path, Request::new(GET).size(ObjectSize::new(SIZE)?))?;
    peers::check("the received object", &received, &object)?;
    peers::check("the server", &outcome(outcomes)?, &Ok(SIZE))?;
    println!("  bare get: {} bytes", received.len());

    peers::check("the receipt", &client.put(path, DROPPED, &object)?.bytes, &SIZE)?;
    peers::check("the server", &outcome(outcomes)?, &Ok(SIZE))?;
    println!("  bare put: the receipt for {SIZE} bytes");

    let refused = client.put(path, NOT_REGISTERED, &object);
    let Err(error) = refused else { return Err("the client took a refusal for a receipt".into()) };
    outcome(outcomes)?.err().ok_or("the server has not refused")?;
    println!("  bare put that is refused, and not read: {error}");

    let failed = client.put(path, FAILS, &object);
    let server = outcome(outcomes)?.err().ok_or("the server has not failed")?;
    match failed {
        // Over TCP, this would be an error.
        Ok(receipt) => println!(
            "  bare put that is read, but not committed: the server failed ({server}), but the client has \
             a receipt for {} bytes",
            receipt.bytes,
        ),
        Err(error) => return Err(format!("unexpected error: {error}").into()),
    }
    Ok(())
}

/// What the server says is what the client learns.
fn transfer_framed(
    client: Adapter,
    path: &Path,
    outcomes: &Outcomes,
    object: &[u8],
) -> Result<(), Box<dyn Error>> {
    let received = client.get(path, Request::new(GET).framed())?;
    peers::check("the received object", &&received[..], &object)?;
    peers::check("the server", &outcome(outcomes)?, &Ok(SIZE))?;
    println!("  framed get: {} bytes", received.len());

    let receipt = client.put(path, Request::new(DROPPED).framed(), object)?;
    peers::check("the receipt", &receipt.bytes, &SIZE)?;
    peers::check("the server", &outcome(outcomes)?, &Ok(SIZE))?;
    println!("  framed put: the receipt for {SIZE} bytes");

    for (what, key, expected) in [
        ("is refused", NOT_REGISTERED, AbortReason::Refused),
        ("is read, but not committed", FAILS, AbortReason::Failed { code: 28 }),
    ] {
        let Err(error) = client.put(path, Request::new(key).framed(), object) else {
            return Err("the client has a receipt for an object that was not committed".into());
        };
        outcome(outcomes)?.err().ok_or("the server has not failed")?;
        let reason = TransferError::of(&error).and_then(TransferError::abort_reason);
        peers::check("the reason", &reason, &Some(expected))?;
        println!("  framed put that {what}: {expected}");
    }
    Ok(())
}

fn meet_broken_clients(path: &Path, outcomes: &Outcomes) -> Result<(), Box<dyn Error>> {
    let put = StartPacket::put(DROPPED);
    send(path, &put.as_bytes()[..24])?;
    let truncated = PeerError::TruncatedStartPacket { received: 24 }.into();
    peers::check("24 bytes", &outcome(outcomes)?, &Err(truncated))?;
    println!("  24 bytes, then the end of the stream: {truncated}");

    let declared = [put.with_size(1000)?.as_bytes(), &[0; 400][..]].concat();
    send(path, &declared)?;
    let truncated = PeerError::Truncated { received: 400, expected: 1000 }.into();
    peers::check("a truncated object of declared size", &outcome(outcomes)?, &Err(truncated))?;
    println!("  killed after 400 of 1000 declared bytes: {truncated}");

    let undeclared = [put.as_bytes(), &[0; 400][..]].concat();
    send(path, &undeclared)?;
    // Over TCP, this would be an error.
    peers::check("a truncated object of unknown size", &outcome(outcomes)?, &Ok(400))?;
    println!("  killed after 400 bytes of an unknown size: taken for an object of 400 bytes");

    let frame = Frame::Data { len: 400 }.to_bytes();
    let framed = [put.framed().as_bytes(), &frame[..], &[0; 400]].concat();
    send(path, &framed)?;
    let unfinished = PeerError::Unfinished { received: 400 }.into();
    peers::check("a truncated framed object", &outcome(outcomes)?, &Err(unfinished))?;
    println!("  the same in the framed format: {unfinished}");
    Ok(())
}

/// Sends these bytes, and then ends the connection as the system does for a process that is killed.
fn send(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Both)
}

/// The outcome of the server's next connection.
fn outcome(outcomes: &Outcomes) -> Result<Result<u64, Cause>, Box<dyn Error>> {
    Ok(match outcomes.recv_timeout(peers::MAX_WAIT)? {
        Ok(receipt) => Ok(receipt.bytes),
        Err(error) => Err(error.cause().ok_or(error)?),
    })
}

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Std,
    Smol,
}

impl Adapter {
    /// Serves the clients of this listener, with one call of `serve` for each connection.
    fn serve(
        self,
        listener: UnixListener,
        outcomes: Sender<Result<Receipt, TransferError>>,
    ) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Std => {
                let handlers = std_handlers()?;
                thread::spawn(move || {
                    for stream in listener.incoming().map_while(Result::ok) {
                        let (handlers, outcomes) = (handlers.clone(), outcomes.clone());
                        thread::spawn(move || {
                            let serve = || {
                                let socket = on_std::Socket::from_unix(stream)?;
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
                            let stream = stream.into_inner().map_err(TransferError::socket)?;
                            let socket = on_smol::Socket::from_unix(stream)?;
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

    fn put(self, path: &Path, request: impl Into<Request>, object: &[u8]) -> io::Result<Receipt> {
        let (stream, config) = (UnixStream::connect(path)?, Config::default());
        let sent = match self {
            Self::Std => {
                let socket = on_std::Socket::from_unix(stream)?;
                on_std::ObjectWriter::open(socket, request, &config).send(object)
            }
            Self::Smol => {
                let socket = on_smol::Socket::from_unix(stream)?;
                future::block_on(on_smol::ObjectWriter::open(socket, request, &config).send(object))
            }
        };
        Ok(sent?)
    }

    fn get(self, path: &Path, request: Request) -> io::Result<Vec<u8>> {
        let (stream, config) = (UnixStream::connect(path)?, Config::default());
        let mut bytes = Vec::new();
        match self {
            Self::Std => {
                let socket = on_std::Socket::from_unix(stream)?;
                let mut object = on_std::ObjectReader::open(socket, request, &config)?;
                object.read_to_end(&mut bytes)?;
                object.commit()?;
            }
            Self::Smol => future::block_on(async {
                let socket = on_smol::Socket::from_unix(stream)?;
                let mut object = on_smol::ObjectReader::open(socket, request, &config).await?;
                object.read_to_end(&mut bytes).await?;
                object.commit().await?;
                io::Result::Ok(())
            })?,
        }
        Ok(bytes)
    }
}

fn std_handlers() -> Result<on_std::Handlers, on_std::Error> {
    let handlers = on_std::Handlers::new();
    handlers.on_put(DROPPED, |mut object| {
        io::copy(&mut object, &mut io::sink())?;
        Ok::<_, io::Error>(object.commit()?)
    })?;
    handlers.on_put(FAILS, |mut object| {
        io::copy(&mut object, &mut io::sink())?;
        Err::<Receipt, BoxError>(Failure::new(28, "the disk is full").into())
    })?;
    handlers.on_get(GET, |object| object.send(&peers::object(SIZE as usize)))?;
    Ok(handlers)
}

fn smol_handlers() -> Result<on_smol::Handlers, on_smol::Error> {
    let handlers = on_smol::Handlers::new();
    handlers.on_put(DROPPED, |mut object| async move {
        smol::io::copy(&mut object, &mut smol::io::sink()).await?;
        Ok::<_, io::Error>(object.commit().await?)
    })?;
    handlers.on_put(FAILS, |mut object| async move {
        smol::io::copy(&mut object, &mut smol::io::sink()).await?;
        Err::<Receipt, BoxError>(Failure::new(28, "the disk is full").into())
    })?;
    handlers.on_get(GET, |object| object.send(peers::object(SIZE as usize)))?;
    Ok(handlers)
}
