//! A server that does not answer ends a client's attempt to connect, and is named.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dataserver_scenarios::{Soon, put, spawn};

/// How long a client may try here, and the time that it takes to see that nobody answers.
const SHORT: Duration = Duration::from_millis(100);

/// A listener whose queue is full: the kernel drops what else would connect.
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

fn gives_up(connect: impl FnOnce(SocketAddr) -> io::Result<()> + Send + 'static) {
    let full = Full::new();
    let address = full.listener.local_addr().unwrap();
    let error = spawn(move || connect(address)).soon().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), format!("cannot connect to {address}: timed out"));
}

#[test]
fn std_client_gives_up() {
    gives_up(|address| {
        let client = dataserver_std::Client::new(address).connect_timeout(SHORT);
        client.put(put(None)).map(drop)
    });
}

#[test]
fn std_client_that_has_no_time_gives_up() {
    gives_up(|address| {
        let client = dataserver_std::Client::new(address).connect_timeout(Duration::ZERO);
        client.put(put(None)).map(drop)
    });
}

#[test]
fn smol_client_gives_up() {
    gives_up(|address| {
        let client = dataserver_smol::Client::new(address).connect_timeout(SHORT);
        smol::block_on(client.put(put(None))).map(drop)
    });
}
