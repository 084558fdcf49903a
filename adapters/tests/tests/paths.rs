//! Objects that are stored under a path, and sent from one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dataserver_core::{Cause, LocalError};
use dataserver_tests::{
    DynAdapter, End, Op, Raw, RawListener, Server, Setup, TempDir, TempFile, Wait, assert_reset,
    cause, clients, get, long_timeouts, object, pairs, put, servers, spawn, start,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn names_in(directory: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn files_are_transferred(server: DynAdapter, client: DynAdapter) {
    let directory = TempDir::new();
    let path = |name| directory.path().join(name);
    for size in [0, 1, 1000, 700_000] {
        let file = TempFile::new(&object(size));
        let setup = Setup::new()
            .on(put(Some(size as u64)), [Op::ReceiveTo(path("stored"))])
            .on(get(None), [Op::SendPath(path("stored"))]);
        let server = Server::start(server, setup);
        let send = [Op::SendPath(file.path().into())];
        let sent = client.client(server.address, put(Some(size as u64)), long_timeouts(), &send);
        assert_eq!(sent.unwrap().receipt.unwrap().bytes, size as u64);
        assert!(fs::read(path("stored")).unwrap() == object(size));
        let receive = [Op::ReceiveTo(path("fetched"))];
        let got = client.client(server.address, get(None), long_timeouts(), &receive);
        assert_eq!(got.unwrap().receipt.unwrap().bytes, size as u64);
        assert!(fs::read(path("fetched")).unwrap() == object(size));
        for _ in 0..2 {
            server.outcomes.wait().unwrap();
        }
    }
    assert_eq!(names_in(&directory).len(), 2, "temporary files are left");
}

/// The puts overlap: each client sends its last byte when all have begun. The path then has one of the
/// objects, and no temporary file is left.
fn concurrent_puts_to_one_path_do_not_mix(server: DynAdapter) {
    const PUTS: usize = 8;
    const SIZE: usize = 100_000;
    let directory = TempDir::new();
    let path = directory.path().join("object");
    let server = Server::start(server, Setup::new().on(put(None), [Op::ReceiveTo(path.clone())]));
    let mut clients: Vec<_> = (0..PUTS as u8)
        .map(|fill| {
            let mut client = Raw::client(server.address, &start(0, -1));
            client.send(&vec![fill; SIZE - 1]);
            client.wait_until_read();
            client
        })
        .collect();
    assert!(!path.exists(), "an incomplete object has its name");
    for (fill, client) in clients.iter_mut().enumerate() {
        client.send(&[fill as u8]);
        client.half_close();
        assert_eq!(client.end(), End::Graceful);
        assert!(fs::read(&path).unwrap() == vec![fill as u8; SIZE]);
        server.outcomes.wait().unwrap();
    }
    assert_eq!(names_in(&directory), [path]);
}

/// The target stays as it was, and the temporary file is removed.
fn a_failed_put_leaves_the_old_object(server: DynAdapter) {
    let directory = TempDir::new();
    let path = directory.path().join("object");
    fs::write(&path, b"old").unwrap();
    let setup = Setup::new().on(put(Some(10)), [Op::ReceiveTo(path.clone())]);
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &[start(0, 10), object(9)].concat());
    client.half_close();
    assert_eq!(client.end(), End::Reset);
    server.outcomes.wait().unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names_in(&directory), [path]);
}

/// Paths to which nothing can be written, also by root, and the reason.
fn unwritable_paths() -> Vec<(PathBuf, &'static str)> {
    let removed = TempDir::new();
    vec![
        (std::env::temp_dir(), "it is not a regular file"),
        ("/dev/full".into(), "it is not a regular file"),
        ("/dev/null/object".into(), "Not a directory"),
        ("/proc/object".into(), ""),
        (removed.path().join("object"), "No such file or directory"),
    ]
}

#[track_caller]
fn assert_names_path<T: std::fmt::Debug>(
    outcome: &std::io::Result<T>,
    reason: &'static str,
    path: &Path,
    error: &str,
) {
    assert_eq!(cause(outcome), LocalError::Aborted { reason, code: 0 }.into());
    let text = outcome.as_ref().unwrap_err().to_string();
    let expected = format!("aborted: {reason}: {}: {error}", path.display());
    assert!(text.contains(&expected), "{text}");
}

fn an_unwritable_path_is_named(server: DynAdapter, client: DynAdapter) {
    const REASON: &str = "the object cannot be written";
    for (path, error) in unwritable_paths() {
        let setup = Setup::new()
            .max_connections(1)
            .on(put(Some(10)), [Op::ReceiveTo(path.clone())])
            .on(get(None), [Op::Send(object(10))]);
        let server = Server::start(server, setup);
        let send = [Op::Send(object(10))];
        assert_reset(&client.client(server.address, put(Some(10)), long_timeouts(), &send));
        assert_names_path(&server.outcomes.wait(), REASON, &path, error);

        let receive = [Op::ReceiveTo(path.clone())];
        let got = client.client(server.address, get(None), long_timeouts(), &receive);
        assert_names_path(&got, REASON, &path, error);
        assert_reset(&server.outcomes.wait());
    }
}

/// A FIFO without a writer, which would block when it is opened.
fn fifo(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

fn a_path_that_is_no_regular_file_is_not_sent(server: DynAdapter, client: DynAdapter) {
    const REASON: &str = "the object cannot be read";
    let directory = TempDir::new();
    for (path, error, kind) in [
        (directory.path().join("missing"), "No such file or directory", ErrorKind::NotFound),
        (directory.path().into(), "it is not a regular file", ErrorKind::InvalidInput),
        (fifo(&directory), "it is not a regular file", ErrorKind::InvalidInput),
        ("/dev/zero".into(), "it is not a regular file", ErrorKind::InvalidInput),
    ] {
        let script = [Op::SendPath(path.clone())];
        let setup = Setup::new().max_connections(1).on(get(None), script.clone());
        let server = Server::start(server, setup);
        let address = server.address;
        let receive = [Op::ReadToEnd, Op::Commit];
        let getting = spawn(move || client.client(address, get(None), long_timeouts(), &receive));
        let outcome = server.outcomes.wait();
        assert_names_path(&outcome, REASON, &path, error);
        assert_eq!(outcome.unwrap_err().kind(), kind);
        assert_reset(&getting.wait());

        let putting = spawn(move || client.client(address, put(None), long_timeouts(), &script));
        let outcome = putting.wait();
        assert_names_path(&outcome, REASON, &path, error);
        assert_eq!(outcome.unwrap_err().kind(), kind);
    }
}

/// A client that cannot send its path has not put anything: the server sees a reset, and no object.
fn a_missing_path_sends_no_object(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::SendPath("/no/such/file".into())];
    let putting = spawn(move || client.client(address, put(None), long_timeouts(), &script));
    assert_eq!(listener.accept().end(), End::Reset);
    assert!(matches!(cause(&putting.wait()), Cause::Local(_)));
}

servers!(concurrent_puts_to_one_path_do_not_mix, a_failed_put_leaves_the_old_object);
clients!(a_missing_path_sends_no_object);
pairs!(
    files_are_transferred,
    an_unwritable_path_is_named,
    a_path_that_is_no_regular_file_is_not_sent,
);
