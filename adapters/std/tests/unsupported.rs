//! A server without the feature `digest` refuses what needs it, and says so.

#![cfg(not(feature = "digest"))]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use dataserver_core::{AbortReason, Frame, StartPacket};
use dataserver_std::{Config, Handlers, Key, Socket};

#[test]
fn a_start_packet_with_a_digest_is_refused_with_the_reason() {
    let key = Key::from_name("object");
    for packet in [StartPacket::put(key).with_digest(), StartPacket::put(key).resumable()] {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(packet.as_bytes()).unwrap();
        let reading = std::thread::spawn(move || {
            let mut header = [0; Frame::LEN];
            client.read_exact(&mut header).unwrap();
            header
        });
        let handlers = Handlers::new();
        handlers.on_put(key, |object| object.receive_to("/nowhere/object")).unwrap();
        let error =
            handlers.serve(Socket::from_unix(server).unwrap(), &Config::default()).unwrap_err();
        assert!(error.is_refused(), "{error}");
        let abort = Frame::Abort(AbortReason::Malformed).to_bytes();
        assert_eq!(reading.join().unwrap(), abort);
    }
}
