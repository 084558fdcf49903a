//! The baseline of TLS: the same bytes through rustls over plain sockets, in blocking calls, without dataserver.
//!
//! The certificate was made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
//! -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext
//! basicConstraints=critical,CA:FALSE`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;

use dataserver_core::{Direction, StartPacket};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, SideData, StreamOwned,
};

use crate::subject::{Job, Subject};

const CERTIFICATE: &[u8] = include_bytes!("tls_baseline/localhost.der");
const KEY: &[u8] = include_bytes!("tls_baseline/localhost.key.der");

/// The configuration of all servers: TLS 1.3, without tickets for a later handshake.
///
/// # Panics
/// Panics if the certificate of this package cannot be used.
pub fn server_config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let (certificate, key) = (CertificateDer::from(CERTIFICATE), PrivatePkcs8KeyDer::from(KEY));
        let config = ServerConfig::builder_with_protocol_versions(&[&TLS13]).with_no_client_auth();
        let mut config =
            config.with_single_cert(vec![certificate], key.into()).expect("a certificate");
        config.send_tls13_tickets = 0;
        Arc::new(config)
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// The configuration of all clients. Each connection has a full handshake.
///
/// # Panics
/// Panics if the certificate of this package cannot be used.
pub fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let mut trusted = RootCertStore::empty();
        trusted.add(CERTIFICATE.into()).expect("a certificate");
        let config = ClientConfig::builder_with_protocol_versions(&[&TLS13]);
        let mut config = config.with_root_certificates(trusted).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// The name in the certificate.
///
/// # Panics
/// Does not panic.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// rustls over plain sockets, with this many threads, each of which accepts and serves.
#[derive(Clone, Copy, Debug)]
pub struct TlsBaseline(pub usize);

impl TlsBaseline {
    /// All that the benches use.
    pub const ALL: [Self; 4] = [Self(2), Self(4), Self(8), Self(64)];
}

impl Subject for TlsBaseline {
    fn name(&self) -> String {
        format!("rustls over plain sockets, {} threads", self.0)
    }

    fn serve(&self, listener: TcpListener, job: &Job) -> io::Result<()> {
        let serve = || {
            let mut buffer = vec![7; job.piece()];
            loop {
                let (socket, _) = listener.accept()?;
                // A failed connection does not end the server.
                _ = serve_one(socket, job, &mut buffer);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.0).map(|_| scope.spawn(serve)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("servers do not panic"))
        })
    }

    fn transfer(&self, address: SocketAddr, job: &Job) -> io::Result<()> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let tls =
            ClientConnection::new(client_config(), server_name()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        let mut buffer = vec![7; job.piece()];
        // What rustls encrypts before it writes.
        stream.conn.set_buffer_limit(Some(buffer.len() + StartPacket::LEN));
        stream.write_all(job.packet().as_bytes())?;
        match job.direction {
            Direction::Put => {
                send(&mut stream, job, &buffer)?;
                receive(&mut stream, &mut buffer)
            }
            Direction::Get => {
                receive(&mut stream, &mut buffer)?;
                end(&mut stream)
            }
        }
    }
}

fn serve_one(socket: TcpStream, job: &Job, buffer: &mut [u8]) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let tls = ServerConnection::new(server_config()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, socket);
    stream.conn.set_buffer_limit(Some(buffer.len()));
    stream.read_exact(&mut [0; StartPacket::LEN])?;
    match job.direction {
        Direction::Put => {
            receive(&mut stream, buffer)?;
            end(&mut stream)
        }
        Direction::Get => {
            send(&mut stream, job, buffer)?;
            receive(&mut stream, buffer)
        }
    }
}

/// Sends an object from memory, and ends it.
fn send<C, S>(stream: &mut StreamOwned<C, TcpStream>, job: &Job, buffer: &[u8]) -> io::Result<()>
where
    C: std::ops::DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let mut left = job.bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        stream.write_all(&buffer[..piece])?;
        left -= piece as u64;
    }
    end(stream)
}

/// Receives until the peer's `close_notify`.
fn receive(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<()> {
    while stream.read(buffer)? > 0 {}
    Ok(())
}

fn end<C, S>(stream: &mut StreamOwned<C, TcpStream>) -> io::Result<()>
where
    C: std::ops::DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)
}
