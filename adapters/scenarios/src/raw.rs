//! A peer that knows nothing of this project: a socket, and bytes put together by hand.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dataserver_core::Key;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::SendFlags;
use rustix::net::sockopt;

use crate::kernel;
use crate::patience::{PATIENCE, eventually};
use crate::things::KEY;

/// A start packet by the wire table: type 0 for put and 1 for get, the size little-endian, the key.
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

/// How the peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a FIN.
    Orderly,
    /// With a RST.
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
    /// Nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        match Self::try_connect(address) {
            Ok(raw) => raw,
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    /// Connects as a client, if somebody listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect_timeout(&address, PATIENCE)?))
    }

    /// A client that has sent this much already.
    #[track_caller]
    pub fn client(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut raw = Self::connect(address);
        raw.send(bytes);
        raw
    }

    /// Over a stream that is connected.
    ///
    /// # Panics
    /// The socket takes no options.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream }
    }

    /// The stream itself, for who wants to do without the rest.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Its own address, which the peer names in its messages.
    ///
    /// # Panics
    /// It has none.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// Sends this.
    ///
    /// # Panics
    /// The connection has ended.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("cannot send: {error}");
        }
    }

    /// Sends this, unless the peer has reset the connection, as an impatient one may have by now.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _what_comes_next_will_tell = self.stream.write_all(bytes);
    }

    /// Sends a byte out of band, as TCP's urgent data.
    ///
    /// # Panics
    /// The connection has ended.
    #[track_caller]
    pub fn send_urgent(&mut self) {
        rustix::net::send(&self.stream, b"!", SendFlags::OOB).expect("a connection");
    }

    /// Sends this, piece by piece, each when the peer's program has taken the one before.
    #[track_caller]
    pub fn send_apart<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        for piece in pieces {
            self.send(piece);
            self.taken();
        }
    }

    /// Sends this again and again, until the connection is reset. How many bytes the system took.
    pub fn send_forever(mut self, bytes: &[u8]) -> u64 {
        let mut sent = 0;
        while let Ok(n) = self.stream.write(bytes) {
            sent += n as u64;
        }
        sent
    }

    /// Waits until the peer's program has read all that was sent.
    #[track_caller]
    pub fn taken(&self) {
        let (here, there) = self.addresses();
        eventually("the peer has read everything", || {
            let sent = kernel::queues(here, there).is_none_or(|ours| ours.to_send == 0);
            sent && kernel::queues(there, here).is_none_or(|theirs| theirs.to_read == 0)
        });
    }

    /// Waits until the peer cannot send any more, since this side does not read.
    ///
    /// # Panics
    /// It always can.
    #[track_caller]
    pub fn full(&self) {
        let (mut before, mut same) = (0, 0);
        eventually("the peer is stuck", || {
            let now = ioctl_fionread(&self.stream).expect("a socket");
            same = if now == before && now > 0 { same + 1 } else { 0 };
            before = now;
            same == 100
        });
    }

    /// Its own address and the peer's, as the kernel's tables have them.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.address(), self.peer())
    }

    fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a peer")
    }

    /// Reads so many bytes.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("{n} bytes did not come: {error}");
        }
        bytes
    }

    /// Reads until the peer ends, and says how it did.
    ///
    /// # Panics
    /// It does not, or only after more than any scenario has it send.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        const MOST: u64 = 1 << 27;
        let mut bytes = Vec::new();
        let end = match (&self.stream).take(MOST).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 == MOST => panic!("no end in sight"),
            Ok(_) => End::Orderly,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("neither an end nor a reset: {error}"),
        };
        (bytes, end)
    }

    /// How the peer ends, having sent nothing more.
    ///
    /// # Panics
    /// It did, or does not end.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let (bytes, end) = self.rest();
        assert_eq!(bytes, [], "nothing more was to come");
        end
    }

    /// Waits for a reset, whatever comes before it: also behind a FIN that was there already. Not
    /// for one that has shut down its own half.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn wait_for_reset(&self) {
        assert!(self.reset_within(PATIENCE), "no reset");
    }

    /// Whether a reset comes in this time.
    ///
    /// # Panics
    /// The system cannot say.
    pub fn reset_within(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let timeout = Timespec::try_from(time).expect("some seconds");
        poll(&mut fds, Some(&timeout)).expect("poll") > 0
    }

    /// Whether neither bytes nor an end have come so far.
    ///
    /// # Panics
    /// The system cannot say.
    pub fn nothing_yet(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket");
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until something has come. Whether the end came together with it.
    ///
    /// # Panics
    /// Nothing comes.
    #[track_caller]
    pub fn comes_with_its_end(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::RDHUP)];
        let timeout = Timespec::try_from(PATIENCE).expect("some seconds");
        assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1), "nothing has come");
        fds[0].revents().contains(PollFlags::RDHUP)
    }

    /// Sends a FIN, unless the peer has reset the connection.
    ///
    /// # Panics
    /// The system cannot.
    #[track_caller]
    pub fn half_close(&mut self) {
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => panic!("no end: {error}"),
        }
    }

    /// Sends a RST.
    ///
    /// # Panics
    /// The system does not.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket");
    }
}

/// Listens, for a raw server.
#[derive(Debug)]
pub struct RawListener {
    listener: TcpListener,
}

impl RawListener {
    /// At a port of the system's choosing.
    ///
    /// # Panics
    /// There is none.
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Nowhere.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next client.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn accept(&self) -> Raw {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let timeout = Timespec::try_from(PATIENCE).expect("some seconds");
        assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1), "no client comes");
        Raw::over(self.listener.accept().expect("a client").0)
    }

    /// The next client, which begins with this start packet.
    ///
    /// # Panics
    /// There is none.
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
