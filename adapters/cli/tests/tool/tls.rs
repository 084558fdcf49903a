//! TLS: tickets that pin a certificate, and certificates from files.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;

use crate::sandbox::{Process, Sandbox, assert_same, eventually};

const LEN: usize = 300_000;

fn ticket(process: &Process) -> String {
    eventually("the ticket", || process.out().ends_with('\n'));
    process.out().trim().to_owned()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes NAME.pem and NAME.key.
pub(crate) fn certify(
    sandbox: &Sandbox,
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(sandbox.path(&format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(sandbox.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A directory with ca.pem, server.pem, server.key and a file.
pub(crate) fn with_certificates() -> (Sandbox, CertifiedIssuer<'static, KeyPair>) {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let authority = authority();
    fs::write(sandbox.path("ca.pem"), authority.pem()).unwrap();
    certify(&sandbox, &authority, "server", |_| {});
    (sandbox, authority)
}

pub(crate) const SERVE: [&str; 6] =
    ["--tls-cert", "server.pem", "--tls-key", "server.key", "--get", "down=file"];

#[test]
fn a_ticket_pins_the_certificate() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let sharing = sandbox.start(sandbox.tool(["share", "file", "--listen", "127.0.0.1:0", "-v"]));
    let ticket = ticket(&sharing);
    let (plain, pin) = ticket.split_once("?cert=").unwrap();
    assert_eq!(pin.len(), 64);

    let wrong = format!("{plain}?cert={}", "0".repeat(64));
    let err = sandbox.run_tool(["get", &wrong, "got"]).with_status(3);
    assert!(err.contains("it is not the one that the ticket names"), "{err}");
    // Without the pin the client speaks in the clear, and is not served.
    sandbox.run_tool(["get", plain, "got"]).with_status(4);
    sharing.wait_for_err("the TLS handshake failed");
    let err = sandbox.run_tool(["get", &ticket, "got", "--tls"]).with_status(2);
    assert!(err.contains("the ticket names the certificate"), "{err}");

    sandbox.run_tool(["get", &ticket, "got"]).with_status(0);
    assert_same(&file, &sandbox.path("got"));
    sharing.ended().with_status(0);
}

#[test]
fn a_bare_put_with_a_ticket_is_encrypted_too() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let collecting = sandbox.start(sandbox.tool(["collect", "stored", "--listen", "127.0.0.1:0"]));
    sandbox.run_tool(["put", &ticket(&collecting), "file", "--bare"]).with_status(0);
    assert_same(&file, &sandbox.path("stored"));
}

#[test]
fn plain_is_possible_on_request() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let sharing = sandbox.start(sandbox.tool(["share", "file", "--insecure-plain"]));
    let ticket = ticket(&sharing);
    assert!(!ticket.contains('?'), "{ticket}");
    sandbox.run_tool(["get", &ticket, "got"]).with_status(0);
    assert_same(&file, &sandbox.path("got"));
}

#[test]
fn a_client_that_expects_tls_sends_neither_key_nor_object_without_it() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 4096];
        let n = stream.read(&mut first).unwrap();
        stream.write_all(&[0; 100]).unwrap();
        let mut seen = first[..n].to_vec();
        _ = stream.read_to_end(&mut seen);
        seen
    });
    let key = dataserver_std::Key::from_name("secret");
    let ticket = format!("dataserver://{address}/{key}?cert={}", "0".repeat(64));
    sandbox.run_tool(["put", &ticket, "file"]).with_status(3);
    let seen = server.join().unwrap();
    assert!(!seen.is_empty() && !seen.windows(16).any(|window| window == key.as_bytes()));
}

#[test]
fn a_server_with_a_certificate_serves_those_who_trust_it() {
    let (sandbox, authority) = with_certificates();
    certify(&sandbox, &self::authority(), "stranger", |_| {});
    fs::write(sandbox.path("other-ca.pem"), self::authority().pem()).unwrap();
    let server = sandbox.serve(&SERVE);
    let port = server.address.rsplit_once(':').unwrap().1;
    let address = format!("localhost:{port}");
    let get = ["get", &address, "down", "got"];
    sandbox.run_tool([&get[..], &["--tls-ca", "ca.pem"]].concat()).with_status(0);
    assert_same(&sandbox.path("file"), &sandbox.path("got"));
    fs::remove_file(sandbox.path("got")).unwrap();

    let by_ip = ["get", &server.address, "down", "got", "--tls-ca", "ca.pem"];
    let wrong_ca = [&get[..], &["--tls-ca", "other-ca.pem"]].concat();
    for (arguments, reason) in
        [(&by_ip[..], "not valid for name"), (&wrong_ca, "invalid peer certificate")]
    {
        let err = sandbox.run_tool(arguments).with_status(3);
        assert!(err.contains(reason), "{err}");
    }
    let with_system_trusting = |ca| {
        let mut command = sandbox.tool([&get[..], &["--tls"]].concat());
        command.env("SSL_CERT_FILE", ca).env_remove("SSL_CERT_DIR");
        sandbox.run(command)
    };
    let err = with_system_trusting("other-ca.pem").with_status(3);
    assert!(err.contains("invalid peer certificate"), "{err}");
    sandbox.run_tool(get).with_status(4); // in the clear
    TcpStream::connect(&server.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.process.wait_for_err("the TLS handshake failed: received corrupt message");
    assert!(!sandbox.path("got").exists() && sandbox.parts().is_empty());
    with_system_trusting("ca.pem").with_status(0);
    drop(authority);
    server.stop();
}

#[test]
fn files_that_are_no_certificates_fail_at_the_start() {
    let (sandbox, _) = with_certificates();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--get", "down=file"];
    for (options, status, reason) in [
        (["--tls-cert=missing", "--tls-key=server.key"], 7, "missing: "),
        (["--tls-cert=file", "--tls-key=server.key"], 7, "file: it has no certificate"),
        (["--tls-cert=server.pem", "--tls-key=file"], 7, "file: it has no private key"),
        (["--tls-cert=server.pem", "--tls-key=ca.pem"], 7, "ca.pem: it has no private key"),
        (["--tls-cert=server.pem", "--once"], 2, "--tls-key"),
    ] {
        let err = sandbox.run_tool([&serve[..], &options].concat()).with_status(status);
        assert!(err.contains(reason), "{err}");
    }
}

#[test]
fn a_server_may_demand_certificates_of_its_clients() {
    let (sandbox, authority) = with_certificates();
    certify(&sandbox, &authority, "client", |_| {});
    certify(&sandbox, &self::authority(), "stranger", |_| {});
    let server = sandbox.serve(&[&SERVE[..], &["--tls-client-ca", "ca.pem"]].concat());
    let address = server.address.replace("127.0.0.1", "localhost");
    let get = ["get", &address, "down", "got", "--tls-ca", "ca.pem"];
    let with = |name: &str| {
        let [certificate, key] = ["pem", "key"].map(|end| format!("{name}.{end}"));
        sandbox.run_tool([&get[..], &["--tls-cert", &certificate, "--tls-key", &key]].concat())
    };
    with("client").with_status(0);
    assert_ne!(with("stranger").status.code(), Some(0));
    assert_ne!(sandbox.run_tool(get).status.code(), Some(0));
    let log = server.stop();
    assert_eq!(log.matches("the TLS handshake failed").count(), 2, "{log}");
}

#[test]
fn sighup_reads_the_certificate_again() {
    let (sandbox, _) = with_certificates();
    let server = sandbox.serve(&SERVE);
    let address = server.address.replace("127.0.0.1", "localhost");
    let get = ["get", &address, "down", "got", "--tls-ca", "new-ca.pem"];
    let new = authority();
    fs::write(sandbox.path("new-ca.pem"), new.pem()).unwrap();
    sandbox.run_tool(get).with_status(3);

    fs::write(sandbox.path("server.key"), "not a key").unwrap();
    server.process.signal(Signal::HUP);
    server.process.wait_for_err("the old certificate stays");
    certify(&sandbox, &new, "server", |_| {});
    server.process.signal(Signal::HUP);
    server.process.wait_for_err("the certificate has been read again");
    sandbox.run_tool(get).with_status(0);
    server.stop();
}

#[test]
fn openssl_agrees_with_the_certificate() {
    let (sandbox, _) = with_certificates();
    let server = sandbox.serve(&SERVE);
    let connect = |version| {
        let arguments = ["s_client", "-connect", &server.address, "-CAfile", "ca.pem", version];
        let mut command = Command::new("openssl");
        command.args(arguments).args(["-verify_return_error", "-verify_hostname", "localhost"]);
        command.current_dir(sandbox.path(""));
        sandbox.run(command)
    };
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped, it needs openssl");
        return;
    }
    let ended = connect("-tls1_3");
    let out = String::from_utf8_lossy(&ended.out).into_owned();
    assert!(
        out.contains("Verify return code: 0 (ok)") && out.contains("TLSv1.3"),
        "{out}{}",
        ended.err
    );
    assert_ne!(connect("-tls1_2").status.code(), Some(0));
}
