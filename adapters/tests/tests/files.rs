//! Files that cannot be written or read.
//!
//! The tests may run as root, and may not be allowed to mount a file system. The full disk is therefore
//! `/dev/full` or a limit on the size of files, and unwritable paths do not depend on permissions.

use std::fs;
use std::io;
use std::path::PathBuf;

use dataserver_core::{Key, LocalError, StartPacket};
use dataserver_tests::process::entry;
use dataserver_tests::{
    DynAdapter, Op, Process, Server, Setup, TempFile, Wait, assert_reset, cause, get,
    long_timeouts, object, pairs, put, with,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// Sizes below and above the one from which a file is received by splice, and an unknown one.
const SIZES: [(usize, bool); 3] = [(10, true), (1 << 20, true), (10, false)];

fn declared((size, known): (usize, bool)) -> Option<u64> {
    known.then_some(size as u64)
}

/// The server goes on, and the failed transfer has released the only connection.
#[track_caller]
fn still_serves(server: &Server, client: DynAdapter) {
    let script = [Op::Send(object(7))];
    client.client(server.address, put(Some(7)), long_timeouts(), &script).unwrap();
    server.outcomes.wait().unwrap();
}

fn with_one_place(packet: StartPacket, script: &[Op]) -> Setup {
    Setup::new().max_connections(1).on(packet, script).on(put(Some(7)), [Op::ReadToEnd])
}

fn full_disk_of_the_server(server: DynAdapter, client: DynAdapter) {
    for size in SIZES {
        let packet = put(declared(size));
        let full = Op::ReceiveFile("/dev/full".into());
        for handler in [vec![full.clone()], vec![Op::IgnoreErrors, full]] {
            let server = Server::start(server, with_one_place(packet, &handler));
            let script = [Op::Send(object(size.0))];
            assert_reset(&client.client(server.address, packet, long_timeouts(), &script));
            full_disk(&server.outcomes.wait(), packet);
            still_serves(&server, client);
        }
    }
}

fn full_disk_of_the_client(server: DynAdapter, client: DynAdapter) {
    for size in SIZES {
        let packet = get(declared(size));
        let server = Server::start(server, with_one_place(packet, &[Op::Send(object(size.0))]));
        let script = [Op::ReceiveFile("/dev/full".into()), Op::Commit];
        full_disk(&client.client(server.address, packet, long_timeouts(), &script), packet);
        assert_reset(&server.outcomes.wait());

        // Ignoring the error does not make it a success.
        let script = [&[Op::IgnoreErrors], &script[..]].concat();
        let outcome = client.client(server.address, packet, long_timeouts(), &script).unwrap();
        assert_eq!(outcome.receipt, None);
        assert_reset(&server.outcomes.wait());
        still_serves(&server, client);
    }
}

/// The error names the transfer, the side at fault, and the error of the system.
#[track_caller]
fn full_disk<T: std::fmt::Debug>(outcome: &io::Result<T>, packet: StartPacket) {
    let aborted = LocalError::Aborted { reason: "the object cannot be written", code: 0 };
    assert_eq!(cause(outcome), aborted.into());
    let error = outcome.as_ref().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let text = error.to_string();
    let expected = format!("{packet}: aborted: the object cannot be written: No space left");
    assert!(text.contains(&expected), "{text}");
}

/// A disk that fills up during the transfer, by a limit on the size of a file: what fits is stored and
/// acknowledged, and what does not fit is neither.
fn full_disk_on_the_way(server: DynAdapter, client: DynAdapter) {
    const ROOM: usize = 1 << 20;
    let file = TempFile::new(b"");
    let options = [format!("file={}", file.path().display()), format!("files={ROOM}")];
    let (mut process, address) = Process::server(PROGRAM, server, &[&options[0], &options[1]]);
    let file_put = StartPacket::put(Key::from_name(entry::FILE_PUT));
    for size in [10, ROOM, ROOM + 1, 3 * ROOM, 20] {
        for packet in [file_put, with(file_put, Some(size as u64))] {
            let script = [Op::Send(object(size))];
            let outcome = client.client(address, packet, long_timeouts(), &script);
            if size <= ROOM {
                assert_eq!(outcome.unwrap().receipt.unwrap().bytes, size as u64);
                assert_eq!(process.wait_for_line("served "), size.to_string());
                assert!(fs::read(file.path()).unwrap() == object(size));
            } else {
                assert_reset(&outcome);
                let text = process.wait_for_line("failed ");
                let expected = "aborted: the object cannot be written: File too large";
                assert!(text.contains(expected), "{text}");
            }
        }
    }
    process.heap_without_connections();
}

/// Paths to which nothing can be written, also by root, and the error of the system.
fn unwritable() -> [(PathBuf, &'static str); 3] {
    let file = TempFile::new(b"not a directory");
    let removed = file.path().with_extension("removed");
    fs::create_dir(&removed).unwrap();
    fs::remove_dir(&removed).unwrap();
    [
        (std::env::temp_dir(), "Is a directory"),
        ("/dev/null/object".into(), "Not a directory"),
        (removed.join("object"), "No such file or directory"),
    ]
}

fn unwritable_path(server: DynAdapter, client: DynAdapter) {
    for (path, word) in unwritable() {
        let packet = put(Some(10));
        let script = [Op::ReceiveFile(path)];
        let server = Server::start(server, with_one_place(packet, &script));
        assert_reset(&client.client(
            server.address,
            packet,
            long_timeouts(),
            &[Op::Send(object(10))],
        ));
        let text = server.outcomes.wait().unwrap_err().to_string();
        let expected = format!("{packet}: aborted: the handler failed: {word}");
        assert!(text.contains(&expected), "{text}");
        still_serves(&server, client);
    }
}

fn unreadable_file(server: DynAdapter, client: DynAdapter) {
    let packet = get(None);
    for way in [Op::SendFile, Op::SendByReading] {
        let script = [way(std::env::temp_dir())];
        let server = Server::start(server, with_one_place(packet, &script));
        let fetch = [Op::ReadToEnd, Op::Commit];
        assert_reset(&client.client(server.address, packet, long_timeouts(), &fetch));
        let expected = "aborted: the object cannot be read: Is a directory";
        let text = server.outcomes.wait().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        still_serves(&server, client);

        let putting = client.client(server.address, put(Some(10)), long_timeouts(), &script);
        let text = putting.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

pairs!(
    full_disk_of_the_server,
    full_disk_of_the_client,
    full_disk_on_the_way,
    unwritable_path,
    unreadable_file,
);
