//! TLS under the smol adapter: [`Tls`] is the part to copy.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dataserver_smol::{Config, Handlers, Receipt, Receiver, Sender, Socket, Stream};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use rustls::{ClientConfig, ServerConfig};
use smol::future::{self, Future, FutureExt};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use smol::{Async, Timer};

use crate::{GET, Outcomes, PUT, Store, server_name};

/// How long a handshake may take. It comes before the core is there, with its timeouts.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A socket under TLS, in either role: see the blocking one for what ends and aborts are here.
pub(crate) struct Tls(TlsStream<Socket>);

impl Tls {
    pub(crate) async fn server(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let handshake = TlsAcceptor::from(config).accept(socket);
        Ok(Self(in_time(handshake).await?.into()))
    }

    pub(crate) async fn client(socket: Socket, config: Arc<ClientConfig>) -> io::Result<Self> {
        let handshake = TlsConnector::from(config).connect(server_name(), socket);
        Ok(Self(in_time(handshake).await?.into()))
    }
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let too_late = async {
        Timer::after(HANDSHAKE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    handshake.or(too_late).await
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

    /// Sends all that rustls has held back, then `close_notify`, then closes the socket, which is
    /// its half-close. Reading goes on behind it: TLS 1.3 ends each direction by itself.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Stream for Tls {
    fn disarm(&mut self) -> io::Result<()> {
        self.0.get_mut().0.disarm()
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.0.get_ref().0.peer()
    }
}

// The rest is the show.

pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    outcomes: Outcomes,
) -> io::Result<()> {
    let store = Arc::new(Store::default());
    let (kept, newest) = (Arc::clone(&store), store);
    let handlers = Handlers::new();
    handlers.on_put(PUT, move |object| {
        let kept = Arc::clone(&kept);
        Box::pin(async move {
            let mut bytes = Vec::new();
            object.read_to_end(&mut bytes).await?;
            kept.set(bytes);
            Ok(())
        })
    })?;
    handlers.on_get(GET, move |object| {
        let newest = newest.get();
        Box::pin(async move { object.send(&newest).await })
    })?;
    let listener = Async::new(listener)?;
    let accept = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handlers, tls, outcomes) = (handlers.clone(), Arc::clone(&tls), outcomes.clone());
            let serve = async move {
                let stream = Tls::server(Socket::try_from(stream)?, tls).await?;
                handlers.serve(stream, &Config::default()).await
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
    object: &[u8],
) -> io::Result<Receipt> {
    future::block_on(async {
        let socket = Socket::try_from(Async::<TcpStream>::connect(address).await?)?;
        let stream = Tls::client(socket, Arc::clone(tls)).await?;
        Sender::open(stream, PUT, &Config::default())?.send(object).await
    })
}

pub(crate) fn get(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    future::block_on(async {
        let socket = Socket::try_from(Async::<TcpStream>::connect(address).await?)?;
        let stream = Tls::client(socket, Arc::clone(tls)).await?;
        let mut object = Receiver::open(stream, GET, &Config::default()).await?;
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes).await?;
        object.commit().await?;
        Ok(bytes)
    })
}
