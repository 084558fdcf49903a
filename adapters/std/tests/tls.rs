//! TLS: transfers, and certificates that are not accepted.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use dataserver_std::{Client, Config, Error, Key, Receipt, Request, Server};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

const UP: Key = Key::from_name("up");
const DOWN: Key = Key::from_name("down");
const LEN: usize = 3 << 20;

fn object() -> &'static [u8] {
    static OBJECT: OnceLock<Vec<u8>> = OnceLock::new();
    OBJECT.get_or_init(|| (0..LEN as u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect())
}

/// A certificate for this name.
struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    fn new(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, key: key.serialize_der() }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![self.der.clone()], key).unwrap())
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(trusted);
        Arc::new(config.with_no_client_auth())
    }
}

fn localhost() -> ServerName<'static> {
    "localhost".try_into().unwrap()
}

struct Running {
    address: SocketAddr,
    outcomes: Receiver<Result<Receipt, Error>>,
    directory: tempfile::TempDir,
}

fn serve(certificate: &Certificate, config: Config) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let [stored, sent] = ["stored", "sent"].map(|name| directory.path().join(name));
    fs::write(&sent, object()).unwrap();
    let (report, outcomes) = mpsc::channel();
    let server = Server::bind("127.0.0.1:0").unwrap().tls(certificate.server()).config(config);
    server.on_put(UP, move |object| object.receive_to(&stored)).unwrap();
    server.on_get(DOWN, move |object| object.send_path(&sent)).unwrap();
    let server = server.on_complete(move |outcome| drop(report.send(outcome)));
    let address = server.local_addr();
    thread::spawn(|| server.run());
    Running { address, outcomes, directory }
}

impl Running {
    fn client(&self, certificate: &Certificate) -> Client {
        Client::new(self.address).unwrap().tls(certificate.client(), localhost())
    }

    fn outcome(&self) -> Result<Receipt, Error> {
        self.outcomes.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn handshake_error(&self) -> String {
        match self.outcome() {
            Err(error @ Error::Handshake { .. }) => error.to_string(),
            outcome => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn objects_are_transferred_in_both_formats_and_in_sessions() {
    let certificate = Certificate::new(|_| {});
    let server = serve(&certificate, Config::default());
    let client = server.client(&certificate);
    let file = server.directory.path().join("sent");
    let got = server.directory.path().join("got");
    for (request, is_framed) in [(Request::new, true), (|key| Request::new(key).bare(), false)]
        as [(fn(Key) -> Request, bool); 2]
    {
        client.put(request(UP)).unwrap().send_path(&file).unwrap();
        let receipt = server.outcome().unwrap();
        assert_eq!((receipt.bytes, receipt.packet.is_framed()), (LEN as u64, is_framed));
        assert!(fs::read(server.directory.path().join("stored")).unwrap() == object());
        client.get(request(DOWN)).unwrap().receive_to(&got).unwrap();
        assert_eq!(server.outcome().unwrap().bytes, LEN as u64);
        assert!(fs::read(&got).unwrap() == object());
    }

    let mut session = client.session();
    for _ in 0..3 {
        session.put(UP).unwrap().send(b"hello").unwrap();
        assert_eq!(server.outcome().unwrap().bytes, 5);
        session.get(DOWN).unwrap().receive_to(&got).unwrap();
        assert_eq!(server.outcome().unwrap().bytes, LEN as u64);
    }
    drop(session);
    // The end of a session is no error: the next outcome is that of the next object.
    client.put(UP).unwrap().send(b"hello").unwrap();
    assert_eq!(server.outcome().unwrap().bytes, 5);
}

#[test]
fn a_refusal_arrives_with_its_reason() {
    let certificate = Certificate::new(|_| {});
    let server = serve(&certificate, Config::default());
    let error = server.client(&certificate).put(DOWN).unwrap().send(b"hello").unwrap_err();
    assert!(error.to_string().contains("it refused the start packet"), "{error}");
    let error = server.client(&certificate).put(Request::new(DOWN).bare()).unwrap().send(b"hello");
    error.unwrap_err();
}

/// The error of a client, which names the reason.
fn rejected(
    certificate: &Certificate,
    trusts: &Certificate,
    name: &'static str,
) -> (String, String) {
    let server = serve(certificate, Config::default());
    let client = Client::new(server.address).unwrap();
    let error = client.tls(trusts.client(), name.try_into().unwrap()).put(UP).unwrap_err();
    assert!(error.is_connect());
    (error.to_string(), server.handshake_error())
}

#[test]
fn a_certificate_that_is_not_acceptable_fails_before_the_start_packet() {
    let good = Certificate::new(|_| {});
    let expired = Certificate::new(|params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let other = Certificate::new(|_| {});
    for (certificate, trusts, name, reason, alert) in [
        (&good, &good, "example.org", "not valid for name", "BadCertificate"),
        (&expired, &expired, "localhost", "expired", "CertificateExpired"),
        (&good, &other, "localhost", "invalid peer certificate", "received fatal alert"),
    ] {
        let (client, server) = rejected(certificate, trusts, name);
        assert!(client.contains(reason), "{client}");
        assert!(
            server.contains("the TLS handshake failed: ") && server.contains(alert),
            "{server}"
        );
    }
}
