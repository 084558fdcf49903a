//! The baseline on the same runtime: the same bytes over plain sockets of async-io, on the same executor.
//! An adapter on this runtime cannot be faster.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use async_io::Async;
use dataserver_bench::{Job, Subject};
use dataserver_smol::{Direction, StartPacket};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use smol::Executor;

use crate::concurrent::transfer_concurrently;

/// For small objects from and to memory.
pub(crate) struct AsyncBaseline;

/// The size of a buffer for a start packet and a small object.
const BUFFER: usize = 2 * 1024;

impl Subject for AsyncBaseline {
    fn name(&self) -> String {
        "plain sockets, async-io".to_owned()
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let listener = Async::new(listener)?;
        let executor = Executor::new();
        async_io::block_on(executor.run(async {
            loop {
                let (stream, _) = listener.accept().await?;
                executor.spawn(serve_one(stream, job.direction, job.piece())).detach();
            }
        }))
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
        transfer_concurrently(at_once, time, async || transfer(address, job).await)
    }
}

async fn serve_one(
    mut stream: Async<TcpStream>,
    direction: Direction,
    bytes: usize,
) -> io::Result<()> {
    if direction == Direction::Get {
        stream.read_exact(&mut [0; StartPacket::LEN]).await?;
        stream.write_all(&[7; BUFFER][..bytes]).await?;
        stream.get_ref().shutdown(Shutdown::Write)?;
    }
    read_to_the_end(&mut stream).await
}

async fn transfer(address: SocketAddr, job: &Job) -> io::Result<()> {
    let mut stream = Async::<TcpStream>::connect(address).await?;
    let packet = job.packet();
    if job.direction == Direction::Put {
        let object = &[7; BUFFER][..job.piece()];
        let slices = [IoSlice::new(packet.as_bytes()), IoSlice::new(object)];
        _ = stream.write_vectored(&slices).await?;
        stream.get_ref().shutdown(Shutdown::Write)?;
    } else {
        stream.write_all(packet.as_bytes()).await?;
    }
    read_to_the_end(&mut stream).await
}

async fn read_to_the_end(stream: &mut Async<TcpStream>) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
