//! Targets that cannot be replaced, or only with care.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::process::Command;

use crate::sandbox::{Sandbox, assert_same};

const LEN: usize = 100_000;

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped, it needs root");
    }
    is_root
}

/// A mount point cannot be renamed over.
#[test]
fn a_mount_point_is_written_in_place() {
    let sandbox = Sandbox::new();
    let [file, target] = [sandbox.file("file", LEN), sandbox.file("target", 2 * LEN)];
    let script = "mount --bind other target && \"$tool\" get \"$address\" down target; s=$?; \
                  umount target; exit $s";
    let other = sandbox.file("other", 2 * LEN);
    let server = sandbox.serve(&["--get", "down=file", "--once"]);
    let can = sandbox.run(sandbox.shell("mount --bind other target && umount target"));
    if !can.status.success() {
        println!("skipped, it needs the right to mount: {}", can.err);
        return;
    }
    let mut command = sandbox.shell(script);
    command.env("address", &server.address);
    sandbox.run(command).with_status(0);
    assert_same(&file, &other);
    assert_eq!(fs::metadata(target).unwrap().len(), 2 * LEN as u64);
    assert!(sandbox.parts().is_empty());
}

#[test]
fn an_immutable_file_fails_before_the_connection() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let target = sandbox.file("target", 5);
    let server = sandbox.serve(&["--get", "down=file", "--once"]);
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&target).output();
    if !chattr("+i").is_ok_and(|output| output.status.success()) {
        println!("skipped, it needs root and a file system with this attribute");
        return;
    }
    let ended = sandbox.run_tool(["get", &server.address, "down", "target"]);
    chattr("-i").unwrap();
    ended.with_status(7);
    sandbox.run_tool(["get", &server.address, "down", "target"]).with_status(0); // not used up
}

/// Needs root, for a second user.
#[test]
fn a_file_of_somebody_else_in_a_sticky_directory_is_not_replaced() {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o1777)).unwrap();
    let [writable, readable] = [sandbox.file("writable", 5), sandbox.file("readable", 5)];
    fs::set_permissions(&writable, Permissions::from_mode(0o666)).unwrap();
    let server = sandbox.serve(&["--get", "down=file", "--until-delivered"]);
    // The tool may be where another user cannot run it.
    let tool = sandbox.path("tool");
    fs::copy(env!("CARGO_BIN_EXE_dataserver"), &tool).unwrap();
    let get = |target: &str| {
        let mut command = Command::new(&tool);
        command.args(["get", &server.address, "down", target]).uid(12_345).gid(12_345);
        command.current_dir(sandbox.path(""));
        sandbox.run(command)
    };
    get("readable").with_status(7);
    get("writable").with_status(0);
    assert_same(&file, &writable);
    assert_eq!(fs::read(readable).unwrap().len(), 5);
    assert_eq!(fs::metadata(writable).unwrap().uid(), 0);
}

/// Needs root, for a second user.
#[test]
fn a_file_keeps_its_owner_and_its_set_group_id_bit() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let target = sandbox.file("target", 5);
    chown(&target, Some(12_345), Some(12_346)).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o2750)).unwrap();
    let server = sandbox.serve(&["--get", "down=file"]);
    sandbox.run_tool(["get", &server.address, "down", "target"]).with_status(0);
    assert_same(&file, &target);
    let metadata = fs::metadata(&target).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (12_345, 12_346, 0o2750)
    );
}

/// Needs root, for a second user, and `fs.protected_symlinks`.
#[test]
fn a_link_is_not_followed_where_the_kernel_would_not() {
    let setting = fs::read_to_string("/proc/sys/fs/protected_symlinks").unwrap_or_default();
    if !is_root() || setting.trim() != "1" {
        println!("skipped: fs.protected_symlinks is {setting:?}");
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    let target = sandbox.file("target", 5);
    fs::create_dir(sandbox.path("sticky")).unwrap();
    fs::set_permissions(sandbox.path("sticky"), Permissions::from_mode(0o1777)).unwrap();
    symlink(&target, sandbox.path("sticky/link")).unwrap();
    lchown(sandbox.path("sticky/link"), Some(12_345), None).unwrap();
    let server = sandbox.serve(&["--get", "down=file"]);
    let err = sandbox.run_tool(["get", &server.address, "down", "sticky/link"]).with_status(7);
    assert!(err.contains("sticky/link: Permission denied"), "{err}");
    assert_eq!(fs::metadata(target).unwrap().len(), 5);
}
