//! Where the threads of a server wait for connections, until it is to stop.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use closed::Listener;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use shut_down::Listener;

/// A listener that, shut down, wakes all who wait, and refuses.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod shut_down {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::OwnedFd;

    use dataserver_adapter::tcp::{self, Backlog};

    use crate::stream::WAITS;

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
            self.backlog.accept(&self.listener, WAITS)
        }

        /// Refuses further connections, and has who waits fail.
        pub(crate) fn stop(&self) {
            // It fails only where the listener has been shut down already.
            _ = tcp::stop_listening(&self.listener);
        }

        pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.listener.local_addr()
        }
    }
}

/// A listener that must be closed to refuse, as it cannot be shut down on macOS, nor on FreeBSD, where
/// this wakes one thread. A signal wakes all, and it is closed once they have left it.
#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
mod closed {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::OwnedFd;
    use std::sync::{PoisonError, RwLock};

    use dataserver_adapter::tcp::{Backlog, Waits};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::retry_on_intr;

    use crate::stream::Signal;

    pub(crate) struct Listener {
        /// Read by who waits. `None` once it is closed.
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
                match self.backlog.accept(listener, Waits::Never) {
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

        /// Refuses further connections, and has who waits fail.
        pub(crate) fn stop(&self) {
            // A socket of this process that nobody else has: there is no reason to fail.
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
