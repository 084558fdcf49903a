//! Connecting to the first address of a server that answers.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use dataserver_common::tcp::BlockingMode;
use dataserver_common::{Address, Attempts, Error, now};
use dataserver_core::Instant;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::socket::{BLOCKING_MODE, Socket, timespec};

/// Connects to the first of these addresses that answers, and gives each one this long.
pub(crate) fn connect(
    server: &Address,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
) -> Result<Socket, Error> {
    // A call that blocks would hold up the attempts beside it.
    let mode = if addresses.len() == 1 { BLOCKING_MODE } else { BlockingMode::Never };
    let mut attempts = Attempts::new(server, addresses);
    let mut running: Vec<Attempt> = Vec::new();
    loop {
        let began = now();
        if let Some(address) = attempts.begin(began) {
            let deadline = began.saturating_add(timeout);
            match Socket::unconnected(address, mode) {
                Ok(socket) => running.push(Attempt { socket, address, deadline }),
                Err(error) => attempts.failed(address, error),
            }
        }
        for attempt in mem::take(&mut running) {
            match attempt.connect() {
                Ok(()) => return Ok(attempt.socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => running.push(attempt),
                Err(error) => attempts.failed(attempt.address, error),
            }
        }
        let deadlines = running.iter().map(|attempt| attempt.deadline);
        match deadlines.chain(attempts.next_at()).min() {
            Some(until) => wait(&running, until).map_err(|error| Error::connect(server, error))?,
            None => return Err(attempts.into_error()),
        }
    }
}

/// An attempt to connect that has begun.
struct Attempt {
    socket: Socket,
    address: SocketAddr,
    deadline: Instant,
}

impl Attempt {
    /// Connects, or fails with `WouldBlock` until the result is known. The last try comes after the
    /// deadline.
    fn connect(&self) -> io::Result<()> {
        let is_due = self.deadline <= now();
        match self.socket.connect(&self.address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_due => {
                Err(io::ErrorKind::TimedOut.into())
            }
            connected => connected,
        }
    }
}

/// Waits for a result, or for this time.
fn wait(running: &[Attempt], until: Instant) -> io::Result<()> {
    let fd = |attempt| PollFd::new(attempt, PollFlags::OUT);
    let mut fds: Vec<_> = running.iter().map(|attempt| &attempt.socket).map(fd).collect();
    match poll(&mut fds, Some(&timespec(until.saturating_since(now())))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::{iter, thread};

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
            _ = sender.send(connect(&server, addresses, timeout)); // fails if the test has ended
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
