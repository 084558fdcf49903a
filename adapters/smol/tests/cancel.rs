//! Every future may be dropped at any await: here each is, at every one of them. The connection is
//! then reset, and nothing else is affected.

mod memory;

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use dataserver_smol::{Config, Entry, Handlers, Key, Receipt, Receiver, Sender, StartPacket};
use futures_lite::{AsyncReadExt, future};

use memory::{End, stream};

const OBJECT: &[u8] = b"an object";
const PUT: StartPacket = StartPacket::put(Key::from_name("object"));
const GET: StartPacket = StartPacket::get(Key::from_name("object"));

/// Drops a future when it has been polled so often. `None` where that was too early for it.
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

/// A table with a put and a get, each until delivered, and whether the put's handler has committed.
fn handlers() -> (Handlers, Arc<AtomicBool>) {
    let committed = Arc::new(AtomicBool::new(false));
    let handlers = Handlers::new();
    let commit = Arc::clone(&committed);
    let put = handlers.on_put(Entry::exact(PUT).until_delivered(), move |object| {
        let commit = Arc::clone(&commit);
        Box::pin(async move {
            let mut received = Vec::new();
            object.read_to_end(&mut received).await?;
            assert_eq!(received, OBJECT);
            commit.store(true, Ordering::Relaxed);
            Ok(())
        })
    });
    put.expect("nothing else is registered");
    let get = handlers
        .on_get(Entry::exact(GET).until_delivered(), |object| Box::pin(object.send(OBJECT)));
    get.expect("nothing else is registered");
    (handlers, committed)
}

async fn serve(handlers: &Handlers, end: End) -> io::Result<Receipt> {
    handlers.serve(end, &Config::default()).await
}

async fn put(end: End) -> io::Result<Receipt> {
    Sender::open(end, PUT, &Config::default())?.send(OBJECT).await
}

async fn get(end: End) -> io::Result<Receipt> {
    let mut object = Receiver::open(end, GET, &Config::default()).await?;
    let mut received = Vec::new();
    object.read_to_end(&mut received).await?;
    assert_eq!(received, OBJECT);
    object.commit().await
}

/// Whether a transfer that is not disturbed succeeds: what is registered can be claimed.
fn succeeds<F: Future<Output = io::Result<Receipt>>>(
    handlers: &Handlers,
    client: impl FnOnce(End) -> F,
) -> bool {
    let (here, there) = stream();
    let (served, received) = future::block_on(future::zip(serve(handlers, there), client(here)));
    assert_eq!(served.is_ok(), received.is_ok());
    received.is_ok()
}

/// Drops the server's side after 1, 2, 3 … polls, until it ends before that. How many it takes.
fn drop_the_server<F: Future<Output = io::Result<Receipt>>>(
    client: impl Fn(End) -> F + Copy,
    may_hold_a_receipt: impl Fn(&AtomicBool) -> bool,
) -> usize {
    for polls in 1.. {
        let (handlers, committed) = handlers();
        let (here, there) = stream();
        let served = dropped_after(polls, serve(&handlers, there));
        let (served, received) = future::block_on(future::zip(served, client(here)));
        match served {
            Some(served) => {
                assert_eq!(served.expect("nobody fails here").bytes, OBJECT.len() as u64);
                assert!(received.is_ok());
                return polls;
            }
            None => {
                if received.is_ok() {
                    assert!(may_hold_a_receipt(&committed), "a receipt for nothing, {polls} polls");
                }
                assert!(succeeds(&handlers, client), "the claim was kept, {polls} polls");
            }
        }
    }
    unreachable!("every transfer ends")
}

/// The same with the client's side.
fn drop_the_client<F: Future<Output = io::Result<Receipt>>>(
    client: impl Fn(End) -> F + Copy,
) -> usize {
    for polls in 1.. {
        let (handlers, _) = handlers();
        let (here, there) = stream();
        let received = dropped_after(polls, client(here));
        let (served, received) = future::block_on(future::zip(serve(&handlers, there), received));
        match received {
            Some(received) => {
                assert_eq!(received.expect("nobody fails here").bytes, OBJECT.len() as u64);
                assert!(served.is_ok());
                return polls;
            }
            // A receiver that has given its receipt may go before it knows that it is done.
            None => assert_ne!(succeeds(&handlers, client), served.is_ok(), "{polls} polls"),
        }
    }
    unreachable!("every transfer ends")
}

#[test]
fn a_server_that_is_dropped_at_any_await_of_a_put_gives_no_receipt_and_keeps_no_claim() {
    let polls = drop_the_server(put, |committed| committed.load(Ordering::Relaxed));
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} awaits were tried");
}

#[test]
fn a_server_that_is_dropped_at_any_await_of_a_get_is_reset_and_keeps_no_claim() {
    let polls = drop_the_server(get, |_| true);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} awaits were tried");
}

#[test]
fn a_client_that_is_dropped_at_any_await_of_a_put_is_seen_to_fail_by_the_server() {
    let polls = drop_the_client(put);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} awaits were tried");
}

#[test]
fn a_client_that_is_dropped_at_any_await_of_a_get_is_seen_to_fail_by_the_server() {
    let polls = drop_the_client(get);
    assert!(polls > StartPacket::LEN + OBJECT.len(), "only {polls} awaits were tried");
}

#[test]
fn a_future_of_an_object_can_be_dropped_and_the_object_goes_on() {
    let (handlers, committed) = handlers();
    let (here, there) = stream();
    let put = async {
        let mut object = Sender::open(here, PUT, &Config::default())?;
        for byte in OBJECT {
            // Dropped while it waits for the stream: nothing has left.
            let mut write = pin!(futures_lite::AsyncWriteExt::write(&mut object, b"x"));
            assert!(future::poll_once(&mut write).await.is_none());
            futures_lite::AsyncWriteExt::write_all(&mut object, &[*byte]).await?;
        }
        while future::poll_once(object.finish()).await.is_none() {
            future::yield_now().await;
        }
        object.finish().await
    };
    let (served, put) = future::block_on(future::zip(serve(&handlers, there), put));
    assert_eq!((served.unwrap().bytes, put.unwrap().bytes), (9, 9));
    assert!(committed.load(Ordering::Relaxed));
}

/// The ways to send a whole object. The file is larger than what is read of it first.
async fn send_whole(object: &mut Sender, way: usize, file: &File) -> io::Result<Receipt> {
    match way {
        0 => object.send(OBJECT).await,
        1 => object.send_reader(OBJECT).await,
        _ => object.send_file(file).await,
    }
}

#[test]
fn a_send_that_is_cancelled_before_its_last_byte_cannot_be_finished() {
    for way in 0..3 {
        for polls in 1..12 {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &[b'x'; 100_000]).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            let committed = Arc::new(AtomicBool::new(false));
            let commit = Arc::clone(&committed);
            let handlers = Handlers::new();
            let put = handlers.on_put(PUT, move |object| {
                let commit = Arc::clone(&commit);
                Box::pin(async move {
                    object.read_to_end(&mut Vec::new()).await?;
                    commit.store(true, Ordering::Relaxed);
                    Ok(())
                })
            });
            put.unwrap();
            let (here, there) = stream();
            let put = async {
                let mut object = Sender::open(here, PUT, &Config::default())?;
                let sent = dropped_after(polls, send_whole(&mut object, way, &file)).await;
                assert!(sent.is_none(), "way {way}: {polls} polls are enough");
                object.finish().await
            };
            let (served, put) = future::block_on(future::zip(serve(&handlers, there), put));
            let error = put.unwrap_err().to_string();
            assert!(error.ends_with("a send was given up before the end of the object"), "{error}");
            served.unwrap_err();
            assert!(!committed.load(Ordering::Relaxed));
        }
    }
}

#[test]
fn what_the_handlers_of_a_table_captured_is_dropped_with_it() {
    let captured = Arc::new(());
    let handlers = Handlers::new();
    let (weak, held) = (handlers.downgrade(), Arc::clone(&captured));
    let put = handlers.on_put(PUT, move |object| {
        let (_weak, _held) = (&weak, &held);
        Box::pin(object.commit())
    });
    put.unwrap();
    drop(handlers);
    assert_eq!(Arc::strong_count(&captured), 1);
}
