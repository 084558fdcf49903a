//! The async adapter, on an executor of one thread.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Config, Direction, Entry, StartPacket};
use dataserver_smol::{Client, Handlers, Receiver, Sender, Server, Socket, StopHandle};
use smol::future::block_on; // that of async-io wakes up now and then
use smol::io::{AssertAsync, AsyncReadExt, AsyncWriteExt};
use smol::{Executor, Timer};

use crate::adapter::{Adapter, Carrier, Outcome, Running, Setup};
use crate::script::Do;

/// `dataserver-smol`.
#[derive(Clone, Copy, Debug)]
pub struct Smol;

impl Adapter for Smol {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn waits_for_handlers(&self) -> bool {
        false // their futures are dropped
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
        Box::new(SmolServer {
            address: server.local_addr().expect("an address"),
            handlers,
            stop: server.stop_handle(),
            thread: thread::spawn(move || {
                let executor = Executor::new();
                let run = server.run(|connection| executor.spawn(connection).detach());
                block_on(executor.run(run))
            }),
        })
    }

    fn serve_stream(&self, stream: Carrier, setup: Setup) -> io::Result<Receipt> {
        let handlers = Handlers::new();
        add_all(&handlers, setup.entries);
        block_on(handlers.serve(socket(stream)?, &setup.config))
    }

    fn client(
        &self,
        address: SocketAddr,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome> {
        let client = Client::new(address).config(config);
        block_on(async {
            match packet.direction() {
                Direction::Put => send(&mut client.put(packet).await?, script).await,
                Direction::Get => receive(&mut client.get(packet).await?, script).await,
            }
        })
    }

    fn client_over(
        &self,
        stream: Carrier,
        packet: StartPacket,
        config: Config,
        script: &[Do],
    ) -> io::Result<Outcome> {
        let stream = socket(stream)?;
        block_on(async {
            match packet.direction() {
                Direction::Put => send(&mut Sender::open(stream, packet, &config)?, script).await,
                Direction::Get => {
                    receive(&mut Receiver::open(stream, packet, &config).await?, script).await
                }
            }
        })
    }
}

struct SmolServer {
    address: SocketAddr,
    handlers: Handlers,
    stop: StopHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Running for SmolServer {
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
        Direction::Put => handlers.on_put(entry, move |object| {
            let script = script.clone();
            Box::pin(async move { receive(object, &script).await })
        }),
        Direction::Get => handlers.on_get(entry, move |object| {
            let script = script.clone();
            Box::pin(async move { send(object, &script).await })
        }),
    }
}

/// With an object that arrives.
async fn receive(object: &mut Receiver, script: &[Do]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignore = false;
    for step in script {
        let done = match step {
            Do::Read(n) => object.take(*n as u64).read_to_end(&mut outcome.bytes).await.map(drop),
            Do::ReadToEnd => object.read_to_end(&mut outcome.bytes).await.map(drop),
            Do::Discard(n) => discard(object, *n).await,
            Do::ReceiveFile(path) => match File::create(path) {
                Ok(file) => object.receive_file(&file).await.map(drop),
                Err(error) => Err(error),
            },
            Do::Commit => object.commit().await.map(|receipt| outcome.receipt = Some(receipt)),
            Do::IgnoreErrors => {
                ignore = true;
                Ok(())
            }
            other => apart_from_the_object(other, &outcome.bytes).await,
        };
        if !ignore {
            done?;
        }
    }
    Ok(outcome)
}

/// With an object that leaves.
async fn send(object: &mut Sender, script: &[Do]) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut ignore = false;
    for step in script {
        let mut got = |receipt| outcome.receipt = Some(receipt);
        let done = match step {
            Do::Flush => object.flush().await,
            Do::Write(bytes) => object.write_all(bytes).await,
            Do::WriteForever(bytes) => loop {
                if let Err(error) = object.write_all(bytes).await {
                    break Err(error);
                }
            },
            Do::Send(bytes) => object.send(bytes).await.map(&mut got),
            Do::SendFile(path) => match File::open(path) {
                Ok(file) => object.send_file(&file).await.map(&mut got),
                Err(error) => Err(error),
            },
            Do::SendReader(source) => {
                object.send_reader(AssertAsync::new(source.clone())).await.map(&mut got)
            }
            Do::SendByReading(path) => match File::open(path) {
                Ok(file) => object.send_reader(AssertAsync::new(file)).await.map(&mut got),
                Err(error) => Err(error),
            },
            Do::Finish => object.finish().await.map(&mut got),
            Do::IgnoreErrors => {
                ignore = true;
                Ok(())
            }
            other => apart_from_the_object(other, &[]).await,
        };
        if !ignore {
            done?;
        }
    }
    Ok(outcome)
}

async fn discard(object: &mut Receiver, piece: usize) -> io::Result<()> {
    let mut buffer = vec![0; piece];
    while object.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn apart_from_the_object(step: &Do, read: &[u8]) -> io::Result<()> {
    match step {
        Do::Tell(listener) => {
            let _nobody_listens = listener.send(read.to_vec());
        }
        Do::Wait(gate) => gate.wait().await,
        Do::Sleep(time) => drop(Timer::after(*time).await),
        Do::Fail => return Err(Do::failure()),
        Do::Panic => panic!("as the script says"),
        Do::Call(call) => call.call(),
        Do::Keep(file, name) => return Do::keep(file, name),
        other => other.wrong_way(),
    }
    Ok(())
}
