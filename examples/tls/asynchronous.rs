//! TLS under the smol adapter: [`Tls`] is the part to copy.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dataserver_smol::{
    Config, Error, Handlers, ObjectReader, ObjectWriter, Receipt, Request, Socket, Transport,
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use rustls::{ClientConfig, ServerConfig};
use smol::future::{self, Future, FutureExt};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use smol::{Async, Timer};

use crate::{KEY, Outcomes, Store, server_name};

/// How long a handshake may take. The timeouts of the core begin after it.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A TLS stream over a socket, in either role. The type of the same name in `blocking` documents the
/// graceful and the abortive close.
pub(crate) struct Tls(TlsStream<Socket>);

impl Tls {
    pub(crate) async fn server(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let handshake = TlsAcceptor::from(config).accept(socket);
        Ok(Self(with_timeout(handshake).await?.into()))
    }

    pub(crate) async fn client(socket: Socket, config: Arc<ClientConfig>) -> io::Result<Self> {
        let handshake = TlsConnector::from(config).connect(server_name(), socket);
        Ok(Self(with_timeout(handshake).await?.into()))
    }
}

async fn with_timeout<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let timed_out = async {
        Timer::after(HANDSHAKE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    handshake.or(timed_out).await
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Sends the bytes that rustls has buffered and the `close_notify`, and shuts down the write half of the
    /// socket. Reads still work afterwards: TLS 1.3 ends each direction separately.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Transport for Tls {
    fn disarm(&mut self) -> io::Result<()> {
        self.0.get_mut().0.disarm()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

// The rest is the server and the clients of the example.

pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    outcomes: Outcomes,
) -> Result<(), Error> {
    let store = Arc::new(Store::default());
    let (kept, newest) = (Arc::clone(&store), store);
    let handlers = Handlers::new();
    handlers.on_put(KEY, move |mut object| {
        let kept = Arc::clone(&kept);
        async move {
            let mut bytes = Vec::new();
            object.read_to_end(&mut bytes).await?;
            kept.set(bytes);
            Ok::<_, io::Error>(object.commit().await?)
        }
    })?;
    handlers.on_get(KEY, move |object| object.send(newest.get()))?;
    let listener = Async::new(listener).map_err(Error::listen)?;
    let accept = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handlers, tls, outcomes) = (handlers.clone(), Arc::clone(&tls), outcomes.clone());
            let serve = async move {
                let stream = Tls::server(Socket::from_std(stream.into_inner()?)?, tls).await?;
                Ok(handlers.serve(stream, &Config::default()).await?)
            };
            smol::spawn(async move { outcomes.send(serve.await).ok() }).detach();
        }
    };
    smol::spawn(accept).detach();
    Ok(())
}

pub(crate) fn put(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
    object: &[u8],
) -> io::Result<Receipt> {
    future::block_on(async {
        let stream = Async::<TcpStream>::connect(address).await?;
        let socket = Socket::from_std(stream.into_inner()?)?;
        let stream = Tls::client(socket, Arc::clone(tls)).await?;
        Ok(ObjectWriter::open(stream, request, &Config::default()).send(object).await?)
    })
}

pub(crate) fn get(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
) -> io::Result<Vec<u8>> {
    future::block_on(async {
        let stream = Async::<TcpStream>::connect(address).await?;
        let socket = Socket::from_std(stream.into_inner()?)?;
        let stream = Tls::client(socket, Arc::clone(tls)).await?;
        let mut object = ObjectReader::open(stream, request, &Config::default()).await?;
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes).await?;
        object.commit().await?;
        Ok(bytes)
    })
}
