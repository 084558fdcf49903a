//! Tickets in Redis. Needs `redis-server`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::sandbox::{Process, Sandbox, assert_same, eventually};

const LEN: usize = 300_000;

/// A Redis of this test, and its URL.
fn redis(sandbox: &Sandbox) -> (Process, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"]);
    command.current_dir(sandbox.path(""));
    let process = sandbox.start(command);
    eventually("Redis answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, format!("redis://127.0.0.1:{port}"))
}

#[test]
fn a_ticket_is_served_by_one_of_two_servers_once() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    fs::create_dir(sandbox.path("root")).unwrap();
    fs::copy(&file, sandbox.path("root/file")).unwrap();
    let (_redis, url) = redis(&sandbox);
    let servers = [(); 2].map(|()| sandbox.serve(&["--tickets", &url, "--root", "root"]));
    let issue = |direction: &str, path: &str, server: usize| {
        let address = &servers[server].address;
        let issued = sandbox.run_tool([
            "ticket",
            "issue",
            "--tickets",
            &url,
            direction,
            path,
            "--server",
            address,
            "--expires",
            "1h",
        ]);
        assert!(issued.status.success(), "{}", issued.err);
        String::from_utf8(issued.out).unwrap().trim().to_owned()
    };

    let ticket = issue("get", "file", 0);
    let key = ticket.rsplit_once('/').unwrap().1;
    let show = ["ticket", "show", "--tickets", &url, "get", key];
    let shown = sandbox.run_tool(show);
    let text = String::from_utf8(shown.out).unwrap();
    assert!(text.starts_with("path: file\nfor: once\nexpires in: "), "{text}{}", shown.err);
    let at_the_other = format!("dataserver://{}/{key}", servers[1].address);
    sandbox.run_tool(["get", &at_the_other, "got"]).with_status(0);
    assert_same(&file, &sandbox.path("got"));
    sandbox.run_tool(["get", &ticket, "got"]).with_status(4);
    sandbox.run_tool(show).with_status(4);

    sandbox.run_tool(["put", &issue("put", "stored", 1), "file"]).with_status(0);
    assert_same(&file, &sandbox.path("root/stored"));

    let revoked = issue("put", "revoked", 0);
    let key = revoked.rsplit_once('/').unwrap().1;
    let revoke = ["ticket", "revoke", "--tickets", &url, "put", key];
    sandbox.run_tool(revoke).with_status(0);
    sandbox.run_tool(revoke).with_status(4);
    sandbox.run_tool(["put", &revoked, "file"]).with_status(4);
    assert!(!sandbox.path("root/revoked").exists());
}

#[test]
fn a_ticket_cannot_leave_the_root() {
    let sandbox = Sandbox::new();
    sandbox.file("secret", LEN);
    fs::create_dir(sandbox.path("root")).unwrap();
    symlink("../secret", sandbox.path("root/link")).unwrap();
    symlink("..", sandbox.path("root/up")).unwrap();
    let (_redis, url) = redis(&sandbox);
    let server = sandbox.serve(&["--tickets", &url, "--root", "root"]);
    let absolute = sandbox.path("secret");
    for path in ["../secret", "link", "up/secret", "up/new", absolute.to_str().unwrap()] {
        for direction in ["get", "put"] {
            let issue = [
                "ticket",
                "issue",
                "--tickets",
                &url,
                direction,
                path,
                "--server",
                &server.address,
            ];
            let issued = sandbox.run_tool(issue);
            let ticket = String::from_utf8(issued.out).unwrap();
            let file = if direction == "get" { "got" } else { "secret" };
            sandbox.run_tool([direction, ticket.trim(), file]).with_status(4);
        }
    }
    let log = server.stop();
    assert_eq!(log.matches("leaves the root").count(), 10, "{log}");
    assert!(!sandbox.path("new").exists() && !sandbox.path("got").exists());
}

#[test]
fn while_redis_is_away_the_names_of_the_server_work() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server =
        sandbox.serve(&["--tickets", "redis://127.0.0.1:1", "--root", ".", "--get", "down=file"]);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    let err = sandbox.run_tool(["get", &server.address, "unknown", "got"]).with_status(4);
    assert!(err.contains("another connection is using") || err.contains("busy"), "{err}");
    let issue = ["ticket", "issue", "--tickets", "redis://127.0.0.1:1", "get", "file"];
    sandbox.run_tool(issue).with_status(3);
    sandbox
        .run_tool(["ticket", "show", "--tickets", "nonsense", "get", &"0".repeat(32)])
        .with_status(2);
}
