//! `serve`, with clients that violate the protocol.

use std::fs;

use dataserver_examples::peers::{self, Offered};
use dataserver_std::{Client, Key, StartPacket};

use crate::sandbox::{Sandbox, assert_same, eventually};

const SIZE: usize = 300_000;

#[test]
fn a_broken_client_is_never_a_success() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("sent"), peers::object(SIZE)).unwrap();
    let options = ["--put", "up=stored", "--get", "down=sent", "--max-size", "1000000"];
    let timeouts = ["--timeout", "300ms", "--receipt-timeout", "300ms"];
    let server = sandbox.serve(&[&options[..], &timeouts].concat());
    let address = server.address.parse().unwrap();
    let [put, get] =
        [StartPacket::put(Key::from_name("up")), StartPacket::get(Key::from_name("down"))];
    let offered = Offered { put, get, size: SIZE as u64, limit: 1_000_000 };
    let mut reported = 0;
    let mut outcome = || {
        eventually("a line of the log", || server.process.err().lines().count() > reported);
        let line = server.process.err().lines().nth(reported).unwrap().to_owned();
        reported += 1;
        if line.ends_with(", delivered") { Ok(SIZE as u64) } else { Err(line) }
    };
    for broken in offered.broken_clients().unwrap() {
        // The object for the next get. This also shows that the server still works.
        let client = Client::new(address).unwrap();
        client.put(peers::request(put)).unwrap().send(&peers::object(SIZE)).unwrap();
        assert_eq!(outcome(), Ok(SIZE as u64));
        let line = broken.visit(address, || Ok(outcome())).unwrap();
        assert!(line.contains("failed: ") || line.contains("refused: "), "{}: {line}", broken.what);
    }
    assert_same(&sandbox.path("sent"), &sandbox.path("stored")); // no failed put replaced it
    assert!(sandbox.parts().is_empty());
}
