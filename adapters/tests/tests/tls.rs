//! Peers that do not speak TLS, or stop in the middle of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use dataserver_common::Error;
use dataserver_core::{Cause, PeerError, Timeouts};
use dataserver_tests::adapters::tls;
use dataserver_tests::{
    DynAdapter, Gate, Op, Server, Setup, Smol, Std, Wait, cause, eventually, kernel, long_timeouts,
    object, put, spawn,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

/// The text of the outcome of a connection whose handshake has failed.
#[track_caller]
fn handshake_error(server: &Server) -> String {
    let error = server.outcomes.wait().unwrap_err();
    let error = Error::of(&error).expect("an error of the adapter");
    assert!(matches!(error, Error::Handshake { .. }), "{error}");
    error.to_string()
}

fn a_peer_without_tls_is_an_error_that_says_so(adapter: DynAdapter) {
    let packet = put(None);
    let server = Server::start(adapter, Setup::new().on(packet, [Op::ReadToEnd]));
    for bytes in [packet.as_bytes().as_slice(), b"GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = TcpStream::connect(server.address).unwrap();
        peer.write_all(bytes).unwrap();
        let error = handshake_error(&server);
        assert!(error.contains("received corrupt message"), "{error}");
    }
    drop(TcpStream::connect(server.address).unwrap());
    handshake_error(&server);
    let script = [Op::Send(object(7))];
    adapter.client(server.address, packet, long_timeouts(), &script).unwrap();
    server.outcomes.wait().unwrap();
}

fn a_silent_client_is_cut_off_at_the_start_timeout(adapter: DynAdapter) {
    let timeouts = Timeouts::default().start(Duration::from_millis(50));
    let config = long_timeouts().timeouts(timeouts);
    let setup = Setup::new().config(config).on(put(None), [Op::ReadToEnd]);
    let server = Server::start(adapter, setup);
    let silent = TcpStream::connect(server.address).unwrap();
    let error = handshake_error(&server);
    assert!(error.contains("the TLS handshake took longer than 50ms"), "{error}");
    drop(silent);
}

fn a_server_without_tls_sees_neither_key_nor_object(adapter: DynAdapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 4096];
        let n = stream.read(&mut first).unwrap();
        stream.write_all(b"what is that?").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut seen = first[..n].to_vec();
        _ = stream.read_to_end(&mut seen); // it may be reset
        seen
    });
    let (packet, object) = (put(None), object(1000));
    let script = [Op::Send(object.clone())];
    let error = adapter.client(address, packet, long_timeouts(), &script).unwrap_err();
    assert!(error.to_string().contains("received corrupt message"), "{error}");
    let seen = server.wait();
    for secret in [&packet.as_bytes()[9..], &object[..16]] {
        assert!(!seen.windows(secret.len()).any(|window| window == secret));
    }
}

fn a_certificate_that_is_not_trusted_fails_before_the_start_packet(adapter: DynAdapter) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        rustls::Stream::new(&mut tls, &mut socket).read(&mut [0]).unwrap_err()
    });
    let script = [Op::Send(object(7))];
    let error = adapter.client(address, put(None), long_timeouts(), &script).unwrap_err();
    let error = Error::of(&error).expect("an error of the adapter");
    assert!(
        error.is_connect() && error.to_string().contains("invalid peer certificate"),
        "{error}"
    );
    let seen = server.wait().to_string();
    assert!(seen.contains("received fatal alert"), "{seen}");
}

/// A server that reads one record of the client, and ends its direction with a `close_notify`.
fn end_early(listener: &TcpListener, ended: &Gate) -> io::Result<()> {
    let (mut socket, peer) = listener.accept()?;
    let local = socket.local_addr()?;
    let mut tls = ServerConnection::new(tls::server()).map_err(io::Error::other)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.read_exact(&mut [0; 26])?; // the start packet, and a byte of the object
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    eventually("the `close_notify` has arrived", || {
        kernel::queues(local, peer).is_none_or(|ours| ours.unacknowledged == 0)
    });
    ended.open();
    _ = stream.read_to_end(&mut Vec::new()); // the client resets the connection
    Ok(())
}

fn a_receiver_that_ends_early_gives_no_receipt(adapter: DynAdapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Gate::new();
    let script = [Op::Write(object(1)), Op::Wait(gate.clone()), Op::Finish];
    let server = spawn(move || end_early(&listener, &gate));
    let ended = adapter.client(address, put(None), long_timeouts(), &script);
    assert_eq!(cause(&ended), Cause::Peer(PeerError::ClosedEarly { moved: 1 }));
    server.wait().unwrap();
}

fn a_stream_that_ends_without_close_notify_is_truncated(adapter: DynAdapter) {
    let packet = put(None);
    let server = Server::start(adapter, Setup::new().on(packet, [Op::ReadToEnd]));
    let mut socket = TcpStream::connect(server.address).unwrap();
    let mut tls = ClientConnection::new(tls::client(), tls::name()).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(packet.as_bytes()).unwrap();
    stream.write_all(b"a part of an object").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let error = server.outcomes.wait().unwrap_err();
    let error = Error::of(&error).expect("an error of the adapter");
    assert!(error.is_reset() || error.is_truncated(), "{error}");
}

macro_rules! over_tls {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            fn std() {
                super::$scenario(&super::Std::TLS);
            }
            #[test]
            fn smol() {
                super::$scenario(&super::Smol::TLS);
            }
        }
    )*};
}

over_tls!(
    a_certificate_that_is_not_trusted_fails_before_the_start_packet,
    a_peer_without_tls_is_an_error_that_says_so,
    a_receiver_that_ends_early_gives_no_receipt,
    a_server_without_tls_sees_neither_key_nor_object,
    a_silent_client_is_cut_off_at_the_start_timeout,
    a_stream_that_ends_without_close_notify_is_truncated,
);
