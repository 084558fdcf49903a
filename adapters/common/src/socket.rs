//! System calls on sockets, each tried once.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
#[cfg(any(target_os = "linux", target_os = "android"))]
use {
    crate::exchange::Abort,
    crate::object::SINK_FAILED,
    rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    std::io::Write,
    std::os::fd::OwnedFd,
    std::sync::atomic::{AtomicUsize, Ordering},
};

/// Reads what is there, without waiting. 0 at the end of the stream.
///
/// # Errors
/// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there, or the error of the system.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"hello")?;
/// assert_eq!(dataserver_common::socket::read(&ours, &mut [0; 9])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let read = retry_on_intr(|| net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT))?;
    Ok(read.0)
}

/// [`read`], which waits as long as the socket does where nothing is there.
///
/// # Errors
/// As for [`read`], and returns [`WouldBlock`](io::ErrorKind::WouldBlock) after a signal.
///
/// ```
/// use std::io::{ErrorKind, Write};
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use dataserver_common::socket;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_read_timeout(Some(Duration::from_millis(1)))?;
/// assert_eq!(socket::wait_and_read(&ours, &mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
/// theirs.write_all(b"hello")?;
/// assert_eq!(socket::wait_and_read(&ours, &mut [0; 9])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_and_read(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match net::recv(&socket, buffer, RecvFlags::empty()) {
        Ok((read, _)) => Ok(read),
        Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the peer has shut down its write half already, and nothing is left to read before that.
///
/// # Errors
/// Returns the error of the system, for example a reset by the peer, which the system reports once.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use dataserver_common::socket;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// assert!(!socket::has_ended(&ours)?);
/// drop(theirs);
/// assert!(socket::has_ended(&ours)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn has_ended(socket: impl AsFd) -> io::Result<bool> {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match retry_on_intr(|| net::recv(&socket, &mut [0; 1], peek)) {
        Ok((read, _)) => Ok(read == 0),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether nothing has arrived that was not read, not even the end of the stream or a reset.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use dataserver_common::socket;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// assert!(socket::is_quiet(&ours));
/// theirs.write_all(b"hello")?;
/// assert!(!socket::is_quiet(&ours));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_quiet(socket: impl AsFd) -> bool {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = retry_on_intr(|| net::recv(&socket, &mut [0; 1], peek));
    matches!(peeked, Err(Errno::AGAIN))
}

/// Has a write to a closed peer be an error, and not a signal, where that is an option of the socket
/// (`SO_NOSIGPIPE` of Apple's systems). Elsewhere each [`write()`] says so, and this does nothing.
///
/// [`tcp`](crate::tcp) has done it to the sockets that it made, accepted or armed.
///
/// # Errors
/// Returns the error of the system.
///
/// ```
/// use std::io::{ErrorKind, IoSlice};
/// use std::os::unix::net::UnixStream;
/// use dataserver_common::socket;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// socket::raise_no_signal(&ours)?;
/// drop(theirs);
/// let error = socket::write(&ours, &[IoSlice::new(b"hello")]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BrokenPipe);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn raise_no_signal(socket: impl AsFd) -> io::Result<()> {
    let _socket = socket.as_fd();
    #[cfg(target_vendor = "apple")]
    net::sockopt::set_socket_nosigpipe(_socket, true).map_err(of_option)?;
    Ok(())
}

/// What it means that a connected socket takes no option. Apple's systems let one take none any more once
/// both its halves are shut down: it was reset, unless this side has shut down its own.
pub(crate) fn of_option(errno: Errno) -> Errno {
    match errno {
        Errno::INVAL if cfg!(target_vendor = "apple") => Errno::CONNRESET,
        errno => errno,
    }
}

/// What each write says of signals.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Writes as many of these bytes as the socket has room for, and does not block. If the peer has closed, this
/// returns an error and raises no SIGPIPE. On Apple systems, call [`raise_no_signal`] before.
///
/// # Errors
/// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, or the error of the system.
///
/// ```
/// use std::io::IoSlice;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let slices = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
/// assert_eq!(dataserver_common::socket::write(&ours, &slices)?, 12);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    send(socket, slices, NO_SIGNAL)
}

/// [`write()`], for the last bytes before the socket is [shut down](shut_down): the last segment may wait
/// up to 200 ms for that, and leaves with the end of the stream, so that the peer wakes once.
///
/// # Errors
/// As for [`write()`].
///
/// ```
/// use std::io::{IoSlice, Read};
/// use std::os::unix::net::UnixStream;
/// use dataserver_common::socket;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// assert_eq!(socket::write_last(&ours, &[IoSlice::new(b"hello")])?, 5);
/// socket::shut_down(&ours)?;
/// let mut text = String::new();
/// theirs.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_last(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return send(socket, slices, NO_SIGNAL | SendFlags::MORE);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return write(socket, slices);
}

/// How many bytes these slices have together.
///
/// ```
/// use std::io::IoSlice;
///
/// let slices = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
/// assert_eq!(dataserver_common::socket::total_len(&slices), 12);
/// ```
pub fn total_len(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

fn send(socket: impl AsFd, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
    let mut nothing_else = SendAncillaryBuffer::default();
    let flags = flags | SendFlags::DONTWAIT;
    Ok(retry_on_intr(|| net::sendmsg(&socket, slices, &mut nothing_else, flags))?)
}

/// Sends up to `max` bytes of a file from its cursor, without taking them through this process. The
/// socket must be `O_NONBLOCK`, or it waits.
///
/// 0 where nothing, or nothing more, goes this way: the file is at its end, or the system cannot, or
/// the file is at fault. What is left is then to be read and written, which tells one from another.
///
/// # Errors
/// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, or the error of the
/// socket.
///
/// ```
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let file = std::fs::File::open("Cargo.toml")?;
/// let sent = dataserver_common::socket::send_file(&ours, &file, 9)?;
/// assert!(sent <= 9);
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn send_file(socket: impl AsFd, file: &File, max: usize) -> io::Result<usize> {
    match retry_on_intr(|| rustix::fs::sendfile(&socket, file, None, max)) {
        Ok(sent) => Ok(sent),
        Err(
            of_socket @ (Errno::AGAIN
            | Errno::PIPE
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::NOTCONN
            | Errno::TIMEDOUT
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH),
        ) => Err(of_socket.into()),
        Err(_) => Ok(0),
    }
}

/// Sends nothing: this system has no such call that is safe.
///
/// # Errors
/// None.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn send_file(_socket: impl AsFd, _file: &File, _max: usize) -> io::Result<usize> {
    Ok(0)
}

/// Through what the kernel moves bytes from a socket to a file.
///
/// ```
/// use std::io::{Read, Seek, Write};
/// use std::os::unix::net::UnixStream;
/// use dataserver_common::socket::Pipe;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"hello")?;
/// let path = std::env::temp_dir().join(format!("dataserver-pipe-{}", std::process::id()));
/// let mut file = std::fs::File::options().read(true).write(true).create(true).open(&path)?;
/// std::fs::remove_file(path)?;
///
/// let Some(pipe) = Pipe::new() else { return Ok(()) };
/// assert_eq!(pipe.receive_file(&ours, &file, 9)?, 5);
/// let mut text = String::new();
/// file.rewind()?;
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// How many pipes this process has.
#[cfg(any(target_os = "linux", target_os = "android"))]
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// How many pipes are of [`PIPE_SIZE`]. The buffers of all pipes of a user count towards a limit of 64 MiB,
/// beyond which the kernel shrinks every new pipe of that user, pipe(7). These pipes use a quarter of it, and
/// those of the default size an eighth.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LARGE_PIPES: usize = 16;
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_PIPES: usize = LARGE_PIPES + 128;

/// As much as a pipe may hold without privileges, pipe(7).
#[cfg(any(target_os = "linux", target_os = "android"))]
const PIPE_SIZE: usize = 1 << 20;

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Pipe {
    /// A pipe, or `None` if there are many already or no descriptors are left: then the object is to
    /// be read and written.
    ///
    /// ```
    /// assert!(dataserver_common::socket::Pipe::new().is_some());
    /// ```
    pub fn new() -> Option<Self> {
        let earlier = PIPES.fetch_add(1, Ordering::Relaxed);
        let pipe = match earlier {
            ..MAX_PIPES => pipe_with(PipeFlags::CLOEXEC).ok(),
            _ => None,
        };
        let Some((out, into)) = pipe else {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        if earlier < LARGE_PIPES {
            // A smaller one serves too.
            _ = fcntl_setpipe_size(&into, PIPE_SIZE);
        }
        Some(Self { out, into })
    }

    /// Receives up to `max` bytes into a file at its cursor, without taking them through this
    /// process. All that have left the socket are in the file when it returns. The socket must be
    /// `O_NONBLOCK`, or it waits.
    ///
    /// 0 where nothing, or nothing more, comes this way: the stream is at its end, or the system
    /// cannot. What is left is then to be read, which tells the one from the other.
    ///
    /// # Errors
    /// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there, the error of the socket,
    /// or an [`Abort`] with the error of the file.
    pub fn receive_file(&self, socket: impl AsFd, file: &File, max: usize) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let parked = match retry_on_intr(|| splice(&socket, None, &self.into, None, max, flags)) {
            Ok(parked) => parked,
            Err(Errno::INVAL | Errno::NOSYS) => return Ok(0),
            // TCP's urgent byte stops splice(2) for good, and recv(2) passes over it.
            Err(Errno::AGAIN) => return copy(|buffer| read(&socket, buffer), file, max),
            Err(errno) => return Err(errno.into()),
        };
        let mut left = parked;
        while left > 0 {
            let flags = SpliceFlags::MOVE;
            match retry_on_intr(|| splice(&self.out, None, file, None, left, flags)) {
                Ok(0) => return Err(of_file(io::ErrorKind::WriteZero.into())),
                Ok(moved) => left -= moved,
                // A file that takes no splice, such as one that is open to append.
                Err(Errno::INVAL) => {
                    let from_pipe = |buffer: &mut [u8]| {
                        Ok(retry_on_intr(|| rustix::io::read(&self.out, &mut *buffer))?)
                    };
                    left -= copy(from_pipe, file, left)?;
                }
                Err(errno) => return Err(of_file(errno.into())),
            }
        }
        Ok(parked)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads once, at most `max` bytes, and writes them to the file.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn copy(
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    mut file: &File,
    max: usize,
) -> io::Result<usize> {
    let mut buffer = [0; 8 * 1024];
    let max = max.min(buffer.len());
    let n = read(&mut buffer[..max])?;
    file.write_all(&buffer[..n]).map_err(of_file)?;
    Ok(n)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn of_file(error: io::Error) -> io::Error {
    Abort::new(SINK_FAILED, Some(error))
}

/// Through what the kernel would move bytes from a socket to a file: there is none, as this system has no
/// such call.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
pub enum Pipe {}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Pipe {
    /// No pipe.
    pub fn new() -> Option<Self> {
        None
    }

    /// Is never called.
    ///
    /// # Errors
    /// None.
    pub fn receive_file(&self, _socket: impl AsFd, _file: &File, _max: usize) -> io::Result<usize> {
        match *self {}
    }
}

/// Shuts down the write half: the peer sees the end of the stream.
///
/// # Errors
/// Returns the error of the system, for example a reset by the peer.
///
/// ```
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// dataserver_common::socket::shut_down(&ours)?;
/// assert_eq!(theirs.read(&mut [0])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn shut_down(socket: impl AsFd) -> io::Result<()> {
    Ok(net::shutdown(socket, Shutdown::Write)?)
}
