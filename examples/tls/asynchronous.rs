//! A server and a client of `dataserver-smol` over TLS.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use dataserver_smol::{Client, Error, Receipt, Request, Server};
use rustls::{ClientConfig, ServerConfig};
use smol::future;
use smol::io::AsyncReadExt;

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
        let kept = Arc::clone(&kept);
        async move {
            let mut bytes = Vec::new();
            object.read_to_end(&mut bytes).await?;
            kept.set(bytes);
            Ok::<_, io::Error>(object.commit().await?)
        }
    })?;
    server.on_get(KEY, move |object| object.send(newest.get()))?;
    let server = server.on_complete(move |outcome| drop(outcomes.send(outcome)));
    smol::spawn(server.run(|connection| smol::spawn(connection).detach())).detach();
    Ok(())
}

pub(crate) fn put(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
    object: &[u8],
) -> Result<Receipt, Error> {
    future::block_on(async {
        let client = Client::new(address)?.tls(Arc::clone(tls), server_name());
        client.put(request).await?.send(object).await
    })
}

pub(crate) fn get(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: Request,
) -> io::Result<Vec<u8>> {
    future::block_on(async {
        let client = Client::new(address)?.tls(Arc::clone(tls), server_name());
        let mut object = client.get(request).await?;
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes).await?;
        object.commit().await?;
        Ok(bytes)
    })
}
