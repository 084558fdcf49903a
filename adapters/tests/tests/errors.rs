//! Errors name the address of the peer, the start packet, and what was expected and received.

use std::io::ErrorKind;
use std::time::Duration;

use dataserver_core::{Config, Entry};
use dataserver_tests::{
    DynAdapter, KEY, Op, Raw, RawListener, Server, Setup, Wait, clients, get, long_timeouts,
    object, put, servers, spawn, start,
};

const KEY_TEXT: &str = "c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7";

fn quick() -> Config {
    let short = Duration::from_millis(300);
    long_timeouts().timeouts(long_timeouts().timeouts.idle(short).start(short))
}

fn errors_of_a_server(server: DynAdapter) {
    let setup = Setup::new()
        .on(put(Some(10)), [Op::ReadToEnd])
        .on(put(None), [Op::ReadToEnd])
        .on_put(Entry::new(KEY).max_size(100), [Op::ReadToEnd, Op::Fail])
        .on(put(Some(3)), [])
        .on(put(Some(4)), [Op::Panic])
        .on(get(Some(10)), [Op::Write(object(9))])
        .on(get(None), [Op::Write(object(9))])
        .config(quick());
    let server = Server::start(server, setup);
    for (sent, ended, expected) in [
        (
            [start(0, 10), object(9)].concat(),
            true,
            "put of 10 bytes, key KEY: the peer ended the object after 9 of 10 bytes",
        ),
        (
            [start(0, 10), object(11)].concat(),
            true,
            "put of 10 bytes, key KEY: the peer declared 10 bytes and sent more",
        ),
        (start(0, -1), false, "put of unknown size, key KEY: the idle timeout ran out"),
        (
            [start(0, 9), object(9)].concat(),
            true,
            "put of 9 bytes, key KEY: aborted: the handler failed: as the script says",
        ),
        (
            [start(0, 3), object(3)].concat(),
            true,
            "put of 3 bytes, key KEY: aborted: the object was not read to its end",
        ),
        (
            [start(0, 4), object(4)].concat(),
            true,
            "put of 4 bytes, key KEY: aborted: the handler panicked",
        ),
        (
            start(0, 101),
            false,
            "put of 101 bytes, key KEY: refused: 101 bytes declared, at most 100 allowed",
        ),
        (
            start(1, 11),
            false,
            "get of 11 bytes, key KEY: refused: nothing is registered for this start packet",
        ),
        (
            start(1, 10),
            false,
            "get of 10 bytes, key KEY: the object ended after 9 of the 10 bytes declared for it",
        ),
        (
            [start(1, -1), object(1)].concat(),
            false,
            "get of unknown size, key KEY: the peer sent bytes where it only receives",
        ),
        (
            start(2, 10),
            false,
            "malformed start packet: type 2, expected 0 (put) or 1 (get), alone or plus 128 (framed), 160 (with a digest) or 224 (resumable)",
        ),
        (
            start(0, -2),
            false,
            "malformed start packet: object size -2, expected -1 (unknown) or more",
        ),
        (start(0, 10)[..24].to_vec(), true, "the peer ended the start packet after 24 of 25 bytes"),
        (start(0, 10)[..24].to_vec(), false, "the start timeout ran out"),
    ] {
        let mut client = Raw::client(server.address, &sent);
        if ended {
            client.half_close();
        }
        let error = server.outcomes.wait().unwrap_err().to_string();
        let expected = expected.replace("KEY", KEY_TEXT);
        assert_eq!(error, format!("{}: {expected}", client.address()));
    }
}

fn reset_errors_include_the_os_error(server: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(Some(10)), [Op::ReadToEnd]));
    let client = Raw::client(server.address, &[start(0, 10), object(5)].concat());
    client.wait_until_read();
    let address = client.address();
    client.reset();
    let error = server.outcomes.wait().unwrap_err().to_string();
    let expected = format!(
        "{address}: put of 10 bytes, key {KEY_TEXT}: \
         the peer reset the connection when 5 bytes had moved: Connection reset by peer"
    );
    assert!(error.starts_with(&expected), "{error}");
}

fn errors_of_a_client(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();

    let getting =
        spawn(move || client.client(address, get(Some(10)), long_timeouts(), &[Op::ReadToEnd]));
    let mut server = listener.accept_start(&start(1, 10));
    server.send(&object(9));
    server.half_close();
    assert_eq!(
        getting.wait().unwrap_err().to_string(),
        format!(
            "{address}: get of 10 bytes, key {KEY_TEXT}: the peer ended the object after 9 of 10 bytes"
        )
    );

    let putting =
        spawn(move || client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    let mut server = listener.accept_start(&start(0, -1));
    server.rest();
    server.reset();
    let error = putting.wait().unwrap_err().to_string();
    let expected = format!(
        "{address}: put of unknown size, key {KEY_TEXT}: \
         the peer reset the connection when 10 bytes had moved: Connection reset by peer"
    );
    assert!(error.starts_with(&expected), "{error}");

    let getting = spawn(move || client.client(address, get(None), quick(), &[Op::ReadToEnd]));
    let _silent = listener.accept_start(&start(1, -1));
    let error = getting.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        format!("{address}: get of unknown size, key {KEY_TEXT}: the idle timeout ran out")
    );

    drop(listener);
    let refused = client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot connect to {address}: ")), "{text}");
}

servers!(errors_of_a_server, reset_errors_include_the_os_error);
clients!(errors_of_a_client);
