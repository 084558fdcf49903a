//! A file that is transferred between two processes, of which one is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::{fs, io};

use dataserver_core::{Direction, Entry};

use crate::adapter::{DynAdapter, Outcome, Setup};
use crate::adapters::adapter;
use crate::packets::{KEY, get, long_timeouts, put};
use crate::process::Process;
use crate::script::Op;
use crate::server::Server;

/// The parameters of the transfer, which both processes know. Each can be the client or the server, and
/// the sender or the receiver.
#[derive(Clone, Debug)]
pub struct ProcessTransfer {
    /// The directory of all its files.
    pub directory: PathBuf,
    /// Put or get.
    pub direction: Direction,
    /// Whether the start packet declares the size of the object.
    pub declared: bool,
    /// Whether it can be resumed. If not, the receiver stores to [`part`](Self::part) first.
    pub resumable: bool,
    /// Whether the object is framed.
    pub framed: bool,
    /// Number of bytes after which the sender reports progress.
    pub notify_at: usize,
}

impl ProcessTransfer {
    /// The file that is sent.
    pub fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// The file that is stored. Under this name it is complete, or absent.
    pub fn target(&self) -> PathBuf {
        self.directory.join("target")
    }

    /// The file that is received, until it is complete.
    pub fn part(&self) -> PathBuf {
        self.directory.join("part")
    }

    /// Starts a server in this process. If it is the sender, it reports progress.
    pub fn serve(&self, server: DynAdapter, progress: &Sender<Vec<u8>>) -> Server {
        let setup = match self.direction {
            Direction::Put => Setup::new().on_put(Entry::new(KEY), self.store()),
            Direction::Get => Setup::new().on_get(Entry::new(KEY), self.send(progress)),
        };
        Server::start(server, setup)
    }

    /// Runs a client in this process. If it is the sender, it reports progress.
    ///
    /// # Errors
    /// Returns the error of the adapter.
    ///
    /// # Panics
    /// Panics if there is no source.
    pub fn client(
        &self,
        client: DynAdapter,
        address: SocketAddr,
        progress: &Sender<Vec<u8>>,
    ) -> io::Result<Outcome> {
        let size = fs::metadata(self.source()).expect("a file").len();
        let size = Some(size).filter(|_| self.declared);
        let (packet, script) = match self.direction {
            Direction::Put => (put(size), self.send(progress)),
            Direction::Get if self.resumable => (get(size), self.store()),
            Direction::Get => (get(size), [&self.store()[..], &[Op::Commit]].concat()),
        };
        let packet = if self.framed { packet.framed() } else { packet };
        let packet = if self.resumable { packet.resumable() } else { packet };
        client.client(address, packet, long_timeouts(), &script)
    }

    fn send(&self, progress: &Sender<Vec<u8>>) -> Vec<Op> {
        let bytes = fs::read(self.source()).expect("a file");
        let (front, back) = bytes.split_at(self.notify_at);
        vec![Op::Write(front.into()), Op::Notify(progress.clone()), Op::Send(back.into())]
    }

    fn store(&self) -> Vec<Op> {
        if self.resumable {
            return vec![Op::ReceiveTo(self.target())];
        }
        vec![Op::ReceiveFile(self.part()), Op::Persist(self.part(), self.target())]
    }

    /// Starts a process that is the server: `program` is the path of `test-process`.
    pub fn server_process(&self, program: &str, server: DynAdapter) -> Process {
        self.process(program, &["serve", server.name()])
    }

    /// Starts a process that is the client.
    pub fn client_process(
        &self,
        program: &str,
        client: DynAdapter,
        address: SocketAddr,
    ) -> Process {
        self.process(program, &["client", client.name(), &address.to_string()])
    }

    fn process(&self, program: &str, role: &[&str]) -> Process {
        let direction = match self.direction {
            Direction::Put => "put",
            Direction::Get => "get",
        };
        let size = if self.declared { "declared" } else { "unknown" };
        let format = if self.framed { "framed" } else { "bare" };
        let directory = self.directory.to_str().expect("a path in UTF-8");
        let resume = if self.resumable { "resumable" } else { "once" };
        let notify_at = self.notify_at.to_string();
        let arguments = ["transfer", directory, direction, size, format, resume, &notify_at];
        Process::start(program, &[&arguments, role].concat())
    }
}

/// Runs in the process. The arguments are `DIRECTORY put|get declared|unknown framed|bare resumable|once
/// NOTIFY_AT`, and then `serve ADAPTER` or `client ADAPTER ADDRESS`.
///
/// A server prints `listening ADDRESS`, a sender `notified` when enough bytes were sent, and both sides
/// at the end `receipt` or `failed REASON`. Then they wait to be killed.
pub(crate) fn run(arguments: &[&str], progress: &Sender<Vec<u8>>) {
    let [directory, direction, size, format, resume, notify_at, ref role @ ..] = *arguments else {
        panic!("arguments: {arguments:?}");
    };
    let transfer = ProcessTransfer {
        directory: Path::new(directory).into(),
        direction: if direction == "put" { Direction::Put } else { Direction::Get },
        declared: size == "declared",
        resumable: resume == "resumable",
        framed: format == "framed",
        notify_at: notify_at.parse().expect("a number"),
    };
    match *role {
        ["serve", server] => {
            let server = transfer.serve(adapter(server), progress);
            println!("listening {}", server.address);
            server.outcomes.iter().for_each(print_outcome);
        }
        ["client", client, address] => {
            let address = address.parse().expect("an address");
            print_outcome(transfer.client(adapter(client), address, progress));
            io::copy(&mut io::stdin(), &mut io::sink()).expect("a pipe");
        }
        _ => panic!("arguments: {arguments:?}"),
    }
}

fn print_outcome<T>(outcome: io::Result<T>) {
    match outcome {
        Ok(_) => println!("receipt"),
        Err(error) => println!("failed {error}"),
    }
}
