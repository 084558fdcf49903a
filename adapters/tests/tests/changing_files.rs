//! Files that change while they are sent. If the request declares a size, that is an error. If the sender
//! declares the size that the file has, growing is none. Without a declared size, the object is what was read.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::LazyLock;

use dataserver_common::{Receipt, Request};
use dataserver_core::{Cause, LocalError};
use dataserver_tests::{
    DynAdapter, End, KEY, Op, Raw, RawListener, Server, Setup, TempFile, Wait, cause, clients, get,
    long_timeouts, object, put, servers, spawn, start,
};

/// More than the system buffers for a peer that does not read, and the size after truncation. That is a
/// multiple of the page size, since the rest of a page may already be in the socket.
const SIZE: u64 = 16 << 20;
const CUT: u64 = 12 << 20;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| object(SIZE as usize));

/// A file, and its change after some of it was sent.
struct Changing {
    file: TempFile,
    change: fn(&TempFile),
    /// The content after the change.
    left: Vec<u8>,
}

fn shrinking() -> Changing {
    let change = |file: &TempFile| {
        let file = OpenOptions::new().write(true).open(file.path()).unwrap();
        file.set_len(CUT).unwrap();
    };
    Changing { file: TempFile::new(&BYTES), change, left: BYTES[..CUT as usize].into() }
}

fn growing() -> Changing {
    let change = |file: &TempFile| {
        let mut file = OpenOptions::new().append(true).open(file.path()).unwrap();
        file.write_all(b"more").unwrap();
    };
    Changing { file: TempFile::new(&BYTES), change, left: [&BYTES[..], b"more"].concat() }
}

/// The bytes that the peer received, how the sender closed, and the result of the sender.
type Sent = (Vec<u8>, End, io::Result<Receipt>);

fn put_while_it_changes(
    client: DynAdapter,
    declared: Option<u64>,
    script: Vec<Op>,
    source: &Changing,
) -> Sent {
    let listener = RawListener::new();
    let address = listener.address();
    let putting = spawn(move || client.client(address, put(declared), long_timeouts(), &script));
    let mut server = listener.accept_start(&start(0, declared.map_or(-1, |size| size as i64)));
    let (bytes, end) = received(&mut server, source);
    server.half_close();
    (bytes, end, putting.wait().map(|outcome| outcome.receipt.expect("a receipt")))
}

fn get_while_it_changes(
    server: DynAdapter,
    declared: Option<u64>,
    script: Vec<Op>,
    source: &Changing,
) -> Sent {
    let server = Server::start(server, Setup::new().on(get(declared), script));
    let size = declared.map_or(-1, |size| size as i64);
    let mut client = Raw::client(server.address, &start(1, size));
    let (bytes, end) = received(&mut client, source);
    client.half_close();
    (bytes, end, server.outcomes.wait())
}

fn received(peer: &mut Raw, source: &Changing) -> (Vec<u8>, End) {
    peer.wait_until_full();
    (source.change)(&source.file);
    peer.rest()
}

type SendWhileChanging = fn(DynAdapter, Option<u64>, Vec<Op>, &Changing) -> Sent;

/// With a declared size, the error names the expected and the actual size.
fn assert_shorter_than_declared(sender: DynAdapter, send: SendWhileChanging) {
    for way in [Op::SendFile, Op::SendByReading] {
        let source = shrinking();
        let (bytes, end, sent) =
            send(sender, Some(SIZE), vec![way(source.file.path().into())], &source);
        assert_eq!(end, End::Reset);
        assert!(bytes.len() as u64 <= CUT);
        let shorter = LocalError::ShorterThanDeclared { sent: CUT, declared: SIZE };
        assert_eq!(cause(&sent), shorter.into());
        let text = sent.unwrap_err().to_string();
        assert!(text.contains(&format!("{CUT} of the {SIZE} bytes declared")), "{text}");
    }
}

fn assert_longer_than_declared(sender: DynAdapter, send: SendWhileChanging) {
    for way in [Op::SendFile, Op::SendByReading] {
        let source = growing();
        let (bytes, end, sent) =
            send(sender, Some(SIZE), vec![way(source.file.path().into())], &source);
        assert_eq!(end, End::Reset);
        assert!(bytes.len() as u64 <= SIZE);
        let longer = Cause::from(LocalError::LongerThanDeclared { declared: SIZE });
        assert_eq!(cause(&sent), longer);
    }
}

/// Without a declared size, the object is what was read.
fn assert_sends_what_was_read(sender: DynAdapter, send: SendWhileChanging) {
    for way in [Op::SendFile, Op::SendByReading] {
        for source in [shrinking(), growing()] {
            let (bytes, end, sent) =
                send(sender, None, vec![way(source.file.path().into())], &source);
            assert_eq!(end, End::Graceful);
            assert!(bytes == source.left, "{} bytes of {}", bytes.len(), source.left.len());
            assert_eq!(sent.unwrap().bytes, source.left.len() as u64);
        }
    }
}

fn put_of_a_source_that_shrinks(client: DynAdapter) {
    assert_shorter_than_declared(client, put_while_it_changes);
}

fn get_of_a_source_that_shrinks(server: DynAdapter) {
    assert_shorter_than_declared(server, get_while_it_changes);
}

fn put_of_a_source_that_grows(client: DynAdapter) {
    assert_longer_than_declared(client, put_while_it_changes);
}

fn get_of_a_source_that_grows(server: DynAdapter) {
    assert_longer_than_declared(server, get_while_it_changes);
}

/// The sender declared the size itself: what the file gains later is not part of the object.
fn put_of_a_log(client: DynAdapter) {
    let source = growing();
    let listener = RawListener::new();
    let address = listener.address();
    let script = [Op::SendFile(source.file.path().into())];
    let putting = spawn(move || client.put(address, Request::new(KEY), long_timeouts(), &script));
    let mut server = listener.accept_start(&start(0, SIZE as i64));
    let (bytes, end) = received(&mut server, &source);
    server.half_close();
    assert_eq!(end, End::Graceful);
    assert!(bytes == *BYTES, "{} bytes of {SIZE}", bytes.len());
    assert_eq!(putting.wait().unwrap().receipt.expect("a receipt").bytes, SIZE);
}

fn put_of_a_source_that_changes(client: DynAdapter) {
    assert_sends_what_was_read(client, put_while_it_changes);
}

fn get_of_a_source_that_changes(server: DynAdapter) {
    assert_sends_what_was_read(server, get_while_it_changes);
}

servers!(get_of_a_source_that_shrinks, get_of_a_source_that_grows, get_of_a_source_that_changes);
clients!(
    put_of_a_source_that_shrinks,
    put_of_a_source_that_grows,
    put_of_a_source_that_changes,
    put_of_a_log,
);
