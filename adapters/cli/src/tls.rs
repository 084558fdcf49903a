//! TLS: certificates from files, and certificates for one object that are pinned by the ticket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use clap::Args;
use dataserver_std::{Client, Server};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::arguments::Peer;
use crate::failure::{Failure, Status};
use crate::ticket::Fingerprint;

/// TLS for `put` and `get`.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    /// Use TLS. The certificate of the server must be one that this system trusts. A ticket says itself
    /// whether it needs TLS
    #[arg(long)]
    tls: bool,
    /// Use TLS. The certificate of the server must be signed by one in this PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Show this certificate to the server, from a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of this certificate, from a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// TLS for `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// Accept TLS only, with this certificate and those of its issuers, from a PEM file. SIGHUP reads it
    /// again
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of this certificate, from a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accept clients only with a certificate that is signed by one in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

/// TLS for `share` and `collect`.
#[derive(Debug, Args)]
pub(crate) struct ShareOptions {
    /// Send the object and the key in the clear. By default TLS is used, with a certificate that is made
    /// for this object, and the ticket names it
    #[arg(long)]
    insecure_plain: bool,
}

/// Makes a client use TLS, if it is asked for.
pub(crate) fn client(
    client: Client,
    options: &ClientOptions,
    peer: &Peer,
) -> Result<Client, Failure> {
    let is_wanted = options.tls || options.tls_ca.is_some() || options.tls_cert.is_some();
    if let Some(pin) = peer.certificate {
        if is_wanted {
            return Err(Failure::new(
                Status::Usage,
                "the ticket names the certificate of the server, so --tls and --tls-ca have no meaning",
            ));
        }
        // The name is not checked, and need not be told to who listens.
        let name = ServerName::try_from("dataserver").map_err(invalid)?;
        return Ok(client.tls(pinned(pin), name));
    }
    if !is_wanted {
        return Ok(client);
    }
    let host = peer.address.to_string();
    let host = host.rsplit_once(':').map_or(&host[..], |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(invalid)?;
    let roots = options.tls_ca.as_deref().map_or_else(system_roots, roots)?;
    let config =
        ClientConfig::builder_with_protocol_versions(&[&TLS13]).with_root_certificates(roots);
    let config = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => config
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(invalid)?,
        _ => config.with_no_client_auth(),
    };
    Ok(client.tls(config, name))
}

/// The certificate of `serve`, which can be read again.
#[derive(Debug)]
pub(crate) struct Reloading {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Reloading {
    /// Reads the certificate again. If that fails, the old one stays.
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        let new = certified_key(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// How the servers of `serve` use TLS.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide {
    config: Arc<ServerConfig>,
    /// What SIGHUP reads again.
    pub(crate) certificate: Arc<Reloading>,
}

/// Reads the certificates of a server; `None` if it does not use TLS.
pub(crate) fn server_side(options: &ServerOptions) -> Result<Option<ServerSide>, Failure> {
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        return Ok(None);
    };
    let builder = ServerConfig::builder_with_protocol_versions(&[&TLS13]);
    let builder = match &options.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?)).build();
            builder.with_client_cert_verifier(verifier.map_err(invalid)?)
        }
    };
    let certificate = Arc::new(Reloading {
        current: RwLock::new(Arc::new(certified_key(certificate, key)?)),
        certificate: certificate.clone(),
        key: key.clone(),
    });
    let config = Arc::new(builder.with_cert_resolver(Arc::clone(&certificate) as _));
    Ok(Some(ServerSide { config, certificate }))
}

impl ServerSide {
    pub(crate) fn secure(&self, server: Server) -> Server {
        server.tls(Arc::clone(&self.config))
    }
}

/// Secures the server of one object with a new certificate, whose fingerprint the ticket names.
pub(crate) fn secure_one(
    server: Server,
    options: &ShareOptions,
) -> Result<(Server, Option<Fingerprint>), Failure> {
    if options.insecure_plain {
        return Ok((server, None));
    }
    let made = rcgen::generate_simple_self_signed(["dataserver".to_owned()]).map_err(invalid)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(invalid)?;
    let certificate = made.cert.der().clone();
    let fingerprint = fingerprint(&certificate);
    let config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(invalid)?;
    Ok((server.tls(config), Some(fingerprint)))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}

fn pinned(pin: Fingerprint) -> ClientConfig {
    let verifier = Arc::new(Pinned { pin, provider: provider() });
    ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

/// Accepts one certificate and no other. Its issuer is not checked.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match fingerprint(certificate) == self.pin {
            true => Ok(ServerCertVerified::assertion()),
            false => {
                let error = io::Error::other("it is not the one that the ticket names");
                Err(CertificateError::Other(rustls::OtherError(Arc::new(error))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, Failure> {
    let key_file = key;
    let key = private_key(key_file)?;
    CertifiedKey::from_der(certificates(certificate)?, key, &provider())
        .map_err(|error| Failure::file(key_file, &io::Error::other(error)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let failed = |error: rustls::pki_types::pem::Error| Failure::file(path, &pem_error(error));
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    match read.map_err(failed)? {
        none if none.is_empty() => {
            Err(Failure::file(path, &io::Error::other("it has no certificate in PEM")))
        }
        some => Ok(some),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| Failure::file(path, &pem_error(error)))
}

fn pem_error(error: rustls::pki_types::pem::Error) -> io::Error {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error,
        rustls::pki_types::pem::Error::NoItemsFound => {
            io::Error::other("it has no private key in PEM")
        }
        error => io::Error::other(error),
    }
}

/// The certificates that this system trusts. One that cannot be read is no obstacle if others can.
fn system_roots() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(Failure::new(Status::File, error)),
        (true, None) => Err(Failure::new(
            Status::File,
            "this system has no trusted certificates; --tls-ca names some",
        )),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Failure::file(path, &io::Error::other(error)))?;
    }
    Ok(roots)
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Usage, format!("TLS: {error}"))
}
