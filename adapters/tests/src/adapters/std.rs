//! The blocking adapter.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataserver_common::{Error, Receipt, Request};
use dataserver_core::{Config, Direction, Entry, StartPacket};
use dataserver_std::{
    Client, Handlers, ObjectReader, ObjectWriter, Server, Session, ShutdownHandle, Socket,
    TlsStream, Transport,
};

use super::{request, tls};
use crate::adapter::{Adapter, ConnectedStream, Outcome, RunningServer, Setup};
use crate::script::{Held, Op};
use crate::wait::TIMEOUT;

/// `dataserver-std`.
#[derive(Clone, Copy, Debug)]
pub struct Std {
    has_tls: bool,
}

impl Std {
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

impl Adapter for Std {
    fn name(&self) -> &'static str {
        if self.has_tls { "std-tls" } else { "std" }
    }

    fn waits_for_handlers(&self) -> bool {
        true
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
        Box::new(StdServer {
            address: server.local_addr(),
            handlers,
            shutdown: server.shutdown_handle(),
            thread: thread::spawn(move || server.run()),
        })
    }

    fn serve_stream(&self, stream: ConnectedStream, setup: Setup) -> io::Result<Receipt> {
        let handlers = Handlers::new();
        add_all(&handlers, setup.entries);
        let socket = socket(stream)?;
        if self.has_tls {
            let stream = TlsStream::server(socket, tls::server(), TIMEOUT)?;
            return Ok(handlers.serve(stream, &setup.config)?);
        }
        Ok(handlers.serve(socket, &setup.config)?)
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
                receive(&mut Held::new(client.get(request)?), script)
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
        send(&mut Held::new(client.put(request)?), script)
    }

    fn client_over(
        &self,
        stream: ConnectedStream,
        packet: StartPacket,
        config: Config,
        script: &[Op],
    ) -> io::Result<Outcome> {
        let socket = socket(stream)?;
        if self.has_tls {
            let stream = TlsStream::client(socket, tls::client(), tls::name(), TIMEOUT)?;
            return transfer_over(stream, packet, config, script);
        }
        transfer_over(socket, packet, config, script)
    }

    fn session(
        &self,
        address: SocketAddr,
        config: Config,
        objects: &[(StartPacket, Vec<Op>)],
    ) -> Vec<io::Result<Outcome>> {
        let mut session = self.new_client(address, config).expect("an address").session();
        let transfer = |(packet, script): &(_, Vec<_>)| transfer(&mut session, *packet, script);
        objects.iter().map(transfer).collect()
    }
}

fn transfer_over(
    transport: impl Transport + Send + 'static,
    packet: StartPacket,
    config: Config,
    script: &[Op],
) -> io::Result<Outcome> {
    let request = request(packet);
    match packet.direction() {
        Direction::Put => {
            send(&mut Held::new(ObjectWriter::open(transport, request, &config)), script)
        }
        Direction::Get => {
            receive(&mut Held::new(ObjectReader::open(transport, request, &config)?), script)
        }
    }
}

/// One object of a session.
fn transfer(session: &mut Session, packet: StartPacket, script: &[Op]) -> io::Result<Outcome> {
    match packet.direction() {
        Direction::Put => send(&mut Held::new(session.put(request(packet))?), script),
        Direction::Get => receive(&mut Held::new(session.get(request(packet))?), script),
    }
}

struct StdServer {
    address: SocketAddr,
    handlers: Handlers,
    shutdown: ShutdownHandle,
    thread: JoinHandle<Result<(), Error>>,
}

impl RunningServer for StdServer {
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
        Direction::Put => handlers.on_put(entry, move |object| handle_put(object, &script)),
        Direction::Get => handlers.on_get(entry, move |object| handle_get(object, &script)),
    }
}

/// A script that does not commit ends with a commit.
fn handle_put(object: ObjectReader, script: &[Op]) -> io::Result<Receipt> {
    let mut object = Held::new(object);
    match receive(&mut object, script)?.receipt {
        Some(receipt) => Ok(receipt),
        None => Ok(object.take()?.commit()?),
    }
}

/// A script that does not finish ends with a finish.
fn handle_get(object: ObjectWriter, script: &[Op]) -> io::Result<Receipt> {
    let mut object = Held::new(object);
    match send(&mut object, script)?.receipt {
        Some(receipt) => Ok(receipt),
        None => Ok(object.take()?.finish()?),
    }
}

fn receive(object: &mut Held<ObjectReader>, script: &[Op]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignores_errors = false;
    for op in script {
        ignores_errors |= matches!(op, Op::IgnoreErrors);
        let done = receive_op(object, op, &mut outcome);
        if !ignores_errors {
            done?;
        }
    }
    Ok(outcome)
}

fn receive_op(object: &mut Held<ObjectReader>, op: &Op, outcome: &mut Outcome) -> io::Result<()> {
    let receipt = match op {
        Op::Read(n) => {
            object.get()?.take(*n as u64).read_to_end(&mut outcome.bytes)?;
            return Ok(());
        }
        Op::ReadToEnd => {
            object.get()?.read_to_end(&mut outcome.bytes)?;
            return Ok(());
        }
        Op::Discard(n) => return discard(object.get()?, *n),
        Op::ReceiveFile(path) => {
            object.get()?.receive_file(&File::create(path)?)?;
            return Ok(());
        }
        Op::ReceiveTo(path) => object.take()?.receive_to(path)?,
        Op::Commit => object.take()?.commit()?,
        Op::EndOnAnotherThread => {
            let object = object.take()?;
            thread::spawn(|| object.commit()).join().expect("no panic")?
        }
        Op::ReturnReceipt(receipt) => *receipt,
        other => return run_without_object(other, &outcome.bytes),
    };
    outcome.receipt = Some(receipt);
    Ok(())
}

fn send(object: &mut Held<ObjectWriter>, script: &[Op]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignores_errors = false;
    for op in script {
        ignores_errors |= matches!(op, Op::IgnoreErrors);
        let done = send_op(object, op, &mut outcome);
        if !ignores_errors {
            done?;
        }
    }
    Ok(outcome)
}

fn send_op(object: &mut Held<ObjectWriter>, op: &Op, outcome: &mut Outcome) -> io::Result<()> {
    let receipt = match op {
        Op::Flush => return object.get()?.flush(),
        Op::Write(bytes) => return object.get()?.write_all(bytes),
        Op::WriteForever(bytes) => loop {
            object.get()?.write_all(bytes)?;
        },
        Op::Send(bytes) => object.take()?.send(bytes)?,
        Op::SendPath(path) => object.take()?.send_path(path)?,
        Op::SendFile(path) => {
            let file = File::open(path)?;
            object.take()?.send_file(&file)?
        }
        Op::SendReader(source) => object.take()?.send_reader(source.clone())?,
        Op::SendByReading(path) => {
            let file = File::open(path)?;
            object.take()?.send_reader(file)?
        }
        Op::Finish => object.take()?.finish()?,
        Op::EndOnAnotherThread => {
            let object = object.take()?;
            thread::spawn(|| object.finish()).join().expect("no panic")?
        }
        Op::ReturnReceipt(receipt) => *receipt,
        other => return run_without_object(other, &[]),
    };
    outcome.receipt = Some(receipt);
    Ok(())
}

fn discard(object: &mut impl Read, piece: usize) -> io::Result<()> {
    let mut buffer = vec![0; piece];
    while object.read(&mut buffer)? > 0 {}
    Ok(())
}

fn run_without_object(op: &Op, read: &[u8]) -> io::Result<()> {
    match op {
        Op::Notify(listener) => {
            _ = listener.send(read.to_vec()); // fails if the test has ended
        }
        Op::Wait(gate) => gate.wait_blocking(),
        Op::Sleep(time) => thread::sleep(*time),
        Op::Fail => return Err(Op::failure()),
        Op::Panic => panic!("as the script says"),
        Op::Call(call) => call.call(),
        Op::Persist(file, name) => return Op::persist(file, name),
        Op::IgnoreErrors => {}
        other => other.wrong_direction(),
    }
    Ok(())
}
