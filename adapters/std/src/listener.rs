//! The listener of a server, on which its threads wait for connections.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use closed::Listener;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use shut_down::Listener;

/// A listener whose shutdown wakes all waiting threads and refuses clients.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod shut_down {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::OwnedFd;

    use dataserver_common::tcp::{self, Backlog};

    use crate::socket::BLOCKING_MODE;

    pub(crate) struct Listener {
        listener: TcpListener,
        backlog: Backlog,
    }

    impl Listener {
        pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
            listener.set_nonblocking(false)?;
            Ok(Self { backlog: Backlog::of(&listener)?, listener })
        }

        /// Waits for the next connection.
        pub(crate) fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
            self.backlog.accept(&self.listener, BLOCKING_MODE)
        }

        /// Refuses further connections, and wakes the waiting threads, whose calls fail.
        pub(crate) fn stop(&self) {
            // It fails only where the listener has been shut down already.
            _ = tcp::stop_listening(&self.listener);
        }

        pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.listener.local_addr()
        }
    }
}

/// A listener that must be closed to refuse clients: it cannot be shut down on macOS, and on FreeBSD that
/// wakes only one thread. A signal wakes all threads, and the listener is closed when they have left it.
#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
mod closed {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::OwnedFd;
    use std::sync::{PoisonError, RwLock};

    use dataserver_common::tcp::{Backlog, BlockingMode};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::retry_on_intr;

    use crate::socket::Signal;

    pub(crate) struct Listener {
        /// Locked for reading by the waiting threads. `None` once it is closed.
        listener: RwLock<Option<TcpListener>>,
        backlog: Backlog,
        address: SocketAddr,
        stopped: Signal,
    }

    impl Listener {
        pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
            listener.set_nonblocking(true)?;
            Ok(Self {
                backlog: Backlog::of(&listener)?,
                address: listener.local_addr()?,
                listener: RwLock::new(Some(listener)),
                stopped: Signal::new()?,
            })
        }

        /// Waits for the next connection.
        pub(crate) fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
            let listener = self.listener.read().unwrap_or_else(PoisonError::into_inner);
            while let Some(listener) = listener.as_ref().filter(|_| !self.stopped.is_raised()) {
                match self.backlog.accept(listener, BlockingMode::Never) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => return accepted,
                }
                let mut fds = [
                    PollFd::new(listener, PollFlags::IN),
                    PollFd::new(&self.stopped, PollFlags::IN),
                ];
                retry_on_intr(|| poll(&mut fds, None))?;
            }
            Err(io::ErrorKind::NotConnected.into())
        }

        /// Refuses further connections, and wakes the waiting threads, whose calls fail.
        pub(crate) fn stop(&self) {
            // It cannot fail: no other process has this socket.
            _ = self.stopped.raise();
            *self.listener.write().unwrap_or_else(PoisonError::into_inner) = None;
        }

        pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.address)
        }
    }

    #[cfg(test)]
    mod tests {
        use std::net::TcpStream;
        use std::thread;

        use super::*;

        #[test]
        fn takes_connections_until_it_is_stopped_and_then_refuses() {
            let listener = Listener::new(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            thread::scope(|scope| {
                let accept = || listener.accept().map(|(_, peer)| peer);
                let waiting = [(); 4].map(|()| scope.spawn(accept));
                let client = TcpStream::connect(address).unwrap();
                while !waiting.iter().any(thread::ScopedJoinHandle::is_finished) {
                    thread::yield_now();
                }
                listener.stop();
                let peers = waiting.map(|thread| thread.join().unwrap().ok());
                let peers: Vec<_> = peers.into_iter().flatten().collect();
                assert_eq!(peers, [client.local_addr().unwrap()]);
            });
            assert!(TcpStream::connect(address).is_err());
            assert!(listener.accept().is_err());
        }
    }
}
