//! The progress bar, and retries.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::sandbox::{Sandbox, assert_same};

/// What a get prints on a terminal, and whether it succeeds.
fn on_a_terminal(sandbox: &Sandbox, arguments: &[&str]) -> (String, bool) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut command = sandbox.tool(arguments);
    let mut child = command.env("TERM", "xterm").stderr(Stdio::from(terminal)).spawn().unwrap();
    drop(command); // which holds the terminal
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut controller = File::from(controller);
    loop {
        match controller.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => shown.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break, // nobody holds the terminal any more
        }
    }
    (String::from_utf8_lossy(&shown).into_owned(), child.wait().unwrap().success())
}

#[test]
fn a_terminal_shows_a_bar_and_then_the_outcome() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 300_000);
    let server = sandbox.serve(&["--get", "down=file"]);
    let get = ["get", &server.address, "down", "got", "--limit-rate", "500K"];
    let (shown, success) = on_a_terminal(&sandbox, &[&get[..], &["--size", "300000"]].concat());
    assert!(success, "{shown}");
    assert!(shown.contains("% [") && shown.contains("of 292.97 KiB"), "{shown}");
    assert!(shown.contains("300000 bytes, confirmed"), "{shown}");
    let (shown, _) = on_a_terminal(&sandbox, &get); // of unknown size
    assert!(shown.contains("KiB/s") && !shown.contains('%'), "{shown}");
    assert_same(&file, &sandbox.path("got"));
    for option in ["--quiet", "--progress=never"] {
        let (shown, success) = on_a_terminal(&sandbox, &[&get[..], &[option]].concat());
        assert!(success && !shown.contains("KiB"), "{shown}");
    }
}

#[cfg(feature = "digest")]
#[test]
fn the_bar_of_a_resumed_get_begins_with_what_is_there() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 3 << 20);
    let server = sandbox.serve(&["--get", "down=file"]);
    let address = crate::killed::relay(&server.address, 2 << 20);
    let get = ["get", &address, "down", "got", "--resume", "--size", "3145728"];
    sandbox.run_tool(get).with_status(5);
    assert_eq!(sandbox.parts().len(), 1);
    let (shown, success) = on_a_terminal(&sandbox, &get);
    assert!(success, "{shown}");
    let first = shown.find('%').map(|end| shown[..end].to_owned());
    assert!(first.is_some_and(|first| first.ends_with(" 67")), "{shown}");
    assert!(!shown.contains("GiB/s"), "what was there has not just arrived: {shown}");
    assert_same(&file, &sandbox.path("got"));
}

#[test]
fn a_pipe_shows_the_progress_only_if_asked() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 300_000);
    let server = sandbox.serve(&["--get", "down=file", "--put", "up=stored"]);
    let get = ["get", &server.address, "down", "got", "--limit-rate", "500K"];
    let err = sandbox.run_tool(get).with_status(0);
    assert_eq!(err.lines().count(), 1, "{err}");

    let put = ["put", &server.address, "up", "-", "--progress", "always"];
    let mut client = sandbox.start(sandbox.tool(put));
    let mut input = client.stdin();
    input.write_all(&[0; 1024]).unwrap();
    client.wait_for_err("dataserver: 1.00 KiB, ");
    drop(input);
    client.ended().with_status(0);
}

#[test]
fn a_retry_helps_when_the_server_comes_back() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", 1000);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let client = sandbox.start(sandbox.tool(["get", &free, "down", "got", "--retry", "20"]));
    client.wait_for_err("trying again in 1s");
    let server =
        sandbox.serve_with(sandbox.tool(["serve", "--listen", &free]), &["--get", "down=file"]);
    client.ended().with_status(0);
    assert_same(&file, &sandbox.path("got"));
    server.stop();
}

#[test]
fn a_retry_is_not_made_where_it_cannot_help() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 1000);
    let server = sandbox.serve(&["--get", "down=file", "--put", "up=stored", "--max-size", "1"]);
    let address = &server.address[..];
    for (arguments, status) in [
        (["get", address, "unknown", "got"], 4),
        (["put", address, "up", "file"], 5),
        (["put", address, "up", "missing"], 7),
        (["get", address, "down", "/dev/full"], 7),
    ] {
        let err =
            sandbox.run_tool([&arguments[..], &["--retry", "3"]].concat()).with_status(status);
        assert!(!err.contains("trying again"), "{err}");
    }
}

#[test]
fn a_pipe_that_has_been_read_is_not_sent_again() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=stored"]);
    let mut client =
        sandbox.start(sandbox.tool(["put", &server.address, "up", "-", "--retry", "3"]));
    let mut input = client.stdin();
    input.write_all(b"the beginning").unwrap();
    sandbox.wait_for_part();
    server.process.signal(rustix::process::Signal::KILL);
    server.process.ended();
    drop(input);
    let err = client.ended().with_status(4);
    assert!(!err.contains("trying again"), "{err}");
}
