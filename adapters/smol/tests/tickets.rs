//! A server whose tickets are in a store that others share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use dataserver_smol::{
    AbortReason, ClaimError, Claimed, Client, Delivery, Error, Key, LeaseError, Receipt, Refusal,
    Request, Server, StartPacket, TicketObject, TicketStore,
};
use futures_lite::AsyncReadExt;

const TICKET: Key = Key::from_bytes([1; 16]);
const LOCAL: Key = Key::from_bytes([2; 16]);
const UNKNOWN: Key = Key::from_bytes([3; 16]);

#[derive(Clone, Default)]
struct Store(Arc<State>);

#[derive(Default)]
struct State {
    is_away: AtomicBool,
    is_lost: AtomicBool,
    claims: AtomicUsize,
    renewals: AtomicUsize,
    delivered: AtomicUsize,
    failed: AtomicUsize,
    committed: AtomicUsize,
}

impl TicketStore for Store {
    type Ticket = Vec<u8>;
    type Lease = ();

    fn claim(
        &self,
        packet: &StartPacket,
        _limit: Option<u64>,
    ) -> Result<Claimed<Vec<u8>, ()>, ClaimError> {
        self.0.claims.fetch_add(1, Ordering::SeqCst);
        match packet.key() {
            _ if self.0.is_away.load(Ordering::SeqCst) => {
                Err(ClaimError::Unavailable("away".into()))
            }
            TICKET => Ok(Claimed { ticket: b"hello".to_vec(), limit: Some(9), lease: () }),
            _ => Err(Refusal::NotRegistered.into()),
        }
    }

    fn renew(&self, (): &()) -> Result<(), LeaseError> {
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        if self.0.is_lost.load(Ordering::SeqCst) { Err(LeaseError::Lost) } else { Ok(()) }
    }

    fn finish(&self, (): (), delivery: Delivery) -> Result<(), LeaseError> {
        let counter = match delivery {
            Delivery::Succeeded => &self.0.delivered,
            Delivery::Failed => &self.0.failed,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A server with an entry of its own for [`LOCAL`]. The handler of the tickets expects the ticket's bytes.
fn start(store: &Store) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0").unwrap();
    server.on_get(LOCAL, |object| object.send(b"local")).unwrap();
    let state = Arc::clone(&store.0);
    server.on_tickets(store.clone(), move |object, data| {
        let state = Arc::clone(&state);
        async move {
            match object {
                TicketObject::Get(object) => object.send(&data).await.map_err(Into::into),
                TicketObject::Put(mut object) => {
                    let mut received = Vec::new();
                    object.read_to_end(&mut received).await?;
                    state.committed.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(received, data);
                    Ok::<_, std::io::Error>(object.commit().await?)
                }
            }
        }
    });
    let address = server.local_addr();
    thread::spawn(move || smol::block_on(server.run(|task| smol::spawn(task).detach())));
    address
}

fn get(address: SocketAddr, key: Key) -> Result<String, Error> {
    smol::block_on(async {
        let mut object = Client::new(address)?.get(Request::new(key).framed()).await?;
        let mut text = String::new();
        match object.read_to_string(&mut text).await {
            Ok(_) => object.commit().await.map(|_| text),
            Err(error) => Err(Error::of(&error).unwrap().clone()),
        }
    })
}

fn put(address: SocketAddr, request: impl Into<Request>) -> Result<Receipt, Error> {
    let request = request.into();
    smol::block_on(async { Client::new(address)?.put(request).await?.send(b"hello").await })
}

/// The counter has this value when the server has done what follows the receipt.
fn eventually(counter: &AtomicUsize, value: usize) {
    while counter.load(Ordering::SeqCst) != value {
        thread::yield_now();
    }
}

#[test]
fn a_ticket_is_served_with_its_bytes_and_finished() {
    let store = Store::default();
    let address = start(&store);
    assert_eq!(get(address, TICKET).unwrap(), "hello");
    put(address, Request::new(TICKET).framed()).unwrap();
    put(address, TICKET).unwrap();
    eventually(&store.0.delivered, 3);
    assert_eq!(store.0.committed.load(Ordering::SeqCst), 2);
    assert_eq!(store.0.failed.load(Ordering::SeqCst), 0);
}

#[test]
fn entries_of_the_server_come_first() {
    let store = Store::default();
    assert_eq!(get(start(&store), LOCAL).unwrap(), "local");
    assert_eq!(store.0.claims.load(Ordering::SeqCst), 0);
}

#[test]
fn what_the_store_refuses_is_refused() {
    let error = get(start(&Store::default()), UNKNOWN).unwrap_err();
    assert_eq!(error.abort_reason(), Some(AbortReason::Refused), "{error}");
}

#[test]
fn a_store_that_cannot_answer_is_busy_and_entries_of_the_server_go_on() {
    let store = Store::default();
    let address = start(&store);
    store.0.is_away.store(true, Ordering::SeqCst);
    let error = get(address, TICKET).unwrap_err();
    assert_eq!(error.abort_reason(), Some(AbortReason::Busy), "{error}");
    let bare = put(address, TICKET).unwrap_err();
    assert!(bare.is_reset(), "{bare}");
    assert_eq!(get(address, LOCAL).unwrap(), "local");
    assert_eq!(store.0.committed.load(Ordering::SeqCst), 0);
}

#[test]
fn a_handler_learns_before_it_commits_that_the_lease_was_lost() {
    let store = Store::default();
    let address = start(&store);
    store.0.is_lost.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        put(address, Request::new(TICKET).framed()).unwrap_err();
        put(address, TICKET).unwrap_err();
        get(address, TICKET).unwrap_err();
    }
    eventually(&store.0.failed, 6);
    assert_eq!(store.0.committed.load(Ordering::SeqCst), 0);
    assert_eq!(store.0.delivered.load(Ordering::SeqCst), 0);
}
