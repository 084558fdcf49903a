//! One attempt each at what the adapters do on a socket that does not block.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

/// Reads what is there. 0 at the end of the stream.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) where nothing is there, or what the system says.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"hello")?;
/// assert_eq!(dataserver_adapter::socket::read(&ours, &mut [0; 9])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let read = retry_on_intr(|| net::recv(&socket, &mut *buffer, RecvFlags::empty()))?;
    Ok(read.0)
}

/// Writes as much of these as there is room for. A closed peer is an error, never a signal.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) where there is no room, or what the system says.
///
/// ```
/// use std::io::IoSlice;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let slices = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
/// assert_eq!(dataserver_adapter::socket::write(&ours, &slices)?, 12);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut nothing_else = SendAncillaryBuffer::default();
    let written =
        retry_on_intr(|| net::sendmsg(&socket, slices, &mut nothing_else, SendFlags::NOSIGNAL))?;
    Ok(written)
}

/// Sends up to `max` bytes of a file from its cursor, without taking them through this process.
///
/// 0 where nothing, or nothing more, goes this way: the file is at its end, or the system cannot, or
/// the file is at fault. What is left is then to be read and written, which tells one from another.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) where there is no room, or what the system says of the
/// socket.
///
/// ```
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let file = std::fs::File::open("Cargo.toml")?;
/// let sent = dataserver_adapter::socket::send_file(&ours, &file, 9)?;
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

/// Shuts down the write half: the peer sees the end of the stream.
///
/// # Errors
/// What the system says, such as that the peer has reset the connection.
///
/// ```
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// dataserver_adapter::socket::shut_down(&ours)?;
/// assert_eq!(theirs.read(&mut [0])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn shut_down(socket: impl AsFd) -> io::Result<()> {
    Ok(net::shutdown(socket, Shutdown::Write)?)
}
