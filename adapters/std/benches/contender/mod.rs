//! The blocking adapter, as it is measured.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::Path;

use dataserver_bench::{Contender, End, Job};
use dataserver_std::{Client, Direction, Entry, Receiver, Sender, Server};

pub(crate) struct Std;

impl Contender for Std {
    fn name(&self) -> String {
        "dataserver-std".to_owned()
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let limit = NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN);
        let server = Server::from_listener(listener)?.config(job.config()).max_connections(limit);
        let entry = Entry::exact(job.packet());
        let job = job.clone();
        match job.direction {
            Direction::Put => server.on_put(entry, move |object| receive(object, &job))?,
            Direction::Get => server.on_get(entry, move |object| send(object, &job))?,
        }
        server.run()
    }

    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()> {
        let client = Client::new(address).config(job.config());
        match job.direction {
            Direction::Put => send(&mut client.put(job.packet())?, job),
            Direction::Get => {
                let mut object = client.get(job.packet())?;
                receive(&mut object, job)?;
                object.commit().map(drop)
            }
        }
    }
}

fn send(object: &mut Sender, job: &Job) -> io::Result<()> {
    match &job.source {
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
    }
    .map(drop)
}

fn receive(object: &mut Receiver, job: &Job) -> io::Result<()> {
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
            object.receive_file(&create(path)?)?;
        }
    }
    Ok(())
}

/// What is there is overwritten in place.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}
