//! Processes: one to be killed, one whose threads, descriptors and memory are counted, one that runs
//! out of descriptors, or meets signals. They talk with the scenario in lines.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use std::{env, panic, thread};

use dataserver_core::{Config, Entry, Key, StartPacket};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use signal_hook::consts::{SIGPIPE, SIGUSR1, SIGXFSZ};
use signal_hook::flag;

use crate::adapter::{Any, Setup, adapter};
use crate::crossing;
use crate::crowd;
use crate::kernel;
use crate::patience::{PATIENCE, Soon, eventually};
use crate::script::{Do, Gate};
use crate::server::Server;
use crate::things::{get, object, patient, put};

/// The scenario's end of a process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `program`, the path of `scenario-process`, with these arguments.
    ///
    /// # Panics
    /// It does not start.
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

    /// A server of this adapter, and its address.
    ///
    /// # Panics
    /// It does not listen.
    pub fn server(program: &str, server: Any, more: &[&str]) -> (Self, std::net::SocketAddr) {
        let process = Self::start(program, &[&["serve", server.name()], more].concat());
        let address = process.told("listening ").parse().expect("an address");
        (process, address)
    }

    /// What follows `prefix` in the next line that has it. Lines before that are passed over.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn told(&self, prefix: &str) -> String {
        loop {
            if let Some(rest) = self.line().strip_prefix(prefix) {
                return rest.into();
            }
        }
    }

    /// The next line.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.soon()
    }

    /// The lines that have come since, up to one that begins like this.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn more_until(&self, prefix: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line.starts_with(prefix) {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The lines that have come since.
    pub fn more(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Tells the process to do something.
    ///
    /// # Panics
    /// It has ended.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").expect("a process that listens");
    }

    /// What a server holds on its heap, in bytes, when its connections are gone: the descriptors of
    /// all of them are back, and so are their threads.
    ///
    /// # Panics
    /// They are not.
    #[track_caller]
    pub fn at_rest(&mut self) -> u64 {
        // The most threads that an adapter keeps for later.
        let kept = 16 * thread::available_parallelism().map_or(1, usize::from) as u64;
        let mut heap = String::new();
        eventually("descriptors and threads are back", || {
            self.say("count");
            let descriptors = self.told("descriptors ");
            heap = self.told("heap ");
            descriptors == "0 more" && kernel::resident_and_threads(self.id()).1 <= kept
        });
        heap.parse().expect("a number")
    }

    /// Which process it is.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to each of its threads, and then stops and continues it: whatever waits in the
    /// system is interrupted.
    ///
    /// # Panics
    /// It has ended.
    pub fn interrupt(&self) {
        for thread in kernel::threads_of(self.id()) {
            // Linux prefers the thread of this id, if it is still there.
            if let Err(errno) = kill_process(thread, Signal::USR1) {
                assert_eq!(errno, Errno::SRCH);
            }
        }
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(Pid::from_child(&self.child), signal).expect("a process");
        }
    }

    /// Kills it with SIGKILL, and returns when it is dead: the lines that it had still told.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a process");
        self.child.wait().expect("a process");
        self.lines.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

/// The entries of a server process, by name. All match any size.
pub mod entry {
    /// A put that is read as it comes; told when it has begun.
    pub const PUT: &str = "put";
    /// A put that is read to its end, told, and never committed.
    pub const UNCOMMITTED_PUT: &str = "uncommitted put";
    /// A get of 1000 bytes that then stalls, and tells so.
    pub const STALLED_GET: &str = "stalled get";
    /// A get of 1000 bytes.
    pub const GET: &str = "get";
    /// A get that never ends.
    pub const ENDLESS_GET: &str = "endless get";
    /// A put to a disk that is full.
    pub const FULL_DISK_PUT: &str = "full disk put";
    /// A get of a large file.
    pub const FILE_GET: &str = "file get";
    /// A put to the file that the server was given.
    pub const FILE_PUT: &str = "file put";
    /// A put that panics when it has begun.
    pub const PANICKING_PUT: &str = "panicking put";
    /// A get that panics when some has left.
    pub const PANICKING_GET: &str = "panicking get";
}

/// What a client process does: each tells how far it came, and then waits for ever.
pub mod client {
    /// 5 of 10 bytes declared.
    pub const PUT: &str = "put";
    /// 5 bytes of who knows how many.
    pub const UNSIZED_PUT: &str = "unsized put";
    /// All of 10 bytes, so that it waits for the receipt; does not tell.
    pub const WHOLE_PUT: &str = "whole put";
    /// Takes 5 bytes.
    pub const GET: &str = "get";
    /// Takes all, and does not commit.
    pub const UNCOMMITTED_GET: &str = "uncommitted get";
}

/// The process's end: `serve ADAPTER [OPTION]…`, `client ADAPTER ADDRESS WHAT`, `cross` and what
/// [`Crossing`](crossing::Crossing) makes of the rest, or what [`Crowd`](crate::Crowd) says.
///
/// A server tells `before THREADS DESCRIPTORS`, then `listening ADDRESS`, and then of each end
/// `served BYTES` or `failed WHY`, unless it is to be quiet. `Options` says which there are. It hears
/// `count`, and tells `descriptors N more` than when it began to listen, `heap BYTES`, and
/// which signals have come; `stop MILLISECONDS`; and `end`, and tells `after THREADS DESCRIPTORS`.
///
/// How much there is on the heap, only the program can know.
///
/// # Panics
/// The arguments are others.
pub fn main(heap: fn() -> usize) {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (told, telling) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || telling.iter().for_each(|read| println!("told {}", read.len())));
    match arguments[..] {
        ["serve", server, ref options @ ..] => {
            serve(adapter(server), &Options::of(options), &told, heap);
        }
        ["crowd", address, idle, dripping] => crowd::main(address, idle, dripping),
        ["client", client, address, what] => {
            caught(SIGUSR1);
            let (packet, script) = client_script(what, &told);
            let outcome = adapter(client).client(
                address.parse().expect("an address"),
                packet,
                patient(),
                &script,
            );
            panic!("this process was to be killed: {outcome:?}");
        }
        ["cross", ref crossing @ ..] => crossing::main(crossing, &told),
        _ => panic!("arguments: {arguments:?}"),
    }
}

fn client_script(what: &str, told: &Sender<Vec<u8>>) -> (StartPacket, Vec<Do>) {
    let stall = [Do::Tell(told.clone()), Do::Wait(Gate::new())];
    let (packet, first) = match what {
        client::PUT => (put(Some(10)), Do::Write(object(5))),
        client::UNSIZED_PUT => (put(None), Do::Write(object(5))),
        client::WHOLE_PUT => (put(Some(10)), Do::Send(object(10))),
        client::GET => (get(None), Do::Read(5)),
        client::UNCOMMITTED_GET => (get(None), Do::ReadToEnd),
        _ => panic!("no client does this: {what}"),
    };
    (packet, [&[first], &stall[..]].concat())
}

/// What a server process is to be, beside its adapter.
#[derive(Debug, Default)]
struct Options {
    /// `descriptors=N`: how many it may open beside those that it has when it begins to listen. As
    /// many as the system lets it otherwise.
    descriptors: Option<u64>,
    /// `connections=N`: how many it serves at once.
    connections: Option<usize>,
    /// `file=PATH`: where to store puts.
    file: Option<PathBuf>,
    /// `files=N`: how large a file may become, in bytes.
    files: Option<u64>,
    /// `memory=N`: how much more address space it may take, in KiB.
    memory: Option<u64>,
    /// `nonblocking`: somebody else who has the listener makes it so.
    nonblocking: bool,
    /// `impatient`: with the timeouts that a server has unless told otherwise.
    impatient: bool,
    /// `panic`: behind each report.
    panics: bool,
    /// `quiet`: tells of no end, and of no panic.
    quiet: bool,
}

impl Options {
    fn of(words: &[&str]) -> Self {
        let mut options = Self::default();
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("descriptors", n) => options.descriptors = Some(n.parse().expect("a number")),
                ("connections", n) => options.connections = Some(n.parse().expect("a number")),
                ("file", path) => options.file = Some(path.into()),
                ("files", n) => options.files = Some(n.parse().expect("a number")),
                ("memory", n) => options.memory = Some(n.parse().expect("a number")),
                ("nonblocking", _) => options.nonblocking = true,
                ("impatient", _) => options.impatient = true,
                ("panic", _) => options.panics = true,
                ("quiet", _) => options.quiet = true,
                _ => panic!("no option: {word}"),
            }
        }
        options
    }
}

fn serve(server: Any, options: &Options, told: &Sender<Vec<u8>>, heap: fn() -> usize) {
    // What an adapter sets up once for a process, it may keep: so it is asked for here.
    let first = Server::start(server, Setup::new().on(put(None), [Do::ReadToEnd]));
    let sent = server.client(first.address, put(None), patient(), &[Do::Send(object(10))]);
    sent.expect("a receipt");
    first.stop(PATIENCE);
    first.ends();
    let interrupted = caught(SIGUSR1);
    let broken_pipe = caught(SIGPIPE);
    let before = settled(|_| false);
    println!("before {} {}", before.0, before.1);

    if options.quiet {
        panic::set_hook(Box::new(|_| {}));
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shared = listener.try_clone().expect("a descriptor");
    let server = server.serve(setup(options, told).listener(listener)); // a `Server` would keep every outcome
    if options.nonblocking {
        shared.set_nonblocking(true).expect("a listener");
    }
    drop(shared);
    limit_descriptors(options.descriptors);
    if let Some(most) = options.files {
        caught(SIGXFSZ); // or else it ends the process
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: Some(most), maximum }).expect("a lower limit");
    }
    let idle = kernel::descriptors();
    println!("listening {}", server.address());
    if let Some(more) = options.memory {
        let current = Some((kernel::address_space() + more) << 10);
        let maximum = getrlimit(Resource::As).maximum;
        setrlimit(Resource::As, Rlimit { current, maximum }).expect("a lower limit");
    }

    for line in io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("stop", grace)) => {
                server.stop(Duration::from_millis(grace.parse().expect("a number")));
            }
            _ if line == "count" => {
                let now = settled(|(_, descriptors)| descriptors == idle).1;
                println!("descriptors {} more", now.saturating_sub(idle));
                println!("heap {}", heap());
                println!("interrupted {}", interrupted.load(Ordering::Relaxed));
                println!("broken pipe {}", broken_pipe.load(Ordering::Relaxed));
            }
            _ => break,
        }
    }
    server.join().expect("an end without an error");
    let after = settled(|now| now == before);
    println!("after {} {}", after.0, after.1);
}

fn setup(options: &Options, told: &Sender<Vec<u8>>) -> Setup {
    let tell = Do::Tell(told.clone());
    let never = Do::Wait(Gate::new());
    let any_put = |name| Entry::any_size(StartPacket::put(Key::from_name(name)), u64::MAX);
    let any_get = |name| Entry::any_size(StartPacket::get(Key::from_name(name)), u64::MAX);
    let (panics, quiet) = (options.panics, options.quiet);
    let begun = if quiet { Do::Read(0) } else { tell.clone() };
    let mut setup = Setup::new()
        .on(any_put(entry::PUT), [Do::Read(5), begun, Do::Discard(1 << 16)])
        .on(any_put(entry::UNCOMMITTED_PUT), [Do::ReadToEnd, tell.clone(), never.clone()])
        .on(any_put(entry::FULL_DISK_PUT), [Do::ReceiveFile("/dev/full".into())])
        .on(any_put(entry::PANICKING_PUT), [Do::Read(5), Do::Panic])
        .on(any_get(entry::STALLED_GET), [Do::Write(object(1000)), tell, never])
        .on(any_get(entry::GET), [Do::Send(object(1000))])
        .on(any_get(entry::ENDLESS_GET), [Do::WriteForever(object(1 << 16))])
        .on(any_get(entry::FILE_GET), [Do::SendFile(program())])
        .on(any_get(entry::PANICKING_GET), [Do::Write(object(5)), Do::Panic])
        .report(move |outcome| {
            match outcome {
                _ if quiet => {}
                Ok(receipt) => println!("served {}", receipt.bytes),
                Err(error) => println!("failed {error}"),
            }
            assert!(!panics, "as the arguments say");
        });
    if let Some(file) = &options.file {
        setup = setup.on(any_put(entry::FILE_PUT), [Do::ReceiveFile(file.clone())]);
    }
    if let Some(max) = options.connections {
        setup = setup.max_connections(max);
    }
    if options.impatient {
        setup = setup.config(Config::default());
    }
    setup
}

/// A large file that is there.
pub fn program() -> PathBuf {
    env::current_exe().expect("a program")
}

/// So many more than there are now, or as many as the system has.
pub(crate) fn limit_descriptors(more: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let open = kernel::descriptors() as u64 - 1; // one was for asking
    let current = more.map_or(maximum, |more| Some(open + more));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a limit within the maximum");
}

/// Whether this signal has come. It interrupts, and does nothing else.
fn caught(signal: i32) -> Arc<AtomicBool> {
    let came = Arc::new(AtomicBool::new(false));
    flag::register(signal, Arc::clone(&came)).expect("a signal that can be caught");
    came
}

/// How many threads and descriptors there are, when they are as wanted, or no longer change: a thread
/// that has been joined may take a moment to be gone.
fn settled(wanted: impl Fn((usize, usize)) -> bool) -> (usize, usize) {
    let mut before = (0, 0);
    let mut same = 0;
    loop {
        let now = (kernel::threads(), kernel::descriptors());
        same = if now == before { same + 1 } else { 0 };
        before = now;
        if same == 100 || wanted(now) {
            return now;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
