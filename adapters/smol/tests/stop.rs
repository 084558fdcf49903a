//! A shutdown is not an error, at whatever moment it begins.

use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_smol::Server;
use futures_lite::future::{block_on, poll_once};

/// The shutdown begins while the server is about to accept. It shuts the listener down, so that the accept
/// fails, which must not be reported as the error of the server.
#[test]
fn a_shutdown_during_an_accept_is_no_error() {
    for _ in 0..300 {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let shutdown = server.shutdown_handle();
        let mut run = pin!(server.run(|_connection| {}));
        let stopping = thread::spawn(move || shutdown.shutdown(Duration::ZERO));
        let begin = Instant::now();
        let outcome = loop {
            if let Some(outcome) = block_on(poll_once(&mut run)) {
                break outcome;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "the server does not end");
        };
        outcome.unwrap();
        stopping.join().unwrap();
    }
}
