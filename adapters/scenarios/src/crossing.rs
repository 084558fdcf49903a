//! A file that crosses from one process to another, of which one is to be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::{fs, io};

use dataserver_core::{Direction, Entry};

use crate::adapter::{Any, Outcome, Setup, adapter};
use crate::process::Process;
use crate::script::Do;
use crate::server::Server;
use crate::things::{get, patient, put};

/// What both processes know of it. Each can be any of the four.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// Where all the files are.
    pub directory: PathBuf,
    /// Put or get.
    pub direction: Direction,
    /// Whether the start packet declares the object's size.
    pub declared: bool,
    /// Behind how many bytes the sender tells that they have left.
    pub tell_at: usize,
}

impl Crossing {
    /// The file that is sent.
    pub fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// The file that is stored. Under this name it is whole, or not there.
    pub fn target(&self) -> PathBuf {
        self.directory.join("target")
    }

    /// Where it is stored until it is whole.
    pub fn part(&self) -> PathBuf {
        self.directory.join("part")
    }

    /// A server in this process, which tells where the sender is, if it is one.
    pub fn serve(&self, server: Any, told: &Sender<Vec<u8>>) -> Server {
        let (entry, script) = match self.direction {
            Direction::Put => (put(None), self.store()),
            Direction::Get => (get(None), self.send(told)),
        };
        Server::start(server, Setup::new().on(Entry::any_size(entry, u64::MAX), script))
    }

    /// A client in this process, in the same way.
    ///
    /// # Errors
    /// What the adapter says.
    ///
    /// # Panics
    /// There is no file.
    pub fn client(
        &self,
        client: Any,
        address: SocketAddr,
        told: &Sender<Vec<u8>>,
    ) -> io::Result<Outcome> {
        let size = fs::metadata(self.source()).expect("a file").len();
        let size = Some(size).filter(|_| self.declared);
        let (packet, script) = match self.direction {
            Direction::Put => (put(size), self.send(told)),
            Direction::Get => (get(size), [&self.store()[..], &[Do::Commit]].concat()),
        };
        client.client(address, packet, patient(), &script)
    }

    fn send(&self, told: &Sender<Vec<u8>>) -> Vec<Do> {
        let bytes = fs::read(self.source()).expect("a file");
        let (front, back) = bytes.split_at(self.tell_at);
        vec![Do::Write(front.into()), Do::Tell(told.clone()), Do::Send(back.into())]
    }

    fn store(&self) -> Vec<Do> {
        vec![Do::ReceiveFile(self.part()), Do::Keep(self.part(), self.target())]
    }

    /// A process that serves it: `program` is the path of `scenario-process`.
    pub fn server_process(&self, program: &str, server: Any) -> Process {
        self.process(program, &["serve", server.name()])
    }

    /// A process that is its client.
    pub fn client_process(&self, program: &str, client: Any, address: SocketAddr) -> Process {
        self.process(program, &["client", client.name(), &address.to_string()])
    }

    fn process(&self, program: &str, role: &[&str]) -> Process {
        let direction = match self.direction {
            Direction::Put => "put",
            Direction::Get => "get",
        };
        let size = if self.declared { "declared" } else { "unknown" };
        let directory = self.directory.to_str().expect("a path in UTF-8");
        let tell_at = self.tell_at.to_string();
        let what = ["cross", directory, direction, size, &tell_at];
        Process::start(program, &[&what, role].concat())
    }
}

/// The process's end: `DIRECTORY put|get declared|unknown TELL_AT`, and then `serve ADAPTER` or
/// `client ADAPTER ADDRESS`.
///
/// A server tells `listening ADDRESS`, a sender `told` when so many bytes have left, and both sides
/// at the end `receipt` or `failed WHY`. Then they wait to be killed.
pub(crate) fn main(arguments: &[&str], told: &Sender<Vec<u8>>) {
    let [directory, direction, size, tell_at, ref role @ ..] = *arguments else {
        panic!("arguments: {arguments:?}");
    };
    let crossing = Crossing {
        directory: Path::new(directory).into(),
        direction: if direction == "put" { Direction::Put } else { Direction::Get },
        declared: size == "declared",
        tell_at: tell_at.parse().expect("a number"),
    };
    match *role {
        ["serve", server] => {
            let server = crossing.serve(adapter(server), told);
            println!("listening {}", server.address);
            server.outcomes.iter().for_each(tell);
        }
        ["client", client, address] => {
            let address = address.parse().expect("an address");
            tell(crossing.client(adapter(client), address, told));
            io::copy(&mut io::stdin(), &mut io::sink()).expect("a pipe");
        }
        _ => panic!("arguments: {arguments:?}"),
    }
}

fn tell<T>(outcome: io::Result<T>) {
    match outcome {
        Ok(_) => println!("receipt"),
        Err(error) => println!("failed {error}"),
    }
}
