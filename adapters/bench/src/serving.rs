//! Servers in processes of their own.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use crate::contender::{Contender, Job};
use crate::cpu::Cpu;

const SERVE: &str = "--serve";
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
pub fn obey(contenders: &[&dyn Contender]) -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.split_first() {
        Some((verb, words)) if verb == SERVE => serve(contenders, words),
        Some((verb, words)) if verb == HOLD => hold(words),
        _ => Ok(()),
    }
}

fn serve(contenders: &[&dyn Contender], words: &[String]) -> io::Result<()> {
    let unknown = || io::Error::other(format!("no such server: {words:?}"));
    let (name, job) = words.split_first().ok_or_else(unknown)?;
    let job = Job::from_words(job).ok_or_else(unknown)?;
    let mut named = contenders.iter().filter(|contender| contender.name() == *name);
    let contender = named.next().ok_or_else(unknown)?;

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
