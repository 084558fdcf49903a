//! Options of a TCP socket that are set when its writes need them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use dataserver_core::Instant;
use rustix::net::sockopt;

use crate::clock::now;
use crate::socket::of_option;

/// The options of a connected TCP socket that are set when its writes first need them. Most connections carry
/// one small object, and need none.
///
/// - Nagle's algorithm delays a write while an earlier one is on its way. It is turned off before the second
///   write.
/// - What the kernel holds unsent is limited to [`MAX_UNSENT`] while the peer is not known to be fast
///   (`TCP_NOTSENT_LOWAT`, tcp(7)). Without a limit a socket takes several MiB at once. The timer of the receipt,
///   which is meant for the peer's commit, would then run while most of the object is still to be sent. A fast
///   peer takes them in a moment, and the limit would only cost speed. Only Linux and Android have the option in
///   safe code.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use dataserver_common::WriteOptions;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// let mut options = WriteOptions::of_new_socket();
/// options.before_write(&socket, 5)?;
/// assert!(!socket.nodelay()?);
/// options.after_write(&socket, 5)?;
/// options.before_write(&socket, 5)?;
/// assert!(socket.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    nagle: Nagle,
    unsent: Unsent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    BeforeFirstWrite,
    BeforeSecondWrite,
    Off,
}

/// Whether it is limited what the kernel holds unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsent {
    /// Not yet: so many bytes may be written before that.
    Few(u32),
    /// Until the peer has taken `left` more bytes within [`FAST`] of this time.
    Limited { since: Instant, left: u32 },
    /// Not as long as the peer stays fast: this is when the last write ended.
    Unlimited { last: Instant },
    /// There is no such option.
    Unknown,
}

/// The most bytes that the kernel holds unsent for a peer that is not known to be fast, on top of those that are
/// on their way.
pub const MAX_UNSENT: u32 = 256 * 1024;

/// A peer that takes this many bytes within [`FAST`] is fast.
const PROOF: u32 = 1024 * 1024;

/// A peer that takes nothing for this long is not fast any more.
const FAST: Duration = Duration::from_secs(1);

impl WriteOptions {
    /// Of a socket from [`tcp::socket`](crate::tcp::socket()): Nagle's algorithm is on.
    pub const fn of_new_socket() -> Self {
        Self { nagle: Nagle::BeforeFirstWrite, unsent: Unsent::Few(MAX_UNSENT) }
    }

    /// Of a socket that is [armed](crate::tcp::arm): Nagle's algorithm is off.
    pub const fn of_armed_socket() -> Self {
        Self { nagle: Nagle::Off, unsent: Unsent::Few(MAX_UNSENT) }
    }

    /// Of a socket that is not TCP: it has no such options.
    pub const fn none() -> Self {
        Self { nagle: Nagle::Off, unsent: Unsent::Unknown }
    }

    /// Sets what a write of up to `len` bytes needs.
    ///
    /// # Errors
    /// Returns the error of setsockopt(2).
    pub fn before_write(&mut self, socket: impl AsFd, len: usize) -> io::Result<()> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match self.nagle {
            Nagle::BeforeFirstWrite => self.nagle = Nagle::BeforeSecondWrite,
            Nagle::BeforeSecondWrite => {
                sockopt::set_tcp_nodelay(&socket, true).map_err(of_option)?;
                self.nagle = Nagle::Off;
            }
            Nagle::Off => {}
        }
        match self.unsent {
            Unsent::Few(left) if len > left => self.limit(socket, now()),
            Unsent::Few(left) => {
                self.unsent = Unsent::Few(left - len);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A write has moved `n` bytes. Sets what the next one needs.
    ///
    /// # Errors
    /// Returns the error of setsockopt(2).
    pub fn after_write(&mut self, socket: impl AsFd, n: usize) -> io::Result<()> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        match self.unsent {
            Unsent::Few(_) | Unsent::Unknown => Ok(()),
            _ => self.measure(socket, n, now()),
        }
    }

    fn measure(&mut self, socket: impl AsFd, n: u32, now: Instant) -> io::Result<()> {
        match self.unsent {
            Unsent::Limited { since, left } if n < left => {
                self.unsent = Unsent::Limited { since, left: left - n };
                Ok(())
            }
            Unsent::Limited { since, .. } if now.saturating_since(since) < FAST => {
                self.unsent = Unsent::Unlimited { last: now };
                set_max_unsent(socket, u32::MAX)
            }
            Unsent::Unlimited { last } if now.saturating_since(last) < FAST => {
                self.unsent = Unsent::Unlimited { last: now };
                Ok(())
            }
            _ => self.limit(socket, now),
        }
    }

    fn limit(&mut self, socket: impl AsFd, now: Instant) -> io::Result<()> {
        self.unsent = Unsent::Limited { since: now, left: PROOF };
        limit_unsent(socket)
    }
}

/// Limits what the kernel holds unsent to [`MAX_UNSENT`], where the system has that option: for a driver that
/// does not measure its peer with [`WriteOptions`].
///
/// # Errors
/// Returns the error of setsockopt(2).
///
/// ```
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// dataserver_common::limit_unsent(&socket)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn limit_unsent(socket: impl AsFd) -> io::Result<()> {
    set_max_unsent(socket, MAX_UNSENT)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_max_unsent(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    socket2::SockRef::from(&socket.as_fd()).set_tcp_notsent_lowat(bytes)
}

/// This system has no such option in safe code.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_max_unsent(_socket: impl AsFd, _bytes: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn unsent_bytes_are_limited_until_the_peer_is_fast_and_when_it_is_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let max = || socket2::SockRef::from(&socket).tcp_notsent_lowat().unwrap();
        let at = |millis| Instant::new(Duration::from_millis(millis));
        let (limited, half) = (MAX_UNSENT, PROOF / 2);

        let mut options = WriteOptions::of_armed_socket();
        options.before_write(&socket, MAX_UNSENT as usize).unwrap();
        assert_ne!(max(), limited);
        options.before_write(&socket, 1).unwrap();
        assert_eq!(max(), limited);

        options.limit(&socket, at(0)).unwrap();
        for (millis, expected) in [
            (999, limited),
            (1_000, limited), // 1 MiB in 1 s is too slow
            (1_500, limited),
            (1_999, u32::MAX),
            (2_998, u32::MAX),
            (3_998, limited), // nothing was written for 1 s
            (3_999, limited),
            (4_000, u32::MAX),
        ] {
            options.measure(&socket, half, at(millis)).unwrap();
            assert_eq!(max(), expected, "at {millis} ms");
        }
    }
}
