//! A server that does not answer ends a client's attempt to connect. The error names its address.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dataserver_common::Error;
use dataserver_tests::{KEY, Wait, spawn};

/// The connect timeout, and the time after which the queue of the listener counts as full.
const SHORT: Duration = Duration::from_millis(100);

/// A listener whose accept queue is full: the kernel drops further connection attempts.
struct Full {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, SHORT).ok();
        let waiting = std::iter::from_fn(connect).collect();
        Self { listener, _waiting: waiting }
    }
}

fn assert_times_out(connect: impl FnOnce(SocketAddr) -> Result<(), Error> + Send + 'static) {
    let full = Full::new();
    let address = full.listener.local_addr().unwrap();
    let error = spawn(move || connect(address)).wait().unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(io::Error::from(error.clone()).kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), format!("cannot connect to {address}: timed out"));
}

#[test]
fn std_client_gives_up() {
    assert_times_out(|address| {
        let client = dataserver_std::Client::new(address)?.connect_timeout(SHORT);
        client.put(KEY).map(drop)
    });
}

#[test]
fn std_client_that_has_no_time_gives_up() {
    assert_times_out(|address| {
        let client = dataserver_std::Client::new(address)?.connect_timeout(Duration::ZERO);
        client.put(KEY).map(drop)
    });
}

#[test]
fn smol_client_gives_up() {
    assert_times_out(|address| {
        let client = dataserver_smol::Client::new(address)?.connect_timeout(SHORT);
        smol::block_on(client.put(KEY)).map(drop)
    });
}
