//! *Files* that fail: a full disk, and a place where nothing can be written or read.
//!
//! Whoever runs the tests may be root, and may not be allowed to mount anything: so the disk that is
//! full is `/dev/full`, or has room for files up to a size, and what cannot be written is not a matter of rights.

use std::fs;
use std::io;
use std::path::PathBuf;

use dataserver_core::{Key, LocalError, StartPacket};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{
    Any, Do, Process, Server, Setup, Soon, TempFile, cause, get, object, pairs, patient, put,
    reset, with,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// On either side of the size from which a file is received by splice, and one that is not known.
const SIZES: [(usize, bool); 3] = [(10, true), (1 << 20, true), (10, false)];

fn declared((size, known): (usize, bool)) -> Option<u64> {
    known.then_some(size as u64)
}

/// The server goes on, and what failed keeps nothing of it: its only place is free again.
#[track_caller]
fn still_serves(server: &Server, client: Any) {
    let script = [Do::Send(object(7))];
    client.client(server.address, put(Some(7)), patient(), &script).unwrap();
    server.outcomes.soon().unwrap();
}

fn with_one_place(packet: StartPacket, script: &[Do]) -> Setup {
    Setup::new().max_connections(1).on(packet, script).on(put(Some(7)), [Do::ReadToEnd])
}

fn full_disk_of_the_server(server: Any, client: Any) {
    for size in SIZES {
        let packet = put(declared(size));
        let full = Do::ReceiveFile("/dev/full".into());
        for handler in [vec![full.clone()], vec![Do::IgnoreErrors, full]] {
            let server = Server::start(server, with_one_place(packet, &handler));
            let script = [Do::Send(object(size.0))];
            reset(&client.client(server.address, packet, patient(), &script));
            full_disk(&server.outcomes.soon(), packet);
            still_serves(&server, client);
        }
    }
}

fn full_disk_of_the_client(server: Any, client: Any) {
    for size in SIZES {
        let packet = get(declared(size));
        let server = Server::start(server, with_one_place(packet, &[Do::Send(object(size.0))]));
        let script = [Do::ReceiveFile("/dev/full".into()), Do::Commit];
        full_disk(&client.client(server.address, packet, patient(), &script), packet);
        reset(&server.outcomes.soon());

        // Who takes no notice has not stored it either.
        let script = [&[Do::IgnoreErrors], &script[..]].concat();
        let outcome = client.client(server.address, packet, patient(), &script).unwrap();
        assert_eq!(outcome.receipt, None);
        reset(&server.outcomes.soon());
        still_serves(&server, client);
    }
}

/// Names the transfer, whose fault it was, and what the system says.
#[track_caller]
fn full_disk<T: std::fmt::Debug>(outcome: &io::Result<T>, packet: StartPacket) {
    let aborted = LocalError::Aborted { reason: "the object cannot be written" };
    assert_eq!(cause(outcome), aborted.into());
    let error = outcome.as_ref().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let text = error.to_string();
    let expected = format!("{packet}: aborted: the object cannot be written: No space left");
    assert!(text.contains(&expected), "{text}");
}

/// A disk that fills up on the way, as a limit on the size of a file: what fits is stored and
/// acknowledged, what does not is neither.
fn full_disk_on_the_way(server: Any, client: Any) {
    const ROOM: usize = 1 << 20;
    let file = TempFile::new(b"");
    let options = [format!("file={}", file.path().display()), format!("files={ROOM}")];
    let (mut process, address) = Process::server(PROGRAM, server, &[&options[0], &options[1]]);
    let file_put = StartPacket::put(Key::from_name(entry::FILE_PUT));
    for size in [10, ROOM, ROOM + 1, 3 * ROOM, 20] {
        for packet in [file_put, with(file_put, Some(size as u64))] {
            let script = [Do::Send(object(size))];
            let outcome = client.client(address, packet, patient(), &script);
            if size <= ROOM {
                assert_eq!(outcome.unwrap().receipt.unwrap().bytes, size as u64);
                assert_eq!(process.told("served "), size.to_string());
                assert!(fs::read(file.path()).unwrap() == object(size));
            } else {
                reset(&outcome);
                let text = process.told("failed ");
                let expected = "aborted: the object cannot be written: File too large";
                assert!(text.contains(expected), "{text}");
            }
        }
    }
    process.at_rest();
}

/// Where nobody can write, not even root, and what the system says of it.
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

fn nowhere_to_write(server: Any, client: Any) {
    for (path, word) in unwritable() {
        let packet = put(Some(10));
        let script = [Do::ReceiveFile(path)];
        let server = Server::start(server, with_one_place(packet, &script));
        reset(&client.client(server.address, packet, patient(), &[Do::Send(object(10))]));
        let text = server.outcomes.soon().unwrap_err().to_string();
        let expected = format!("{packet}: aborted: the handler failed: {word}");
        assert!(text.contains(&expected), "{text}");
        still_serves(&server, client);
    }
}

fn nothing_to_read(server: Any, client: Any) {
    let packet = get(None);
    for way in [Do::SendFile, Do::SendByReading] {
        let script = [way(std::env::temp_dir())];
        let server = Server::start(server, with_one_place(packet, &script));
        let fetch = [Do::ReadToEnd, Do::Commit];
        reset(&client.client(server.address, packet, patient(), &fetch));
        let expected = "aborted: the object cannot be read: Is a directory";
        let text = server.outcomes.soon().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        still_serves(&server, client);

        let putting = client.client(server.address, put(Some(10)), patient(), &script);
        let text = putting.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

pairs!(
    full_disk_of_the_server,
    full_disk_of_the_client,
    full_disk_on_the_way,
    nowhere_to_write,
    nothing_to_read,
);
