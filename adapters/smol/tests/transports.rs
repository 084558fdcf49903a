//! What a driver owes to a transport that buffers, to one whose reads are expensive, and to one whose writes
//! fail or are cancelled.

mod memory;

use std::future::Future;
use std::io;
use std::pin::pin;

use dataserver_smol::protocol::Frame;
use dataserver_smol::{
    AbortReason, Config, Error, Handlers, Key, ObjectWriter, Receipt, Request, Session, StartPacket,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

use memory::transport;

const KEY: Key = Key::from_name("object");
const OBJECT: &[u8] = b"an object";

fn handlers() -> Handlers {
    let handlers = Handlers::new();
    let put = handlers.on_put(KEY, |mut object| async move {
        object.read_to_end(&mut Vec::new()).await?;
        Ok::<_, io::Error>(object.commit().await?)
    });
    put.unwrap();
    handlers.on_get(KEY, |object| object.send(OBJECT)).unwrap();
    handlers
}

/// The server has the receipt of the last object, which no later step of the client flushes.
#[test]
fn a_transport_that_buffers_carries_a_session() {
    let (here, there) = transport();
    let config = Config::default();
    let mut outcomes = Vec::new();
    let handlers = handlers();
    let served =
        handlers.serve_session(there.buffering(), &config, |outcome| outcomes.push(outcome));
    let client = async {
        let mut session = Session::over(here.buffering(), &config);
        assert_eq!(session.put(KEY).await.unwrap().send(OBJECT).await.unwrap().bytes, 9);
        let mut object = session.get(KEY).await.unwrap();
        object.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(object.commit().await.unwrap().bytes, 9);
    };
    future::block_on(future::zip(served, client));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "{outcomes:?}");
}

#[test]
fn a_transport_that_buffers_delivers_the_reason_of_a_refusal() {
    let (here, there) = transport();
    let (handlers, config) = (Handlers::new(), Config::default());
    let request = Request::new(KEY).framed();
    let sent = ObjectWriter::open(here.buffering(), request, &config).send(OBJECT);
    let served = handlers.serve(there.buffering(), &config);
    let (served, sent) = future::block_on(future::zip(served, sent));
    assert_eq!(sent.unwrap_err().abort_reason(), Some(AbortReason::Refused));
    assert!(served.unwrap_err().is_refused());
}

#[test]
fn a_transport_that_buffers_delivers_the_end_of_a_session() {
    let (mut here, there) = transport();
    let (handlers, config) = (handlers(), Config::default());
    let client = async {
        here.write_all(StartPacket::put(KEY).framed().as_bytes()).await.unwrap();
        here.write_all(&Frame::Last { len: 0 }.to_bytes()).await.unwrap();
        let mut answer = [0; 2 * Frame::LEN];
        here.read_exact(&mut answer).await.unwrap();
        let closing = Frame::Abort(AbortReason::Closing).to_bytes();
        assert_eq!(answer[..], [Frame::Receipt { size: 0 }.to_bytes(), closing].concat());
    };
    let served = handlers.serve(there.buffering(), &config);
    future::block_on(future::zip(served, client)).0.unwrap();
}

/// The application wants that the start packet leaves, and nothing else makes it leave.
#[test]
fn a_flush_of_the_application_reaches_a_transport_that_buffers() {
    let (here, mut there) = transport();
    let request = Request::new(KEY).framed();
    let mut object = ObjectWriter::open(here.buffering(), request, &Config::default());
    future::block_on(object.flush()).unwrap();
    let mut sent = [0; StartPacket::LEN];
    let read = future::block_on(async {
        let mut read = pin!(there.read_exact(&mut sent));
        for _ in 0..3 * StartPacket::LEN {
            if let Some(read) = future::poll_once(&mut read).await {
                return read;
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    });
    read.unwrap();
    assert_eq!(&sent, StartPacket::put(KEY).framed().as_bytes());
}

/// The handler reads one byte at a time. What comes behind a malformed frame is not read like that.
#[test]
fn what_is_dropped_after_an_abort_is_read_in_large_pieces() {
    const FLOOD: usize = 10_000;
    let (mut here, there) = transport();
    let (seen, config) = (there.seen(), Config::default());
    let handlers = Handlers::new();
    let put = handlers.on_put(KEY, |mut object| async move {
        while object.read(&mut [0]).await? > 0 {}
        Ok::<_, io::Error>(object.commit().await?)
    });
    put.unwrap();
    let client = async {
        here.write_all(StartPacket::put(KEY).framed().as_bytes()).await.unwrap();
        here.write_all(&Frame::Data { len: 1 }.to_bytes()).await.unwrap();
        here.write_all(&[9; 1 + Frame::LEN]).await.unwrap(); // the body, and what is no frame
        here.write_all(&[9; FLOOD]).await.unwrap();
        here.close().await.unwrap();
    };
    future::block_on(future::zip(handlers.serve(there, &config), client)).0.unwrap_err();
    let reads = std::mem::take(&mut seen.lock().unwrap().reads); // of a byte each
    assert!(reads.len() > FLOOD, "only {} bytes were read", reads.len());
    let in_small = reads.iter().filter(|room| **room < 4096).count();
    assert!(in_small < 1000, "{in_small} of {} bytes were read in small pieces", reads.len());
}

/// Runs `transfer` over a transport whose writes fail behind each number of bytes below `total`, and asserts
/// that nothing was tried after the first of them.
fn fail_each_write<F: Future<Output = Result<Receipt, Error>>>(
    first: &[u8],
    total: usize,
    transfer: impl Fn(memory::End) -> F,
) {
    for room in 0..total {
        let (mut here, there) = transport();
        let seen = there.seen();
        let client = async {
            here.write_all(first).await.unwrap();
            here.read_exact(&mut vec![0; room]).await.unwrap();
            here.close().await.unwrap();
        };
        let (result, ()) =
            future::block_on(future::zip(transfer(there.failing_after(room)), client));
        result.unwrap_err();
        assert_eq!(seen.lock().unwrap().failed_writes, 1, "with room for {room} bytes");
    }
}

/// An ABORT would complete a frame whose rest may or may not have left.
#[test]
fn nothing_is_written_after_a_write_that_failed() {
    fail_each_write(&[], StartPacket::LEN + Frame::LEN + OBJECT.len(), |transport| async {
        let request = Request::new(KEY).framed();
        ObjectWriter::open(transport, request, &Config::default()).send(OBJECT).await
    });
    let serve = |transport| async { handlers().serve(transport, &Config::default()).await };
    let get = StartPacket::get(KEY).framed();
    fail_each_write(get.as_bytes(), Frame::LEN + OBJECT.len(), serve);
    let put = StartPacket::put(KEY).framed();
    let put = [&put.as_bytes()[..], &Frame::Last { len: 0 }.to_bytes()].concat();
    fail_each_write(&put, Frame::LEN, serve);
}

/// Polls a future this often, and then drops it.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Some(output) = future::poll_once(&mut future).await {
            return Some(output);
        }
    }
    None
}

/// An ABORT within a body would be taken for bytes of the object, and one within a header for the rest of
/// the header.
#[test]
fn nothing_is_written_after_a_write_that_was_cancelled() {
    let frame = [&Frame::Last { len: 9 }.to_bytes()[..], OBJECT].concat();
    let mut lengths = Vec::new();
    for polls in 1.. {
        let handlers = Handlers::new();
        let result = handlers.on_get(KEY, move |object| async move {
            match dropped_after(polls, object.send(OBJECT)).await {
                Some(sent) => sent.map_err(|error| error.to_string()),
                None => Err("it took too long".to_owned()),
            }
        });
        result.unwrap();
        let (mut here, there) = transport();
        let (seen, config) = (there.seen(), Config::default());
        let client = async {
            here.write_all(StartPacket::get(KEY).framed().as_bytes()).await.unwrap();
            let (mut header, mut body) = ([0; Frame::LEN], [0; OBJECT.len()]);
            let is_object =
                here.read_exact(&mut header).await.is_ok() && frame.starts_with(&header);
            if is_object && here.read_exact(&mut body).await.is_ok() {
                here.write_all(&Frame::Receipt { size: 9 }.to_bytes()).await.ok(); // it may have gone
            }
            // Otherwise the reason has come, or nothing more.
            here.close().await.ok();
        };
        let served = future::block_on(future::zip(handlers.serve(there, &config), client)).0;
        let written = std::mem::take(&mut seen.lock().unwrap().written);
        served.unwrap_err(); // the handler does not wait for the receipt
        if written == frame {
            break;
        }
        let aborted = Frame::Abort(AbortReason::Failed { code: 0 }).to_bytes();
        assert!(frame.starts_with(&written) || written == aborted, "{polls} polls: {written:?}");
        lengths.push(written.len());
    }
    assert!((1..frame.len()).all(|len| lengths.contains(&len)), "{lengths:?}");
}

/// The same for a client, whose object is dropped with its connection.
#[test]
fn nothing_is_written_after_a_put_that_was_dropped() {
    let packet = StartPacket::put(KEY).framed().with_size(9).unwrap();
    let bytes = [&packet.as_bytes()[..], &Frame::Last { len: 9 }.to_bytes(), OBJECT].concat();
    for polls in 1..2 * bytes.len() {
        let (here, there) = transport();
        let (seen, config) = (here.seen(), Config::default());
        let request = Request::new(KEY).framed();
        let put = dropped_after(polls, ObjectWriter::open(here, request, &config).send(OBJECT));
        let handlers = handlers();
        let (served, sent) = future::block_on(future::zip(handlers.serve(there, &config), put));
        assert!(sent.is_none(), "{polls} polls are enough");
        if seen.lock().unwrap().written.len() < bytes.len() {
            served.unwrap_err();
        }
        let written = std::mem::take(&mut seen.lock().unwrap().written);
        assert!(bytes.starts_with(&written), "{polls} polls: {written:?}");
    }
}
