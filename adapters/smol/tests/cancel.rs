//! Every future may be dropped at any await point: these tests drop it at each of them. The connection is
//! then reset, and nothing else is affected.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod memory;

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use dataserver_smol::{
    Config, Entry, Error, Handlers, Key, ObjectReader, ObjectWriter, Receipt, StartPacket,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

use memory::{End, transport};

const OBJECT: &[u8] = b"an object";
const KEY: Key = Key::from_name("object");

/// Drops a future after this many polls, and then returns `None`.
struct DroppedAfter<F> {
    polls: usize,
    future: Option<Pin<Box<F>>>,
}

fn dropped_after<F: Future>(polls: usize, future: F) -> DroppedAfter<F> {
    DroppedAfter { polls, future: Some(Box::pin(future)) }
}

impl<F: Future> Future for DroppedAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.future {
            Some(future) => future.as_mut().poll(cx),
            None => return Poll::Ready(None),
        };
        self.polls = self.polls.saturating_sub(1);
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.polls == 0 => {
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Handlers of a put and a get, each until delivered, and whether that of the put has committed.
fn handlers() -> (Handlers, Arc<AtomicBool>) {
    let committed = Arc::new(AtomicBool::new(false));
    let handlers = Handlers::new();
    let commit = Arc::clone(&committed);
    let put = handlers.on_put(Entry::new(KEY).until_delivered(), move |mut object| {
        let commit = Arc::clone(&commit);
        async move {
            let mut received = Vec::new();
            object.read_to_end(&mut received).await?;
            assert_eq!(received, OBJECT);
            commit.store(true, Ordering::Relaxed);
            Ok::<_, io::Error>(object.commit().await?)
        }
    });
    put.expect("a new entry");
    let get = handlers.on_get(Entry::new(KEY).until_delivered(), |object| object.send(OBJECT));
    get.expect("a new entry");
    (handlers, committed)
}

async fn serve(handlers: &Handlers, end: End) -> Result<Receipt, Error> {
    handlers.serve(end, &Config::default()).await
}

async fn put(end: End) -> Result<Receipt, Error> {
    ObjectWriter::open(end, KEY, &Config::default()).send(OBJECT).await
}

async fn get(end: End) -> Result<Receipt, Error> {
    let mut object = ObjectReader::open(end, KEY, &Config::default()).await?;
    let mut received = Vec::new();
    if object.read_to_end(&mut received).await.is_ok() {
        assert_eq!(received, OBJECT);
    } // otherwise the commit returns the error
    object.commit().await
}

/// Whether an undisturbed transfer succeeds, so that the entry can be claimed.
fn succeeds<F: Future<Output = Result<Receipt, Error>>>(
    handlers: &Handlers,
    client: impl FnOnce(End) -> F,
) -> bool {
    let (here, there) = transport();
    let (served, received) = future::block_on(future::zip(serve(handlers, there), client(here)));
    assert_eq!(served.is_ok(), received.is_ok());
    received.is_ok()
}

/// Drops the side of the server after 1, 2, 3 … polls, until it ends before that. Returns how many polls
/// it takes.
fn drop_the_server<F: Future<Output = Result<Receipt, Error>>>(
    client: impl Fn(End) -> F + Copy,
    may_have_a_receipt: impl Fn(&AtomicBool) -> bool,
) -> usize {
    for polls in 1.. {
        let (handlers, committed) = handlers();
        let (here, there) = transport();
        let served = dropped_after(polls, serve(&handlers, there));
        let (served, received) = future::block_on(future::zip(served, client(here)));
        match served {
            Some(served) => {
                assert_eq!(served.expect("a receipt").bytes, OBJECT.len() as u64);
                assert!(received.is_ok());
                return polls;
            }
            None => {
                if received.is_ok() {
                    assert!(may_have_a_receipt(&committed), "no commit after {polls} polls");
                }
                assert!(succeeds(&handlers, client), "the claim was kept after {polls} polls");
            }
        }
    }
    unreachable!("every transfer ends")
}

/// The same for the side of the client.
fn drop_the_client<F: Future<Output = Result<Receipt, Error>>>(
    client: impl Fn(End) -> F + Copy,
) -> usize {
    for polls in 1.. {
        let (handlers, _) = handlers();
        let (here, there) = transport();
        let received = dropped_after(polls, client(here));
        let (served, received) = future::block_on(future::zip(serve(&handlers, there), received));
        match received {
            Some(received) => {
                assert_eq!(received.expect("a receipt").bytes, OBJECT.len() as u64);
                assert!(served.is_ok());
                return polls;
            }
            // A receiver that is dropped after it has sent the receipt has succeeded for its peer.
            None => assert_ne!(succeeds(&handlers, client), served.is_ok(), "{polls} polls"),
        }
    }
    unreachable!("every transfer ends")
}

#[test]
fn a_server_dropped_at_any_await_of_a_put_gives_no_receipt_and_keeps_no_claim() {
    let polls = drop_the_server(put, |committed| committed.load(Ordering::Relaxed));
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} await points were tried");
}

#[test]
fn a_server_dropped_at_any_await_of_a_get_keeps_no_claim() {
    let polls = drop_the_server(get, |_| true);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} await points were tried");
}

#[test]
fn a_client_dropped_at_any_await_of_a_put_fails_the_server() {
    let polls = drop_the_client(put);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} await points were tried");
}

#[test]
fn a_client_dropped_at_any_await_of_a_get_fails_the_server() {
    let polls = drop_the_client(get);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} await points were tried");
}

#[test]
fn an_object_goes_on_after_the_future_of_a_write_or_a_close_was_dropped() {
    let (handlers, committed) = handlers();
    let (here, there) = transport();
    let put = async {
        let mut object = ObjectWriter::open(here, KEY, &Config::default());
        for byte in OBJECT {
            {
                // Dropped while it waits for the transport: nothing was written.
                let mut write = pin!(object.write(b"x"));
                assert!(future::poll_once(&mut write).await.is_none());
            }
            object.write_all(&[*byte]).await.expect("a transport");
        }
        while future::poll_once(object.close()).await.is_none() {
            future::yield_now().await;
        }
        object.finish().await
    };
    let (served, put) = future::block_on(future::zip(serve(&handlers, there), put));
    assert_eq!((served.unwrap().bytes, put.unwrap().bytes), (9, 9));
    assert!(committed.load(Ordering::Relaxed));
}

/// The ways to send a whole object. The file is larger than what is read of it first.
async fn send_whole(object: ObjectWriter, way: usize, file: &File) -> Result<Receipt, Error> {
    match way {
        0 => object.send(OBJECT).await,
        1 => object.send_reader(OBJECT).await,
        _ => object.send_file(file).await,
    }
}

#[test]
fn a_send_that_is_cancelled_before_its_last_byte_is_not_committed() {
    for way in 0..3 {
        for polls in 1..12 {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &[b'x'; 100_000]).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            let committed = Arc::new(AtomicBool::new(false));
            let commit = Arc::clone(&committed);
            let handlers = Handlers::new();
            let result = handlers.on_put(KEY, move |mut object| {
                let commit = Arc::clone(&commit);
                async move {
                    object.read_to_end(&mut Vec::new()).await?;
                    commit.store(true, Ordering::Relaxed);
                    Ok::<_, io::Error>(object.commit().await?)
                }
            });
            result.unwrap();
            let (here, there) = transport();
            let object = ObjectWriter::open(here, KEY, &Config::default());
            let put = dropped_after(polls, send_whole(object, way, &file));
            let (served, sent) = future::block_on(future::zip(serve(&handlers, there), put));
            assert!(sent.is_none(), "way {way}: {polls} polls are enough");
            let error = served.unwrap_err();
            assert!(error.is_reset(), "{error}");
            assert!(!committed.load(Ordering::Relaxed));
        }
    }
}

#[test]
fn a_handler_that_cancels_its_send_fails() {
    for polls in 1..=OBJECT.len() {
        let handlers = Handlers::new();
        let result = handlers.on_get(KEY, move |object| async move {
            let sent = dropped_after(polls, object.send(OBJECT)).await;
            assert!(sent.is_none(), "{polls} polls are enough");
            Err::<Receipt, _>("it took too long")
        });
        result.unwrap();
        let (here, there) = transport();
        let (served, received) = future::block_on(future::zip(serve(&handlers, there), get(here)));
        let error = served.unwrap_err().to_string();
        assert!(error.ends_with("a send was given up before the end of the object"), "{error}");
        assert!(received.unwrap_err().is_reset());
    }
}

/// A handler that gives its object away and returns fails, and the object is of no use afterwards.
#[test]
fn a_handler_that_returns_before_its_object_has_ended_fails() {
    let (sender, objects) = smol::channel::bounded::<ObjectReader>(1);
    let handlers = Handlers::new();
    let result = handlers.on_put(Entry::new(KEY).until_delivered(), move |object| {
        let sender = sender.clone();
        async move {
            sender.send(object).await.expect("a receiver");
            Err::<Receipt, _>("moved away")
        }
    });
    result.unwrap();
    let (here, there) = transport();
    let served = async {
        let error = serve(&handlers, there).await.unwrap_err();
        let mut object = objects.recv().await.expect("an object");
        object.read_to_end(&mut Vec::new()).await.unwrap_err();
        (error.to_string(), object.commit().await)
    };
    let ((error, committed), sent) = future::block_on(future::zip(served, put(here)));
    assert!(error.ends_with("aborted: the handler failed: moved away"), "{error}");
    committed.unwrap_err();
    assert!(sent.unwrap_err().is_reset());
}

/// What was sent before the end is the object: a later send must not pass for it.
#[test]
fn an_object_that_was_closed_cannot_be_sent() {
    let (handlers, _) = handlers();
    let (here, there) = transport();
    let put = async {
        let mut object = ObjectWriter::open(here, KEY, &Config::default());
        object.write_all(OBJECT).await.unwrap();
        object.close().await.unwrap();
        object.send(b"more").await
    };
    let (served, put) = future::block_on(future::zip(serve(&handlers, there), put));
    assert_eq!(served.unwrap().bytes, OBJECT.len() as u64);
    let error = put.unwrap_err().to_string();
    assert!(error.contains("the application failed after the end"), "{error}");
}

/// The peer has its receipt, so the entry has ended, although the handler has not.
#[test]
fn a_handler_that_is_canceled_after_the_receipt_has_delivered() {
    let handlers = Handlers::new();
    let result = handlers.on_put(Entry::new(KEY).until_delivered(), |mut object| async move {
        object.read_to_end(&mut Vec::new()).await?;
        let receipt = object.commit().await?;
        future::pending::<()>().await;
        Ok::<_, io::Error>(receipt)
    });
    result.unwrap();
    let (here, there) = transport();
    let served = async {
        future::or(async { Some(serve(&handlers, there).await) }, async {
            put(here).await.unwrap();
            None
        })
        .await
    };
    assert!(future::block_on(served).is_none());
    let (here, there) = transport();
    let (served, sent) = future::block_on(future::zip(serve(&handlers, there), put(here)));
    assert!(served.unwrap_err().is_refused());
    sent.unwrap_err();
}

/// The peer of the other connection has a receipt, and the peer of this one has none.
#[test]
fn the_receipt_of_another_object_is_an_error() {
    let (handlers, _) = handlers();
    let forward = Key::from_name("forward");
    let inner = handlers.downgrade();
    let result = handlers.on_put(forward, move |mut object| {
        let inner = inner.upgrade().expect("the handlers are served");
        async move {
            object.read_to_end(&mut Vec::new()).await?;
            let (here, there) = transport();
            let (served, receipt) = future::zip(serve(&inner, there), get(here)).await;
            served?;
            Ok::<_, io::Error>(receipt?)
        }
    });
    result.unwrap();
    let (here, there) = transport();
    let put = ObjectWriter::open(here, forward, &Config::default()).send(OBJECT);
    let (served, sent) = future::block_on(future::zip(serve(&handlers, there), put));
    let error = served.unwrap_err();
    assert_eq!(
        error.cause().unwrap(),
        dataserver_smol::LocalError::Aborted {
            reason: "the handler returned the receipt of another object",
            code: 0
        }
        .into()
    );
    assert!(sent.unwrap_err().is_reset());
}

#[test]
fn the_captures_of_handlers_are_dropped_with_the_handlers() {
    let captured = Arc::new(());
    let handlers = Handlers::new();
    let (weak, held) = (handlers.downgrade(), Arc::clone(&captured));
    let result = handlers.on_put(KEY, move |object| {
        let (_weak, _held) = (&weak, &held);
        object.commit()
    });
    result.unwrap();
    drop(handlers);
    assert_eq!(Arc::strong_count(&captured), 1);
}
