//! Handlers and the objects that they were given.

use dataserver_core::{Direction, Entry, LocalError};
use dataserver_tests::{
    DynAdapter, Op, Server, Setup, Wait, assert_reset, cause, get, long_timeouts, object, pairs,
    put,
};

const SEND: [Op; 1] = [Op::Send(Vec::new())];

/// A handler returns the receipt of another connection, and drops its own object at any point.
fn the_receipt_of_another_connection_fails(server: DynAdapter, client: DynAdapter) {
    let first = Server::start(server, Setup::new().on(put(Some(0)), []));
    let sent = client.client(first.address, put(Some(0)), long_timeouts(), &SEND);
    let foreign = sent.unwrap().receipt.unwrap();
    let returns = || Op::ReturnReceipt(foreign);

    let fetch = [Op::ReadToEnd, Op::Commit];
    let send = [Op::Send(object(10))];
    for (packet, handler, script) in [
        (put(Some(10)), vec![returns()], &send[..]),
        (put(Some(10)), vec![Op::Read(5), returns()], &send[..]),
        (put(Some(10)), vec![Op::ReadToEnd, returns()], &send[..]),
        (put(None), vec![Op::ReadToEnd, returns()], &send[..]),
        (get(Some(10)), vec![returns()], &fetch[..]),
        (get(None), vec![Op::Write(object(5)), returns()], &fetch[..]),
        (get(None), vec![Op::Flush, returns()], &fetch[..]),
    ] {
        let direction = packet.direction();
        let entry = Entry::exact(packet).until_delivered();
        let setup = Setup::new().on_entry(direction, entry, handler);
        let server = Server::start(server, setup);
        for _ in 0..2 {
            // It failed, so the entry can be claimed again.
            assert_reset(&client.client(server.address, packet, long_timeouts(), script));
            let reason = "the handler returned the receipt of another object";
            let expected = LocalError::Aborted { reason, code: 0 };
            assert_eq!(cause(&server.outcomes.wait()), expected.into());
        }
    }
}

/// The transfer is a success for both sides, and ends the entry.
fn an_object_that_another_thread_ends_has_ended(server: DynAdapter, client: DynAdapter) {
    let entry = |packet| Entry::exact(packet).until_delivered();
    let setup = Setup::new()
        .on_put(entry(put(Some(10))), [Op::ReadToEnd, Op::EndOnAnotherThread])
        .on_get(entry(get(None)), [Op::Write(object(10)), Op::EndOnAnotherThread]);
    let server = Server::start(server, setup);
    for packet in [put(Some(10)), get(None)] {
        let script = match packet.direction() {
            Direction::Put => vec![Op::Write(object(10)), Op::EndOnAnotherThread],
            Direction::Get => vec![Op::ReadToEnd, Op::EndOnAnotherThread],
        };
        let attempt = || client.client(server.address, packet, long_timeouts(), &script);
        assert_eq!(attempt().unwrap().receipt.unwrap().bytes, 10);
        assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
        assert_reset(&attempt());
        server.outcomes.wait().unwrap_err();
    }
}

/// An error in place of the receipt, although the transfer has succeeded: the peer has its receipt, and
/// the server reports the failure of the handler.
fn a_handler_that_fails_after_the_end_is_reported(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new()
        .on(put(Some(10)), [Op::ReadToEnd, Op::Commit, Op::Fail])
        .on(get(None), [Op::Send(object(10)), Op::Fail]);
    let server = Server::start(server, setup);
    let send = [Op::Send(object(10))];
    let sent = client.client(server.address, put(Some(10)), long_timeouts(), &send);
    assert_eq!(sent.unwrap().receipt.unwrap().bytes, 10);
    let fetch = [Op::ReadToEnd, Op::Commit];
    let got = client.client(server.address, get(None), long_timeouts(), &fetch);
    assert_eq!(got.unwrap().receipt.unwrap().bytes, 10);
    for _ in 0..2 {
        let error = server.outcomes.wait().unwrap_err().to_string();
        let expected = "aborted: the application failed after the end: as the script says";
        assert!(error.ends_with(expected), "{error}");
    }
}

pairs!(
    the_receipt_of_another_connection_fails,
    an_object_that_another_thread_ends_has_ended,
    a_handler_that_fails_after_the_end_is_reported,
);
