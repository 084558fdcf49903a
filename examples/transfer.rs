//! The main job in one command: starts a server, puts an object to it, gets it back, and compares every
//! byte.
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
use std::{env, error, thread};

use dataserver_std::{Client, Entry, Key, ObjectSize, Receipt, Request, Server};

const KEY: Key = Key::from_name("object");
const GENERATED: u64 = 256 << 20;
const BUFFER: usize = 256 << 10;
const USAGE: &str = "expected at most one argument, the file to transfer";

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
    let size = ObjectSize::new(file.metadata()?.len())?;

    let server = serve_one_object(size)?;
    let (address, handle) = (server.local_addr(), server.shutdown_handle());
    let running = thread::spawn(|| server.run());
    let transferred = put_and_get(address, &mut file, size);
    handle.shutdown(Duration::ZERO);
    running.join().map_err(|_| "the server panicked")??;
    transferred
}

/// A server that stores one object of this size in a temporary file, for one put and one get.
fn serve_one_object(size: ObjectSize) -> Result<Server, Box<dyn error::Error>> {
    let server = Server::bind("127.0.0.1:0")?;
    let entry = Entry::new(KEY).exact_size(size).once();
    let put_file = Arc::new(Mutex::new(tempfile::tempfile()?));
    let get_file = Arc::clone(&put_file);
    server.on_put(entry, move |mut object| {
        let mut file = put_file.lock().unwrap_or_else(PoisonError::into_inner);
        for_each_piece(&mut object, Progress::new("put", size), |piece| file.write_all(piece))?;
        file.rewind()?; // a server that keeps the object would sync the file here
        Ok::<_, io::Error>(object.commit()?)
    })?;
    server.on_get(entry, move |object| {
        object.send_file(&get_file.lock().unwrap_or_else(PoisonError::into_inner))
    })?;
    Ok(server)
}

fn put_and_get(
    address: SocketAddr,
    file: &mut File,
    size: ObjectSize,
) -> Result<(), Box<dyn error::Error>> {
    let client = Client::new(address)?;

    let begun = Instant::now();
    let receipt = client.put(KEY)?.send_file(file)?;
    print("put", receipt, begun.elapsed())?;

    file.rewind()?;
    let begun = Instant::now();
    let mut object = client.get(Request::new(KEY).size(size))?;
    let mut expected = vec![0; BUFFER];
    for_each_piece(&mut object, Progress::new("get", size), |piece| {
        let expected = &mut expected[..piece.len()];
        file.read_exact(expected)?;
        if piece != expected {
            return Err(io::Error::other("the bytes of the get differ from those of the put"));
        }
        Ok(())
    })?;
    let receipt = object.commit()?; // this is the server's receipt
    print("get", receipt, begun.elapsed())?;
    writeln!(io::stdout(), "verified: all bytes match")?;
    Ok(())
}

/// Reads to the end, and calls `use_piece` with each piece.
fn for_each_piece(
    object: &mut impl Read,
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

fn print(direction: &str, Receipt { bytes, .. }: Receipt, took: Duration) -> io::Result<()> {
    let seconds = took.as_secs_f64();
    let speed = bytes as f64 / 1e6 / seconds;
    writeln!(io::stdout(), "{direction}: {bytes} bytes in {seconds:.3} s, {speed:.0} MB/s")
}

/// A line on the terminal, if there is one, that shows the progress of a transfer.
struct Progress {
    direction: &'static str,
    moved: u64,
    size: ObjectSize,
    drawn: Instant,
    terminal: bool,
}

impl Progress {
    const REDRAW_AFTER: Duration = Duration::from_millis(50);

    fn new(direction: &'static str, size: ObjectSize) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { direction, moved: 0, size, drawn: Instant::now(), terminal }
    }

    fn add(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.terminal && self.drawn.elapsed() >= Self::REDRAW_AFTER {
            let (moved, size) = (self.moved >> 20, self.size.bytes().unwrap_or_default() >> 20);
            write!(io::stderr(), "\r{}: {moved} of {size} MiB", self.direction).ok();
            self.drawn = Instant::now();
        }
    }
}

/// Clears the line, so that the result takes its place.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

/// A temporary file of random bytes, which are the same in every run.
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

fn path() -> Result<Option<PathBuf>, &'static str> {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(option), _) if option.as_encoded_bytes().starts_with(b"-") => Err(USAGE),
        (path, None) => Ok(path.map(PathBuf::from)),
        _ => Err(USAGE),
    }
}
