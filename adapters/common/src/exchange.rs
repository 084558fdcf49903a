//! What a driver does next: the half of its loop that both adapters share.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{error, fmt, io};

use dataserver_core::{Config, Connection, Direction, LocalError, ObjectSize, StartPacket, Step};

use crate::clock::now;
use crate::error::{BoxError, Error};
use crate::panic::drop_application_value;
use crate::receipt::Receipt;
use crate::request::Request;

/// What the application wants from its connection: what a driver goes on for.
///
/// ```
/// use dataserver_common::Goal;
///
/// let goal = Goal::Send(b"hello, world");
/// ```
#[derive(Debug)]
pub enum Goal<'a> {
    /// That the start packet has been sent or received.
    Start,
    /// Some of the object in this buffer; no bytes if the object has ended.
    Receive(&'a mut [u8]),
    /// Some of the object in this file; no bytes if the rest is to be read and written.
    ReceiveFile(&'a File),
    /// That some of these bytes are sent.
    Send(&'a [u8]),
    /// That some of these bytes are sent, which are all that is left of the object.
    SendLast(&'a [u8]),
    /// That some of this file is sent; no bytes if the rest is to be read and written.
    SendFile(&'a File),
    /// That the object has ended, and the receipt has been sent or received.
    End,
}

impl Goal<'_> {
    /// What to send next, of at most `max` bytes, and whether that is the last of the object.
    fn bytes(&self, max: usize) -> (&[u8], bool) {
        match self {
            Goal::Send(bytes) => (&bytes[..bytes.len().min(max)], false),
            Goal::SendLast(bytes) => (&bytes[..bytes.len().min(max)], bytes.len() <= max),
            _ => (&[], false),
        }
    }
}

/// What a driver does on its transport next, from [`Exchange::next`].
#[derive(Debug)]
pub enum Action<'a> {
    /// Read at most this many bytes, and hand them to [`Connection::handle_read`].
    ReadPacket {
        /// How many.
        max: usize,
    },
    /// Write some of these bytes, and report them to [`Connection::handle_moved`].
    Write {
        /// What is left of the start packet.
        packet: PacketBytes,
        /// Bytes of the object.
        object: &'a [u8],
        /// The object ends with these.
        last: bool,
    },
    /// Read into this buffer, and report the bytes to [`Connection::handle_moved`].
    Read(&'a mut [u8]),
    /// Have the system move at most `max` bytes into this file.
    ReceiveFile {
        /// The file.
        file: &'a File,
        /// How many.
        max: usize,
    },
    /// Have the system move at most `max` bytes from this file.
    SendFile {
        /// The file.
        file: &'a File,
        /// How many.
        max: usize,
    },
    /// Look whether the peer has ended the stream already.
    Peek,
    /// Shut down the write half.
    Shutdown,
    /// Read, and call [`Exchange::handle_unexpected`] if bytes come instead of the end.
    ReadEnd,
    /// The application has what it wants, or can have no more.
    Return,
    /// The connection has failed: see [`Exchange::error`].
    Fail,
}

/// At most the 25 bytes of a start packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketBytes {
    bytes: [u8; StartPacket::LEN],
    len: usize,
}

impl PacketBytes {
    const NONE: Self = Self { bytes: [0; StartPacket::LEN], len: 0 };

    fn new(slice: &[u8]) -> Self {
        let mut packet = Self { len: slice.len().min(StartPacket::LEN), ..Self::NONE };
        packet.bytes[..packet.len].copy_from_slice(&slice[..packet.len]);
        packet
    }

    /// The bytes.
    ///
    /// ```no_run
    /// # fn example(packet: dataserver_common::PacketBytes) {
    /// assert!(packet.as_slice().len() <= 25);
    /// # }
    /// ```
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A connection, and the first error of its transport or application.
///
/// ```
/// use std::io;
/// use dataserver_common::Exchange;
/// use dataserver_core::{Cause, Config, PeerError};
///
/// let mut exchange = Exchange::server(&Config::default());
/// exchange.transport_failed(io::ErrorKind::ConnectionReset.into());
/// let error = exchange.error(None);
/// assert_eq!(error.cause(), Some(Cause::Peer(PeerError::Reset { moved: 0 })));
/// ```
#[derive(Debug)]
pub struct Exchange {
    /// The state of the protocol.
    pub connection: Connection,
    /// A put is to declare the size that its sender knows.
    declares: bool,
    /// Set when the handler of this connection has ended without returning its object.
    revoked: Option<Arc<AtomicBool>>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Exchange {
    /// The server's side of a connection that was just accepted.
    ///
    /// ```
    /// let exchange = dataserver_common::Exchange::server(&dataserver_core::Config::default());
    /// ```
    pub fn server(config: &Config) -> Self {
        Self {
            connection: Connection::server(*config, now()),
            declares: false,
            revoked: None,
            source: None,
        }
    }

    /// The client's side of a connection that was just made.
    ///
    /// ```
    /// use dataserver_common::{Exchange, Request};
    /// use dataserver_core::{Config, Direction, Key, StartPacket};
    ///
    /// let key = Key::from_name("start");
    /// let exchange = Exchange::client(Direction::Put, Request::new(key), &Config::default());
    /// assert_eq!(exchange.connection.packet(), Some(StartPacket::put(key)));
    /// ```
    pub fn client(direction: Direction, request: Request, config: &Config) -> Self {
        let connection = Connection::client(*config, request.packet(direction), now());
        let declares = direction == Direction::Put && request.declares_known_size();
        Self { connection, declares, revoked: None, source: None }
    }

    /// Declares the size of the object of a put, if the request leaves that to the sender, and nothing has
    /// been sent yet.
    ///
    /// ```
    /// use dataserver_common::{Exchange, Request};
    /// use dataserver_core::{Config, Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("start"));
    /// let mut exchange = Exchange::client(Direction::Put, request, &Config::default());
    /// exchange.declare_known_size(5);
    /// assert_eq!(exchange.declared_size().bytes(), Some(5));
    /// ```
    pub fn declare_known_size(&mut self, bytes: u64) {
        let is_unsent = match self.connection.step() {
            Step::Write { bytes, .. } => bytes.len() == StartPacket::LEN,
            _ => false,
        };
        if let (true, true, Ok(size)) = (self.declares, is_unsent, ObjectSize::new(bytes)) {
            self.connection.declare(size);
        }
    }

    /// The declared size, as far as the start packet is known.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, ObjectSize};
    ///
    /// assert_eq!(Exchange::server(&Config::default()).declared_size(), ObjectSize::UNKNOWN);
    /// ```
    pub fn declared_size(&self) -> ObjectSize {
        self.connection.packet().map_or(ObjectSize::UNKNOWN, |packet| packet.size())
    }

    /// Whether the transfer has succeeded.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).has_succeeded());
    /// ```
    pub fn has_succeeded(&self) -> bool {
        matches!(self.connection.step(), Step::Done(Ok(_)))
    }

    /// The receipt of a transfer that has succeeded.
    ///
    /// # Errors
    /// Returns the [`error`](Self::error) of any other one.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(Exchange::server(&Config::default()).receipt(None).is_err());
    /// ```
    pub fn receipt(&self, peer: Option<SocketAddr>) -> Result<Receipt, Error> {
        match (self.connection.step(), self.connection.packet()) {
            (Step::Done(Ok(bytes)), Some(packet)) => Ok(Receipt::new(peer, packet, bytes)),
            _ => Err(self.error(peer)),
        }
    }

    /// What revokes the use of this exchange when it is dropped, at the end of the handler: an object that
    /// the handler has moved elsewhere is aborted when it is used next.
    ///
    /// ```
    /// use dataserver_common::{Action, Exchange, Goal};
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// drop(exchange.revoker());
    /// assert!(matches!(exchange.next(&mut Goal::Start), Action::Fail));
    /// ```
    pub fn revoker(&mut self) -> Revoker {
        Revoker(Arc::clone(self.revoked.get_or_insert_default()))
    }

    /// What to do next for this goal. Steps that need no transport are answered here.
    ///
    /// ```
    /// use dataserver_common::{Action, Exchange, Goal};
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// assert!(matches!(exchange.next(&mut Goal::Start), Action::ReadPacket { max: 25 }));
    /// ```
    pub fn next<'a>(&mut self, goal: &'a mut Goal<'_>) -> Action<'a> {
        if self.revoked.as_ref().is_some_and(|revoked| revoked.load(Ordering::Acquire)) {
            self.connection.abort("the handler has ended without this object");
        }
        loop {
            match (self.connection.step(), &*goal) {
                (Step::Send { .. } | Step::Offer { .. }, Goal::End) => {
                    self.connection.offer(0, true);
                }
                (Step::Offer { .. }, Goal::Send(more) | Goal::SendLast(more)) => {
                    self.connection.offer(more.len(), false);
                    break;
                }
                (Step::Commit, Goal::End) => self.connection.committed(),
                _ => break,
            }
        }
        match (self.connection.step(), goal) {
            (Step::Read { max }, _) => Action::ReadPacket { max },
            (Step::Write { bytes, payload }, goal) => {
                let packet = PacketBytes::new(bytes);
                let (object, last) = goal.bytes(payload);
                Action::Write { packet, object, last }
            }
            (Step::Send { max }, goal @ (Goal::Send(_) | Goal::SendLast(_))) => {
                let (object, last) = goal.bytes(max);
                Action::Write { packet: PacketBytes::NONE, object, last }
            }
            (Step::Receive { max }, Goal::Receive(buffer)) => {
                let max = max.min(buffer.len());
                Action::Read(&mut buffer[..max])
            }
            (Step::Receive { max }, Goal::ReceiveFile(file)) => Action::ReceiveFile { file, max },
            (Step::Send { max }, Goal::SendFile(file)) => Action::SendFile { file, max },
            (Step::Receive { .. }, Goal::End) | (Step::AwaitEnd, Goal::Receive(_) | Goal::End) => {
                Action::ReadEnd
            }
            (Step::Peek, Goal::End) => Action::Peek,
            (Step::Shutdown, Goal::End) => Action::Shutdown,
            (Step::Done(Err(_)), _) => Action::Fail,
            _ => Action::Return,
        }
    }

    /// Bytes came where [`Action::ReadEnd`] expected the end of the stream.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange) {
    /// exchange.handle_unexpected(1);
    /// # }
    /// ```
    pub fn handle_unexpected(&mut self, n: usize) {
        match self.connection.step() {
            Step::Receive { .. } => self.connection.abort("the object was not read to its end"),
            _ => self.connection.handle_moved(n),
        }
    }

    /// The transport failed. That is a reset, or an [`Abort`] of this side.
    ///
    /// ```
    /// use dataserver_common::{Abort, Exchange};
    /// use dataserver_core::{Cause, Config, LocalError};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.transport_failed(Abort::new("the server is stopping", None));
    /// let aborted = LocalError::Aborted { reason: "the server is stopping" };
    /// assert_eq!(exchange.error(None).cause(), Some(Cause::Local(aborted)));
    /// ```
    pub fn transport_failed(&mut self, error: io::Error) {
        match error.downcast::<Abort>() {
            Ok(Abort { reason, source }) => self.abort(reason, source.map(Into::into)),
            Err(error) => {
                self.connection.handle_reset();
                self.keep(error.into());
            }
        }
    }

    /// The application failed. If the connection had failed before, its first error stays.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// let full = io::Error::from(io::ErrorKind::StorageFull);
    /// exchange.abort("the handler failed", Some(full.into()));
    /// assert!(exchange.error(None).to_string().contains("the handler failed"));
    /// ```
    pub fn abort(&mut self, reason: &'static str, source: Option<BoxError>) {
        // After a failure of the connection, `source` is usually that failure, returned by the handler.
        let failed_before = matches!(self.connection.step(), Step::Done(Err(_)));
        self.connection.abort(reason);
        match source {
            Some(source) if !failed_before => self.keep(source),
            source => drop_application_value(source),
        }
    }

    /// All that is known of a connection that failed. One that had succeeded before its application
    /// failed counts as failed here.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.connection.handle_reset();
    /// let error = exchange.error(Some(([127, 0, 0, 1], 8089).into()));
    /// assert!(error.to_string().starts_with("127.0.0.1:8089: "));
    /// ```
    pub fn error(&self, peer: Option<SocketAddr>) -> Error {
        let cause = match self.connection.step() {
            Step::Done(Err(cause)) => cause,
            _ => LocalError::Aborted { reason: "the application failed after the end" }.into(),
        };
        Error::Transfer {
            peer,
            packet: self.connection.packet(),
            cause,
            source: self.source.clone(),
        }
    }

    fn keep(&mut self, source: BoxError) {
        self.source.get_or_insert_with(|| source.into());
    }
}

/// Revokes the use of an [`Exchange`] when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it revokes the exchange"]
pub struct Revoker(Arc<AtomicBool>);

impl Drop for Revoker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Inside an [`io::Error`] of a transport: the transport itself did not fail. The connection is aborted
/// for this reason, and is not taken for one that the peer has reset.
///
/// ```
/// use std::io;
/// use dataserver_common::Abort;
///
/// let full = io::ErrorKind::StorageFull.into();
/// let error = Abort::new("the object cannot be written", Some(full));
/// assert_eq!(error.to_string(), "the object cannot be written: no storage space");
/// ```
#[derive(Debug)]
pub struct Abort {
    reason: &'static str,
    source: Option<io::Error>,
}

impl Abort {
    /// An error for this reason, with the error of the system.
    ///
    /// ```
    /// let error = dataserver_common::Abort::new("the server is stopping", None);
    /// ```
    #[allow(clippy::new_ret_no_self, reason = "it travels inside an io::Error only")]
    pub fn new(reason: &'static str, source: Option<io::Error>) -> io::Error {
        io::Error::other(Self { reason, source })
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        self.source.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

impl error::Error for Abort {}
