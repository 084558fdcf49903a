//! Exit statuses, and the messages that belong to them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;

use rustix::process::Signal;

use crate::sandbox::{Sandbox, eventually};

const LEN: usize = 1 << 20;

#[test]
fn an_invalid_command_line_is_2() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 5);
    let listen = ["serve", "--listen", "127.0.0.1:0"];
    for (arguments, text) in [
        (&[][..], "Usage"),
        (&["put", "127.0.0.1:1", "up"], "is not a ticket"),
        (&["put", "127.0.0.1:1", "up", "file", "more"], "unexpected"),
        (&["put", "127.0.0.1:1", "up", "file", "--size", "many"], "expected a number of bytes"),
        (&["put", "nowhere", "up", "file"], "expected an address as host:port"),
        (&["get", "127.0.0.1:1", "down", ""], "the name of the file is empty"),
        (&["get", "127.0.0.1:1", "down", "got", "--timeout", "soon"], "expected a duration"),
        (&["get", "dataserver://127.0.0.1:1/key", "got"], "the key of the ticket"),
        (&listen, "nothing to serve"),
        (&["serve", "--get", "x=file"], "--listen"),
        (&[&listen[..], &["--get", "x"]].concat(), "expected NAME=PATH"),
        (&[&listen[..], &["--put", "x="]].concat(), "the name of the file is empty"),
        (&[&listen[..], &["--get", "x=file", "--get", "x=other"]].concat(), "already"),
        (&[&listen[..], &["--get", "x=file", "--once", "--until-delivered"]].concat(), "--once"),
    ] {
        let err = sandbox.run_tool(arguments).with_status(2);
        assert!(err.contains(text), "{arguments:?}: {err}");
    }
    for arguments in [["--help"], ["--version"]] {
        sandbox.run_tool(arguments).with_status(0);
    }
}

#[test]
fn a_refusal_is_4_and_says_why() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file"]);
    let address = &server.address[..];
    for arguments in [
        ["get", address, "unknown", "got"],
        ["put", address, "unknown", "file"],
        ["get", address, "up", "got"],
    ] {
        let err = sandbox.run_tool(arguments).with_status(4);
        assert!(
            err.contains("it refused the start packet (the name or the ticket is wrong"),
            "{err}"
        );
        let bare = sandbox.run_tool([&arguments[..], &["--bare"]].concat()).with_status(4);
        assert!(bare.contains("reset the connection"), "{bare}");
    }
    let larger = (LEN + 1).to_string();
    let err = sandbox.run_tool(["get", address, "down", "got", "--size", &larger]).with_status(4);
    assert!(err.contains("its application failed"), "{err}");
    assert!(!sandbox.path("got").exists() && sandbox.parts().is_empty());
    server.stop();
}

#[test]
fn a_wrong_size_is_5() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--put", "up=stored"]);
    for size in [LEN - 1, LEN + 1] {
        let size = size.to_string();
        sandbox.run_tool(["put", &server.address, "up", "file", "--size", &size]).with_status(5);
    }
    let log = server.stop();
    assert_eq!(log.matches(", failed: ").count(), 2, "{log}");
    assert!(!sandbox.path("stored").exists() && sandbox.parts().is_empty());
}

#[test]
fn an_object_above_the_limit_is_5() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let limit = (LEN - 1).to_string();
    let server = sandbox.serve(&["--put", "up=stored", "--max-size", &limit]);
    for size in [&[][..], &["--size", "unknown"]] {
        let put = ["put", &server.address, "up", "file"];
        let err = sandbox.run_tool([&put, size].concat()).with_status(5);
        assert!(err.contains(&format!("larger than the limit of {limit} bytes")), "{err}");
    }
    sandbox.run_tool(["put", &server.address, "up", "file", "--bare"]).with_status(4);
    server.stop();
    assert!(!sandbox.path("stored").exists() && sandbox.parts().is_empty());
}

#[test]
fn a_local_file_is_7_and_comes_before_the_connection() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    fs::create_dir(sandbox.path("directory")).unwrap();
    // A listener that accepts no connection, so that a client that connects is noticed below.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = &listener.local_addr().unwrap().to_string()[..];
    for (arguments, text) in [
        (["put", address, "up", "missing"], "missing: "),
        (["put", address, "up", "directory"], "directory: "),
        (["get", address, "down", "missing/got"], "missing/got: "),
        (["get", address, "down", "directory"], "directory: "),
    ] {
        let err = sandbox.run_tool(arguments).with_status(7);
        assert!(err.starts_with(&format!("dataserver: {text}")), "{err}");
    }
    assert!(listener.accept().is_err());
    for file in
        ["--get=x=missing", "--get=x=directory", "--put=x=missing/object", "--put=x=directory"]
    {
        sandbox.run_tool(["serve", "--listen", address, file]).with_status(7);
    }
}

#[test]
fn a_full_disk_is_7() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file"]);
    let err = sandbox.run_tool(["get", &server.address, "down", "/dev/full"]).with_status(7);
    assert!(err.contains("/dev/full: No space left"), "{err}");
    let to_stdout = sandbox.shell("exec \"$tool\" get \"$address\" down - >/dev/full");
    let mut to_stdout = to_stdout;
    to_stdout.env("address", &server.address);
    let err = sandbox.run(to_stdout).with_status(7);
    assert!(err.contains("standard output: No space left"), "{err}");
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
}

#[test]
fn no_connection_is_3() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 5);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for arguments in [["get", &free, "down", "got"], ["put", &free, "up", "file"]] {
        let err = sandbox.run_tool(arguments).with_status(3);
        assert!(err.contains(&format!("cannot connect to {free}")), "{err}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let err = sandbox.run_tool(["serve", "--listen", &taken, "--get", "x=file"]).with_status(3);
    assert!(err.contains(&taken), "{err}");
    assert!(sandbox.parts().is_empty());
}

#[test]
fn a_timeout_of_this_side_is_6_and_names_its_option() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file", "--put", "up=stored"]);
    server.process.signal(Signal::STOP);
    let get = ["get", &server.address, "down", "got", "--bare", "--timeout", "100ms"];
    let err = sandbox.run_tool(get).with_status(6);
    assert!(err.contains("--timeout sets"), "{err}");
    sandbox.file("small", 1000); // which the system takes at once
    let put = ["put", &server.address, "up", "small", "--receipt-timeout", "100ms"];
    let err = sandbox.run_tool(put).with_status(6);
    assert!(err.contains("--receipt-timeout sets"), "{err}");
    server.process.signal(Signal::CONT);
    sandbox.wait_until_no_part_is_left();
    assert!(!sandbox.path("got").exists());
}

#[test]
fn a_timeout_of_the_other_side_is_6_and_says_so() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=stored", "--timeout", "100ms"]);
    let mut client = sandbox.start(sandbox.tool(["put", &server.address, "up", "-"]));
    let input = client.stdin(); // open, and silent
    server.process.wait_for_err("the idle timeout ran out");
    drop(input);
    let err = client.ended().with_status(6);
    assert!(err.contains("its own timeout ran out"), "{err}");
    eventually("nothing is stored", || {
        !sandbox.path("stored").exists() && sandbox.parts().is_empty()
    });
}

#[test]
fn once_is_for_one_connection() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file", "--once"]);
    sandbox.run_tool(["get", &server.address, "down", "/dev/null"]).with_status(0);
    sandbox.run_tool(["get", &server.address, "down", "/dev/null"]).with_status(4);
}

#[test]
fn framed_only_refuses_the_bare_format() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file", "--framed-only"]);
    sandbox.run_tool(["get", &server.address, "down", "got", "--bare"]).with_status(4);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
}

#[cfg(feature = "digest")]
#[test]
fn check_only_refuses_objects_without_a_digest() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let server = sandbox.serve(&["--get", "down=file", "--check-only"]);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(4);
    sandbox.run_tool(["get", &server.address, "down", "got", "--check"]).with_status(0);
}
