//! *Sources* that change while they are sent: with a declared size that is an error, and without one
//! the object is what was there.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::LazyLock;

use dataserver_adapter::Receipt;
use dataserver_core::{Error as Cause, LocalError};
use dataserver_scenarios::{
    Any, Do, End, Raw, RawListener, Server, Setup, Soon, TempFile, cause, clients, get, object,
    patient, put, servers, spawn, start,
};

/// More than the system takes in for a peer that does not read, and where it is cut off: at the end
/// of a page, as what is cut within one may already be on its way.
const SIZE: u64 = 16 << 20;
const CUT: u64 = 12 << 20;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| object(SIZE as usize));

/// A source, and what happens to it when some of it has left.
struct Changing {
    file: TempFile,
    change: fn(&TempFile),
    /// All there is in the end.
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

/// What the peer got, how it ended, and what the sender says.
type Sent = (Vec<u8>, End, io::Result<Receipt>);

fn put_while_it_changes(
    client: Any,
    declared: Option<u64>,
    script: Vec<Do>,
    it: &Changing,
) -> Sent {
    let listener = RawListener::new();
    let address = listener.address();
    let putting = spawn(move || client.client(address, put(declared), patient(), &script));
    let mut server = listener.accept_start(&start(0, declared.map_or(-1, |size| size as i64)));
    let (bytes, end) = received(&mut server, it);
    server.half_close();
    (bytes, end, putting.soon().map(|outcome| outcome.receipt.expect("a receipt")))
}

fn get_while_it_changes(
    server: Any,
    declared: Option<u64>,
    script: Vec<Do>,
    it: &Changing,
) -> Sent {
    let server = Server::start(server, Setup::new().on(get(declared), script));
    let size = declared.map_or(-1, |size| size as i64);
    let mut client = Raw::client(server.address, &start(1, size));
    let (bytes, end) = received(&mut client, it);
    client.half_close();
    (bytes, end, server.outcomes.soon())
}

fn received(peer: &mut Raw, it: &Changing) -> (Vec<u8>, End) {
    peer.full();
    (it.change)(&it.file);
    peer.rest()
}

type SendIt = fn(Any, Option<u64>, Vec<Do>, &Changing) -> Sent;

/// With a declared size, that is an error which names what was expected and got.
fn less_than_declared(sender: Any, send: SendIt) {
    for way in [Do::SendFile, Do::SendByReading] {
        let it = shrinking();
        let (bytes, end, sent) = send(sender, Some(SIZE), vec![way(it.file.path().into())], &it);
        assert_eq!(end, End::Reset);
        assert!(bytes.len() as u64 <= CUT);
        let shorter = LocalError::ShorterThanDeclared { sent: CUT, declared: SIZE };
        assert_eq!(cause(&sent), shorter.into());
        let text = sent.unwrap_err().to_string();
        assert!(text.contains(&format!("{CUT} of the {SIZE} bytes declared")), "{text}");
    }
}

fn more_than_declared(sender: Any, send: SendIt) {
    for way in [Do::SendFile, Do::SendByReading] {
        let it = growing();
        let (bytes, end, sent) = send(sender, Some(SIZE), vec![way(it.file.path().into())], &it);
        assert_eq!(end, End::Reset);
        assert!(bytes.len() as u64 <= SIZE);
        let longer = Cause::from(LocalError::LongerThanDeclared { declared: SIZE });
        assert_eq!(cause(&sent), longer);
    }
}

/// Without one, the object is what was there.
fn what_was_there(sender: Any, send: SendIt) {
    for way in [Do::SendFile, Do::SendByReading] {
        for it in [shrinking(), growing()] {
            let (bytes, end, sent) = send(sender, None, vec![way(it.file.path().into())], &it);
            assert_eq!(end, End::Orderly);
            assert!(bytes == it.left, "{} bytes of {}", bytes.len(), it.left.len());
            assert_eq!(sent.unwrap().bytes, it.left.len() as u64);
        }
    }
}

fn put_of_a_source_that_shrinks(client: Any) {
    less_than_declared(client, put_while_it_changes);
}

fn get_of_a_source_that_shrinks(server: Any) {
    less_than_declared(server, get_while_it_changes);
}

fn put_of_a_source_that_grows(client: Any) {
    more_than_declared(client, put_while_it_changes);
}

fn get_of_a_source_that_grows(server: Any) {
    more_than_declared(server, get_while_it_changes);
}

fn put_of_a_source_that_changes(client: Any) {
    what_was_there(client, put_while_it_changes);
}

fn get_of_a_source_that_changes(server: Any) {
    what_was_there(server, get_while_it_changes);
}

servers!(get_of_a_source_that_shrinks, get_of_a_source_that_grows, get_of_a_source_that_changes);
clients!(put_of_a_source_that_shrinks, put_of_a_source_that_grows, put_of_a_source_that_changes);
