//! A server and a client of `dataserver-std` over TLS.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use dataserver_std::{Client, Error, Receipt, Request, Server};
use rustls::{ClientConfig, ServerConfig};

use crate::{KEY, Outcomes, Store, server_name};

pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    outcomes: Outcomes,
) -> Result<(), Error> {
    let store = Arc::new(Store::default());
    let (kept, newest) = (Arc::clone(&store), store);
    let server = Server::from_listener(listener)?.tls(tls);
    server.on_put(KEY, move |mut object| {
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?;
        kept.set(bytes);
        Ok::<_, io::Error>(object.commit()?)
    })?;
    server.on_get(KEY, move |object| object.send(&newest.get()))?;
    let server = server.on_complete(move |outcome| drop(outcomes.send(outcome)));
    thread::spawn(|| server.run());
    Ok(())
}

pub(crate) fn put(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
    object: &[u8],
) -> Result<Receipt, Error> {
    let client = Client::new(address)?.tls(Arc::clone(tls), server_name());
    client.put(request)?.send(object)
}

pub(crate) fn get(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
) -> io::Result<Vec<u8>> {
    let client = Client::new(address)?.tls(Arc::clone(tls), server_name());
    let mut object = client.get(request)?;
    let mut bytes = Vec::new();
    object.read_to_end(&mut bytes)?;
    object.commit()?;
    Ok(bytes)
}
