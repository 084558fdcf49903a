//! The async adapter as a subject.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use dataserver_bench::tls_baseline::{client_config, server_config, server_name};
use dataserver_bench::{End, Format, Job, Subject};
use dataserver_smol::{
    Client, Direction, Entry, ObjectReader, ObjectWriter, Receipt, Request, Server,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::baseline::AsyncBaseline;
use crate::concurrent::{EXECUTOR, run_server, transfer_concurrently};

/// On an executor whose threads also wait for sockets.
pub(crate) struct Smol;

impl Subject for Smol {
    fn name(&self) -> String {
        "dataserver-smol".to_owned()
    }

    fn has_tls(&self) -> bool {
        true
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let server = Server::from_listener(listener)?.config(job.config());
        let server = if job.tls { server.tls(server_config()) } else { server };
        let entry = Entry::exact(job.packet());
        let handled = job.clone();
        match job.direction {
            Direction::Put => server.on_put(entry, move |object| {
                let job = handled.clone();
                async move { receive(object, &job).await }
            })?,
            Direction::Get => server.on_get(entry, move |object| {
                let job = handled.clone();
                async move { send(object, &job).await }
            })?,
        }
        run_server(job, server.run(|connection| EXECUTOR.spawn(connection).detach()))?;
        Ok(())
    }

    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()> {
        async_io::block_on(transfer(address, job))
    }

    fn transfer_concurrently(
        &self,
        address: SocketAddr,
        job: &Job,
        at_once: usize,
        time: Duration,
    ) -> io::Result<u64> {
        if job.format == Format::Session {
            return transfer_in_sessions(address, job, at_once, time);
        }
        transfer_concurrently(job, at_once, time, async || transfer(address, job).await)
    }

    fn runtime(&self) -> Option<&dyn Subject> {
        Some(&AsyncBaseline)
    }
}

fn client(address: SocketAddr, job: &Job) -> io::Result<Client> {
    let client = Client::new(address)?.config(job.config());
    Ok(if job.tls { client.tls(client_config(), server_name()) } else { client })
}

async fn transfer(address: SocketAddr, job: &Job) -> io::Result<()> {
    let client = client(address, job)?;
    let request = request(job);
    match job.direction {
        Direction::Put => send(client.put(request).await?, job).await,
        Direction::Get => receive(client.get(request).await?, job).await,
    }
    .map(drop)
}

/// On one thread, as [`transfer_concurrently`].
fn transfer_in_sessions(
    address: SocketAddr,
    job: &Job,
    at_once: usize,
    time: Duration,
) -> io::Result<u64> {
    let end = Instant::now() + time;
    let run = async || {
        let mut session = client(address, job)?.session();
        let mut done = 0;
        while Instant::now() < end {
            match job.direction {
                Direction::Put => send(session.put(request(job)).await?, job).await?,
                Direction::Get => receive(session.get(request(job)).await?, job).await?,
            };
            done += 1;
        }
        io::Result::Ok(done)
    };
    let executor = smol::LocalExecutor::new();
    let clients: Vec<_> = (0..at_once).map(|_| executor.spawn(run())).collect();
    async_io::block_on(executor.run(async {
        let mut done = 0;
        for client in clients {
            done += client.await?;
        }
        Ok(done)
    }))
}

fn request(job: &Job) -> Request {
    let request = Request::new(job.packet().key()).size(job.packet().size());
    if job.packet().is_framed() { request.framed() } else { request.bare() }
}

async fn send(mut object: ObjectWriter, job: &Job) -> io::Result<Receipt> {
    let sent = match &job.source {
        End::Memory if job.bytes <= 2 * 1024 => {
            object.send(&[7; 2 * 1024][..job.bytes as usize]).await
        }
        End::Memory => {
            let buffer = vec![7; job.piece()];
            let mut left = job.bytes;
            while left > 0 {
                let piece = left.min(buffer.len() as u64);
                object.write_all(&buffer[..piece as usize]).await?;
                left -= piece;
            }
            object.finish().await
        }
        End::File(path) => object.send_file(&File::open(path)?).await,
    };
    Ok(sent?)
}

async fn receive(mut object: ObjectReader, job: &Job) -> io::Result<Receipt> {
    match &job.sink {
        End::Memory if job.bytes <= 2 * 1024 => {
            let mut buffer = [0; 2 * 1024];
            while object.read(&mut buffer).await? > 0 {}
        }
        End::Memory => {
            let mut buffer = vec![0; job.piece()];
            while object.read(&mut buffer).await? > 0 {}
        }
        End::File(path) => {
            object.receive_file(&open_for_writing(path)?).await?;
        }
    }
    Ok(object.commit().await?)
}

/// Opens a file that is overwritten in place.
fn open_for_writing(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}
