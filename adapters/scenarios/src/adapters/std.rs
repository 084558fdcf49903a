//! The blocking adapter.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Direction, Entry, StartPacket};
use dataserver_std::{Client, Handlers, Receiver, Sender, Server, Socket, StopHandle};

use crate::adapter::{Adapter, Carrier, Outcome, Running, Setup};
use crate::script::Do;

/// `dataserver-std`.
#[derive(Clone, Copy, Debug)]
pub struct Std;

impl Adapter for Std {
    fn name(&self) -> &'static str {
        "std"
    }

    fn waits_for_handlers(&self) -> bool {
        true
    }

    fn serve(&self, setup: Setup) -> Box<dyn Running> {
        let listener = setup.listener.map_or_else(|| TcpListener::bind("127.0.0.1:0"), Ok);
        let server = Server::from_listener(listener.expect("a port")).expect("a listener");
        let mut server = server.config(setup.config);
        if let Some(max) = setup.max_connections {
            server = server.max_connections(max);
        }
        let report = setup.report;
        let server = server.report(move |outcome| report(outcome));
        let handlers = server.handlers().clone();
        add_all(&handlers, setup.entries);
        Box::new(StdServer {
            address: server.local_addr().expect("an address"),
            handlers,
            stop: server.stop_handle(),
            thread: thread::spawn(move || server.run()),
        })
    }

    fn serve_stream(&self, stream: Carrier, setup: Setup) -> io::Result<Receipt> {
        let handlers = Handlers::default();
        add_all(&handlers, setup.entries);
        handlers.serve(socket(stream)?, &setup.config)
    }

    fn client(
        &self,
        address: SocketAddr,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome> {
        let client = Client::new(address).config(config);
        match packet.direction() {
            Direction::Put => send(&mut client.put(packet)?, script),
            Direction::Get => receive(&mut client.get(packet)?, script),
        }
    }

    fn client_over(
        &self,
        stream: Carrier,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome> {
        let stream = socket(stream)?;
        match packet.direction() {
            Direction::Put => send(&mut Sender::open(stream, packet, &config)?, script),
            Direction::Get => receive(&mut Receiver::open(stream, packet, &config)?, script),
        }
    }
}

struct StdServer {
    address: SocketAddr,
    handlers: Handlers,
    stop: StopHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Running for StdServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn add(&self, direction: Direction, entry: Entry, script: Vec<Do>) -> Result<(), Error> {
        add(&self.handlers, direction, entry, script)
    }

    fn remove(&self, entry: Entry) -> bool {
        self.handlers.remove(entry)
    }

    fn stop(&self, grace: Duration) {
        self.stop.stop(grace);
    }

    fn join(self: Box<Self>) -> io::Result<()> {
        self.thread.join().expect("`run` does not panic")
    }
}

fn socket(stream: Carrier) -> io::Result<Socket> {
    match stream {
        Carrier::Tcp(stream) => stream.try_into(),
        Carrier::Unix(stream) => stream.try_into(),
    }
}

fn add_all(handlers: &Handlers, entries: Vec<(Entry, Vec<Do>)>) {
    for (entry, script) in entries {
        add(handlers, entry.direction(), entry, script).expect("a new entry");
    }
}

fn add(
    handlers: &Handlers,
    direction: Direction,
    entry: Entry,
    script: Vec<Do>,
) -> Result<(), Error> {
    match direction {
        Direction::Put => handlers.on_put(entry, move |object| receive(object, &script)),
        Direction::Get => handlers.on_get(entry, move |object| send(object, &script)),
    }
}

/// With an object that arrives.
fn receive(object: &mut Receiver, script: &[Do]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignore = false;
    for step in script {
        let done = match step {
            Do::Read(n) => object.take(*n as u64).read_to_end(&mut outcome.bytes).map(drop),
            Do::ReadToEnd => object.read_to_end(&mut outcome.bytes).map(drop),
            Do::Discard(n) => discard(object, *n),
            Do::ReceiveFile(path) => {
                File::create(path).and_then(|file| object.receive_file(&file)).map(drop)
            }
            Do::Commit => object.commit().map(|receipt| outcome.receipt = Some(receipt)),
            Do::IgnoreErrors => {
                ignore = true;
                Ok(())
            }
            other => apart_from_the_object(other, &outcome.bytes),
        };
        if !ignore {
            done?;
        }
    }
    Ok(outcome)
}

/// With an object that leaves.
fn send(object: &mut Sender, script: &[Do]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignore = false;
    for step in script {
        let mut got = |receipt| outcome.receipt = Some(receipt);
        let done = match step {
            Do::Flush => object.flush(),
            Do::Write(bytes) => object.write_all(bytes),
            Do::WriteForever(bytes) => loop {
                if let Err(error) = object.write_all(bytes) {
                    break Err(error);
                }
            },
            Do::Send(bytes) => object.send(bytes).map(&mut got),
            Do::SendFile(path) => {
                File::open(path).and_then(|file| object.send_file(&file)).map(&mut got)
            }
            Do::SendReader(source) => object.send_reader(source.clone()).map(&mut got),
            Do::SendByReading(path) => {
                File::open(path).and_then(|file| object.send_reader(file)).map(&mut got)
            }
            Do::Finish => object.finish().map(&mut got),
            Do::IgnoreErrors => {
                ignore = true;
                Ok(())
            }
            other => apart_from_the_object(other, &[]),
        };
        if !ignore {
            done?;
        }
    }
    Ok(outcome)
}

fn discard(object: &mut impl Read, piece: usize) -> io::Result<()> {
    let mut buffer = vec![0; piece];
    while object.read(&mut buffer)? > 0 {}
    Ok(())
}

fn apart_from_the_object(step: &Do, read: &[u8]) -> io::Result<()> {
    match step {
        Do::Tell(listener) => {
            let _nobody_listens = listener.send(read.to_vec());
        }
        Do::Wait(gate) => gate.wait_blocking(),
        Do::Sleep(time) => thread::sleep(*time),
        Do::Fail => return Err(Do::failure()),
        Do::Panic => panic!("as the script says"),
        Do::Call(call) => call.call(),
        Do::Keep(file, name) => return Do::keep(file, name),
        other => other.wrong_way(),
    }
    Ok(())
}
