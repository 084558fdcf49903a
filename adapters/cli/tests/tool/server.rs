//! The log of `serve`, and its limits.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::sandbox::{Sandbox, eventually};

const LEN: usize = 100_000;

#[test]
fn the_log_has_a_line_for_each_connection() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file"]);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    sandbox.run_tool(["get", &server.address, "unknown", "got"]).with_status(4);
    let log = server.stop();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].contains(": get, key 74e8333a, 100000 bytes, "), "{log}");
    assert!(lines[0].ends_with(" s, delivered"), "{log}");
    assert!(lines[1].ends_with("refused: nothing is registered for this start packet"), "{log}");
}

#[test]
fn a_log_in_json_has_an_object_for_each_connection() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file", "--log", "json"]);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    sandbox.run_tool(["get", &server.address, "unknown", "got"]).with_status(4);
    let log = server.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [delivered, refused, _] = &lines[..] else { panic!("{log}") };
    assert_eq!(delivered["event"], "done");
    assert_eq!(delivered["direction"], "get");
    assert_eq!(delivered["key"], "74e8333a");
    assert_eq!(delivered["size"], Value::Null);
    assert_eq!(delivered["bytes"], LEN);
    assert_eq!(delivered["outcome"], "delivered");
    assert_eq!(delivered["cause"], Value::Null);
    assert!(delivered["seconds"].is_f64() && delivered["time"].as_str().unwrap().ends_with('Z'));
    assert!(delivered["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(refused["cause"], "refused: nothing is registered for this start packet");
}

#[test]
fn quiet_logs_failures_only_and_verbose_logs_beginnings() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    for (option, count) in [("--quiet", 0), ("--verbose", 4)] {
        let server = sandbox.serve(&["--get", "down=file", option]);
        sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
        let log = server.stop();
        assert_eq!(log.lines().count(), count, "{log}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_server_nor_its_end() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 5);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let out = fs::File::create(sandbox.path("out")).unwrap();
    let mut command = sandbox.tool(["serve", "--listen", "127.0.0.1:0", "--get", "down=file"]);
    command.args(["--max-connections", "4", "--verbose"]);
    let mut server =
        command.stdout(out).stderr(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(command);
    let address = || fs::read_to_string(sandbox.path("out")).unwrap();
    eventually("the server listens", || address().ends_with('\n'));
    let address = address().trim()["listening on ".len()..].to_owned();
    let client = dataserver_std::Client::new(address).unwrap();
    // More lines than the socket and the queue take.
    for _ in 0..2000 {
        client
            .get(dataserver_std::Key::from_name("down"))
            .unwrap()
            .receive_to(sandbox.path("got"))
            .unwrap();
    }
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    eventually("the server ends", || server.try_wait().unwrap().is_some());
    assert!(server.wait().unwrap().success());
    let mut log = String::new();
    ours.read_to_string(&mut log).unwrap();
    assert!(log.lines().count() < 3 * 2000);
}

#[test]
fn tickets_are_random_keys_that_expire() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server =
        sandbox.serve(&["--get", "down=file", "--put", "up=stored", "--ticket", "--expires", "1h"]);
    eventually("the tickets", || server.process.out().lines().count() == 3);
    let out = server.process.out();
    let ticket = |name: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(line.starts_with(&format!("dataserver://{}/", server.address)), "{line}");
        line.to_owned()
    };
    sandbox.run_tool(["get", &ticket("get down "), "got"]).with_status(0);
    sandbox.run_tool(["put", &ticket("put up "), "file"]).with_status(0);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(4);
    server.stop();

    let server = sandbox.serve(&["--get", "down=file", "--expires", "1ms"]);
    eventually("the entry expires", || {
        sandbox.run_tool(["get", &server.address, "down", "got"]).status.code() == Some(4)
    });
}

#[test]
fn a_server_listens_at_several_addresses_until_one_signal() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server =
        sandbox.serve(&["--listen", "127.0.0.2:0", "--get", "down=file", "--get", "again=file"]);
    eventually("two addresses", || server.process.out().lines().count() == 2);
    for line in server.process.out().lines() {
        let address = line.strip_prefix("listening on ").unwrap();
        for name in ["down", "again"] {
            sandbox.run_tool(["get", address, name, "got"]).with_status(0);
        }
    }
    server.stop();
}
