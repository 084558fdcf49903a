//! Signals.

use rustix::process::Signal;

use crate::sandbox::{Sandbox, begin_get, begin_put};

#[test]
fn a_signal_ends_a_get_and_leaves_no_file() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let sandbox = Sandbox::new();
        sandbox.huge_file("huge-file");
        let server = sandbox.serve(&["--get", "huge=huge-file"]);
        let client = begin_get(&sandbox, &server);
        client.signal(signal);
        client.ended().by_signal(signal);
        assert!(!sandbox.path("object").exists() && sandbox.parts().is_empty(), "{signal:?}");
    }
}

#[test]
fn a_signal_that_the_parent_ignores_stays_ignored() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 5);
    let mut command = sandbox.shell("trap '' HUP INT; exec \"$tool\" \"$@\"");
    command.args(["sh", "serve", "--listen", "127.0.0.1:0"]);
    let server = sandbox.serve_with(command, &["--get", "down=file"]);
    server.process.signal(Signal::HUP);
    server.process.signal(Signal::INT);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    let log = server.stop();
    assert_eq!(log.matches("no further connections").count(), 1, "{log}");
}

#[test]
fn the_third_signal_to_a_server_leaves_no_file() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=object"]);
    let (_client, _input) = begin_put(&sandbox, &server);
    server.process.signal(Signal::HUP);
    server.process.wait_for_err("no further connections");
    for _ in 0..2 {
        server.process.signal(Signal::TERM);
    }
    server.process.ended();
    assert!(!sandbox.path("object").exists() && sandbox.parts().is_empty());
}

/// Needs root, for a process of number 1.
#[test]
fn process_1_is_ended_by_a_signal() {
    let sandbox = Sandbox::new();
    sandbox.huge_file("huge-file");
    let server = sandbox.serve(&["--get", "huge=huge-file"]);
    let script = "exec unshare --pid --fork --kill-child \"$tool\" get \"$address\" huge object";
    let can = sandbox.run(sandbox.shell("exec unshare --pid --fork true"));
    if !can.status.success() {
        println!("skipped, it needs root: {}", can.err);
        return;
    }
    let mut command = sandbox.shell(script);
    command.env("address", &server.address);
    let client = sandbox.start(command);
    sandbox.wait_for_part();
    let find = sandbox.run(sandbox.shell("pgrep -f \"^$tool get .* huge object$\""));
    let process = String::from_utf8(find.out).unwrap();
    let mut kill = sandbox.shell("kill -TERM $process");
    kill.env("process", process.trim());
    sandbox.run(kill).with_status(0);
    client.ended().with_status(128 + 15);
    assert!(!sandbox.path("object").exists() && sandbox.parts().is_empty());
}
