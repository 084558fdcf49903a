//! Connecting to the first address of a server that answers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use dataserver_common::{Address, Attempts, Error, now};
use futures_lite::future;

use crate::socket::Socket;

/// Connects to the first of these addresses that answers, and gives each one this long.
pub(crate) async fn connect(
    server: &Address,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
) -> Result<Socket, Error> {
    let mut attempts = Attempts::new(server, addresses);
    let mut running: Vec<Attempt<_>> = Vec::new();
    loop {
        if let Some(address) = attempts.begin(now()) {
            running.push(Attempt { address, connect: Box::pin(connect_to(address, timeout)) });
        }
        let next_at = attempts.next_at();
        if running.is_empty() && next_at.is_none() {
            return Err(attempts.into_error());
        }
        let next_is_due = async {
            match next_at {
                Some(at) => Timer::after(at.saturating_since(now())).await,
                None => future::pending().await,
            };
            None
        };
        let ended = poll_fn(|cx| poll_any(&mut running, cx).map(Some));
        match future::or(ended, next_is_due).await {
            Some((_, Ok(socket))) => return Ok(socket),
            Some((address, Err(error))) => attempts.failed(address, error),
            None => {}
        }
    }
}

/// An attempt to connect that has begun.
struct Attempt<F> {
    address: SocketAddr,
    connect: Pin<Box<F>>,
}

/// Removes the first of these attempts that has ended.
fn poll_any<F: Future>(
    running: &mut Vec<Attempt<F>>,
    cx: &mut Context<'_>,
) -> Poll<(SocketAddr, F::Output)> {
    for index in 0..running.len() {
        if let Poll::Ready(connected) = running[index].connect.as_mut().poll(cx) {
            return Poll::Ready((running.remove(index).address, connected));
        }
    }
    Poll::Pending
}

async fn connect_to(address: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let timeout = async {
        Timer::after(timeout).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(Socket::connect(address), timeout).await
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::{iter, thread};

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType};

    use super::*;
    use crate::transport::Transport;

    /// A listener whose accept queue is full: the kernel drops further attempts to connect.
    fn silent() -> (SocketAddr, impl Sized) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let waiting: Vec<_> = iter::from_fn(fill).collect();
        (address, (listener, waiting))
    }

    /// A socket that does not listen.
    fn refusing() -> (SocketAddr, OwnedFd) {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        (address.try_into().unwrap(), socket)
    }

    /// Connects on another thread, so that a test that hangs fails.
    fn connect_to(addresses: Vec<SocketAddr>, timeout: Duration) -> Result<Socket, Error> {
        let (sender, receiver) = mpsc::channel();
        let server = Address::from(("example.org", 8089));
        thread::spawn(move || {
            _ = sender.send(future::block_on(connect(&server, addresses, timeout))); // fails if the test has ended
        });
        receiver.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn silent_addresses_do_not_keep_the_client_from_the_next() {
        let (first, _first) = silent();
        let (second, _second) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let third = listener.local_addr().unwrap();
        let socket = connect_to(vec![first, second, third], Duration::MAX).unwrap();
        assert_eq!(socket.peer_addr(), Some(third));
    }

    #[test]
    fn error_names_each_address() {
        let (first, _first) = silent();
        let (second, _second) = refusing();
        let error = connect_to(vec![first, second], Duration::ZERO).unwrap_err();
        let refused = io::Error::from(Errno::CONNREFUSED);
        assert_eq!(
            error.to_string(),
            format!("cannot connect to example.org:8089: {first}: timed out; {second}: {refused}")
        );
    }
}
