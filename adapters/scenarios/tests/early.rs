//! Clients that come while the listener is not the server's yet are served like all others.

use std::net::TcpListener;
use std::time::Duration;

use dataserver_core::{Config, Error as Cause, Timeouts, Timer};
use dataserver_scenarios::{
    Any, Do, End, Raw, Server, Setup, Soon, cause, get, object, patient, put, servers, start,
};

/// A client that has connected and said this, and the setup of a server that will serve it.
fn early(said: &[u8]) -> (Raw, Setup) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Raw::client(listener.local_addr().unwrap(), said);
    (client, Setup::new().listener(listener))
}

fn handler_that_fails_resets(server: Any) {
    let (mut client, setup) = early(&[&start(0, 10)[..], &object(10)].concat());
    client.half_close();
    let setup = setup.on(put(Some(10)), [Do::ReadToEnd, Do::Fail]);
    let server = Server::start(server, setup);
    assert_eq!(client.end(), End::Reset);
    server.outcomes.soon().unwrap_err();
}

fn silence_is_timed(server: Any) {
    let (mut client, setup) = early(&[]);
    let start = Duration::from_millis(150);
    let timeouts = Timeouts { start, ..patient().timeouts };
    let server = Server::start(server, setup.config(Config { timeouts, ..patient() }));
    assert_eq!(client.end(), End::Reset);
    assert_eq!(cause(&server.outcomes.soon()), Cause::TimedOut(Timer::Start));
}

fn silence_after_the_object_is_timed(server: Any) {
    let (mut client, setup) = early(&start(1, -1));
    let end = Duration::from_millis(150);
    let timeouts = Timeouts { end, ..patient().timeouts };
    let setup = setup.on(get(None), [Do::Send(object(10))]);
    let server = Server::start(server, setup.config(Config { timeouts, ..patient() }));
    assert_eq!(client.read(10), object(10));
    assert_eq!(cause(&server.outcomes.soon()), Cause::TimedOut(Timer::End));
}

fn stop_resets(server: Any) {
    let (mut client, setup) = early(&start(1, -1));
    let server = Server::start(server, setup.on(get(None), [Do::Send(object(10))]));
    assert_eq!(client.read(10), object(10)); // so it has been accepted
    server.stop(Duration::ZERO);
    client.wait_for_reset();
    server.outcomes.soon().unwrap_err();
}

servers!(
    handler_that_fails_resets,
    silence_is_timed,
    silence_after_the_object_is_timed,
    stop_resets,
);
