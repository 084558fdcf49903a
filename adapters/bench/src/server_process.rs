//! Servers in child processes.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use crate::baseline::Baseline;
use crate::cpu::Cpu;
use crate::subject::{Job, Subject};
use crate::tls_baseline::TlsBaseline;

const SERVE: &str = "--serve";
const TRANSFER: &str = "--transfer";
const HOLD: &str = "--hold";

/// A process that serves a job, or holds connections. It ends when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// The line that it printed when it was ready.
    ready: String,
}

impl ServerProcess {
    /// Starts a server: this program, with arguments for [`run_child`].
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn start(subject: &dyn Subject, job: &Job) -> io::Result<Self> {
        let mut arguments = vec![SERVE.to_owned(), subject.name()];
        arguments.extend(job.to_arguments());
        Self::spawn(&arguments)
    }

    /// Starts a process that opens this many connections, and keeps them idle.
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn hold(address: SocketAddr, connections: usize) -> io::Result<Self> {
        Self::spawn(&[HOLD.to_owned(), address.to_string(), connections.to_string()])
    }

    fn spawn(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        Ok(Self { child, ready: ready.trim().to_owned() })
    }

    /// The address at which it listens.
    ///
    /// # Errors
    /// Returns an error if the server failed to start.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.ready.parse().map_err(io::Error::other)
    }

    /// The processor time that it has used.
    ///
    /// # Errors
    /// Returns an error if it has ended.
    pub fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// Runs a child process to its end. Returns at once in the process that measures.
///
/// # Errors
/// Returns an error if the child fails, or if the subject is unknown.
pub fn run_child(ours: &dyn Subject) -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, arguments)) if verb == SERVE => serve(ours, arguments),
        Some((verb, arguments)) if verb == TRANSFER => transfer(ours, arguments),
        Some((verb, arguments)) if verb == HOLD => hold(arguments),
        _ => Ok(()),
    }
}

/// The command of a process that does one transfer, and then ends.
///
/// # Errors
/// Returns an error if the path of this program is unknown.
pub fn transfer_command(
    subject: &dyn Subject,
    job: &Job,
    address: SocketAddr,
) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args([TRANSFER, &address.to_string(), &subject.name()]).args(job.to_arguments());
    Ok(command)
}

fn transfer(ours: &dyn Subject, arguments: &[String]) -> io::Result<()> {
    let (address, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (subject, job) = parse(ours, arguments)?;
    subject.transfer(address.parse().map_err(io::Error::other)?, &job)?;
    process::exit(0);
}

fn parse<'a>(ours: &'a dyn Subject, arguments: &[String]) -> io::Result<(&'a dyn Subject, Job)> {
    let unknown = || io::Error::other(format!("unknown subject: {arguments:?}"));
    let (name, job) = arguments.split_first().ok_or_else(unknown)?;
    let job = Job::from_arguments(job).ok_or_else(unknown)?;
    let baselines = Baseline::ALL.iter().map(|baseline| baseline as &dyn Subject);
    let over_tls = TlsBaseline::ALL.iter().map(|baseline| baseline as &dyn Subject);
    let all = iter::once(ours).chain(ours.runtime()).chain(baselines).chain(over_tls);
    let mut named = all.filter(|subject| subject.name() == *name);
    Ok((named.next().ok_or_else(unknown)?, job))
}

fn serve(ours: &dyn Subject, arguments: &[String]) -> io::Result<()> {
    let (subject, job) = parse(ours, arguments)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    thread::spawn(exit_with_parent);
    subject.serve(listener, &job)?;
    process::exit(1); // a server does not return
}

fn hold(arguments: &[String]) -> io::Result<()> {
    let [address, connections] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let connections = connections.parse().map_err(io::Error::other)?;
    let held = (0..connections).map(|_| TcpStream::connect(address));
    let held = held.collect::<io::Result<Vec<_>>>()?;
    println!("{}", held.len());
    exit_with_parent();
    Ok(())
}

/// Ends this process when its parent closes the pipe to its standard input.
fn exit_with_parent() {
    _ = io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}
