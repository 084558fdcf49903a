//! TLS between two tools, and what stands between them: each fault ends with an error that names it, and
//! neither the key nor the object passes in the clear.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};

use rcgen::date_time_ymd;

use crate::sandbox::{Sandbox, Server, eventually};
use crate::tls::{SERVE, certify, with_certificates};

/// The bytes of a handshake in either direction are fewer, those of the object are more.
const AMID_THE_OBJECT: usize = 50_000;

/// What is done to the bytes of one direction, after this many have been forwarded.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The direction ends gracefully, without `close_notify`. The other one stays open.
    End(usize),
    /// A bit of the next byte is flipped.
    Flip(usize),
}

/// Forwards one connection, and keeps what has passed.
struct Tap {
    address: String,
    passed: JoinHandle<[Vec<u8>; 2]>,
}

impl Tap {
    /// Faults of the direction to the server, and of that to the client.
    fn start(server: &Server, faults: [Option<Fault>; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let server = server.address.clone();
        let passed = thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(server).unwrap();
            let [to_server, to_client] = faults;
            thread::scope(|scope| {
                let to_server = scope.spawn(|| forward(&client, &server, to_server));
                let to_client = scope.spawn(|| forward(&server, &client, to_client));
                [to_server, to_client].map(|direction| direction.join().unwrap())
            })
        });
        Self { address, passed }
    }

    /// Asserts that what has passed shows neither the key `down` or `up`, nor the object.
    #[track_caller]
    fn assert_secret(self, sandbox: &Sandbox) {
        let object = fs::read(sandbox.path("file")).unwrap();
        let [down, up] = ["down", "up"].map(dataserver_std::Key::from_name);
        for passed in self.passed.join().unwrap() {
            for secret in [down.as_bytes(), up.as_bytes(), &object[1000..1016]] {
                assert!(!passed.windows(secret.len()).any(|window| window == secret));
            }
        }
    }
}

/// Forwards one direction, to its end or to the fault. Returns what has passed.
fn forward(mut from: &TcpStream, mut to: &TcpStream, fault: Option<Fault>) -> Vec<u8> {
    let (mut passed, mut buffer) = (Vec::new(), [0; 4096]);
    // A reset of one side ends the direction, as it does at a proxy.
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..n];
        match fault {
            Some(Fault::End(at)) if passed.len() + n > at => break,
            Some(Fault::Flip(at)) if (passed.len()..passed.len() + n).contains(&at) => {
                bytes[at - passed.len()] ^= 1;
            }
            _ => {}
        }
        passed.extend_from_slice(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Write);
    while let Ok(1..) = from.read(&mut buffer) {} // what is behind a fault is dropped
    passed
}

fn serve(sandbox: &Sandbox) -> Server {
    sandbox.serve(&[&SERVE[..], &["--put", "up=stored"]].concat())
}

/// What is expected of a fault: the status of the client, and texts of the errors of both sides. The side that
/// does not see the fault itself learns of it by an alert or by an end, so that its text may be empty.
type Row = (Fault, i32, &'static str, &'static str);

const EOF: &str = "ended the TLS stream without a close_notify";
const NOT_DECRYPTED: &str = "cannot decrypt peer's message";
const NO_CLOSE_NOTIFY: &str = "ended the TLS stream without a close_notify";
const HANDSHAKE_FAILED: &str = "the TLS handshake failed";

#[track_caller]
fn check(operation: &[&str], (fault, status, of_client, of_server): Row, to_server: bool) {
    let (sandbox, _authority) = with_certificates();
    for format in [&[][..], &["--bare"]] {
        let server = serve(&sandbox);
        let faults = if to_server { [Some(fault), None] } else { [None, Some(fault)] };
        let tap = Tap::start(&server, faults);
        let options = [&operation[1..], &["--tls-ca", "ca.pem"], format].concat();
        let ended = sandbox.run_tool([&[operation[0], &tap.address][..], &options].concat());
        let err = ended.with_status(status);
        assert!(err.contains(of_client), "{fault:?}: {err}");
        tap.assert_secret(&sandbox);
        server.process.wait_for_err("failed: ");
        let log = server.stop();
        assert!(log.contains(of_server), "{fault:?}: {log}");
        assert!(!sandbox.path("got").exists() && !sandbox.path("stored").exists());
        assert!(sandbox.parts().is_empty());
    }
}

/// The direction to the server is a half-close: the server may still write, and nothing is stored.
#[test]
fn a_cut_or_a_changed_byte_of_a_put_is_an_error_that_says_so() {
    for row in [
        (Fault::End(20), 3, EOF, HANDSHAKE_FAILED),
        (Fault::Flip(20), 3, NOT_DECRYPTED, HANDSHAKE_FAILED),
        (Fault::End(AMID_THE_OBJECT), 4, "", NO_CLOSE_NOTIFY),
        (Fault::Flip(AMID_THE_OBJECT), 4, "", NOT_DECRYPTED),
    ] {
        check(&["put", "up", "file"], row, true);
    }
}

#[test]
fn a_cut_or_a_changed_byte_of_a_get_is_an_error_that_says_so() {
    for row in [
        (Fault::End(20), 3, EOF, HANDSHAKE_FAILED),
        (Fault::Flip(200), 3, NOT_DECRYPTED, HANDSHAKE_FAILED),
        (Fault::End(AMID_THE_OBJECT), 4, NO_CLOSE_NOTIFY, ""),
        (Fault::Flip(AMID_THE_OBJECT), 4, NOT_DECRYPTED, ""),
    ] {
        check(&["get", "down", "got"], row, false);
    }
}

/// Nothing can be renegotiated: TLS 1.3 has no such message, and older versions are refused.
#[test]
fn openssl_can_neither_renegotiate_nor_use_an_older_version() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped, it needs openssl");
        return;
    }
    let (sandbox, _authority) = with_certificates();
    let server = serve(&sandbox);
    for (version, reason) in
        [("-tls1_2", "alert protocol version"), ("-tls1_3", "can_renegotiate:wrong ssl version")]
    {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &server.address, version])
            .current_dir(sandbox.path(""));
        let mut client = sandbox.start(command);
        _ = client.stdin().write_all(b"R\n"); // the command to renegotiate
        client.wait_for_err(reason);
    }
    server.process.wait_for_err("SupportedVersionsExtensionRequired");
    server.stop();
}

/// A server that speaks TLS 1.2 at most is not spoken to.
#[test]
fn a_server_with_an_older_version_is_refused() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped, it needs openssl");
        return;
    }
    let (sandbox, _authority) = with_certificates();
    let mut command = Command::new("openssl");
    command
        .args("s_server -accept 127.0.0.1:0 -tls1_2 -cert server.pem -key server.key".split(' '));
    command.current_dir(sandbox.path(""));
    let older = sandbox.start(command);
    let accept = "ACCEPT 127.0.0.1:";
    eventually("openssl listens", || older.out().lines().any(|line| line.starts_with(accept)));
    let out = older.out();
    let port = out.lines().find_map(|line| line.strip_prefix(accept)).unwrap();
    let address = format!("localhost:{port}");
    let put = ["put", &address, "up", "file", "--tls-ca", "ca.pem"];
    let err = sandbox.run_tool(put).with_status(3);
    assert!(err.contains("received fatal alert: ProtocolVersion"), "{err}");
}

#[test]
fn an_expired_certificate_is_not_accepted() {
    let (sandbox, authority) = with_certificates();
    certify(&sandbox, &authority, "server", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let server = serve(&sandbox);
    let tap = Tap::start(&server, [None, None]);
    let put = ["put", &tap.address, "up", "file", "--tls-ca", "ca.pem"];
    let err = sandbox.run_tool(put).with_status(3);
    assert!(err.contains("certificate expired"), "{err}");
    tap.assert_secret(&sandbox);
    server.process.wait_for_err("received fatal alert: CertificateExpired");
    server.stop();
}
