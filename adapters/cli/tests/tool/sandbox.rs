//! A directory, and processes that are ended with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until this is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A directory for one test.
pub(crate) struct Sandbox(TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file with bytes that are all different in long runs.
    pub(crate) fn file(&self, name: &str, len: usize) -> PathBuf {
        let bytes: Vec<u8> = (0..len as u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A file that takes no space, and is too long to be transferred at once.
    pub(crate) fn huge_file(&self, name: &str) -> PathBuf {
        File::create(self.path(name)).unwrap().set_len(16 << 30).unwrap();
        self.path(name)
    }

    /// A FIFO.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let made = Command::new("mkfifo").arg(self.path(name)).status().unwrap();
        assert!(made.success());
        self.path(name)
    }

    /// The temporary files in the directory.
    pub(crate) fn parts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension() == Some(OsStr::new("part"))).collect()
    }

    /// Waits until some of an object has arrived in a temporary file.
    #[track_caller]
    pub(crate) fn wait_for_part(&self) {
        eventually("some of the object arrives", || {
            self.parts().iter().any(|part| fs::metadata(part).is_ok_and(|part| part.len() > 0))
        });
    }

    #[track_caller]
    pub(crate) fn wait_until_no_part_is_left(&self) {
        eventually("no temporary file is left", || self.parts().is_empty());
    }

    /// The tool, in this directory.
    pub(crate) fn tool<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dataserver"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// A shell script in this directory, in which `$tool` is the tool.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("tool", env!("CARGO_BIN_EXE_dataserver"));
        command.current_dir(self.0.path());
        command
    }

    /// Starts a process, with its standard output and standard error in files.
    pub(crate) fn start(&self, mut command: Command) -> Process {
        let names = ["out", "err"]
            .map(|name| tempfile::Builder::new().suffix(name).tempfile_in(self.0.path()));
        let [out, err] = names.map(|file| file.unwrap().keep().unwrap());
        let child = command.stdin(Stdio::piped()).stdout(out.0).stderr(err.0).spawn().unwrap();
        Process { child, out: out.1, err: err.1 }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, command: Command) -> Ended {
        let mut process = self.start(command);
        drop(process.stdin());
        process.ended()
    }

    /// Runs the tool to its end.
    #[track_caller]
    pub(crate) fn run_tool<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Ended {
        self.run(self.tool(arguments))
    }

    /// Starts `serve` at a free port.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_with(self.tool(["serve", "--listen", "127.0.0.1:0"]), arguments)
    }

    /// Starts a command that ends in `serve --listen ADDR`, with further arguments.
    pub(crate) fn serve_with(&self, mut command: Command, arguments: &[&str]) -> Server {
        command.args(arguments);
        let process = self.start(command);
        eventually("the server listens", || {
            process.out().starts_with("listening on ") && process.out().contains('\n')
        });
        let first = process.out().lines().next().unwrap().to_owned();
        Server { address: first["listening on ".len()..].to_owned(), process }
    }
}

/// A process, which is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its standard output so far.
    pub(crate) fn out(&self) -> String {
        read(&self.out)
    }

    /// Its standard error so far.
    pub(crate) fn err(&self) -> String {
        read(&self.err)
    }

    #[track_caller]
    pub(crate) fn wait_for_err(&self, text: &str) {
        eventually(&format!("{text:?} on standard error:\n{}", self.err()), || {
            self.err().contains(text)
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let mut status = None;
        eventually(&format!("the process ends:\n{}", self.err()), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Ended { status: status.unwrap(), out: fs::read(&self.out).unwrap(), err: self.err() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    let mut text = Vec::new();
    File::open(path).unwrap().read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// A process that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ended {
    /// Checks the exit status, and returns standard error.
    #[track_caller]
    pub(crate) fn with_status(self, status: i32) -> String {
        assert_eq!(self.status.code(), Some(status), "{}", self.err);
        self.err
    }

    /// Checks that a signal ended the process.
    #[track_caller]
    pub(crate) fn by_signal(self, signal: Signal) -> String {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}: {}", self.status, self.err);
        self.err
    }
}

/// `serve`.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) process: Process,
}

impl Server {
    /// Ends it by SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        self.process.signal(Signal::TERM);
        self.process.ended().with_status(0)
    }
}

/// Begins a put that waits for more input.
pub(crate) fn begin_put(sandbox: &Sandbox, server: &Server) -> (Process, ChildStdin) {
    let mut client = sandbox.start(sandbox.tool(["put", &server.address, "up", "-"]));
    let mut input = client.stdin();
    input.write_all(b"the beginning\n").unwrap();
    sandbox.wait_for_part();
    (client, input)
}

/// Begins a get of a huge object.
pub(crate) fn begin_get(sandbox: &Sandbox, server: &Server) -> Process {
    let client = sandbox.start(sandbox.tool(["get", &server.address, "huge", "object"]));
    sandbox.wait_for_part();
    client
}

#[track_caller]
pub(crate) fn assert_same(left: &Path, right: &Path) {
    assert!(fs::read(left).unwrap() == fs::read(right).unwrap(), "{} differs", right.display());
}
