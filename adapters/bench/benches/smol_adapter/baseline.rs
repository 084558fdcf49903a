//! The baseline on the same runtime: the same bytes over plain sockets of async-io, or through rustls over them, on
//! the same executor. An adapter on this runtime cannot be faster.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_io::Async;
use dataserver_bench::tls_baseline::{client_config, server_config, server_name};
use dataserver_bench::{Job, Subject};
use dataserver_smol::{Direction, StartPacket};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::{TlsAcceptor, TlsConnector};
use smol::net::TcpStream;

use crate::concurrent::{EXECUTOR, run_server, transfer_concurrently};

/// For small objects from and to memory.
pub(crate) struct AsyncBaseline;

/// The size of a buffer for a start packet and a small object.
const BUFFER: usize = 2 * 1024;

impl Subject for AsyncBaseline {
    fn name(&self) -> String {
        "sockets of async-io".to_owned()
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let listener = Async::new(listener)?;
        let (direction, bytes, tls) = (job.direction, job.piece(), job.tls);
        run_server(job, async move {
            loop {
                let stream = TcpStream::from(listener.accept().await?.0);
                let serve = async move {
                    if !tls {
                        return serve_one(stream, direction, bytes, tls).await;
                    }
                    stream.set_nodelay(true)?;
                    let stream = TlsAcceptor::from(server_config()).accept(stream).await?;
                    serve_one(stream, direction, bytes, tls).await
                };
                EXECUTOR.spawn(serve).detach();
            }
        })
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
        transfer_concurrently(job, at_once, time, async || transfer(address, job).await)
    }
}

async fn serve_one(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    direction: Direction,
    bytes: usize,
    tls: bool,
) -> io::Result<()> {
    if direction == Direction::Get {
        stream.read_exact(&mut [0; StartPacket::LEN]).await?;
        stream.write_all(&[7; BUFFER][..bytes]).await?;
        stream.close().await?;
        return read_to_the_end(&mut stream).await;
    }
    receive(&mut stream, tls).await
}

async fn transfer(address: SocketAddr, job: &Job) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    if !job.tls {
        return transfer_over(stream, job).await;
    }
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(client_config()).connect(server_name(), stream).await?;
    transfer_over(stream, job).await
}

async fn transfer_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    job: &Job,
) -> io::Result<()> {
    let packet = job.packet();
    if job.direction == Direction::Put {
        let object = &[7; BUFFER][..job.piece()];
        let slices = [IoSlice::new(packet.as_bytes()), IoSlice::new(object)];
        _ = stream.write_vectored(&slices).await?;
        stream.close().await?;
        return read_to_the_end(&mut stream).await;
    }
    stream.write_all(packet.as_bytes()).await?;
    receive(&mut stream, job.tls).await
}

/// Over TLS, a receiver ends its own side with a `close_notify`. A plain socket is closed when it is dropped.
async fn receive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), tls: bool) -> io::Result<()> {
    read_to_the_end(stream).await?;
    if tls { stream.close().await } else { Ok(()) }
}

async fn read_to_the_end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
