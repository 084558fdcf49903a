//! The async adapter, on an executor with one thread.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataserver_common::{Error, Receipt, Request};
use dataserver_core::{Config, Direction, Entry, StartPacket};
use dataserver_smol::{
    Client, Handlers, ObjectReader, ObjectWriter, Server, Session, ShutdownHandle, Socket,
    TlsStream, Transport,
};
use smol::future::block_on; // the one of async-io wakes up from time to time
use smol::io::{AssertAsync, AsyncReadExt, AsyncWriteExt};
use smol::{Executor, Timer, unblock};

use super::{request, tls};
use crate::adapter::{Adapter, ConnectedStream, Outcome, RunningServer, Setup};
use crate::script::{Held, Op};
use crate::wait::TIMEOUT;

/// `dataserver-smol`.
#[derive(Clone, Copy, Debug)]
pub struct Smol {
    has_tls: bool,
}

impl Smol {
    /// Over TCP.
    pub const TCP: Self = Self { has_tls: false };
    /// Over TLS.
    pub const TLS: Self = Self { has_tls: true };

    fn new_client(self, address: SocketAddr, config: Config) -> Result<Client, Error> {
        let client = Client::new(address)?.config(config);
        if !self.has_tls {
            return Ok(client);
        }
        let handshake = config.timeouts.start.unwrap_or(TIMEOUT);
        Ok(client.connect_timeout(handshake).tls(tls::client(), tls::name()))
    }
}

impl Adapter for Smol {
    fn name(&self) -> &'static str {
        if self.has_tls { "smol-tls" } else { "smol" }
    }

    fn waits_for_handlers(&self) -> bool {
        false // their futures are dropped
    }

    fn serve(&self, setup: Setup) -> Box<dyn RunningServer> {
        let listener = setup.listener.map_or_else(|| TcpListener::bind("127.0.0.1:0"), Ok);
        let handlers = Handlers::new();
        add_all(&handlers, setup.entries);
        let server = Server::from_listener(listener.expect("a port")).expect("a listener");
        let mut server = server.handlers(handlers.clone()).config(setup.config);
        if let Some(max) = setup.max_connections {
            server = server.max_connections(max);
        }
        if self.has_tls {
            server = server.tls(tls::server());
        }
        let on_complete = setup.on_complete;
        let server = server.on_complete(move |outcome| on_complete(outcome));
        Box::new(SmolServer {
            address: server.local_addr(),
            handlers,
            shutdown: server.shutdown_handle(),
            thread: thread::spawn(move || {
                let executor = Executor::new();
                let run = server.run(|connection| executor.spawn(connection).detach());
                block_on(executor.run(run))
            }),
        })
    }

    fn serve_stream(&self, stream: ConnectedStream, setup: Setup) -> io::Result<Receipt> {
        let handlers = Handlers::new();
        add_all(&handlers, setup.entries);
        let socket = socket(stream)?;
        block_on(async {
            if self.has_tls {
                let stream = TlsStream::server(socket, tls::server(), TIMEOUT).await?;
                return Ok(handlers.serve(stream, &setup.config).await?);
            }
            Ok(handlers.serve(socket, &setup.config).await?)
        })
    }

    fn client(
        &self,
        address: SocketAddr,
        packet: StartPacket,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome> {
        let request = request(packet);
        match packet.direction() {
            Direction::Put => self.put(address, request, config, script),
            Direction::Get => {
                let client = self.new_client(address, config)?;
                block_on(async {
                    receive(&mut Held::new(client.get(request).await?), script).await
                })
            }
        }
    }

    fn put(
        &self,
        address: SocketAddr,
        request: Request,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome> {
        let client = self.new_client(address, config)?;
        block_on(async { send(&mut Held::new(client.put(request).await?), script).await })
    }

    fn client_over(
        &self,
        stream: ConnectedStream,
        packet: StartPacket,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome> {
        let socket = socket(stream)?;
        block_on(async {
            if self.has_tls {
                let (config_of_tls, name) = (tls::client(), tls::name());
                let stream = TlsStream::client(socket, config_of_tls, name, TIMEOUT).await?;
                return transfer_over(stream, packet, config, script).await;
            }
            transfer_over(socket, packet, config, script).await
        })
    }

    fn session(
        &self,
        address: SocketAddr,
        config: Config,
        objects: &[(StartPacket, Vec<Op>)],
    ) -> Vec<io::Result<Outcome>> {
        let mut session = self.new_client(address, config).expect("an address").session();
        let transfer =
            |(packet, script): &(_, Vec<_>)| block_on(transfer(&mut session, *packet, script));
        objects.iter().map(transfer).collect()
    }
}

struct SmolServer {
    address: SocketAddr,
    handlers: Handlers,
    shutdown: ShutdownHandle,
    thread: JoinHandle<Result<(), Error>>,
}

impl RunningServer for SmolServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn add(&self, direction: Direction, entry: Entry, script: Vec<Op>) -> Result<(), Error> {
        add(&self.handlers, direction, entry, script)
    }

    fn remove(&self, direction: Direction, entry: Entry) -> bool {
        match direction {
            Direction::Put => self.handlers.remove_put(entry),
            Direction::Get => self.handlers.remove_get(entry),
        }
    }

    fn stop(&self, grace: Duration) {
        self.shutdown.shutdown(grace);
    }

    fn join(self: Box<Self>) -> Result<(), Error> {
        self.thread.join().expect("`run` does not panic")
    }
}

async fn transfer_over(
    transport: impl Transport + Send + 'static,
    packet: StartPacket,
    config: Config,
    script: &[Op],
) -> io::Result<Outcome> {
    let request = request(packet);
    match packet.direction() {
        Direction::Put => {
            let object = ObjectWriter::open(transport, request, &config);
            send(&mut Held::new(object), script).await
        }
        Direction::Get => {
            let object = ObjectReader::open(transport, request, &config).await?;
            receive(&mut Held::new(object), script).await
        }
    }
}

/// One object of a session.
async fn transfer(
    session: &mut Session,
    packet: StartPacket,
    script: &[Op],
) -> io::Result<Outcome> {
    match packet.direction() {
        Direction::Put => send(&mut Held::new(session.put(request(packet)).await?), script).await,
        Direction::Get => {
            receive(&mut Held::new(session.get(request(packet)).await?), script).await
        }
    }
}

fn socket(stream: ConnectedStream) -> Result<Socket, Error> {
    match stream {
        ConnectedStream::Tcp(stream) => Socket::from_std(stream),
        ConnectedStream::Unix(stream) => Socket::from_unix(stream),
    }
}

fn add_all(handlers: &Handlers, entries: Vec<(Direction, Entry, Vec<Op>)>) {
    for (direction, entry, script) in entries {
        add(handlers, direction, entry, script).expect("a new entry");
    }
}

fn add(
    handlers: &Handlers,
    direction: Direction,
    entry: Entry,
    script: Vec<Op>,
) -> Result<(), Error> {
    match direction {
        Direction::Put => handlers.on_put(entry, move |object| {
            let script = script.clone();
            async move { handle_put(object, &script).await }
        }),
        Direction::Get => handlers.on_get(entry, move |object| {
            let script = script.clone();
            async move { handle_get(object, &script).await }
        }),
    }
}

/// A script that does not commit ends with a commit.
async fn handle_put(object: ObjectReader, script: &[Op]) -> io::Result<Receipt> {
    let mut object = Held::new(object);
    match receive(&mut object, script).await?.receipt {
        Some(receipt) => Ok(receipt),
        None => Ok(object.take()?.commit().await?),
    }
}

/// A script that does not finish ends with a finish.
async fn handle_get(object: ObjectWriter, script: &[Op]) -> io::Result<Receipt> {
    let mut object = Held::new(object);
    match send(&mut object, script).await?.receipt {
        Some(receipt) => Ok(receipt),
        None => Ok(object.take()?.finish().await?),
    }
}

async fn receive(object: &mut Held<ObjectReader>, script: &[Op]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignores_errors = false;
    for op in script {
        ignores_errors |= matches!(op, Op::IgnoreErrors);
        let done = receive_op(object, op, &mut outcome).await;
        if !ignores_errors {
            done?;
        }
    }
    Ok(outcome)
}

async fn receive_op(
    object: &mut Held<ObjectReader>,
    op: &Op,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let receipt = match op {
        Op::Read(n) => {
            object.get()?.take(*n as u64).read_to_end(&mut outcome.bytes).await?;
            return Ok(());
        }
        Op::ReadToEnd => {
            object.get()?.read_to_end(&mut outcome.bytes).await?;
            return Ok(());
        }
        Op::Discard(n) => return discard(object.get()?, *n).await,
        Op::ReceiveFile(path) => {
            object.get()?.receive_file(&File::create(path)?).await?;
            return Ok(());
        }
        Op::ReceiveTo(path) => object.take()?.receive_to(path).await?,
        Op::Commit => object.take()?.commit().await?,
        Op::EndOnAnotherThread => {
            let object = object.take()?;
            unblock(|| block_on(object.commit())).await?
        }
        Op::ReturnReceipt(receipt) => *receipt,
        other => return run_without_object(other, &outcome.bytes).await,
    };
    outcome.receipt = Some(receipt);
    Ok(())
}

async fn send(object: &mut Held<ObjectWriter>, script: &[Op]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignores_errors = false;
    for op in script {
        ignores_errors |= matches!(op, Op::IgnoreErrors);
        let done = send_op(object, op, &mut outcome).await;
        if !ignores_errors {
            done?;
        }
    }
    Ok(outcome)
}

async fn send_op(
    object: &mut Held<ObjectWriter>,
    op: &Op,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let receipt = match op {
        Op::Flush => return object.get()?.flush().await,
        Op::Write(bytes) => return object.get()?.write_all(bytes).await,
        Op::WriteForever(bytes) => loop {
            object.get()?.write_all(bytes).await?;
        },
        Op::Send(bytes) => object.take()?.send(bytes).await?,
        Op::SendPath(path) => object.take()?.send_path(path).await?,
        Op::SendFile(path) => {
            let file = File::open(path)?;
            object.take()?.send_file(&file).await?
        }
        Op::SendReader(source) => {
            object.take()?.send_reader(AssertAsync::new(source.clone())).await?
        }
        Op::SendByReading(path) => {
            let file = File::open(path)?;
            object.take()?.send_reader(AssertAsync::new(file)).await?
        }
        Op::Finish => object.take()?.finish().await?,
        Op::EndOnAnotherThread => {
            let object = object.take()?;
            unblock(|| block_on(object.finish())).await?
        }
        Op::ReturnReceipt(receipt) => *receipt,
        other => return run_without_object(other, &[]).await,
    };
    outcome.receipt = Some(receipt);
    Ok(())
}

async fn discard(object: &mut ObjectReader, piece: usize) -> io::Result<()> {
    let mut buffer = vec![0; piece];
    while object.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn run_without_object(op: &Op, read: &[u8]) -> io::Result<()> {
    match op {
        Op::Notify(listener) => {
            _ = listener.send(read.to_vec()); // fails if the test has ended
        }
        Op::Wait(gate) => gate.wait().await,
        Op::Sleep(time) => drop(Timer::after(*time).await),
        Op::Fail => return Err(Op::failure()),
        Op::Panic => panic!("as the script says"),
        Op::Call(call) => call.call(),
        Op::Persist(file, name) => return Op::persist(file, name),
        Op::IgnoreErrors => {}
        other => other.wrong_direction(),
    }
    Ok(())
}
