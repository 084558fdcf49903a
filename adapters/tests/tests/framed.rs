//! The framed format: receipts, reasons and sessions, over any stream.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_common::Error;
use dataserver_core::{AbortReason, Cause, Config, Entry, Frame, PeerError, Timeouts, Timer};
use dataserver_tests::{
    ConnectedStream, DynAdapter, End, Gate, KEY, Op, Raw, RawListener, Server, Setup, Wait, cause,
    clients, get, long_timeouts, object, pairs, put, servers, spawn, start, tcp_pairs,
};

const PUT: u8 = 128;
const GET: u8 = 129;

fn data(body: &[u8]) -> Vec<u8> {
    [&Frame::Data { len: body.len() as u64 }.to_bytes()[..], body].concat()
}

fn last(body: &[u8]) -> Vec<u8> {
    [&Frame::Last { len: body.len() as u64 }.to_bytes()[..], body].concat()
}

fn receipt(size: u64) -> Vec<u8> {
    Frame::Receipt { size }.to_bytes().to_vec()
}

fn abort(reason: AbortReason) -> Vec<u8> {
    Frame::Abort(reason).to_bytes().to_vec()
}

fn reason<T: std::fmt::Debug>(result: &std::io::Result<T>) -> Option<AbortReason> {
    Error::of(result.as_ref().expect_err("an error was expected")).and_then(Error::abort_reason)
}

fn one_registration_serves_both_formats(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_get(KEY, [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    for packet in [get(None), get(None).framed(), get(Some(10)), get(Some(10)).framed()] {
        let script = [Op::ReadToEnd, Op::Commit];
        let got = client.client(server.address, packet, long_timeouts(), &script).unwrap();
        assert_eq!(got.bytes, object(10));
        assert_eq!(server.outcomes.wait().unwrap().packet, packet);
    }
}

fn an_entry_may_demand_frames(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_get(Entry::new(KEY).framed_only(), [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let script = [Op::ReadToEnd, Op::Commit];
    client.client(server.address, get(None), long_timeouts(), &script).unwrap_err();
    server.outcomes.wait().unwrap_err();
    client.client(server.address, get(None).framed(), long_timeouts(), &script).unwrap();
}

fn a_refusal_is_told_with_its_reason(server: DynAdapter, client: DynAdapter) {
    let gate = Gate::new();
    let (began, beginning) = channel();
    let once = Entry::new(KEY).until_delivered().max_size(10);
    let script = [Op::Notify(began), Op::Wait(gate.clone()), Op::ReadToEnd];
    let setup = Setup::new().on_put(once, script);
    let server = Server::start(server, setup);
    let put_of = |size: usize| {
        let packet = put(Some(size as u64)).framed();
        client.client(server.address, packet, long_timeouts(), &[Op::Send(object(size))])
    };
    assert_eq!(reason(&put_of(11)), Some(AbortReason::TooLarge { limit: 10 }));
    server.outcomes.wait().unwrap_err();

    let mut first = Raw::client(server.address, &[start(PUT, 10), last(&object(10))].concat());
    beginning.wait();
    assert_eq!(reason(&put_of(10)), Some(AbortReason::Busy));
    server.outcomes.wait().unwrap_err();
    gate.open();
    assert_eq!(first.read(12), receipt(10));
    server.outcomes.wait().unwrap();
    assert_eq!(reason(&put_of(10)), Some(AbortReason::Refused));
}

fn a_refusal_of_a_large_put_is_told_too(server: DynAdapter, client: DynAdapter) {
    let server = Server::start(server, Setup::new());
    for size in [1 << 20, 12 << 20] {
        let script = [Op::Send(object(size))];
        let sent = client.client(server.address, put(None).framed(), long_timeouts(), &script);
        assert_eq!(reason(&sent), Some(AbortReason::Refused));
        server.outcomes.wait().unwrap_err();
    }
}

fn a_handler_that_fails_is_no_receipt(server: DynAdapter, client: DynAdapter) {
    for handler in [
        vec![Op::Fail],
        vec![Op::Panic],
        vec![Op::Read(5), Op::Fail],
        vec![Op::ReadToEnd, Op::Fail],
        vec![Op::Read(5), Op::Commit],
    ] {
        let server = Server::start(server, Setup::new().on_put(KEY, handler.clone()));
        let script = [Op::Send(object(10))];
        let packet = put(Some(10)).framed();
        let sent = client.client(server.address, packet, long_timeouts(), &script);
        assert_eq!(reason(&sent), Some(AbortReason::Failed { code: 0 }), "{handler:?}");
        server.outcomes.wait().unwrap_err();
    }
}

fn a_sender_that_fails_tells_the_receiver(server: DynAdapter, client: DynAdapter) {
    for handler in [vec![Op::Fail], vec![Op::Panic], vec![Op::Write(object(5)), Op::Fail]] {
        let server = Server::start(server, Setup::new().on_get(KEY, handler.clone()));
        let script = [Op::ReadToEnd, Op::Commit];
        let packet = get(None).framed();
        let got = client.client(server.address, packet, long_timeouts(), &script);
        assert_eq!(reason(&got), Some(AbortReason::Failed { code: 0 }), "{handler:?}");
        server.outcomes.wait().unwrap_err();
    }
}

/// The receiver commits only what the sender has ended.
fn the_end_of_the_stream_is_not_the_end_of_the_object(server: DynAdapter) {
    let (stored, storing) = channel();
    let setup = Setup::new().on_put(KEY, [Op::ReadToEnd, Op::Notify(stored)]);
    let server = Server::start(server, setup);
    for bytes in [vec![], data(b"hello"), last(b"hello")[..16].to_vec(), vec![3; 11]] {
        let mut client = Raw::client(server.address, &[start(PUT, -1), bytes].concat());
        client.half_close();
        let reported = server.outcomes.wait().unwrap_err();
        assert_eq!(reported.kind(), ErrorKind::UnexpectedEof, "{reported}");
        client.rest();
    }
    assert!(storing.try_recv().is_err());
}

/// Only RECEIPT with the right size is one.
fn the_end_of_the_stream_is_not_a_receipt(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    for (answer, expected) in [
        (vec![], PeerError::NoReceipt { sent: 10 }),
        (receipt(10)[..11].to_vec(), PeerError::NoReceipt { sent: 10 }),
        (receipt(9), PeerError::WrongReceipt { size: 9, sent: 10 }),
        (last(b""), PeerError::UnexpectedFrame(Frame::Last { len: 0 })),
        (abort(AbortReason::Busy), PeerError::Aborted(AbortReason::Busy)),
        (abort(AbortReason::new(99, 7)), PeerError::Aborted(AbortReason::new(99, 7))),
    ] {
        let putting = spawn(move || {
            let script = [Op::Send(object(10))];
            client.client(address, put(None).framed(), long_timeouts(), &script)
        });
        let mut server = listener.accept_start(&start(PUT, -1));
        assert_eq!(server.read(22), last(&object(10)));
        server.send(&answer);
        server.half_close();
        assert_eq!(cause(&putting.wait()), expected.into());
    }
}

/// The server commits, and then its receipt is all that it writes. The client closes first.
fn a_session_carries_objects_in_both_directions(server: DynAdapter) {
    let setup = Setup::new().on_get(KEY, [Op::Send(object(10))]).on_put(KEY, [Op::ReadToEnd]);
    let server = Server::start(server, setup);
    let mut client = Raw::connect(server.address);
    for _ in 0..3 {
        client.send(&[start(PUT, 10), data(&object(4)), last(&object(10)[4..])].concat());
        assert_eq!(client.read(12), receipt(10));
        client.send(&start(GET, -1));
        assert_eq!(client.read(22), last(&object(10)));
        client.send(&receipt(10));
        for _ in 0..2 {
            assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
        }
    }
    client.half_close();
    assert_eq!(client.end(), End::Graceful);
    server.stop(Duration::ZERO);
    assert!(server.outcomes.recv().is_err(), "the end of a session was reported");
}

/// Bytes that were read beyond an object belong to the next one.
fn objects_may_arrive_together(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on_put(KEY, [Op::ReadToEnd]));
    let put = [start(PUT, -1), last(&object(100))].concat();
    let mut client = Raw::client(server.address, &[&put[..], &put, &put].concat());
    for _ in 0..3 {
        assert_eq!(client.read(12), receipt(100));
        server.outcomes.wait().unwrap();
    }
}

fn an_idle_session_ends_with_a_reason(server: DynAdapter) {
    let timeouts = long_timeouts().timeouts.keep_alive(Duration::from_millis(50));
    let setup = Setup::new().config(Config::default().timeouts(timeouts));
    let server = Server::start(server, setup.on_put(KEY, [Op::ReadToEnd]));
    let mut client = Raw::client(server.address, &[start(PUT, -1), last(b"")].concat());
    assert_eq!(client.read(12), receipt(0));
    assert_eq!(client.rest(), (abort(AbortReason::Closing), End::Graceful));
    server.outcomes.wait().unwrap();
}

fn sessions_that_wait_keep_nobody_out(server: DynAdapter) {
    let setup = Setup::new().max_connections(2).on_put(KEY, [Op::ReadToEnd]);
    let setup = setup.config(long_timeouts());
    let server = Server::start(server, setup);
    let object = [start(PUT, -1), last(b"")].concat();
    let mut clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Raw::client(server.address, &object);
            assert_eq!(client.read(12), receipt(0));
            client
        })
        .collect();
    let first = &mut clients[0];
    assert_eq!(first.rest(), (abort(AbortReason::Closing), End::Graceful));
}

fn sessions_that_wait_end_with_the_server(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on_put(KEY, [Op::ReadToEnd]));
    let mut client = Raw::client(server.address, &[start(PUT, -1), last(b"")].concat());
    assert_eq!(client.read(12), receipt(0));
    server.stop(Duration::from_secs(3600));
    assert_eq!(client.rest(), (abort(AbortReason::Closing), End::Graceful));
}

fn a_session_of_a_client_uses_one_connection(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let objects = [
        (put(None), vec![Op::Send(object(10))]),
        (get(None), vec![Op::ReadToEnd, Op::Commit]),
        (put(Some(3)), vec![Op::Send(object(3))]),
    ];
    let session = spawn(move || client.session(address, long_timeouts(), &objects));
    let mut server = listener.accept_start(&start(PUT, -1));
    assert_eq!(server.read(22), last(&object(10)));
    server.send(&receipt(10));
    assert_eq!(server.read(25), start(GET, -1));
    server.send(&last(&object(5)));
    assert_eq!(server.read(12), receipt(5));
    assert_eq!(server.read(40), [start(PUT, 3), last(&object(3))].concat());
    server.send(&receipt(3));
    assert_eq!(server.end(), End::Graceful);
    let sizes = session.wait().into_iter().map(|outcome| outcome.unwrap().receipt.unwrap().bytes);
    assert_eq!(sizes.collect::<Vec<_>>(), [10, 5, 3]);
}

/// What has arrived behind an object, and ends the session: nothing but the end, or a reason before it.
fn a_session_that_the_server_has_ended_goes_on_over_a_new_connection(client: DynAdapter) {
    for behind in [vec![], abort(AbortReason::Closing)] {
        let listener = RawListener::new();
        let address = listener.address();
        let gate = Gate::new();
        let objects = [
            (put(None), vec![Op::Send(object(10)), Op::Wait(gate.clone())]),
            (put(None), vec![Op::Send(object(10))]),
        ];
        let session = spawn(move || client.session(address, long_timeouts(), &objects));
        let mut first = listener.accept_start(&start(PUT, -1));
        first.read(22);
        first.send(&[receipt(10), behind].concat());
        first.half_close();
        gate.open();
        let mut second = listener.accept_start(&start(PUT, -1));
        assert_eq!(second.read(22), last(&object(10)));
        second.send(&receipt(10));
        session.wait().into_iter().for_each(|outcome| assert!(outcome.is_ok(), "{outcome:?}"));
    }
}

/// A server that ends the session while the next start packet is on its way has looked nothing up.
fn an_object_that_meets_the_end_of_its_session_is_tried_again(client: DynAdapter) {
    for second in
        [(put(None), vec![Op::Send(object(10))]), (get(None), vec![Op::ReadToEnd, Op::Commit])]
    {
        let listener = RawListener::new();
        let address = listener.address();
        let is_put = second.0 == put(None);
        let objects = [(put(None), vec![Op::Send(object(10))]), second];
        let session = spawn(move || client.session(address, long_timeouts(), &objects));
        let mut first = listener.accept_start(&start(PUT, -1));
        first.read(22);
        first.send(&receipt(10));
        let kind = if is_put { PUT } else { GET };
        assert_eq!(first.read(25), start(kind, -1));
        first.send(&abort(AbortReason::Closing));
        let mut second = listener.accept_start(&start(kind, -1));
        if is_put {
            second.read(22);
            second.send(&receipt(10));
        } else {
            second.send(&last(&object(10)));
            assert_eq!(second.read(12), receipt(10));
        }
        session.wait().into_iter().for_each(|outcome| assert!(outcome.is_ok(), "{outcome:?}"));
    }
}

fn an_object_that_was_given_up_does_not_stop_a_session(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_put(KEY, [Op::ReadToEnd]).on_get(KEY, [Op::Send(object(1 << 20))]);
    let server = Server::start(server, setup);
    let put_10 = || (put(None), vec![Op::Send(object(10))]);
    let objects = [
        put_10(),
        (put(None), vec![Op::Write(object(5)), Op::Fail]),
        put_10(),
        (get(None), vec![Op::Read(5), Op::Fail]),
        put_10(),
    ];
    let outcomes = client.session(server.address, long_timeouts(), &objects);
    let succeeded: Vec<_> = outcomes.iter().map(std::io::Result::is_ok).collect();
    assert_eq!(succeeded, [true, false, true, false, true]);
}

/// A server that has aborted reads on until its peer knows.
fn an_abort_is_not_overtaken_by_a_reset(server: DynAdapter) {
    let server = Server::start(server, Setup::new());
    let mut client = Raw::client(server.address, &start(PUT, -1));
    for _ in 0..100 {
        client.send(&data(&object(10_000)));
    }
    assert_eq!(client.read(12), abort(AbortReason::Refused));
    client.wait_until_read();
    client.half_close();
    client.rest();
}

/// But not for longer than one idle timeout, nor more than 16 MiB.
fn a_peer_that_floods_after_an_abort_is_cut(server: DynAdapter) {
    let server = Server::start(server, Setup::new());
    let client = Raw::client(server.address, &start(PUT, -1));
    let sent = client.send_forever(&data(&object(100_000)));
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}

fn a_peer_that_drips_after_an_abort_is_cut(server: DynAdapter) {
    let timeouts = Timeouts::default().idle(Duration::from_millis(100));
    let setup = Setup::new().config(Config::default().timeouts(timeouts));
    let server = Server::start(server, setup);
    let mut client = Raw::client(server.address, &start(PUT, -1));
    assert_eq!(client.read(12), abort(AbortReason::Refused));
    while !client.reset_within(Duration::from_millis(10)) {
        client.try_send(b"x");
    }
    server.outcomes.wait().unwrap_err();
}

fn a_malformed_frame_is_told(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on_put(KEY, [Op::ReadToEnd]));
    for frame in [[9; 12], [0; 12], Frame::Data { len: 0 }.to_bytes()] {
        let bytes = [&start(PUT, -1)[..], &frame].concat();
        let mut client = Raw::client(server.address, &bytes);
        assert_eq!(client.read(12), abort(AbortReason::Malformed));
        client.half_close();
        let reported = cause(&server.outcomes.wait());
        assert!(matches!(reported, Cause::Peer(PeerError::MalformedFrame(_))), "{reported:?}");
    }
}

fn a_feature_that_is_not_there_is_told(server: DynAdapter) {
    let server = Server::start(server, Setup::new());
    for kind in [PUT | 64, GET | 16, 255] {
        let mut client = Raw::client(server.address, &start(kind, -1));
        assert_eq!(client.read(12), abort(AbortReason::Malformed));
        client.half_close();
        server.outcomes.wait().unwrap_err();
    }
}

fn a_timeout_is_told(server: DynAdapter) {
    let timeouts = long_timeouts().timeouts.idle(Duration::from_millis(50));
    let setup = Setup::new().config(Config::default().timeouts(timeouts));
    let server = Server::start(server, setup.on_put(KEY, [Op::ReadToEnd]));
    let bytes = [start(PUT, -1), data(b"hello")].concat();
    let mut client = Raw::client(server.address, &bytes);
    assert_eq!(client.read(12), abort(AbortReason::TimedOut));
    client.half_close();
    assert_eq!(cause(&server.outcomes.wait()), Timer::Idle.into());
}

/// A Unix socket has no reset. The frames need none.
fn a_unix_socket_carries_receipts_and_reasons(server: DynAdapter, client: DynAdapter) {
    let over_unix = |setup: Setup| {
        let (here, there) = UnixStream::pair().unwrap();
        let serving = spawn(move || server.serve_stream(ConnectedStream::Unix(there), setup));
        let script = [Op::Send(object(10))];
        let packet = put(None).framed();
        let sent =
            client.client_over(ConnectedStream::Unix(here), packet, long_timeouts(), &script);
        (serving.wait(), sent)
    };
    let (served, sent) = over_unix(Setup::new().on_put(KEY, [Op::ReadToEnd]));
    assert_eq!((served.unwrap().bytes, sent.unwrap().receipt.unwrap().bytes), (10, 10));
    let (_, sent) = over_unix(Setup::new().on_put(KEY, [Op::ReadToEnd, Op::Fail]));
    assert_eq!(reason(&sent), Some(AbortReason::Failed { code: 0 }));
    let (_, sent) = over_unix(Setup::new());
    assert_eq!(reason(&sent), Some(AbortReason::Refused));
}

/// The last bytes of an object wait for no end of the stream, and the receipt waits for nothing.
fn the_last_bytes_leave_at_once(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let putting = spawn(move || {
        client.client(address, put(None).framed(), long_timeouts(), &[Op::Send(object(10))])
    });
    let mut server = listener.accept();
    assert!(!server.arrives_with_its_end());
    assert_eq!(server.read(47), [start(PUT, -1), last(&object(10))].concat());
    server.send(&receipt(10));
    putting.wait().unwrap();
}

/// The start packet leaves alone if the application wants that.
fn a_flush_sends_the_start_packet(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let gate = Gate::new();
    let script = [Op::Flush, Op::Wait(gate.clone()), Op::Write(object(3)), Op::Finish];
    let putting =
        spawn(move || client.client(address, put(None).framed(), long_timeouts(), &script));
    let mut server = listener.accept_start(&start(PUT, -1));
    assert!(server.nothing_yet());
    gate.open();
    assert_eq!(server.read(27), [data(&object(3)), last(b"")].concat());
    server.send(&receipt(3));
    putting.wait().unwrap();
}

tcp_pairs!(a_refusal_is_told_with_its_reason,);
pairs!(
    one_registration_serves_both_formats,
    an_entry_may_demand_frames,
    a_refusal_of_a_large_put_is_told_too,
    a_handler_that_fails_is_no_receipt,
    a_sender_that_fails_tells_the_receiver,
    a_unix_socket_carries_receipts_and_reasons,
    an_object_that_was_given_up_does_not_stop_a_session,
);
servers!(
    the_end_of_the_stream_is_not_the_end_of_the_object,
    a_session_carries_objects_in_both_directions,
    objects_may_arrive_together,
    an_idle_session_ends_with_a_reason,
    sessions_that_wait_keep_nobody_out,
    sessions_that_wait_end_with_the_server,
    an_abort_is_not_overtaken_by_a_reset,
    a_peer_that_floods_after_an_abort_is_cut,
    a_peer_that_drips_after_an_abort_is_cut,
    a_malformed_frame_is_told,
    a_feature_that_is_not_there_is_told,
    a_timeout_is_told,
);
clients!(
    the_end_of_the_stream_is_not_a_receipt,
    a_session_of_a_client_uses_one_connection,
    a_session_that_the_server_has_ended_goes_on_over_a_new_connection,
    an_object_that_meets_the_end_of_its_session_is_tried_again,
    the_last_bytes_leave_at_once,
    a_flush_sends_the_start_packet,
);
