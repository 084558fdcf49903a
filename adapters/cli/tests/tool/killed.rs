//! Processes that are killed, or shut down, during a transfer.

use std::fs;
use std::io::Write;

use rustix::process::Signal;

use crate::sandbox::{Sandbox, begin_get, begin_put};

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
    crate::sandbox::assert_same(&file, &sandbox.path("object"));
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
