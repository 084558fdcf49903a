//! `put` and `get` that succeed.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::sandbox::{Sandbox, assert_same};

const LEN: usize = 3 << 20;

#[test]
fn files_and_streams_arrive_in_both_formats() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file"]);
    let address = &server.address[..];
    let size = LEN.to_string();
    for format in [&[][..], &["--bare"]] {
        for options in
            [&[][..], &["--size", "unknown"], &["--size", &size], &["--limit-rate", "1G"]]
        {
            let put = ["put", address, "up", "file"];
            sandbox.run_tool([&put, format, options].concat()).with_status(0);
            assert_same(&file, &sandbox.path("stored"));
            fs::remove_file(sandbox.path("stored")).unwrap();

            let get = ["get", address, "down", "got"];
            let err = sandbox.run_tool([&get, format, options].concat()).with_status(0);
            assert!(err.ends_with(&format!("{LEN} bytes, confirmed\n")), "{err}");
            assert_same(&file, &sandbox.path("got"));
            fs::remove_file(sandbox.path("got")).unwrap();
        }
        let mut client =
            sandbox.start(sandbox.tool([&["put", address, "up", "-"][..], format].concat()));
        client.stdin().write_all(&fs::read(&file).unwrap()).unwrap();
        client.ended().with_status(0);
        assert_same(&file, &sandbox.path("stored"));

        let got = sandbox.run_tool([&["get", address, "down", "-"][..], format].concat());
        assert!(got.out == fs::read(&file).unwrap(), "{}", got.err);
        got.with_status(0);
    }
    server.stop();
}

#[test]
fn an_empty_object_is_an_object() {
    let sandbox = Sandbox::new();
    sandbox.file("empty", 0);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=empty"]);
    sandbox.run_tool(["put", &server.address, "up", "empty"]).with_status(0);
    assert_eq!(fs::read(sandbox.path("stored")).unwrap(), b"");
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    assert_eq!(fs::read(sandbox.path("got")).unwrap(), b"");
}

#[test]
fn a_get_through_a_link_keeps_the_link_and_the_mode() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let target = sandbox.file("target", 5);
    fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
    symlink("target", sandbox.path("link")).unwrap();
    let server = sandbox.serve(&["--get", "down=file"]);
    sandbox.run_tool(["get", &server.address, "down", "link"]).with_status(0);
    assert_same(&file, &target);
    assert!(fs::symlink_metadata(sandbox.path("link")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_name_may_be_any_bytes_and_a_path_may_contain_the_equals_sign() {
    let sandbox = Sandbox::new();
    sandbox.file("a=b", 5);
    let server = sandbox.serve(&["--get", "=a=b", "--get", "ü=a=b"]);
    for name in ["", "ü"] {
        sandbox.run_tool(["get", &server.address, name, "got"]).with_status(0);
        assert_same(&sandbox.path("a=b"), &sandbox.path("got"));
    }
}
