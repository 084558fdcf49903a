//! TLS under the std adapter: [`Tls`] is the part to copy.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::DerefMut;
use std::sync::Arc;
use std::thread;

use dataserver_std::{Config, Handlers, Instant, Receipt, Receiver, Sender, Socket, Stream};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData,
    StreamOwned,
};

use crate::{GET, Outcomes, PUT, Store, server_name};

/// A socket under TLS, in either role. The handshake is part of the first read or write, and so of
/// what the start timeout is for.
///
/// - The end of what we send is a `close_notify`, and only that: it alone is authenticated.
/// - The end of what we receive is the peer's. A socket that ends without it is an error
///   ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof), from rustls), and never an end.
/// - An abort is to leave without one. The socket is armed too, so it is also a reset, which is
///   sooner noticed, and which nobody needs to trust.
pub(crate) struct Tls<C>(StreamOwned<C, Socket>)
where
    C: DerefMut;

impl Tls<ServerConnection> {
    pub(crate) fn server(socket: Socket, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Self(StreamOwned::new(connection, socket)))
    }
}

impl Tls<ClientConnection> {
    pub(crate) fn client(socket: Socket, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let connection = ClientConnection::new(Arc::clone(config), server_name());
        Ok(Self(StreamOwned::new(connection.map_err(io::Error::other)?, socket)))
    }
}

impl<C: DerefMut<Target = ConnectionCommon<D>>, D: SideData> Read for Tls<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<C: DerefMut<Target = ConnectionCommon<D>>, D: SideData> Write for Tls<C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<C: DerefMut<Target = ConnectionCommon<D>>, D: SideData> Stream for Tls<C> {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.0.sock.set_deadline(deadline);
    }

    /// May be called again where it was out of time. Reading goes on behind it: TLS 1.3 ends each
    /// direction by itself.
    fn shut_down(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify(); // once, however often it is called
        self.0.flush()?; // rustls may hold back what it could not write; now all has to go
        self.0.sock.shut_down()
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.0.sock.disarm()
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.0.sock.peer()
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
    let handlers = Handlers::default();
    handlers.on_put(PUT, move |object| {
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?;
        kept.set(bytes);
        Ok(())
    })?;
    handlers.on_get(GET, move |object| object.send(&newest.get()))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (handlers, tls, outcomes) = (handlers.clone(), Arc::clone(&tls), outcomes.clone());
            thread::spawn(move || {
                let serve = || {
                    let stream = Tls::server(Socket::try_from(stream?)?, &tls)?;
                    handlers.serve(stream, &Config::default())
                };
                outcomes.send(serve()).ok();
            });
        }
    });
    Ok(())
}

pub(crate) fn put(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    object: &[u8],
) -> io::Result<Receipt> {
    let stream = Tls::client(Socket::try_from(TcpStream::connect(address)?)?, tls)?;
    Sender::open(stream, PUT, &Config::default())?.send(object)
}

pub(crate) fn get(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let stream = Tls::client(Socket::try_from(TcpStream::connect(address)?)?, tls)?;
    let mut object = Receiver::open(stream, GET, &Config::default())?;
    let mut bytes = Vec::new();
    object.read_to_end(&mut bytes)?;
    object.commit()?;
    Ok(bytes)
}
