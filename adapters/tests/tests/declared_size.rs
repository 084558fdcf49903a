//! A put declares the size that its sender knows, unless the request says otherwise.

use std::fs::File;

use dataserver_common::Request;
use dataserver_core::{Cause, Entry, LocalError, ObjectSize, Refusal};
use dataserver_tests::{
    DynAdapter, End, KEY, Op, RawListener, Server, Setup, Source, TempFile, Wait, assert_reset,
    cause, clients, long_timeouts, object, pairs, put, spawn, start,
};

const SIZE: usize = 100_000;

/// The size in the start packet of a put of 100,000 bytes.
fn assert_declares(client: DynAdapter, request: Request, script: Vec<Op>, declared: i64) {
    let listener = RawListener::new();
    let address = listener.address();
    let shown: Vec<_> = script.iter().map(std::mem::discriminant).collect();
    let putting = spawn(move || client.put(address, request, long_timeouts(), &script));
    let mut server = listener.accept();
    assert_eq!(server.read(25), start(0, declared), "{shown:?}");
    let (bytes, end) = server.rest();
    assert!(bytes == object(SIZE));
    assert_eq!(end, End::Graceful);
    server.half_close();
    let receipt = putting.wait().unwrap().receipt.unwrap();
    assert_eq!(receipt.bytes, SIZE as u64);
    assert_eq!(receipt.packet, put(u64::try_from(declared).ok()));
}

fn known(file: &TempFile) -> [Vec<Op>; 3] {
    [
        vec![Op::Send(object(SIZE))],
        vec![Op::SendPath(file.path().into())],
        vec![Op::SendFile(file.path().into())],
    ]
}

fn slices_and_files_declare_their_size(client: DynAdapter) {
    let file = TempFile::new(&object(SIZE));
    for script in known(&file) {
        assert_declares(client, Request::new(KEY), script, SIZE as i64);
    }
}

fn a_request_of_unknown_size_declares_none(client: DynAdapter) {
    let file = TempFile::new(&object(SIZE));
    for script in known(&file) {
        let request = Request::new(KEY).size(ObjectSize::UNKNOWN);
        assert_declares(client, request, script, -1);
    }
}

fn a_request_with_a_size_declares_it(client: DynAdapter) {
    let size = ObjectSize::new(SIZE as u64).unwrap();
    let file = TempFile::new(&object(SIZE));
    let reading = vec![Op::SendReader(Source::new(object(SIZE)))];
    for script in known(&file).into_iter().chain([reading]) {
        assert_declares(client, Request::new(KEY).size(size), script, SIZE as i64);
    }
}

/// The sender does not know the size of a reader, nor of what follows bytes that were written.
fn what_the_sender_does_not_know_is_not_declared(client: DynAdapter) {
    let file = TempFile::new(&object(SIZE));
    let bytes = object(SIZE);
    let (front, back) = bytes.split_at(10);
    for script in [
        vec![Op::SendReader(Source::new(bytes.clone()))],
        vec![Op::SendByReading(file.path().into())],
        vec![Op::Write(front.into()), Op::Send(back.into())],
        vec![Op::Flush, Op::Send(bytes.clone())],
        vec![Op::Flush, Op::SendPath(file.path().into())],
        vec![Op::Write(bytes.clone()), Op::Finish],
    ] {
        assert_declares(client, Request::new(KEY), script, -1);
    }
}

fn an_empty_slice_declares_zero_bytes(server: DynAdapter, client: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(Some(0)), [Op::ReadToEnd]));
    let script = [Op::Send(vec![])];
    let sent = client.put(server.address, Request::new(KEY).bare(), long_timeouts(), &script);
    assert_eq!(sent.unwrap().receipt.unwrap().packet, put(Some(0)));
}

/// Files below `/proc` report a size of zero, and files below `/sys` one of 4096.
fn a_file_that_reports_another_size_declares_what_it_has(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_put(Entry::new(KEY), [Op::ReadToEnd]);
    let server = Server::start(server, setup);
    for (path, reported) in [("/proc/self/status", 0), ("/sys/devices/system/cpu/online", 4096)] {
        assert_eq!(File::open(path).unwrap().metadata().unwrap().len(), reported);
        let script = [Op::SendPath(path.into())];
        let sent = client.put(server.address, Request::new(KEY).bare(), long_timeouts(), &script);
        let receipt = sent.unwrap().receipt.unwrap();
        assert_eq!(receipt.packet, put(Some(receipt.bytes)));
        assert!(receipt.bytes > 0);
    }
}

/// The limit applies before a byte of the object has been sent.
fn a_declared_size_is_refused_early(server: DynAdapter, client: DynAdapter) {
    let file = TempFile::new(&object(SIZE));
    let entry = Entry::new(KEY).max_size(SIZE as u64 - 1);
    let server = Server::start(server, Setup::new().on_put(entry, [Op::ReadToEnd]));
    for script in known(&file) {
        assert_reset(&client.put(
            server.address,
            Request::new(KEY).bare(),
            long_timeouts(),
            &script,
        ));
        let refused = Refusal::TooLarge { declared: SIZE as u64, limit: SIZE as u64 - 1 };
        assert_eq!(cause(&server.outcomes.wait()), refused.into());
    }
}

fn a_file_that_has_another_size_than_the_request_fails(client: DynAdapter) {
    let file = TempFile::new(&object(10));
    let listener = RawListener::new();
    let address = listener.address();
    let request = Request::new(KEY).size(ObjectSize::new(11).unwrap());
    let script = [Op::SendPath(file.path().into())];
    let putting = spawn(move || client.put(address, request, long_timeouts(), &script));
    // The reset may overtake the start packet.
    assert_eq!(listener.accept().rest().1, End::Reset);
    let shorter = LocalError::ShorterThanDeclared { sent: 10, declared: 11 };
    assert_eq!(cause(&putting.wait()), Cause::from(shorter));
}

clients!(
    slices_and_files_declare_their_size,
    a_request_of_unknown_size_declares_none,
    a_request_with_a_size_declares_it,
    what_the_sender_does_not_know_is_not_declared,
    a_file_that_has_another_size_than_the_request_fails,
);
pairs!(
    an_empty_slice_declares_zero_bytes,
    a_file_that_reports_another_size_declares_what_it_has,
    a_declared_size_is_refused_early,
);
