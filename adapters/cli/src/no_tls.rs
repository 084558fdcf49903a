//! What stands for TLS in a build without it.

use clap::Args;
use dataserver_std::{Client, Server};

use crate::arguments::Peer;
use crate::failure::{Failure, Status};
use crate::ticket::Fingerprint;

#[derive(Debug, Args)]
pub(crate) struct ClientOptions {}

#[derive(Debug, Args)]
pub(crate) struct ServerOptions {}

#[derive(Debug, Args)]
pub(crate) struct ShareOptions {}

pub(crate) fn client(client: Client, _: &ClientOptions, peer: &Peer) -> Result<Client, Failure> {
    match peer.certificate {
        Some(_) => {
            Err(Failure::new(Status::Usage, "the ticket needs TLS, which this build does not have"))
        }
        None => Ok(client),
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Reloading {}

impl Reloading {
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        match *self {}
    }
}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide {
    pub(crate) certificate: std::sync::Arc<Reloading>,
}

pub(crate) fn server_side(_: &ServerOptions) -> Result<Option<ServerSide>, Failure> {
    Ok(None)
}

impl ServerSide {
    pub(crate) fn secure(&self, server: Server) -> Server {
        server
    }
}

pub(crate) fn secure_one(
    server: Server,
    _: &ShareOptions,
) -> Result<(Server, Option<Fingerprint>), Failure> {
    Ok((server, None))
}
