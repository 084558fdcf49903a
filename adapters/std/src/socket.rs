//! TCP and Unix sockets as transports.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataserver_common::socket::{self, Pipe};
use dataserver_common::tcp::{self, BlockingMode};
use dataserver_common::{Abort, Error, WriteOptions, now};
use dataserver_core::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::recall::{Recall, Waiting};
use crate::transport::Transport;

/// A connected TCP or Unix stream socket that is armed to abort.
///
/// Over TCP, an abortive close is a reset. Unix sockets have no abortive close. Use the framed format there
/// ([`Request::framed`](crate::Request::framed)), which needs none. In the bare format a receipt over a Unix
/// socket does not prove a commit, and a get that was refused looks like an empty object.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_std::{Socket, Transport};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let socket = Socket::from_std(stream)?;
/// assert_eq!(socket.peer_addr(), Some(listener.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
    armed: bool,
    mode: BlockingMode,
    /// Reads that block have a timeout.
    reads_time_out: bool,
    /// The last call was a write: the peer's answer is not there yet.
    wrote_last: bool,
    options: WriteOptions,
    deadline: Option<Instant>,
    stop: Option<Arc<Signal>>,
    recall: Option<Arc<Recall>>,
    /// The connection waits for its next object.
    waiting: Option<Waiting>,
    /// How many objects it has carried.
    objects: u32,
    /// Made when an object first goes to a file.
    pipe: Option<Pipe>,
}

/// How calls block on the sockets that this adapter creates and accepts.
pub(crate) const BLOCKING_MODE: BlockingMode =
    if cfg!(any(target_os = "linux", target_os = "android")) {
        BlockingMode::Briefly
    } else {
        BlockingMode::Never
    };

impl Socket {
    /// Arms a connected TCP socket.
    ///
    /// # Errors
    /// Returns [`Error::Socket`] if the socket is not connected, or its options cannot be set.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let socket = dataserver_std::Socket::from_std(stream)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(stream: TcpStream) -> Result<Self, Error> {
        let prepare = || {
            stream.set_nonblocking(true)?;
            tcp::arm(&stream)?;
            stream.peer_addr()
        };
        let peer = prepare().map_err(Error::socket)?;
        let options = WriteOptions::of_armed_socket();
        Ok(Self { armed: true, options, ..Self::new(stream.into(), Some(peer)) })
    }

    /// A connected Unix socket. It has no abortive close: see [`Socket`].
    ///
    /// # Errors
    /// Returns [`Error::Socket`] if its options cannot be set.
    ///
    /// ```
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let socket = dataserver_std::Socket::from_unix(ours)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_unix(stream: UnixStream) -> Result<Self, Error> {
        let prepared = stream.set_nonblocking(true).and_then(|()| socket::raise_no_signal(&stream));
        prepared.map_err(Error::socket)?;
        Ok(Self::new(stream.into(), None))
    }

    fn new(fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self {
            fd,
            peer,
            armed: false,
            mode: BlockingMode::Never,
            reads_time_out: false,
            wrote_last: false,
            options: WriteOptions::none(),
            deadline: None,
            stop: None,
            recall: None,
            waiting: None,
            objects: 0,
            pipe: None,
        }
    }

    /// A TCP socket that is armed and waits as [`BLOCKING_MODE`] says.
    fn armed(fd: OwnedFd, peer: SocketAddr) -> Self {
        let options = WriteOptions::of_armed_socket();
        Self { armed: true, mode: BLOCKING_MODE, options, ..Self::new(fd, Some(peer)) }
    }

    /// A TCP socket that was accepted and is armed. `stop` resets it, and `recall` ends its session.
    pub(crate) fn accepted(
        (fd, peer): (OwnedFd, SocketAddr),
        stop: Arc<Signal>,
        recall: Arc<Recall>,
    ) -> Self {
        Self { stop: Some(stop), recall: Some(recall), ..Self::armed(fd, peer) }
    }

    /// A TCP socket that is to [connect](Self::connect) to this address.
    pub(crate) fn unconnected(address: SocketAddr, mode: BlockingMode) -> io::Result<Self> {
        let options = WriteOptions::of_new_socket();
        Ok(Self { mode, options, ..Self::armed(tcp::socket(&address, mode)?, address) })
    }

    /// Connects, or fails with `WouldBlock` until the result is known.
    pub(crate) fn connect(&self, address: &SocketAddr) -> io::Result<()> {
        tcp::connect(&self.fd, address, self.mode)
    }

    /// Writes at most `max` bytes.
    fn write_with(
        &mut self,
        max: usize,
        attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.wrote_last = true;
        self.waiting = None;
        self.options.before_write(&self.fd, max)?;
        let written = self.retry_until_ready(PollFlags::OUT, attempt)?;
        self.options.after_write(&self.fd, written)?;
        Ok(written)
    }

    /// Tries until it is done, or until the deadline, and waits for the socket between tries. The last
    /// try comes after the deadline.
    fn retry_until_ready(
        &self,
        readiness: PollFlags,
        mut attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if self.stop.as_ref().is_some_and(|stop| stop.is_raised()) {
                return Err(Abort::new("the server is stopping", None));
            }
            if self.waiting.as_ref().is_some_and(Waiting::must_end) {
                return Err(Abort::new(RECALLED, None));
            }
            let would_block = match attempt(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
                done => return done,
            };
            if self.waiting.as_ref().is_some_and(Waiting::is_unwelcome) {
                return Err(Abort::new(RECALLED, None));
            }
            let left = self.deadline.map(|deadline| deadline.saturating_since(now()));
            if left == Some(Duration::ZERO) {
                return Err(would_block);
            }
            self.wait(readiness, left)?;
        }
    }

    /// The kernel moves files in large steps, none of which may block.
    fn make_nonblocking(&mut self) -> io::Result<()> {
        if mem::replace(&mut self.mode, BlockingMode::Never) == BlockingMode::Briefly {
            rustix::io::ioctl_fionbio(&self.fd, true)?;
        }
        Ok(())
    }

    /// Waits for the socket, for at most this long, or for the server, which may stop or need the place.
    fn wait(&self, readiness: PollFlags, left: Option<Duration>) -> io::Result<()> {
        let itself = self.fd.as_fd();
        let stop = self.stop.as_ref().map_or(itself, |stop| stop.as_fd());
        let recall = self.waiting.as_ref().map_or(itself, AsFd::as_fd);
        let mut fds = [
            PollFd::from_borrowed_fd(itself, readiness),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(recall, PollFlags::IN),
        ];
        let watched = match (&self.stop, &self.waiting) {
            (None, _) => 1,
            (Some(_), None) => 2,
            (Some(_), Some(_)) => 3,
        };
        match poll(&mut fds[..watched], left.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_recalled = watched == 3 && !fds[2].revents().is_empty();
        match self.waiting.as_ref().filter(|_| is_recalled) {
            Some(waiting) if waiting.is_asked() => Err(Abort::new(RECALLED, None)),
            _ => Ok(()),
        }
    }
}

/// Why a server ends a session that waits.
const RECALLED: &str = "the server needs the place of this session";

/// The longest timeout of poll(2) on systems where it counts milliseconds. A longer wait is repeated.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

pub(crate) fn timespec(duration: Duration) -> Timespec {
    let counts_milliseconds = cfg!(not(any(target_os = "linux", target_os = "android")));
    let duration = if counts_milliseconds { duration.min(LONGEST) } else { duration };
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not within an object: a call that waits goes on for as long as more arrives, and copies pieces
        // so large that they have left the cache.
        let mut waits = mem::take(&mut self.wrote_last) && self.mode == BlockingMode::Briefly;
        if waits && !mem::replace(&mut self.reads_time_out, true) {
            tcp::set_read_timeout(&self.fd)?;
        }
        let read = self.retry_until_ready(PollFlags::IN, |fd| match mem::take(&mut waits) {
            true => socket::wait_and_read(fd, buffer),
            false => socket::read(fd, buffer),
        });
        if read.is_ok() {
            self.waiting = None;
        }
        read
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(socket::total_len(slices), |fd| socket::write(fd, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Socket {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    fn write_last(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(socket::total_len(slices), |fd| socket::write_last(fd, slices))
    }

    fn shut_down(&mut self) -> io::Result<()> {
        // There it could not be disarmed any more once the other half is shut down too.
        if cfg!(target_vendor = "apple") && self.has_ended()? {
            self.disarm()?;
        }
        socket::shut_down(&self.fd)
    }

    fn disarm(&mut self) -> io::Result<()> {
        if self.armed {
            tcp::disarm(&self.fd)?;
            self.armed = false;
        }
        Ok(())
    }

    fn begin_wait(&mut self) {
        self.objects = self.objects.saturating_add(1);
        self.waiting = self.recall.clone().map(|recall| Waiting::new(recall, self.objects));
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        socket::has_ended(&self.fd)
    }

    fn is_quiet(&mut self) -> bool {
        socket::is_quiet(&self.fd)
    }

    fn send_file(&mut self, file: &File, max: usize) -> io::Result<usize> {
        self.make_nonblocking()?;
        self.write_with(max, |fd| socket::send_file(fd, file, max))
    }

    fn receive_file(&mut self, file: &File, max: usize) -> io::Result<usize> {
        let Some(pipe) = self.pipe.take().or_else(Pipe::new) else {
            return Ok(0); // the object can be read all the same
        };
        let received = self.make_nonblocking().and_then(|()| {
            self.retry_until_ready(PollFlags::IN, |fd| pipe.receive_file(fd, file, max))
        });
        self.pipe = Some(pipe);
        received
    }
}

/// A flag that wakes the threads that poll it. It is raised once.
#[derive(Debug)]
pub(crate) struct Signal {
    raised: AtomicBool,
    receiver: UnixStream,
    sender: UnixStream,
}

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        Ok(Self { raised: AtomicBool::new(false), receiver, sender })
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    pub(crate) fn raise(&self) -> io::Result<()> {
        match self.raised.swap(true, Ordering::Relaxed) {
            true => Ok(()), // macOS takes a second time for an error
            false => self.sender.shutdown(std::net::Shutdown::Write),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::connect::connect;

    #[test]
    fn nagles_delay_is_off_before_it_meets_a_write() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let timeout = Duration::from_secs(5);
        let mut socket = connect(&address.into(), vec![address], timeout).unwrap();
        for off in [false, true, true] {
            socket.write_all(b"some").unwrap();
            let same = TcpStream::from(socket.fd.try_clone().unwrap());
            assert_eq!(same.nodelay().unwrap(), off);
        }
    }
}
