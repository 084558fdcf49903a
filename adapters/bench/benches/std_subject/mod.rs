//! The blocking adapter as a subject.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::Path;

use std::time::{Duration, Instant};

use dataserver_bench::tls_baseline::{client_config, server_config, server_name};
use dataserver_bench::{End, Format, Job, Subject, on_threads};
use dataserver_std::{
    Client, Direction, Entry, ObjectReader, ObjectWriter, Receipt, Request, Server, Session,
};

pub(crate) struct Std;

impl Subject for Std {
    fn name(&self) -> String {
        "dataserver-std".to_owned()
    }

    fn has_tls(&self) -> bool {
        true
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let limit = NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN);
        let server = Server::from_listener(listener)?.config(job.config()).max_connections(limit);
        let server = if job.tls { server.tls(server_config()) } else { server };
        let entry = Entry::exact(job.packet());
        let job = job.clone();
        match job.direction {
            Direction::Put => server.on_put(entry, move |object| receive(object, &job))?,
            Direction::Get => server.on_get(entry, move |object| send(object, &job))?,
        }
        Ok(server.run()?)
    }

    fn transfer_concurrently(
        &self,
        address: SocketAddr,
        job: &Job,
        at_once: usize,
        time: Duration,
    ) -> io::Result<u64> {
        let end = Instant::now() + time;
        on_threads(at_once, || {
            let mut session = client(address, job)?.session();
            let mut done = 0;
            while Instant::now() < end {
                match job.format {
                    Format::Session => transfer_in(&mut session, job)?,
                    _ => self.transfer(address, job)?,
                }
                done += 1;
            }
            Ok(done)
        })
    }

    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()> {
        let client = client(address, job)?;
        let request = request(job);
        match job.direction {
            Direction::Put => send(client.put(request)?, job),
            Direction::Get => receive(client.get(request)?, job),
        }
        .map(drop)
    }
}

fn client(address: SocketAddr, job: &Job) -> io::Result<Client> {
    let client = Client::new(address)?.config(job.config());
    Ok(if job.tls { client.tls(client_config(), server_name()) } else { client })
}

fn transfer_in(session: &mut Session, job: &Job) -> io::Result<()> {
    match job.direction {
        Direction::Put => send(session.put(request(job))?, job),
        Direction::Get => receive(session.get(request(job))?, job),
    }
    .map(drop)
}

fn request(job: &Job) -> Request {
    let request = Request::new(job.packet().key()).size(job.packet().size());
    if job.packet().is_framed() { request.framed() } else { request.bare() }
}

fn send(mut object: ObjectWriter, job: &Job) -> io::Result<Receipt> {
    let sent = match &job.source {
        End::Memory if job.bytes <= 2 * 1024 => object.send(&[7; 2 * 1024][..job.bytes as usize]),
        End::Memory => {
            let buffer = vec![7; job.piece()];
            let mut left = job.bytes;
            while left > 0 {
                let piece = left.min(buffer.len() as u64);
                object.write_all(&buffer[..piece as usize])?;
                left -= piece;
            }
            object.finish()
        }
        End::File(path) => object.send_file(&File::open(path)?),
    };
    Ok(sent?)
}

fn receive(mut object: ObjectReader, job: &Job) -> io::Result<Receipt> {
    match &job.sink {
        End::Memory if job.bytes <= 2 * 1024 => {
            let mut buffer = [0; 2 * 1024];
            while object.read(&mut buffer)? > 0 {}
        }
        End::Memory => {
            let mut buffer = vec![0; job.piece()];
            while object.read(&mut buffer)? > 0 {}
        }
        End::File(path) => {
            object.receive_file(&open_for_writing(path)?)?;
        }
    }
    Ok(object.commit()?)
}

/// Opens a file that is overwritten in place.
fn open_for_writing(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}
