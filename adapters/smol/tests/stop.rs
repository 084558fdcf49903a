//! A stop is no error, whenever it is said.

use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_smol::Server;
use futures_lite::future::{block_on, poll_once};

/// Here it is said while the server is about to look for a client. The listener is shut down for the
/// stop, and so cannot accept: that is not why the server ended.
#[test]
fn while_the_server_is_busy() {
    for _ in 0..300 {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let stop = server.stop_handle();
        let mut run = pin!(server.run(|_nobody_comes| {}));
        let stopping = thread::spawn(move || stop.stop(Duration::ZERO));
        let begin = Instant::now();
        let outcome = loop {
            if let Some(outcome) = block_on(poll_once(&mut run)) {
                break outcome;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not stop");
        };
        outcome.unwrap();
        stopping.join().unwrap();
    }
}
