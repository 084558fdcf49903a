//! Both adapters over TLS, with rustls.
//!
//! ```text
//! cargo run --release --features tls --example tls
//! ```
//!
//! [`blocking`] has a server and a client of `dataserver-std`, [`asynchronous`] those of `dataserver-smol`. This
//! file has the certificate, and tests that both sides detect an end of stream that a third party has forged, even
//! in the bare format without a declared size. In the framed format the reason for a failure arrives, too.
//!
//! TLS 1.3 is required. There a `close_notify` ends one direction, so the receipt can follow that of the
//! sender (RFC 8446, section 6.1). In TLS 1.2 it ends both: the peer must close at once, and discard its
//! pending writes (RFC 5246, section 7.2.1).

mod asynchronous;
mod blocking;
mod middleman;

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use dataserver_examples::peers;
use dataserver_std::{Cause, Error as TransferError, Key, ObjectSize, PeerError, Receipt, Request};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The key of the newest object.
const KEY: Key = Key::from_name("newest");

const SIZE: usize = 300_000;
const NAME: &str = "localhost";

/// The outcome of each connection of a server.
type Outcomes = Sender<Result<Receipt, TransferError>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (server_tls, client_tls) = tls()?;
    let object = peers::object(SIZE);
    for server in [Adapter::Std, Adapter::Smol] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, outcomes) = mpsc::channel();
        server.serve(listener, Arc::clone(&server_tls), sender)?;
        for client in [Adapter::Std, Adapter::Smol] {
            println!("server: {server:?}, client: {client:?}");
            let pair = Pair { client, address, outcomes: &outcomes, tls: &client_tls };
            pair.transfer(&object)?;
            pair.be_refused(&object)?;
            pair.cut_a_put(&object)?;
            pair.cut_a_get(&object)?;
            pair.cut_a_receipt(&object)?;
        }
    }
    Ok(())
}

/// A new certificate, and the configurations of both sides.
fn tls() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut trusted = RootCertStore::empty();
    trusted.add(made.cert.der().clone())?;
    let server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a valid name")
}

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Std,
    Smol,
}

impl Adapter {
    fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        outcomes: Outcomes,
    ) -> Result<(), TransferError> {
        match self {
            Self::Std => blocking::serve(listener, tls, outcomes),
            Self::Smol => asynchronous::serve(listener, tls, outcomes),
        }
    }

    fn put(
        self,
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        request: Request,
        object: &[u8],
    ) -> Result<Receipt, TransferError> {
        match self {
            Self::Std => blocking::put(address, tls, request, object),
            Self::Smol => asynchronous::put(address, tls, request, object),
        }
    }

    fn get(
        self,
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        request: Request,
    ) -> io::Result<Vec<u8>> {
        match self {
            Self::Std => blocking::get(address, tls, request),
            Self::Smol => asynchronous::get(address, tls, request),
        }
    }
}

/// No size is declared, so that only the end of the stream marks the end of the object.
fn bare() -> Request {
    Request::new(KEY).size(ObjectSize::UNKNOWN).bare()
}

/// A client, and the address of a server.
struct Pair<'a> {
    client: Adapter,
    address: SocketAddr,
    outcomes: &'a Receiver<Result<Receipt, TransferError>>,
    tls: &'a Arc<ClientConfig>,
}

impl Pair<'_> {
    fn transfer(&self, object: &[u8]) -> Result<(), Box<dyn Error>> {
        for (format, request) in [("bare", bare()), ("framed", Request::new(KEY))] {
            let receipt = self.client.put(self.address, self.tls, request, object)?;
            println!("  {format} put: the receipt for {} bytes", receipt.bytes);
            self.outcome()??;
            let received = self.client.get(self.address, self.tls, request)?;
            println!("  {format} get: {} bytes", received.len());
            self.outcome()??;
            if received != object {
                return Err("the bytes of the get differ from those of the put".into());
            }
        }
        Ok(())
    }

    /// In the framed format the server says why.
    fn be_refused(&self, object: &[u8]) -> Result<(), Box<dyn Error>> {
        let unknown = Request::new(Key::from_name("unknown"));
        let sent = self.client.put(self.address, self.tls, unknown, object);
        self.outcome()?.err().ok_or("the server has not refused")?;
        let error = sent.err().ok_or("a refusal was taken for a receipt")?;
        let reason = error.abort_reason().ok_or_else(|| format!("no reason: {error}"))?;
        println!("  framed put that is refused: {reason}");
        Ok(())
    }

    /// Every byte arrives, and then a forged end of the client's stream.
    fn cut_a_put(&self, object: &[u8]) -> Result<(), Box<dyn Error>> {
        let middleman = middleman::without_close_notify_to_server(self.address)?;
        let sent = self.client.put(middleman, self.tls, bare(), object);
        println!("  put, cut before its end:");
        println!("    server: {}", truncated(self.outcome()?, SIZE as u64)?);
        println!("    client: {}", truncated(sent, SIZE as u64)?);
        Ok(())
    }

    /// Every byte arrives, and then a forged end of the server's stream.
    fn cut_a_get(&self, object: &[u8]) -> Result<(), Box<dyn Error>> {
        let middleman = middleman::without_close_notify_to_client(self.address)?;
        let received = self.client.get(middleman, self.tls, bare());
        println!("  get, cut before its end:");
        println!("    client: {}", truncated(received, object.len() as u64)?);
        println!("    server: {}", truncated(self.outcome()?, object.len() as u64)?);
        Ok(())
    }

    /// The server has committed, and its receipt is replaced by a forged end of stream, which the client must
    /// not take for a receipt.
    fn cut_a_receipt(&self, object: &[u8]) -> Result<(), Box<dyn Error>> {
        let middleman = middleman::without_close_notify_to_client(self.address)?;
        let sent = self.client.put(middleman, self.tls, bare(), object);
        println!("  put, cut before its receipt:");
        println!("    client: {}", truncated(sent, object.len() as u64)?);
        let committed = self.outcome()??;
        println!("    server: committed {} bytes", committed.bytes);
        Ok(())
    }

    fn outcome(&self) -> Result<Result<Receipt, TransferError>, mpsc::RecvTimeoutError> {
        self.outcomes.recv_timeout(peers::MAX_WAIT)
    }
}

/// The text of the source, if this is the error of a connection that failed after this many bytes.
fn truncated<T>(
    ended: Result<T, impl Into<io::Error>>,
    moved: u64,
) -> Result<String, Box<dyn Error>> {
    let Err(error) = ended.map_err(Into::into) else {
        return Err("the cut connection was taken for a complete transfer".into());
    };
    match TransferError::of(&error) {
        Some(TransferError::Transfer {
            cause: Cause::Peer(PeerError::Reset { moved: m }),
            source,
            ..
        }) if *m == moved => Ok(source.as_ref().ok_or("the error has no source")?.to_string()),
        _ => Err(format!("expected an end without close_notify, got: {error}").into()),
    }
}

/// The newest object.
#[derive(Default)]
struct Store(Mutex<Vec<u8>>);

impl Store {
    fn set(&self, object: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = object;
    }

    fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
