//! How large an object a side receives: the smaller of what is configured and what is accepted.

use dataserver_core::{
    Config, Connection, Error, Instant, Key, PeerError, Refusal, StartPacket, Step,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
const GET: StartPacket = StartPacket::get(Key::from_name("start"));

#[test]
fn what_an_object_of_unknown_size_may_have_is_the_smaller_of_both_limits() {
    for (configured, accepted) in [(3, 9), (9, 3), (u64::MAX, 3), (3, u64::MAX)] {
        let mut server = server(configured, PUT);
        server.accept(accepted);
        assert_eq!(server.step(), Step::Receive { max: 3 });
        server.advance(3);
        assert_eq!(server.step(), Step::AwaitEnd);

        let mut whole = server.clone();
        whole.end_of_stream();
        assert_eq!(whole.step(), Step::Commit);

        server.advance(1);
        assert_eq!(server.step(), fails(PeerError::LongerThanAllowed { limit: 3 }));
    }
}

#[test]
fn a_declared_size_above_either_limit_is_refused() {
    let put = PUT.with_size(12).unwrap();
    for (configured, accepted, limit) in [(11, 20, 11), (20, 11, 11), (0, u64::MAX, 0)] {
        let mut server = server(configured, put);
        server.accept(accepted);
        assert_eq!(server.step(), fails(Refusal::TooLarge { declared: 12, limit }));
    }
    let mut server = server(12, put);
    server.accept(12);
    assert_eq!(server.step(), Step::Receive { max: 12 });
}

#[test]
fn nothing_may_be_all_that_is_allowed() {
    let mut server = server(0, PUT);
    server.accept(0);
    assert_eq!(server.step(), Step::AwaitEnd);
    server.end_of_stream();
    assert_eq!(server.step(), Step::Commit);
}

#[test]
fn a_limit_is_for_what_a_side_receives_and_not_for_what_it_sends() {
    let (put, get) = (PUT.with_size(12).unwrap(), GET.with_size(12).unwrap());
    let mut server = server(11, get);
    server.accept(11);
    assert_eq!(server.step(), Step::Send { max: 12 });

    let config = Config { limit: 11, ..Config::default() };
    let client = Connection::client(config, put, Instant::default());
    assert_eq!(client.step(), Step::Write { bytes: put.as_bytes(), payload: 12 });
}

#[test]
fn a_client_refuses_to_get_more_than_its_limit() {
    let config = Config { limit: 11, ..Config::default() };
    let get = GET.with_size(12).unwrap();
    let client = Connection::client(config, get, Instant::default());
    assert_eq!(client.step(), fails(Refusal::TooLarge { declared: 12, limit: 11 }));
    assert_eq!(client.packet(), Some(get));
}

#[test]
fn the_default_chunk_is_4_mib_and_the_default_limit_none() {
    assert_eq!(Config::default().chunk.get(), 4 << 20);
    let mut server = server(Config::default().limit, PUT);
    server.accept(u64::MAX);
    assert_eq!(server.step(), Step::Receive { max: 4 << 20 });
}

/// A server that has read this start packet.
fn server(limit: u64, packet: StartPacket) -> Connection {
    let config = Config { limit, ..Config::default() };
    let mut server = Connection::server(config, Instant::default());
    server.feed(packet.as_bytes());
    server
}

fn fails(error: impl Into<Error>) -> Step<'static> {
    Step::Done(Err(error.into()))
}
