//! What the adapter needs of a stream, and sockets that have it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataserver_adapter::socket::{self, Pipe};
use dataserver_adapter::tcp::{self, Waits, WriteOptions};
use dataserver_adapter::{Abort, now};
use dataserver_core::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A blocking stream with deadlines that is armed to abort: however it is dropped, the peer must not
/// take it for an orderly end, unless it was disarmed before. Nobody flushes it: what a write holds
/// back must leave by itself, in [`shut_down`](Self::shut_down) at the latest.
///
/// [`Socket`] is one. Implement it to carry objects over something else, such as TLS, where an
/// orderly end is a `close_notify`, and an abort is to leave without one.
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::SocketAddr;
/// use dataserver_std::{Instant, Socket, Stream};
///
/// /// A stream that counts what it reads.
/// struct Counted {
///     inner: Socket,
///     read: u64,
/// }
///
/// impl Read for Counted {
///     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
///         let n = self.inner.read(buffer)?;
///         self.read += n as u64;
///         Ok(n)
///     }
/// }
///
/// impl Write for Counted {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         self.inner.write(bytes)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         self.inner.flush()
///     }
/// }
///
/// impl Stream for Counted {
///     fn set_deadline(&mut self, deadline: Option<Instant>) {
///         self.inner.set_deadline(deadline);
///     }
///     fn shut_down(&mut self) -> io::Result<()> {
///         self.inner.shut_down()
///     }
///     fn disarm(&mut self) -> io::Result<()> {
///         self.inner.disarm()
///     }
///     fn peer(&self) -> Option<SocketAddr> {
///         self.inner.peer()
///     }
/// }
/// ```
pub trait Stream: Read + Write {
    /// Until when reads and writes may wait, on the clock of [`now`](crate::now). Then they try once
    /// more, and fail with [`WouldBlock`](io::ErrorKind::WouldBlock) if the stream is still not ready.
    /// They may be tried again. Any error other than that and
    /// [`Interrupted`](io::ErrorKind::Interrupted) ends the transfer, a timeout of the system's own
    /// included.
    fn set_deadline(&mut self, deadline: Option<Instant>);

    /// Writes some of the last bytes of an object. What is written here may wait for a moment, as
    /// [`shut_down`](Self::shut_down) mostly comes next, to leave together with the end. A stream
    /// over another one hands this on, or lets it be a write.
    ///
    /// # Errors
    /// As those of any write.
    fn write_last(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(slices)
    }

    /// Shuts down the write half: the peer sees the end of the stream.
    ///
    /// # Errors
    /// What the stream says; the transfer then fails.
    fn shut_down(&mut self) -> io::Result<()>;

    /// The transfer is done: from now on, dropping the stream is an orderly end.
    ///
    /// # Errors
    /// What the stream says.
    fn disarm(&mut self) -> io::Result<()>;

    /// The address of the other end, for messages, where it has one.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether the peer has closed already, as far as can be told without waiting, and without taking
    /// anything from the stream. A sender looks before it ends its object: a receiver that is gone by
    /// then cannot have committed.
    ///
    /// # Errors
    /// What the stream says; the transfer then fails.
    fn has_ended(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Sends up to `max` bytes of a file from its cursor, without taking them through this process.
    ///
    /// 0 where nothing, or nothing more, goes this way: the file is at its end, or this stream or
    /// the system cannot. What is left is then read and written, which tells the one from the other.
    ///
    /// # Errors
    /// What the stream says.
    fn send_file(&mut self, _file: &File, _max: usize) -> io::Result<usize> {
        Ok(0)
    }

    /// Receives up to `max` bytes into a file at its cursor, without taking them through this
    /// process. All that have left the stream are in the file when it returns.
    ///
    /// 0 where nothing, or nothing more, comes this way: the stream is at its end, or it or the
    /// system cannot. What is left is then to be read, which tells the one from the other.
    ///
    /// # Errors
    /// What the stream says; or what the file says, in an [`Abort`](dataserver_adapter::Abort).
    fn receive_file(&mut self, _file: &File, _max: usize) -> io::Result<usize> {
        Ok(0)
    }
}

/// A connected TCP or Unix stream socket that is armed to abort.
///
/// Over TCP an abort is a reset. A Unix socket has none: its peer sees an end of stream, or a reset
/// where bytes were left unread. So declare the size of an object there.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_std::{Socket, Stream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let socket = Socket::try_from(stream)?;
/// assert_eq!(socket.peer(), Some(listener.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
    armed: bool,
    waits: Waits,
    /// Reads that wait give up in time.
    timed: bool,
    /// Something was written since the last read: the answer is not there yet.
    asked: bool,
    options: WriteOptions,
    deadline: Option<Instant>,
    stop: Option<Arc<Signal>>,
    /// Made when an object first goes to a file.
    pipe: Option<Pipe>,
}

/// What sockets do that the adapter makes and accepts.
pub(crate) const WAITS: Waits = if cfg!(any(target_os = "linux", target_os = "android")) {
    Waits::Briefly
} else {
    Waits::Never
};

impl TryFrom<TcpStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        tcp::arm(&stream)?;
        let options = WriteOptions::of_armed_socket();
        Ok(Self { armed: true, options, ..Self::new(stream.into(), Some(peer)) })
    }
}

impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        socket::raise_no_signal(&stream)?;
        Ok(Self::new(stream.into(), None))
    }
}

impl Socket {
    fn new(fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self {
            fd,
            peer,
            armed: false,
            waits: Waits::Never,
            timed: false,
            asked: false,
            options: WriteOptions::none(),
            deadline: None,
            stop: None,
            pipe: None,
        }
    }

    /// A TCP socket that is armed and waits as [`WAITS`] says, and that `stop` resets.
    pub(crate) fn armed(fd: OwnedFd, peer: SocketAddr, stop: Option<Arc<Signal>>) -> Self {
        let options = WriteOptions::of_armed_socket();
        Self { armed: true, waits: WAITS, options, stop, ..Self::new(fd, Some(peer)) }
    }

    pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let mut socket = Self::armed(tcp::socket(&address, WAITS)?, address, None);
        socket.options = WriteOptions::of_new_socket();
        socket.deadline = Some(now().saturating_add(timeout));
        let connect = |fd: &OwnedFd| tcp::connect(fd, &address, WAITS).map(|()| 0);
        match socket.retry_until_ready(PollFlags::OUT, connect) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            connected => connected.map(|_| socket),
        }
    }

    /// Writes at most `max` bytes.
    fn write_with(
        &mut self,
        max: usize,
        attempt: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.asked = true;
        self.options.before_write(&self.fd, max)?;
        self.retry_until_ready(PollFlags::OUT, attempt)
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
                return Err(Abort::wrap("the server is stopping", None));
            }
            let would_block = match attempt(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
                done => return done,
            };
            let left = self.deadline.map(|deadline| deadline.saturating_since(now()));
            if left == Some(Duration::ZERO) {
                return Err(would_block);
            }
            self.wait(readiness, left)?;
        }
    }

    /// The kernel moves files in big steps, none of which must wait.
    fn wait_never(&mut self) -> io::Result<()> {
        if mem::replace(&mut self.waits, Waits::Never) == Waits::Briefly {
            rustix::io::ioctl_fionbio(&self.fd, true)?;
        }
        Ok(())
    }

    /// Waits for the socket, for at most this long, or for the server to stop.
    fn wait(&self, readiness: PollFlags, left: Option<Duration>) -> io::Result<()> {
        let stop = self.stop.as_ref().map_or(self.fd.as_fd(), |stop| stop.as_fd());
        let mut fds =
            [PollFd::new(&self.fd, readiness), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        let watched = if self.stop.is_some() { &mut fds[..] } else { &mut fds[..1] };
        match poll(watched, left.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What poll(2) takes at most where it counts milliseconds. Whoever waits longer is told to try again.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

fn timespec(duration: Duration) -> Timespec {
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
        let mut waits = mem::take(&mut self.asked) && self.waits == Waits::Briefly;
        if waits && !mem::replace(&mut self.timed, true) {
            tcp::let_reads_wait(&self.fd)?;
        }
        self.retry_until_ready(PollFlags::IN, |fd| match mem::take(&mut waits) {
            true => socket::wait_and_read(fd, buffer),
            false => socket::read(fd, buffer),
        })
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

impl Stream for Socket {
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

    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn has_ended(&self) -> io::Result<bool> {
        socket::has_ended(&self.fd)
    }

    fn send_file(&mut self, file: &File, max: usize) -> io::Result<usize> {
        self.wait_never()?;
        self.write_with(max, |fd| socket::send_file(fd, file, max))
    }

    fn receive_file(&mut self, file: &File, max: usize) -> io::Result<usize> {
        let Some(pipe) = self.pipe.take().or_else(Pipe::new) else {
            return Ok(0); // the object can be read all the same
        };
        let received = self.wait_never().and_then(|()| {
            self.retry_until_ready(PollFlags::IN, |fd| pipe.receive_file(fd, file, max))
        });
        self.pipe = Some(pipe);
        received
    }
}

/// Tells every thread, once and for all, and wakes those that wait: for a stream whose other end is
/// then closed.
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

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn nagles_delay_is_off_before_it_meets_a_write() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut socket = Socket::connect(address, Duration::from_secs(5)).unwrap();
        for off in [false, true, true] {
            socket.write_all(b"some").unwrap();
            let same = TcpStream::from(socket.fd.try_clone().unwrap());
            assert_eq!(same.nodelay().unwrap(), off);
        }
    }
}
