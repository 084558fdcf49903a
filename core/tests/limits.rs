//! The limit on the size of a received object: the smaller of the configured and the accepted limit.

use dataserver_core::{
    Cause, Config, Connection, Instant, Key, PeerError, Refusal, StartPacket, Step,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));

#[test]
fn an_object_of_unknown_size_is_limited_by_the_smaller_limit() {
    for (configured, accepted) in
        [(Some(3), Some(9)), (Some(9), Some(3)), (None, Some(3)), (Some(3), None)]
    {
        let mut server = server(configured, PUT);
        server.accept(accepted);
        assert_eq!(server.step(), Step::Receive { max: 3 });
        server.handle_moved(3);
        assert_eq!(server.step(), Step::AwaitEnd);

        let mut whole = server.clone();
        whole.handle_end_of_stream();
        assert_eq!(whole.step(), Step::Commit);

        server.handle_moved(1);
        assert_eq!(server.step(), fails(PeerError::LongerThanAllowed { limit: 3 }));
    }
}

#[test]
fn a_declared_size_above_either_limit_is_refused() {
    let put = PUT.with_size(12).unwrap();
    for (configured, accepted, limit) in [
        (Some(11), Some(20), 11),
        (Some(20), Some(11), 11),
        (Some(0), None, 0),
        (None, Some(11), 11),
    ] {
        let mut server = server(configured, put);
        server.accept(accepted);
        assert_eq!(server.step(), fails(Refusal::TooLarge { declared: 12, limit }));
    }
    let mut server = server(Some(12), put);
    server.accept(Some(12));
    assert_eq!(server.step(), Step::Receive { max: 12 });
}

#[test]
fn a_limit_of_zero_allows_only_empty_objects() {
    let mut server = server(Some(0), PUT);
    server.accept(Some(0));
    assert_eq!(server.step(), Step::AwaitEnd);
    let mut longer = server.clone();
    server.handle_end_of_stream();
    assert_eq!(server.step(), Step::Commit);
    longer.handle_moved(1);
    assert_eq!(longer.step(), fails(PeerError::LongerThanAllowed { limit: 0 }));
}

#[test]
fn a_limit_applies_to_received_objects_only() {
    let (put, get) = (PUT.with_size(12).unwrap(), GET.with_size(12).unwrap());
    let mut server = server(Some(11), get);
    server.accept(Some(11));
    assert_eq!(server.step(), Step::Send { max: 12 });

    let config = Config::default().max_object_size(11);
    let client = Connection::client(config, put, Instant::default());
    assert_eq!(client.step(), Step::Write { bytes: put.as_bytes(), payload: 12 });
}

#[test]
fn a_client_refuses_a_get_that_declares_more_than_its_limit() {
    let config = Config::default().max_object_size(11);
    let get = GET.with_size(12).unwrap();
    let client = Connection::client(config, get, Instant::default());
    assert_eq!(client.step(), fails(Refusal::TooLarge { declared: 12, limit: 11 }));
    assert_eq!(client.packet(), Some(get));
}

#[test]
fn the_default_chunk_is_4_mib_and_there_is_no_default_limit() {
    assert_eq!(Config::default().chunk.get(), 4 << 20);
    assert_eq!(Config::default().max_object_size, None);
    let mut server = server(None, PUT);
    server.accept(None);
    assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
}

/// Returns a server that has read this start packet.
fn server(limit: Option<u64>, packet: StartPacket) -> Connection {
    let config = Config::default().max_object_size(limit);
    let mut server = Connection::server(config, Instant::default());
    server.handle_read(packet.as_bytes());
    server
}

fn fails(error: impl Into<Cause>) -> Step<'static> {
    Step::Done(Err(error.into()))
}
