//! Errors name the peer's address, the start packet, and what was expected and what came.

use std::io::ErrorKind;
use std::time::Duration;

use dataserver_core::{Config, Entry, Timeouts};
use dataserver_scenarios::{
    Any, Do, Raw, RawListener, Server, Setup, Soon, clients, get, object, patient, put, servers,
    spawn, start,
};

const KEY: &str = "c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7";

fn quick() -> Config {
    let short = Duration::from_millis(300);
    Config { timeouts: Timeouts { idle: short, start: short, ..patient().timeouts }, ..patient() }
}

fn of_a_server(server: Any) {
    let setup = Setup::new()
        .on(put(Some(10)), [Do::ReadToEnd])
        .on(put(None), [Do::ReadToEnd])
        .on(Entry::any_size(put(None), 100), [Do::ReadToEnd, Do::Fail])
        .on(put(Some(3)), [])
        .on(put(Some(4)), [Do::Panic])
        .on(get(Some(10)), [Do::Write(object(9))])
        .on(get(None), [Do::Write(object(9))])
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
        (start(2, 10), false, "malformed start packet: type 2, expected 0 (put) or 1 (get)"),
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
        let error = server.outcomes.soon().unwrap_err().to_string();
        let expected = expected.replace("KEY", KEY);
        assert_eq!(error, format!("{}: {expected}", client.address()));
    }
}

fn resets_name_the_system_s_word(server: Any) {
    let server = Server::start(server, Setup::new().on(put(Some(10)), [Do::ReadToEnd]));
    let client = Raw::client(server.address, &[start(0, 10), object(5)].concat());
    client.taken();
    let address = client.address();
    client.reset();
    let error = server.outcomes.soon().unwrap_err().to_string();
    let expected = format!(
        "{address}: put of 10 bytes, key {KEY}: \
         the peer reset the connection when 5 bytes had moved: Connection reset by peer"
    );
    assert!(error.starts_with(&expected), "{error}");
}

fn of_a_client(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();

    let getting = spawn(move || client.client(address, get(Some(10)), patient(), &[Do::ReadToEnd]));
    let mut server = listener.accept_start(&start(1, 10));
    server.send(&object(9));
    server.half_close();
    assert_eq!(
        getting.soon().unwrap_err().to_string(),
        format!(
            "{address}: get of 10 bytes, key {KEY}: the peer ended the object after 9 of 10 bytes"
        )
    );

    let putting =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    let mut server = listener.accept_start(&start(0, -1));
    server.rest();
    server.reset();
    let error = putting.soon().unwrap_err().to_string();
    let expected = format!(
        "{address}: put of unknown size, key {KEY}: \
         the peer reset the connection when 10 bytes had moved: Connection reset by peer"
    );
    assert!(error.starts_with(&expected), "{error}");

    let getting = spawn(move || client.client(address, get(None), quick(), &[Do::ReadToEnd]));
    let _silent = listener.accept_start(&start(1, -1));
    let error = getting.soon().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        format!("{address}: get of unknown size, key {KEY}: the idle timeout ran out")
    );

    drop(listener);
    let refused = client.client(address, put(None), patient(), &[Do::Send(object(10))]);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot connect to {address}: ")), "{text}");
}

servers!(of_a_server, resets_name_the_system_s_word);
clients!(of_a_client);
