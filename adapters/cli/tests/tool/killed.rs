//! Processes that are killed, or shut down, during a transfer.

use std::fs;
use std::io::Write;
#[cfg(feature = "digest")]
use std::io::{self, Read};
#[cfg(feature = "digest")]
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(feature = "digest")]
use std::thread;

use rustix::process::Signal;

use crate::sandbox::{Sandbox, assert_same, begin_get, begin_put};

#[test]
fn a_killed_client_of_a_put_leaves_no_file() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=object", "--until-delivered"]);
    let (client, _input) = begin_put(&sandbox, &server);
    client.signal(Signal::KILL);
    client.ended().by_signal(Signal::KILL);
    sandbox.wait_until_no_part_is_left();
    server.process.wait_for_err("failed: ");
    assert!(!sandbox.path("object").exists());

    // The entry is free again, until one put has succeeded.
    let file = sandbox.file("file", 100);
    sandbox.run_tool(["put", &server.address, "up", "file"]).with_status(0);
    sandbox.run_tool(["put", &server.address, "up", "file"]).with_status(4);
    assert_same(&file, &sandbox.path("object"));
}

#[test]
fn a_killed_client_of_a_get_leaves_no_file_of_that_name() {
    let sandbox = Sandbox::new();
    sandbox.huge_file("huge-file");
    let server = sandbox.serve(&["--get", "huge=huge-file"]);
    let client = begin_get(&sandbox, &server);
    client.signal(Signal::KILL);
    client.ended().by_signal(Signal::KILL);
    assert!(!sandbox.path("object").exists());
    server.process.wait_for_err("failed: ");
}

#[test]
fn a_killed_server_of_a_get_leaves_no_file() {
    let sandbox = Sandbox::new();
    sandbox.huge_file("huge-file");
    let server = sandbox.serve(&["--get", "huge=huge-file"]);
    let client = begin_get(&sandbox, &server);
    server.process.signal(Signal::KILL);
    client.ended().with_status(4);
    assert!(!sandbox.path("object").exists() && sandbox.parts().is_empty());
}

#[test]
fn a_killed_server_of_a_put_stores_nothing() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=object"]);
    let (client, input) = begin_put(&sandbox, &server);
    server.process.signal(Signal::KILL);
    server.process.ended().by_signal(Signal::KILL);
    drop(input);
    client.ended().with_status(4);
    assert!(!sandbox.path("object").exists());
}

#[test]
fn a_server_lets_a_put_end_after_one_signal() {
    let sandbox = Sandbox::new();
    sandbox.file("empty", 0);
    let server = sandbox.serve(&["--put", "up=object"]);
    let (client, mut input) = begin_put(&sandbox, &server);
    server.process.signal(Signal::TERM);
    server.process.wait_for_err("no further connections");
    sandbox.run_tool(["put", &server.address, "up", "empty"]).with_status(3);
    assert!(!sandbox.path("object").exists());
    input.write_all(b"the rest\n").unwrap();
    drop(input);
    client.ended().with_status(0);
    server.process.ended().with_status(0);
    assert_eq!(fs::read(sandbox.path("object")).unwrap(), b"the beginning\nthe rest\n");
}

#[test]
fn a_server_resets_a_put_after_two_signals() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=object"]);
    let (client, input) = begin_put(&sandbox, &server);
    server.process.signal(Signal::TERM);
    server.process.wait_for_err("no further connections");
    server.process.signal(Signal::TERM);
    server.process.ended().with_status(4);
    drop(input);
    client.ended().with_status(4);
    assert!(!sandbox.path("object").exists() && sandbox.parts().is_empty());
}

#[cfg(feature = "digest")]
#[test]
fn a_killed_put_is_resumed() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 3 << 20);
    let bytes = fs::read(&file).unwrap();
    let size = bytes.len().to_string();
    let server = sandbox.serve(&["--put", "up=object"]);
    let put = ["put", &server.address, "up", "-", "--resume", "--size", &size];
    let mut client = sandbox.start(sandbox.tool(put));
    let mut input = client.stdin();
    input.write_all(&bytes[..2 << 20]).unwrap();
    sandbox.wait_for_part();
    client.signal(Signal::KILL);
    client.ended().by_signal(Signal::KILL);
    server.process.wait_for_err("failed: ");
    let parts = sandbox.parts();
    assert_eq!(parts.len(), 1);
    assert!(fs::metadata(&parts[0]).unwrap().len() > 0 && !sandbox.path("object").exists());

    sandbox.run_tool(["put", &server.address, "up", "file", "--resume"]).with_status(0);
    assert_same(&file, &sandbox.path("object"));
    assert!(sandbox.parts().is_empty());
}

#[cfg(feature = "digest")]
#[test]
fn a_part_of_another_object_is_found_out_and_a_retry_begins_anew() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 3 << 20);
    let size = (3 << 20).to_string();
    let server = sandbox.serve(&["--put", "up=object"]);
    let put = ["put", &server.address, "up", "-", "--resume", "--size", &size];
    let mut client = sandbox.start(sandbox.tool(put));
    let mut input = client.stdin();
    input.write_all(&vec![0xff; 1 << 20]).unwrap();
    sandbox.wait_for_part();
    client.signal(Signal::KILL);
    client.ended().by_signal(Signal::KILL);
    server.process.wait_for_err("failed: ");

    let put = ["put", &server.address, "up", "file", "--resume"];
    let err = sandbox.run_tool(put).with_status(5);
    assert!(err.contains("are not those of the object"), "{err}");
    assert!(!sandbox.path("object").exists());
    sandbox.run_tool(put).with_status(0);
    assert_same(&file, &sandbox.path("object"));
}

#[cfg(feature = "digest")]
#[test]
fn transfers_with_a_digest_arrive() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 3 << 20);
    let server = sandbox.serve(&["--put", "up=object", "--get", "down=file"]);
    for option in ["--check", "--resume"] {
        sandbox.run_tool(["put", &server.address, "up", "file", option]).with_status(0);
        assert_same(&file, &sandbox.path("object"));
        sandbox.run_tool(["get", &server.address, "down", "got", option]).with_status(0);
        assert_same(&file, &sandbox.path("got"));
        let got = sandbox.run_tool(["get", &server.address, "down", "-", option]);
        assert!(got.out == fs::read(&file).unwrap(), "{}", got.err);
    }
    assert!(sandbox.parts().is_empty());
}

/// The address of a relay that takes two connections. It cuts the first one when the server has sent these many
/// bytes.
#[cfg(feature = "digest")]
pub(crate) fn relay(server: &str, cut: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, server) = (listener.local_addr().unwrap().to_string(), server.to_owned());
    thread::spawn(move || {
        for cut in [cut, u64::MAX] {
            let client = listener.accept().unwrap().0;
            let server = TcpStream::connect(&server).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    io::copy(&mut &client, &mut &server).ok();
                    server.shutdown(Shutdown::Write).ok();
                });
                io::copy(&mut (&server).take(cut), &mut &client).ok();
                client.shutdown(Shutdown::Both).ok();
            });
        }
    });
    address
}

#[cfg(feature = "digest")]
#[test]
fn a_put_whose_receipt_was_lost_succeeds_when_it_is_tried_again() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 3 << 20);
    let server = sandbox.serve(&["--put", "up=object", "--until-delivered"]);
    let address = relay(&server.address, 12 + 6); // within the receipt
    let put = ["put", &address, "up", "file", "--resume", "--retry", "1"];
    let err = sandbox.run_tool(put).with_status(0);
    assert!(
        err.contains("trying again in 1s") && err.contains("3145728 bytes, confirmed"),
        "{err}"
    );
    assert_same(&file, &sandbox.path("object"));
    // Without resume there is nothing to compare, and the entry has ended.
    sandbox.run_tool(["put", &server.address, "up", "file"]).with_status(4);
}
