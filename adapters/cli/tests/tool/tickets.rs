//! `share` and `collect`.

use std::fs;
use std::io::Write;

use serde_json::Value;

use crate::sandbox::{Process, Sandbox, assert_same, eventually};

const LEN: usize = 3 << 20;

fn ticket(process: &Process) -> String {
    eventually("the ticket", || process.out().ends_with('\n'));
    process.out().trim().to_owned()
}

#[test]
fn a_shared_file_is_fetched_with_the_ticket_alone() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let sharing = sandbox.start(sandbox.tool(["share", "file"]));
    sandbox.run_tool(["get", &ticket(&sharing), "got"]).with_status(0);
    assert_same(&file, &sandbox.path("got"));
    let err = sharing.ended().with_status(0);
    assert!(err.contains("confirmed"), "{err}");
}

#[test]
fn a_collected_object_is_sent_with_the_ticket_alone() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    for target in ["stored", "-"] {
        let collecting = sandbox.start(sandbox.tool(["collect", target]));
        // The object goes to standard output, so the ticket goes to standard error.
        let printed = || if target == "-" { collecting.err() } else { collecting.out() };
        eventually("the ticket", || printed().ends_with('\n'));
        sandbox.run_tool(["put", printed().trim(), "file"]).with_status(0);
        let ended = collecting.ended();
        if target == "-" {
            assert!(ended.out == fs::read(&file).unwrap());
        } else {
            assert_same(&file, &sandbox.path(target));
        }
        ended.with_status(0);
    }
}

#[test]
fn a_stream_can_be_shared() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let mut sharing = sandbox.start(sandbox.tool(["share", "-"]));
    let ticket = ticket(&sharing);
    let getting = sandbox.start(sandbox.tool(["get", &ticket, "got"]));
    sharing.stdin().write_all(&fs::read(&file).unwrap()).unwrap();
    getting.ended().with_status(0);
    assert_same(&file, &sandbox.path("got"));
    sharing.ended().with_status(0);
}

#[test]
fn a_failed_attempt_is_reported_and_another_one_may_follow() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let sharing = sandbox.start(sandbox.tool(["share", "file"]));
    let ticket = ticket(&sharing);
    sandbox.run_tool(["get", &ticket, "/dev/full"]).with_status(7);
    sharing.wait_for_err("waiting for another try");
    let (server, key) = ticket.rsplit_once('/').unwrap();
    let wrong = format!("{server}/00000000{}", &key[8..]);
    sandbox.run_tool(["get", &wrong, "got"]).with_status(4);
    sandbox.run_tool(["get", &ticket, "got"]).with_status(0);
    assert_same(&file, &sandbox.path("got"));
    sharing.ended().with_status(0);
}

#[test]
fn a_ticket_expires() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let err = sandbox.run_tool(["share", "file", "--expires", "1ms"]).with_status(6);
    assert!(err.contains("the ticket expired"), "{err}");
}

#[test]
fn a_file_that_cannot_be_shared_or_stored_fails_before_the_ticket() {
    let sandbox = Sandbox::new();
    for arguments in [["share", "missing"], ["collect", "missing/object"]] {
        let ended = sandbox.run_tool(arguments);
        assert!(ended.out.is_empty());
        ended.with_status(7);
    }
}

#[test]
fn the_host_of_the_ticket_can_be_chosen() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    for (options, host) in [
        (["--listen", "127.0.0.1:0"], "127.0.0.1"),
        (["--host", "example.org"], "example.org"),
        (["--host", "2001:db8::1"], "[2001:db8::1]"),
    ] {
        let sharing = sandbox.start(sandbox.tool([&["share", "file"][..], &options].concat()));
        let ticket = ticket(&sharing);
        assert!(ticket.starts_with(&format!("dataserver://{host}:")), "{ticket}");
    }
}

#[test]
fn the_outcome_is_one_json_object_on_the_last_line() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let sharing = sandbox.start(sandbox.tool(["share", "file", "--json"]));
    eventually("the ticket", || sharing.out().contains('\n'));
    let ticket = sharing.out().trim().to_owned();
    // The object goes to standard output, so the outcome goes to standard error.
    let got = sandbox.run_tool(["get", &ticket, "-", "--json"]);
    let shared = sharing.ended();
    let shared = String::from_utf8(shared.out).unwrap();
    for text in [&got.err, &shared] {
        let outcome: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(outcome["outcome"], "delivered");
        assert_eq!(outcome["status"], 0);
        assert_eq!(outcome["bytes"], LEN);
        assert_eq!(outcome["cause"], Value::Null);
        assert!(outcome["seconds"].is_f64() && outcome["peer"].is_string());
    }
    let mut full = sandbox.shell("exec \"$tool\" get \"$ticket\" got --json >/dev/full");
    full.env("ticket", &ticket);
    sandbox.run(full).with_status(7);
    let failed = sandbox.run_tool(["get", &ticket, "got", "--json"]);
    let outcome: Value = serde_json::from_slice(&failed.out).unwrap();
    assert_eq!((&outcome["outcome"], &outcome["status"]), (&"failed".into(), &3.into()));
    assert!(outcome["cause"].as_str().unwrap().starts_with("cannot connect to"));
}
