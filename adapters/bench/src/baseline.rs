//! The baseline: the same bytes over plain sockets, in blocking calls, without dataserver.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_core::{Direction, StartPacket};
use rustix::fs::sendfile;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::epoll_baseline;
use crate::subject::{End, Format, Job, Subject, on_threads, transfer_on_threads};

/// The largest capacity of a pipe without privileges, pipe(7).
const PIPE_SIZE: usize = 1 << 20;

/// How a server handles many connections.
#[derive(Clone, Copy, Debug)]
pub enum Structure {
    /// This many threads, each of which accepts and serves.
    Pool(usize),
    /// This many threads, each of which waits for connections with epoll.
    Epoll(usize),
}

/// How files move.
#[derive(Clone, Copy, Debug)]
pub enum Files {
    /// `sendfile` from a file, and `splice` through a pipe into one.
    Kernel,
    /// `read` and `write` with the job's buffer.
    ReadWrite,
    /// [`std::io::copy`].
    IoCopy,
}

/// Plain sockets of this kind.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    /// The structure of its server.
    pub structure: Structure,
    /// How files move.
    pub files: Files,
}

impl Baseline {
    /// All that the benches use.
    pub const ALL: [Self; 9] = [
        Self::new(Files::Kernel),
        Self::new(Files::ReadWrite),
        Self::new(Files::IoCopy),
        Self::concurrent(Structure::Pool(1)),
        Self::concurrent(Structure::Pool(2)),
        Self::concurrent(Structure::Pool(8)),
        Self::concurrent(Structure::Pool(64)),
        Self::concurrent(Structure::Epoll(1)),
        Self::concurrent(Structure::Epoll(2)),
    ];

    /// Four threads, for a few connections.
    pub const fn new(files: Files) -> Self {
        Self { structure: Structure::Pool(4), files }
    }

    /// For many connections.
    pub const fn concurrent(structure: Structure) -> Self {
        Self { structure, files: Files::ReadWrite }
    }
}

impl Subject for Baseline {
    fn name(&self) -> String {
        let structure = match self.structure {
            Structure::Pool(threads) => format!("{threads} threads"),
            Structure::Epoll(1) => "epoll on 1 thread".to_owned(),
            Structure::Epoll(threads) => format!("epoll on {threads} threads"),
        };
        let files = match self.files {
            Files::Kernel => ", sendfile and splice",
            Files::ReadWrite => "",
            Files::IoCopy => ", io::copy",
        };
        format!("plain sockets, {structure}{files}")
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let serve = || match self.structure {
            Structure::Epoll(_) => epoll_baseline::serve(&listener, job),
            Structure::Pool(_) => {
                let mut buffer = vec![7; job.piece().max(2 * 1024)];
                loop {
                    let (stream, _) = listener.accept()?;
                    // A failed connection does not end the server.
                    _ = match job.format {
                        Format::Session | Format::Framed => serve_framed(stream, job),
                        Format::Bare => self.serve_one(stream, job, &mut buffer),
                    };
                }
            }
        };
        let (Structure::Pool(threads) | Structure::Epoll(threads)) = self.structure;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(serve)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("servers do not panic"))
        })
    }

    fn transfer_concurrently(
        &self,
        address: SocketAddr,
        job: &Job,
        at_once: usize,
        time: Duration,
    ) -> io::Result<u64> {
        let end = Instant::now() + time;
        match self.structure {
            Structure::Epoll(_) => {
                epoll_baseline::transfer_concurrently(address, job, at_once, end)
            }
            Structure::Pool(_) if job.format == Format::Session => on_threads(at_once, || {
                let mut stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                let mut done = 0;
                while Instant::now() < end {
                    transfer_framed(&mut stream, job)?;
                    done += 1;
                }
                Ok(done)
            }),
            Structure::Pool(_) => transfer_on_threads(at_once, end, || self.transfer(address, job)),
        }
    }

    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let packet = job.packet();
        match (job.direction, &job.source) {
            _ if job.format == Format::Framed => transfer_framed(&mut stream, job),
            (Direction::Put, End::Memory) if job.bytes <= 2 * 1024 => {
                let object = [7; 2 * 1024];
                let object = &object[..job.piece()];
                _ = stream
                    .write_vectored(&[IoSlice::new(packet.as_bytes()), IoSlice::new(object)])?;
                shut_down_and_wait(&mut stream)
            }
            (Direction::Get, _) if job.bytes <= 2 * 1024 => {
                stream.write_all(packet.as_bytes())?;
                let mut object = [0; 2 * 1024];
                while stream.read(&mut object)? > 0 {}
                Ok(())
            }
            (Direction::Put, _) => {
                let mut buffer = vec![7; job.piece()];
                stream.write_all(packet.as_bytes())?;
                self.send(&mut stream, job, &mut buffer)?;
                shut_down_and_wait(&mut stream)
            }
            (Direction::Get, _) => {
                let mut buffer = vec![7; job.piece()];
                stream.write_all(packet.as_bytes())?;
                self.receive(&mut stream, job, &mut buffer)
            }
        }
    }
}

impl Baseline {
    fn serve_one(&self, mut stream: TcpStream, job: &Job, buffer: &mut [u8]) -> io::Result<()> {
        match (job.direction, &job.sink) {
            (Direction::Put, End::Memory) => self.receive(&mut stream, job, buffer),
            (Direction::Put, End::File(_)) => {
                stream.read_exact(&mut [0; StartPacket::LEN])?;
                self.receive(&mut stream, job, buffer)
            }
            (Direction::Get, _) => {
                stream.read_exact(&mut [0; StartPacket::LEN])?;
                self.send(&mut stream, job, buffer)?;
                shut_down_and_wait(&mut stream)
            }
        }
    }

    /// Sends the object of this job.
    fn send(&self, stream: &mut TcpStream, job: &Job, buffer: &mut [u8]) -> io::Result<()> {
        match (&job.source, self.files) {
            (End::Memory, _) => {
                let mut left = job.bytes;
                while left > 0 {
                    let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    stream.write_all(&buffer[..piece])?;
                    left -= piece as u64;
                }
                Ok(())
            }
            (End::File(path), Files::Kernel) => {
                let file = File::open(path)?;
                while sendfile(&stream, &file, None, PIPE_SIZE)? > 0 {}
                Ok(())
            }
            (End::File(path), Files::ReadWrite) => {
                let mut file = File::open(path)?;
                loop {
                    match file.read(buffer)? {
                        0 => return Ok(()),
                        n => stream.write_all(&buffer[..n])?,
                    }
                }
            }
            (End::File(path), Files::IoCopy) => io::copy(&mut File::open(path)?, stream).map(drop),
        }
    }

    /// Receives the object of this job.
    fn receive(&self, stream: &mut TcpStream, job: &Job, buffer: &mut [u8]) -> io::Result<()> {
        match (&job.sink, self.files) {
            (End::Memory, _) => {
                while stream.read(buffer)? > 0 {}
                Ok(())
            }
            (End::File(path), Files::Kernel) => {
                let file = open_for_writing(path)?;
                let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
                fcntl_setpipe_size(&into, PIPE_SIZE)?;
                loop {
                    let mut piped =
                        splice(&*stream, None, &into, None, PIPE_SIZE, SpliceFlags::MOVE)?;
                    if piped == 0 {
                        return Ok(());
                    }
                    while piped > 0 {
                        piped -= splice(&out, None, &file, None, piped, SpliceFlags::MOVE)?;
                    }
                }
            }
            (End::File(path), Files::ReadWrite) => {
                let mut file = open_for_writing(path)?;
                loop {
                    match stream.read(buffer)? {
                        0 => return Ok(()),
                        n => file.write_all(&buffer[..n])?,
                    }
                }
            }
            (End::File(path), Files::IoCopy) => {
                io::copy(stream, &mut open_for_writing(path)?).map(drop)
            }
        }
    }
}

/// The bytes of a framed object of 1 KiB: a start packet, a header, and the object.
const KEPT_PUT: usize = 25 + 12 + 1024;
const KEPT_GET: usize = 12 + 1024;
const RECEIPT: usize = 12;

/// As many bytes each way as framed objects, until the client closes.
fn serve_framed(mut stream: TcpStream, job: &Job) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [7; 2 * 1024];
    if job.direction == Direction::Get {
        stream.read_exact(&mut buffer[..StartPacket::LEN])?;
    }
    loop {
        match job.direction {
            Direction::Put => {
                stream.read_exact(&mut buffer[..KEPT_PUT])?;
                stream.write_all(&buffer[..RECEIPT])?;
            }
            Direction::Get => {
                stream.write_all(&buffer[..KEPT_GET])?;
                // The receipt and the next start packet usually arrive together.
                stream.read_exact(&mut buffer[..RECEIPT + StartPacket::LEN])?;
            }
        }
    }
}

fn transfer_framed(stream: &mut TcpStream, job: &Job) -> io::Result<()> {
    let mut buffer = [7; 2 * 1024];
    match job.direction {
        Direction::Put => {
            stream.write_all(&buffer[..KEPT_PUT])?;
            stream.read_exact(&mut buffer[..RECEIPT])
        }
        Direction::Get => {
            stream.write_all(&buffer[..StartPacket::LEN])?;
            stream.read_exact(&mut buffer[..KEPT_GET])?;
            stream.write_all(&buffer[..RECEIPT])
        }
    }
}

/// Ends the object, and waits until the receiver closes.
fn shut_down_and_wait(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0]).map(drop)
}

/// Opens a file that is overwritten in place.
fn open_for_writing(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}
