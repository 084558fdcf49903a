//! What runs in a [`Process`](crate::Process).

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use std::{env, panic, thread};

use dataserver_core::{Config, Key, StartPacket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGPIPE, SIGUSR1, SIGXFSZ};
use signal_hook::flag;

use crate::adapter::{DynAdapter, Setup};
use crate::adapters::adapter;
use crate::idle_flood;
use crate::kernel;
use crate::packets::{get, long_timeouts, object, put};
use crate::process::{client, entry};
use crate::process_transfer;
use crate::script::{Gate, Op};
use crate::server::Server;
use crate::wait::TIMEOUT;

/// Runs the process. The arguments are `serve ADAPTER [OPTION]…`, `client ADAPTER ADDRESS WHAT`, or those
/// of a [`ProcessTransfer`](crate::ProcessTransfer) or an [`IdleFlood`](crate::IdleFlood).
///
/// A server prints `before THREADS DESCRIPTORS`, then `listening ADDRESS`, and for each connection
/// `served BYTES` or `failed REASON`, unless it is quiet. `Options` lists its options. Its commands are:
///
/// - `count`: prints `descriptors N more` than when it began to listen, `heap BYTES`, and which signals
///   have arrived.
/// - `stop MILLISECONDS`: shuts the server down with this grace period.
/// - `end`: waits for the end of the server, and prints `after THREADS DESCRIPTORS`.
///
/// `heap` returns the number of bytes that are allocated.
///
/// # Panics
/// Panics if the arguments are not valid.
pub fn run(heap: fn() -> usize) {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (progress, notifications) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        notifications.iter().for_each(|read| println!("notified {}", read.len()));
    });
    match arguments[..] {
        ["serve", server, ref options @ ..] => {
            serve(adapter(server), &Options::parse(options), &progress, heap);
        }
        ["flood", address, silent, slow] => idle_flood::run(address, silent, slow),
        ["client", client, address, what] => {
            catch(SIGUSR1);
            let (packet, script) = client_script(what, &progress);
            let outcome = adapter(client).client(
                address.parse().expect("an address"),
                packet,
                long_timeouts(),
                &script,
            );
            panic!("the process was not killed: {outcome:?}");
        }
        ["transfer", ref transfer @ ..] => process_transfer::run(transfer, &progress),
        _ => panic!("arguments: {arguments:?}"),
    }
}

fn client_script(what: &str, progress: &Sender<Vec<u8>>) -> (StartPacket, Vec<Op>) {
    let stall = [Op::Notify(progress.clone()), Op::Wait(Gate::new())];
    let (packet, first) = match what {
        client::PUT => (put(Some(10)), Op::Write(object(5))),
        client::UNSIZED_PUT => (put(None), Op::Write(object(5))),
        client::WHOLE_PUT => (put(Some(10)), Op::Send(object(10))),
        client::GET => (get(None), Op::Read(5)),
        client::UNCOMMITTED_GET => (get(None), Op::ReadToEnd),
        _ => panic!("no client does this: {what}"),
    };
    (packet, [&[first], &stall[..]].concat())
}

/// The options of a server process.
#[derive(Debug, Default)]
struct Options {
    /// `descriptors=N`: how many descriptors it may open in addition to those that are open when it begins
    /// to listen. Without it, the limit of the system applies.
    descriptors: Option<u64>,
    /// `connections=N`: the maximum number of connections.
    connections: Option<usize>,
    /// `file=PATH`: where puts are stored.
    file: Option<PathBuf>,
    /// `files=N`: the maximum size of a file, in bytes.
    files: Option<u64>,
    /// `memory=N`: how much address space it may use in addition, in KiB.
    memory: Option<u64>,
    /// `nonblocking`: another holder of the listener makes it nonblocking.
    nonblocking: bool,
    /// `default-config`: the default configuration, with its timeouts.
    default_config: bool,
    /// `panic`: panics after each report.
    panics: bool,
    /// `quiet`: prints no outcomes and no panics.
    quiet: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Self {
        let mut options = Self::default();
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("descriptors", n) => options.descriptors = Some(n.parse().expect("a number")),
                ("connections", n) => options.connections = Some(n.parse().expect("a number")),
                ("file", path) => options.file = Some(path.into()),
                ("files", n) => options.files = Some(n.parse().expect("a number")),
                ("memory", n) => options.memory = Some(n.parse().expect("a number")),
                ("nonblocking", _) => options.nonblocking = true,
                ("default-config", _) => options.default_config = true,
                ("panic", _) => options.panics = true,
                ("quiet", _) => options.quiet = true,
                _ => panic!("not an option: {word}"),
            }
        }
        options
    }
}

fn serve(server: DynAdapter, options: &Options, progress: &Sender<Vec<u8>>, heap: fn() -> usize) {
    // An adapter may keep what it sets up once per process, so that is done first.
    let first = Server::start(server, Setup::new().on(put(None), [Op::ReadToEnd]));
    let sent = server.client(first.address, put(None), long_timeouts(), &[Op::Send(object(10))]);
    sent.expect("a receipt");
    first.stop(TIMEOUT);
    first.join();
    let interrupted = catch(SIGUSR1);
    let broken_pipe = catch(SIGPIPE);
    let before = settled(|_| false);
    println!("before {} {}", before.0, before.1);

    if options.quiet {
        panic::set_hook(Box::new(|_| {}));
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shared = listener.try_clone().expect("a descriptor");
    // Not a `Server`, which would keep every outcome.
    let server = server.serve(setup(options, progress).listener(listener));
    if options.nonblocking {
        shared.set_nonblocking(true).expect("a listener");
    }
    drop(shared);
    kernel::limit_descriptors(options.descriptors);
    if let Some(size) = options.files {
        catch(SIGXFSZ); // otherwise it ends the process
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: Some(size), maximum }).expect("a lower limit");
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
    server.join().expect("`run` returns no error");
    let after = settled(|now| now == before);
    println!("after {} {}", after.0, after.1);
}

fn setup(options: &Options, progress: &Sender<Vec<u8>>) -> Setup {
    let notify = Op::Notify(progress.clone());
    let never = Op::Wait(Gate::new());
    let key = Key::from_name;
    let (panics, quiet) = (options.panics, options.quiet);
    let begun = if quiet { Op::Read(0) } else { notify.clone() };
    let mut setup = Setup::new()
        .on_put(key(entry::PUT), [Op::Read(5), begun, Op::Discard(1 << 16)])
        .on_put(key(entry::UNCOMMITTED_PUT), [Op::ReadToEnd, notify.clone(), never.clone()])
        .on_put(key(entry::FULL_DISK_PUT), [Op::ReceiveFile("/dev/full".into())])
        .on_put(key(entry::PANICKING_PUT), [Op::Read(5), Op::Panic])
        .on_get(key(entry::STALLED_GET), [Op::Write(object(1000)), notify, never])
        .on_get(key(entry::GET), [Op::Send(object(1000))])
        .on_get(key(entry::ENDLESS_GET), [Op::WriteForever(object(1 << 16))])
        .on_get(key(entry::FILE_GET), [Op::SendFile(program())])
        .on_get(key(entry::PANICKING_GET), [Op::Write(object(5)), Op::Panic])
        .on_complete(move |outcome| {
            match outcome {
                _ if quiet => {}
                Ok(receipt) => println!("served {}", receipt.bytes),
                Err(error) => println!("failed {error}"),
            }
            assert!(!panics, "as the arguments say");
        });
    if let Some(file) = &options.file {
        setup = setup.on_put(key(entry::FILE_PUT), [Op::ReceiveFile(file.clone())]);
    }
    if let Some(max) = options.connections {
        setup = setup.max_connections(max);
    }
    if options.default_config {
        setup = setup.config(Config::default());
    }
    setup
}

/// The path of this program, as a large file.
fn program() -> PathBuf {
    env::current_exe().expect("a program")
}

/// Catches a signal, and returns whether it has arrived. It interrupts system calls.
fn catch(signal: i32) -> Arc<AtomicBool> {
    let arrived = Arc::new(AtomicBool::new(false));
    flag::register(signal, Arc::clone(&arrived)).expect("a signal that can be caught");
    arrived
}

/// The numbers of threads and descriptors, when they are as wanted or no longer change: a thread may
/// exist for a moment after it was joined.
fn settled(wanted: impl Fn((usize, usize)) -> bool) -> (usize, usize) {
    let mut before = (0, 0);
    let mut unchanged = 0;
    loop {
        let now = (kernel::threads(), kernel::descriptors());
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
        if unchanged == 100 || wanted(now) {
            return now;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
