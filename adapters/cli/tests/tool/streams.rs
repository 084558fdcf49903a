//! Standard streams, and what has no length.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use crate::sandbox::{Sandbox, assert_same, eventually};

const LEN: usize = 3 << 20;

fn with_address(mut command: Command, address: &str) -> Command {
    command.env("address", address);
    command
}

#[test]
fn a_closed_standard_stream_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.file("file", 5);
    let stored = sandbox.file("stored", 9);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file", "--once"]);
    for (script, name) in [
        ("exec \"$tool\" put \"$address\" up - <&-", "standard input"),
        ("exec \"$tool\" get \"$address\" down - >&-", "standard output"),
    ] {
        let err = sandbox.run(with_address(sandbox.shell(script), &server.address)).with_status(7);
        assert!(err.contains(&format!("{name}: it is closed")), "{err}");
    }
    assert_eq!(fs::metadata(stored).unwrap().len(), 9);
    // The entries are still there.
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
}

#[test]
fn standard_streams_may_be_redirected_and_appended_to() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file"]);
    let expected = [b"before\n", &fs::read(&file).unwrap()[..], b"after\n"].concat();
    for target in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/fd/3"] {
        for redirection in [">", ">>"] {
            let script = format!(
                "{{ echo before; \"$tool\" get \"$address\" down {target} 3>&1 || exit; echo after; }} {redirection}output"
            );
            _ = fs::remove_file(sandbox.path("output"));
            sandbox.run(with_address(sandbox.shell(&script), &server.address)).with_status(0);
            let output = fs::read(sandbox.path("output")).unwrap();
            let is_open_again = target == "/dev/fd/3" && redirection == ">";
            // A file that is opened again has a cursor of its own: what follows overwrites it.
            assert!(
                output == expected || is_open_again && output.starts_with(b"before\n"),
                "{target}"
            );
        }
    }
    let script = "exec \"$tool\" put \"$address\" up - <file";
    sandbox.run(with_address(sandbox.shell(script), &server.address)).with_status(0);
    assert_same(&file, &sandbox.path("stored"));
}

#[test]
fn standard_streams_may_be_nonblocking() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file"]);

    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut put = sandbox.tool(["put", &server.address, "up", "-"]);
    let mut client = put.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(put);
    (&ours).write_all(&fs::read(&file).unwrap()).unwrap();
    drop(ours);
    assert!(client.wait().unwrap().success());
    assert_same(&file, &sandbox.path("stored"));

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut get = sandbox.tool(["get", &server.address, "down", "-"]);
    let mut client = get.stdout(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(get);
    let mut got = Vec::new();
    ours.read_to_end(&mut got).unwrap();
    assert!(client.wait().unwrap().success());
    assert!(got == fs::read(&file).unwrap());
}

#[test]
fn files_of_the_kernel_have_no_length() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["--put", "up=stored"]);
    for path in ["/proc/version", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        if let Ok(content) = fs::read(path) {
            for options in [&[][..], &["--limit-rate", "1G"]] {
                let put = ["put", &server.address, "up", path];
                sandbox.run_tool([&put, options].concat()).with_status(0);
                assert_eq!(
                    fs::read(sandbox.path("stored")).unwrap().len(),
                    content.len(),
                    "{path}"
                );
            }
        }
    }
}

#[test]
fn a_log_that_grows_is_sent_as_far_as_it_was() {
    let sandbox = Sandbox::new();
    let log = sandbox.file("log", LEN);
    let server = sandbox.serve(&["--put", "up=stored"]);
    let growing = log.clone();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let writer = thread::spawn(move || {
        let mut log = OpenOptions::new().append(true).open(growing).unwrap();
        while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            log.write_all(b"a line\n").unwrap();
        }
    });
    for options in [&[][..], &["--limit-rate", "1G"]] {
        for _ in 0..5 {
            let put = ["put", &server.address, "up", "log"];
            sandbox.run_tool([&put, options].concat()).with_status(0);
            assert!(fs::metadata(sandbox.path("stored")).unwrap().len() >= LEN as u64);
        }
    }
    drop(end);
    writer.join().unwrap();
    assert!(fs::metadata(log).unwrap().len() > LEN as u64);
}

#[test]
fn a_fifo_is_read_and_written() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", LEN);
    sandbox.fifo("fifo");
    let server = sandbox.serve(&["--put", "up=stored", "--get", "down=file"]);
    let script = "cat file >fifo & exec \"$tool\" put \"$address\" up fifo";
    sandbox.run(with_address(sandbox.shell(script), &server.address)).with_status(0);
    assert_same(&file, &sandbox.path("stored"));

    let reader = sandbox.start(sandbox.shell("exec cat fifo"));
    let get = || sandbox.run_tool(["get", &server.address, "down", "fifo"]);
    let mut ended = get();
    eventually("the reader has opened the FIFO", || {
        let is_early = ended.err.contains("no process has this FIFO open for reading");
        if is_early {
            ended = get();
        }
        !is_early
    });
    ended.with_status(0);
    assert!(reader.ended().out == fs::read(file).unwrap());
}

#[test]
fn a_fifo_without_a_reader_fails_one_put_and_not_the_server() {
    let sandbox = Sandbox::new();
    sandbox.file("file", LEN);
    sandbox.fifo("fifo");
    let server = sandbox.serve(&["--put", "up=fifo", "--get", "down=file"]);
    sandbox.run_tool(["put", &server.address, "up", "file"]).with_status(4);
    sandbox.run_tool(["get", &server.address, "down", "got"]).with_status(0);
    let log = server.stop();
    assert!(log.contains("fifo: no process has this FIFO open for reading"), "{log}");
}
