//! Clients that connect before the server has taken over the listener are served like all others.

use std::net::TcpListener;
use std::time::Duration;

use dataserver_core::{Cause, Timer};
use dataserver_tests::{
    DynAdapter, End, Op, Raw, Server, Setup, Wait, cause, get, long_timeouts, object, put, servers,
    start,
};

/// A client that has connected and sent these bytes, and the setup of the server that will serve it.
fn connect_before_bind(sent: &[u8]) -> (Raw, Setup) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Raw::client(listener.local_addr().unwrap(), sent);
    (client, Setup::new().listener(listener))
}

fn failed_handler_resets(server: DynAdapter) {
    let (mut client, setup) = connect_before_bind(&[&start(0, 10)[..], &object(10)].concat());
    client.half_close();
    let setup = setup.on(put(Some(10)), [Op::ReadToEnd, Op::Fail]);
    let server = Server::start(server, setup);
    assert_eq!(client.end(), End::Reset);
    server.outcomes.wait().unwrap_err();
}

fn start_timer_runs(server: DynAdapter) {
    let (mut client, setup) = connect_before_bind(&[]);
    let start = Duration::from_millis(150);
    let timeouts = long_timeouts().timeouts.start(start);
    let server = Server::start(server, setup.config(long_timeouts().timeouts(timeouts)));
    assert_eq!(client.end(), End::Reset);
    assert_eq!(cause(&server.outcomes.wait()), Cause::TimedOut(Timer::Start));
}

fn receipt_timer_runs(server: DynAdapter) {
    let (mut client, setup) = connect_before_bind(&start(1, -1));
    let receipt = Duration::from_millis(150);
    let timeouts = long_timeouts().timeouts.receipt(receipt);
    let setup = setup.on(get(None), [Op::Send(object(10))]);
    let server = Server::start(server, setup.config(long_timeouts().timeouts(timeouts)));
    assert_eq!(client.read(10), object(10));
    assert_eq!(cause(&server.outcomes.wait()), Cause::TimedOut(Timer::Receipt));
}

fn shutdown_resets(server: DynAdapter) {
    let (mut client, setup) = connect_before_bind(&start(1, -1));
    let server = Server::start(server, setup.on(get(None), [Op::Send(object(10))]));
    assert_eq!(client.read(10), object(10)); // so it was accepted
    server.stop(Duration::ZERO);
    client.wait_for_reset();
    server.outcomes.wait().unwrap_err();
}

servers!(failed_handler_resets, start_timer_runs, receipt_timer_runs, shutdown_resets,);
