//! Servers in processes of their own.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use crate::bare::Bare;
use crate::contender::{Contender, Job};
use crate::cpu::Cpu;

const SERVE: &str = "--serve";
const TRANSFER: &str = "--transfer";
const HOLD: &str = "--hold";

/// A process that serves a job, or holds connections; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    /// What it said when it was ready.
    ready: String,
}

impl Serving {
    /// Starts a server: this program again, with words that [`obey`] understands.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(contender: &dyn Contender, job: &Job) -> io::Result<Self> {
        let mut words = vec![SERVE.to_owned(), contender.name()];
        words.extend(job.to_words());
        Self::spawn(&words)
    }

    /// Starts a process that opens so many connections, and leaves them be.
    ///
    /// # Errors
    /// What the system says.
    pub fn hold(address: SocketAddr, connections: usize) -> io::Result<Self> {
        Self::spawn(&[HOLD.to_owned(), address.to_string(), connections.to_string()])
    }

    fn spawn(words: &[String]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        Ok(Self { child, ready: ready.trim().to_owned() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// It failed to begin.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.ready.parse().map_err(io::Error::other)
    }

    /// What processor time it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.child.id())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// Does what [`Serving`] started this process for, and never returns; or returns at once, where this
/// is the process that measures.
///
/// # Errors
/// What the system says, or an unknown contender.
pub fn obey(ours: &dyn Contender) -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.split_first() {
        Some((verb, words)) if verb == SERVE => serve(ours, words),
        Some((verb, words)) if verb == TRANSFER => transfer(ours, words),
        Some((verb, words)) if verb == HOLD => hold(words),
        _ => Ok(()),
    }
}

/// The command of a process that does one transfer, and then ends.
///
/// # Errors
/// What the system says.
pub fn transfer_command(
    contender: &dyn Contender,
    job: &Job,
    address: SocketAddr,
) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args([TRANSFER, &address.to_string(), &contender.name()]).args(job.to_words());
    Ok(command)
}

fn transfer(ours: &dyn Contender, words: &[String]) -> io::Result<()> {
    let (address, words) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (contender, job) = parse(ours, words)?;
    contender.transfer(address.parse().map_err(io::Error::other)?, &job)?;
    process::exit(0);
}

fn parse<'a>(ours: &'a dyn Contender, words: &[String]) -> io::Result<(&'a dyn Contender, Job)> {
    let unknown = || io::Error::other(format!("no such contender: {words:?}"));
    let (name, job) = words.split_first().ok_or_else(unknown)?;
    let job = Job::from_words(job).ok_or_else(unknown)?;
    let bare = Bare::ALL.iter().map(|bare| bare as &dyn Contender);
    let all = iter::once(ours).chain(ours.runtime()).chain(bare);
    let mut named = all.filter(|contender| contender.name() == *name);
    Ok((named.next().ok_or_else(unknown)?, job))
}

fn serve(ours: &dyn Contender, words: &[String]) -> io::Result<()> {
    let (contender, job) = parse(ours, words)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    thread::spawn(end_with_stdin);
    contender.serve(listener, &job)?;
    process::exit(1); // servers serve for ever
}

fn hold(words: &[String]) -> io::Result<()> {
    let [address, connections] = words else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let connections = connections.parse().map_err(io::Error::other)?;
    let held = (0..connections).map(|_| TcpStream::connect(address));
    let held = held.collect::<io::Result<Vec<_>>>()?;
    println!("{}", held.len());
    end_with_stdin();
    Ok(())
}

/// The process that started this one holds the other end of its standard input.
fn end_with_stdin() {
    _ = io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}
