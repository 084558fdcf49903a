//! TLS under the std adapter: [`Tls`] is the part to copy.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::DerefMut;
use std::sync::Arc;
use std::thread;

use dataserver_std::{
    Config, Error, Handlers, Instant, ObjectReader, ObjectWriter, Receipt, Request, Socket,
    Transport,
};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData,
    StreamOwned,
};

use crate::{KEY, Outcomes, Store, server_name};

/// A TLS stream over a socket, in either role. The handshake is part of the first read or write, so the
/// start timeout covers it.
///
/// - The end of the stream that we send is a `close_notify`, which is authenticated.
/// - The end of the stream that we receive is the peer's `close_notify`. A socket that ends without one is
///   an error ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof), from rustls).
/// - An abortive close sends no `close_notify`. The socket is also armed, so the peer sees a reset, and
///   notices the failure sooner.
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

impl<C: DerefMut<Target = ConnectionCommon<D>>, D: SideData> Transport for Tls<C> {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.0.sock.set_deadline(deadline);
    }

    /// May be called again if the deadline interrupted it. Reads still work afterwards: TLS 1.3 ends each
    /// direction separately.
    fn shut_down(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify(); // rustls sends only one
        self.0.flush()?; // rustls may have buffered bytes that it could not write
        self.0.sock.shut_down()
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.0.sock.disarm()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.sock.peer_addr()
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
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?;
        kept.set(bytes);
        Ok::<_, io::Error>(object.commit()?)
    })?;
    handlers.on_get(KEY, move |object| object.send(&newest.get()))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (handlers, tls, outcomes) = (handlers.clone(), Arc::clone(&tls), outcomes.clone());
            thread::spawn(move || {
                let serve = || {
                    let stream = Tls::server(Socket::from_std(stream)?, &tls)?;
                    Ok(handlers.serve(stream, &Config::default())?)
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
    request: Request,
    object: &[u8],
) -> io::Result<Receipt> {
    let stream = Tls::client(Socket::from_std(TcpStream::connect(address)?)?, tls)?;
    Ok(ObjectWriter::open(stream, request, &Config::default()).send(object)?)
}

pub(crate) fn get(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
) -> io::Result<Vec<u8>> {
    let stream = Tls::client(Socket::from_std(TcpStream::connect(address)?)?, tls)?;
    let mut object = ObjectReader::open(stream, request, &Config::default())?;
    let mut bytes = Vec::new();
    object.read_to_end(&mut bytes)?;
    object.commit()?;
    Ok(bytes)
}
