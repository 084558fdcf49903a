//! Limits of the process.

use std::os::unix::process::CommandExt;

use crate::sandbox::Sandbox;

#[test]
fn the_limit_of_the_size_of_files_fails_one_put_and_not_the_server() {
    let sandbox = Sandbox::new();
    sandbox.file("small", 1000);
    sandbox.file("large", 1 << 20);
    let mut command = sandbox.shell("ulimit -f 16; exec \"$tool\" \"$@\"");
    command.args(["sh", "serve", "--listen", "127.0.0.1:0"]);
    let server = sandbox.serve_with(command, &["--put", "up=stored"]);
    sandbox.run_tool(["put", &server.address, "up", "large"]).with_status(4);
    sandbox.run_tool(["put", &server.address, "up", "small"]).with_status(0);
    let log = server.stop();
    assert!(log.contains("File too large"), "{log}");
    assert!(sandbox.parts().is_empty());
}

/// Needs root, which has no such limit, to become another user.
#[test]
fn a_thread_that_cannot_be_made_is_an_error_and_no_panic() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, it needs root");
        return;
    }
    let sandbox = Sandbox::new();
    let tool = sandbox.path("tool");
    std::fs::copy(env!("CARGO_BIN_EXE_dataserver"), &tool).unwrap();
    std::fs::set_permissions(sandbox.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    sandbox.file("file", 5);
    for arguments in
        ["get 127.0.0.1:1 down got", "share file", "serve --listen 127.0.0.1:0 --get x=file"]
    {
        let mut command = sandbox.shell(&format!("exec prlimit --nproc=1 ./tool {arguments}"));
        command.uid(54_321).gid(54_321);
        let err = sandbox.run(command);
        assert!(err.status.code().is_some_and(|code| code != 101 && code != 0), "{}", err.err);
        assert!(err.err.contains("Resource temporarily unavailable"), "{arguments}: {}", err.err);
    }
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = sandbox.run_tool(["completions", shell]);
        assert!(String::from_utf8_lossy(&ended.out).contains("until-delivered"), "{shell}");
        ended.with_status(0);
    }
    sandbox.run_tool(["man", "."]).with_status(0);
    let page = std::fs::read_to_string(sandbox.path("dataserver.1")).unwrap();
    assert!(page.contains("Exit status") && page.contains("A timeout of either side"), "{page}");
    for command in ["put", "get", "share", "collect", "serve"] {
        assert!(sandbox.path(&format!("dataserver-{command}.1")).exists(), "{command}");
    }
    sandbox.run_tool(["man", "missing"]).with_status(7);
}
