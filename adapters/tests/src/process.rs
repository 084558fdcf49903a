//! Processes that tests start: to kill them, to measure their threads, descriptors and memory, to limit
//! their descriptors, or to send them signals. They exchange lines with the test.
//!
//! [`process_main`](crate::process_main) is what runs in them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::adapter::DynAdapter;
use crate::kernel;
use crate::wait::{Wait, eventually};

/// A process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `program`, the path of `test-process`, with these arguments.
    ///
    /// # Panics
    /// Panics if it does not start.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().try_for_each(|line| sender.send(line.ok()?).ok()));
        Self { child, lines }
    }

    /// Starts a server of this adapter, and returns its address.
    ///
    /// # Panics
    /// Panics if it does not listen.
    pub fn server(program: &str, server: DynAdapter, options: &[&str]) -> (Self, SocketAddr) {
        let process = Self::start(program, &[&["serve", server.name()], options].concat());
        let address = process.wait_for_line("listening ").parse().expect("an address");
        (process, address)
    }

    /// Waits for a line with this prefix, and returns the rest of it. Lines before it are skipped.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    pub fn wait_for_line(&self, prefix: &str) -> String {
        loop {
            if let Some(rest) = self.next_line().strip_prefix(prefix) {
                return rest.into();
            }
        }
    }

    /// Waits for the next line.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    pub fn next_line(&self) -> String {
        self.lines.wait()
    }

    /// The lines up to the next one with this prefix.
    ///
    /// # Panics
    /// Panics if there is no line with this prefix.
    #[track_caller]
    pub fn lines_until(&self, prefix: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.next_line();
            if line.starts_with(prefix) {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The lines that have arrived, without waiting.
    pub fn arrived_lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Sends a command to the process.
    ///
    /// # Panics
    /// Panics if it has ended.
    pub fn command(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").expect("a process that reads");
    }

    /// Waits until the descriptors and threads of all connections of a server are released, and returns
    /// the size of its heap in bytes.
    ///
    /// # Panics
    /// Panics if they are not released.
    #[track_caller]
    pub fn heap_without_connections(&mut self) -> u64 {
        // The largest number of idle threads that an adapter keeps.
        let idle_threads = 16 * thread::available_parallelism().map_or(1, usize::from) as u64;
        let mut heap = String::new();
        eventually("descriptors and threads are released", || {
            self.command("count");
            let descriptors = self.wait_for_line("descriptors ");
            heap = self.wait_for_line("heap ");
            let threads = kernel::resident_and_threads(self.id()).1;
            descriptors == "0 more" && threads <= idle_threads
        });
        heap.parse().expect("a number")
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to each of its threads, and then stops and continues it: every blocking system call
    /// is interrupted.
    ///
    /// # Panics
    /// Panics if it has ended.
    pub fn interrupt(&self) {
        for thread in kernel::threads_of(self.id()) {
            // Linux prefers the thread with this ID, if it still exists.
            if let Err(errno) = kill_process(thread, Signal::USR1) {
                assert_eq!(errno, Errno::SRCH);
            }
        }
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(Pid::from_child(&self.child), signal).expect("a process");
        }
    }

    /// Kills it with SIGKILL, waits for its end, and returns the lines that were not received yet.
    ///
    /// # Panics
    /// Panics if it cannot be killed.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a process");
        self.child.wait().expect("a process");
        self.lines.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The names of the entries of a server process. All take objects of any size.
pub mod entry {
    /// A put that is read as it arrives. Notifies after 5 bytes.
    pub const PUT: &str = "put";
    /// A put that is read to its end, and never committed. Notifies at the end.
    pub const UNCOMMITTED_PUT: &str = "uncommitted put";
    /// A get of 1000 bytes that then stalls, and notifies.
    pub const STALLED_GET: &str = "stalled get";
    /// A get of 1000 bytes.
    pub const GET: &str = "get";
    /// A get that never ends.
    pub const ENDLESS_GET: &str = "endless get";
    /// A put to a full disk.
    pub const FULL_DISK_PUT: &str = "full disk put";
    /// A get of a large file.
    pub const FILE_GET: &str = "file get";
    /// A put to the file in the options of the server.
    pub const FILE_PUT: &str = "file put";
    /// A put whose handler panics after 5 bytes.
    pub const PANICKING_PUT: &str = "panicking put";
    /// A get whose handler panics after 5 bytes.
    pub const PANICKING_GET: &str = "panicking get";
}

/// What a client process does. Each notifies, and then waits to be killed.
pub mod client {
    /// Sends 5 of 10 declared bytes.
    pub const PUT: &str = "put";
    /// Sends 5 bytes of an object of unknown size.
    pub const UNSIZED_PUT: &str = "unsized put";
    /// Sends 10 of 10 bytes, and waits for the receipt. Notifies after it.
    pub const WHOLE_PUT: &str = "whole put";
    /// Reads 5 bytes.
    pub const GET: &str = "get";
    /// Reads to the end, and does not commit.
    pub const UNCOMMITTED_GET: &str = "uncommitted get";
}
