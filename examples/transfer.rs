//! The main job in one command: starts a server, puts an object to it, gets it back, and checks
//! every byte.
//!
//! ```text
//! cargo run --release --example transfer [-- FILE]    256 MiB of random bytes unless a file is given
//! ```

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{error, thread};

use dataserver_std::{Client, Entry, Key, Receipt, Server, StartPacket};

const KEY: Key = Key::from_name("object");
const GENERATED: u64 = 256 << 20;
const BUFFER: usize = 256 << 10;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "transfer: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn error::Error>> {
    let mut file = match path()? {
        Some(path) => {
            File::open(&path).map_err(|error| format!("cannot open {}: {error}", path.display()))?
        }
        None => generate()?,
    };
    let size = file.metadata()?.len();

    let server = serve_one_object(size)?;
    let (address, stop) = (server.local_addr()?, server.stop_handle());
    let running = thread::spawn(|| server.run());
    let transferred = put_and_get(address, &mut file, size);
    stop.stop(Duration::ZERO);
    running.join().map_err(|_| "the server panicked")??;
    transferred
}

/// A server that keeps one object in a temporary file, to be put and got with its size declared.
fn serve_one_object(size: u64) -> Result<Server, Box<dyn error::Error>> {
    let server = Server::bind("127.0.0.1:0")?;
    let stored = Arc::new(Mutex::new(tempfile::tempfile()?));
    let kept = Arc::clone(&stored);
    server.on_put(Entry::exact(StartPacket::put(KEY).with_size(size)?).once(), move |object| {
        let mut file = kept.lock().unwrap_or_else(PoisonError::into_inner);
        each_piece(object, Progress::new("put", size), |piece| file.write_all(piece))?;
        file.rewind() // a server that should remember the object would sync the file here
    })?;
    server.on_get(Entry::exact(StartPacket::get(KEY).with_size(size)?).once(), move |object| {
        object.send_file(&stored.lock().unwrap_or_else(PoisonError::into_inner))
    })?;
    Ok(server)
}

fn put_and_get(
    address: SocketAddr,
    file: &mut File,
    size: u64,
) -> Result<(), Box<dyn error::Error>> {
    let client = Client::new(address);

    let begun = Instant::now();
    let receipt = client.put(StartPacket::put(KEY).with_size(size)?)?.send_file(file)?;
    print("put", receipt, begun.elapsed())?;

    file.rewind()?;
    let begun = Instant::now();
    let mut object = client.get(StartPacket::get(KEY).with_size(size)?)?;
    let mut expected = vec![0; BUFFER];
    each_piece(&mut object, Progress::new("get", size), |piece| {
        let expected = &mut expected[..piece.len()];
        file.read_exact(expected)?;
        if piece != expected {
            return Err(io::Error::other("the object that came back is another one"));
        }
        Ok(())
    })?;
    let receipt = object.commit()?; // only now does the server know that all is well
    print("get", receipt, begun.elapsed())?;
    writeln!(io::stdout(), "every byte came back as it was")?;
    Ok(())
}

/// Reads to the end, and shows each piece to `use_piece`.
fn each_piece(
    mut object: impl Read,
    mut progress: Progress,
    mut use_piece: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match object.read(&mut buffer)? {
            0 => return Ok(()),
            n => {
                use_piece(&buffer[..n])?;
                progress.add(n);
            }
        }
    }
}

fn print(way: &str, Receipt { bytes, .. }: Receipt, took: Duration) -> io::Result<()> {
    let seconds = took.as_secs_f64();
    let speed = bytes as f64 / 1e6 / seconds;
    writeln!(io::stdout(), "{way}: {bytes} bytes in {seconds:.3} s, {speed:.0} MB/s")
}

/// A line on the terminal, where there is one, that says how far a transfer is.
struct Progress {
    way: &'static str,
    moved: u64,
    size: u64,
    drawn: Instant,
    terminal: bool,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(50);

    fn new(way: &'static str, size: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { way, moved: 0, size, drawn: Instant::now(), terminal }
    }

    fn add(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.terminal && self.drawn.elapsed() >= Self::PAUSE {
            let Self { way, moved, size, .. } = self;
            write!(io::stderr(), "\r{way}: {} of {} MiB", *moved >> 20, *size >> 20).ok();
            self.drawn = Instant::now();
        }
    }
}

/// The line goes, so that the result takes its place.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

/// The same random bytes every time.
fn generate() -> io::Result<File> {
    let mut random = fastrand::Rng::with_seed(8089);
    let mut file = tempfile::tempfile()?;
    let mut buffer = vec![0; BUFFER];
    for _ in 0..GENERATED / BUFFER as u64 {
        random.fill(&mut buffer);
        file.write_all(&buffer)?;
    }
    file.rewind()?;
    Ok(file)
}

fn path() -> Result<Option<PathBuf>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut path = None;
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(value) if path.is_none() => path = Some(value.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(path)
}
