//! The TLS of the tests: both sides, in any process, know the same certificate for `localhost`.
//!
//! It was made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
//! -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE`.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

const CERTIFICATE: &[u8] = include_bytes!("localhost.der");
const KEY: &[u8] = include_bytes!("localhost.key.der");

/// The configuration of a server.
pub fn server() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let (certificate, key) = (CertificateDer::from(CERTIFICATE), PrivatePkcs8KeyDer::from(KEY));
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key.into());
        let mut config = config.expect("a certificate");
        config.send_tls13_tickets = 0; // what a server keeps of them would look like a leak
        config.into()
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// The configuration of a client.
pub fn client() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let mut trusted = RootCertStore::empty();
        trusted.add(CERTIFICATE.into()).expect("a certificate");
        let config = ClientConfig::builder().with_root_certificates(trusted);
        config.with_no_client_auth().into()
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// The name in the certificate.
pub fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}
