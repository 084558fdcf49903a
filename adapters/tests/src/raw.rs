//! A peer that uses none of the adapters: a socket, and bytes that are encoded by hand.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dataserver_core::Key;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::SendFlags;
use rustix::net::sockopt;

use crate::kernel;
use crate::packets::KEY;
use crate::wait::{TIMEOUT, eventually};

/// The bytes of a start packet: type 0 for put and 1 for get, the size in little-endian order, the key.
pub fn start(kind: u8, size: i64) -> Vec<u8> {
    start_for(kind, size, KEY)
}

/// The same for another key.
pub fn start_for(kind: u8, size: i64, key: Key) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend(size.to_le_bytes());
    packet.extend(key.as_bytes());
    packet
}

/// How the peer closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Gracefully, with a FIN.
    Graceful,
    /// Abortively, with a RST.
    Reset,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects as a client.
    ///
    /// # Panics
    /// Panics if it cannot connect.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        match Self::try_connect(address) {
            Ok(raw) => raw,
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    /// Connects as a client.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect_timeout(&address, TIMEOUT)?))
    }

    /// Connects as a client, and sends these bytes.
    #[track_caller]
    pub fn client(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut raw = Self::connect(address);
        raw.send(bytes);
        raw
    }

    /// A peer over a connected stream.
    ///
    /// # Panics
    /// Panics if the options of the socket cannot be set.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a socket");
        Self { stream }
    }

    /// The stream.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The local address, which the errors of the peer name.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// Panics if the connection has ended.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("cannot send: {error}");
        }
    }

    /// Sends these bytes, unless the peer has reset the connection.
    pub fn try_send(&mut self, bytes: &[u8]) {
        _ = self.stream.write_all(bytes); // a reset is seen by the next call
    }

    /// Sends a byte of urgent data.
    ///
    /// # Panics
    /// Panics if the connection has ended.
    #[track_caller]
    pub fn send_urgent(&mut self) {
        rustix::net::send(&self.stream, b"!", SendFlags::OOB).expect("a connection");
    }

    /// Sends these pieces, each after the peer has read the previous one.
    #[track_caller]
    pub fn send_apart<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        for piece in pieces {
            self.send(piece);
            self.wait_until_read();
        }
    }

    /// Sends these bytes repeatedly until the connection is reset, and returns how many bytes the system
    /// accepted.
    pub fn send_forever(mut self, bytes: &[u8]) -> u64 {
        let mut sent = 0;
        while let Ok(n) = self.stream.write(bytes) {
            sent += n as u64;
        }
        sent
    }

    /// Waits until the peer's program has read all bytes that were sent.
    #[track_caller]
    pub fn wait_until_read(&self) {
        let (local, remote) = self.addresses();
        eventually("the peer has read everything", || {
            let sent = kernel::queues(local, remote).is_none_or(|ours| ours.unacknowledged == 0);
            sent && kernel::queues(remote, local).is_none_or(|theirs| theirs.unread == 0)
        });
    }

    /// Waits until the peer cannot send more, because this side does not read.
    ///
    /// # Panics
    /// Panics if the peer goes on sending.
    #[track_caller]
    pub fn wait_until_full(&self) {
        let (mut before, mut unchanged) = (0, 0);
        eventually("the peer cannot send more", || {
            let now = ioctl_fionread(&self.stream).expect("a socket");
            unchanged = if now == before && now > 0 { unchanged + 1 } else { 0 };
            before = now;
            unchanged == 100
        });
    }

    /// The local address and the address of the peer.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.address(), self.peer())
    }

    fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a peer")
    }

    /// Reads this many bytes.
    ///
    /// # Panics
    /// Panics if they do not arrive.
    #[track_caller]
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("{n} bytes did not arrive: {error}");
        }
        bytes
    }

    /// Reads until the peer closes, and returns the bytes and how it closed.
    ///
    /// # Panics
    /// Panics if it does not close, or sends more than any test expects.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        const LIMIT: u64 = 1 << 27;
        let mut bytes = Vec::new();
        let end = match (&self.stream).take(LIMIT).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 == LIMIT => panic!("the peer sent {LIMIT} bytes"),
            Ok(_) => End::Graceful,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("neither a FIN nor a reset: {error}"),
        };
        (bytes, end)
    }

    /// Waits until the peer closes, without sending more bytes.
    ///
    /// # Panics
    /// Panics if it sends more bytes, or does not close.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let (bytes, end) = self.rest();
        assert_eq!(bytes, [], "no bytes were expected");
        end
    }

    /// Waits for a reset, without reading what arrives before it. Not for a peer that has shut down its
    /// write half.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    pub fn wait_for_reset(&self) {
        assert!(self.reset_within(TIMEOUT), "no reset");
    }

    /// Whether a reset arrives within this time.
    ///
    /// # Panics
    /// Panics if poll(2) fails.
    pub fn reset_within(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let timeout = Timespec::try_from(time).expect("some seconds");
        poll(&mut fds, Some(&timeout)).expect("poll") > 0
    }

    /// Whether neither bytes nor a FIN have arrived.
    ///
    /// # Panics
    /// Panics if the socket cannot be made nonblocking.
    pub fn nothing_yet(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket");
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until bytes have arrived, and returns whether the FIN arrived together with them.
    ///
    /// # Panics
    /// Panics if nothing arrives.
    #[track_caller]
    pub fn arrives_with_its_end(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::RDHUP)];
        let timeout = Timespec::try_from(TIMEOUT).expect("some seconds");
        assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1), "nothing has arrived");
        fds[0].revents().contains(PollFlags::RDHUP)
    }

    /// Sends a FIN, unless the peer has reset the connection.
    ///
    /// # Panics
    /// Panics if the system fails.
    #[track_caller]
    pub fn half_close(&mut self) {
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => panic!("cannot shut down: {error}"),
        }
    }

    /// Sends a RST.
    ///
    /// # Panics
    /// Panics if the option of the socket cannot be set.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket");
    }
}

/// The listener of a raw server.
#[derive(Debug)]
pub struct RawListener {
    listener: TcpListener,
}

impl RawListener {
    /// A listener on a free port.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    /// The address that it listens on.
    ///
    /// # Panics
    /// Panics if it has none.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// Accepts the next client.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    pub fn accept(&self) -> Raw {
        self.try_accept().expect("a client connects")
    }

    /// Accepts the next client. `None` if none connects within [`TIMEOUT`].
    ///
    /// # Panics
    /// Panics if the system cannot accept it.
    pub fn try_accept(&self) -> Option<Raw> {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let timeout = Timespec::try_from(TIMEOUT).expect("some seconds");
        let ready = poll(&mut fds, Some(&timeout)).expect("poll");
        (ready > 0).then(|| Raw::over(self.listener.accept().expect("a client").0))
    }

    /// Accepts the next client, and reads this start packet.
    ///
    /// # Panics
    /// Panics if there is no client, or if it sends another start packet.
    #[track_caller]
    pub fn accept_start(&self, packet: &[u8]) -> Raw {
        let mut raw = self.accept();
        assert_eq!(raw.read(25), packet);
        raw
    }
}

impl Default for RawListener {
    fn default() -> Self {
        Self::new()
    }
}
