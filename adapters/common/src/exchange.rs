//! What a driver does next: the half of its loop that both adapters share.

mod hashing;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{error, fmt, io, mem};

use dataserver_core::{
    Cause, Config, Connection, Direction, Frame, Instant, LocalError, ObjectSize, PeerError, Side,
    StartPacket, Step,
};

use self::hashing::Hashing;
use crate::clock::now;
use crate::error::{BoxError, Error, Failure};
use crate::object::{ENDED_WITHIN_WRITE, NOT_READ_TO_END, is_readable, left_until, regular_len};
use crate::panic::drop_application_value;
use crate::receipt::Receipt;
use crate::request::Request;
use crate::ticket_store::{ClaimError, HeldLease};

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
    /// That the first frame of the peer has been read.
    Answer,
    /// Some of the object in this buffer; no bytes if the object has ended.
    Receive(&'a mut [u8]),
    /// Some of the object in this file; no bytes if the rest is to be read and written.
    ReceiveFile(&'a File),
    /// That some of these bytes are sent.
    Send(&'a [u8]),
    /// That some of these bytes are sent, which are all that is left of the object.
    SendLast(&'a [u8]),
    /// That some of this file is sent; no bytes if the rest is to be read and written.
    SendFile {
        /// The file.
        file: &'a File,
        /// The position of its cursor at which the object ends, if it is known.
        end: Option<u64>,
    },
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
    /// Read at most this many bytes, and hand them to [`Exchange::handle_read`].
    ReadProtocol {
        /// How many: at most [`READ_AHEAD`].
        max: usize,
    },
    /// Write some of these bytes, and report them to [`Exchange::handle_written`].
    Write {
        /// What is left of a start packet, of a frame, or of both.
        protocol: ProtocolBytes,
        /// Bytes of the object.
        object: &'a [u8],
        /// The write half is shut down behind these.
        last: bool,
    },
    /// Read into this buffer, and report the bytes to [`Exchange::handle_received`].
    Read(&'a mut [u8]),
    /// Have the system move at most `max` bytes into this file, and report them to
    /// [`Exchange::handle_file`].
    ReceiveFile {
        /// The file.
        file: &'a File,
        /// How many.
        max: usize,
    },
    /// Have the system move at most `max` bytes from this file, and report them to
    /// [`Exchange::handle_file`].
    SendFile {
        /// The file.
        file: &'a File,
        /// How many.
        max: usize,
    },
    /// These many bytes of the object are not sent, because the receiver has them.
    Skipped(usize),
    /// Compute the digest: [`Exchange::take_digest`], then [`Exchange::handle_digest`].
    Digest,
    /// Look whether the peer has ended the stream already.
    Peek,
    /// Shut down the write half.
    Shutdown,
    /// Read into a buffer of 4 KiB or more, and call [`Exchange::handle_unexpected`] if bytes come.
    ReadEnd,
    /// The application has what it wants, or can have no more.
    Return,
    /// The connection has failed: see [`Exchange::error`].
    Fail,
}

/// How much is read at once, where the protocol's bytes are due and the beginning of the object may be
/// behind them.
pub const READ_AHEAD: usize = 2048;

/// At most the 37 bytes of a start packet and a frame.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolBytes {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl ProtocolBytes {
    const MAX: usize = StartPacket::LEN + Frame::LEN;
    const NONE: Self = Self { bytes: [0; Self::MAX], len: 0 };

    fn new(slice: &[u8]) -> Self {
        let mut protocol = Self { len: slice.len().min(Self::MAX), ..Self::NONE };
        protocol.bytes[..protocol.len].copy_from_slice(&slice[..protocol.len]);
        protocol
    }

    /// The bytes.
    ///
    /// ```no_run
    /// # fn example(protocol: dataserver_common::ProtocolBytes) {
    /// assert!(protocol.as_slice().len() <= 37);
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
    /// Bytes that were read behind those of the protocol. They come before what is read next.
    ahead: Vec<u8>,
    /// How many of them were taken.
    ahead_taken: u32,
    /// It is not the first object on its stream.
    is_later: bool,
    /// A put is to declare the size that its sender knows.
    declares: bool,
    /// Made for an object that has a digest.
    hashing: Option<Box<Hashing>>,
    /// The handler of this connection has its claim: the peer is not told of a failure yet.
    holds_claim: bool,
    /// Set when the handler of this connection has ended without returning its object.
    revoked: Option<Arc<AtomicBool>>,
    /// The lease of the ticket that this connection has claimed.
    lease: Option<Box<HeldLease>>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Exchange {
    /// The server's side of a connection that was just accepted.
    ///
    /// ```
    /// let exchange = dataserver_common::Exchange::server(&dataserver_core::Config::default());
    /// ```
    pub fn server(config: &Config) -> Self {
        Self::server_since(config, now())
    }

    /// The server's side of a connection that was accepted at this time. A handshake may have taken a part of
    /// the start timeout.
    ///
    /// ```
    /// use dataserver_common::{Exchange, now};
    /// use dataserver_core::Config;
    ///
    /// let accepted_at = now();
    /// let exchange = Exchange::server_since(&Config::default(), accepted_at);
    /// ```
    pub fn server_since(config: &Config, accepted_at: Instant) -> Self {
        Self::new(Connection::server(*config, accepted_at), false)
    }

    fn new(connection: Connection, declares: bool) -> Self {
        Self {
            connection,
            ahead: Vec::new(),
            ahead_taken: 0,
            is_later: false,
            declares,
            hashing: None,
            holds_claim: false,
            revoked: None,
            lease: None,
            source: None,
        }
    }

    /// The next object on the same stream.
    fn go_on(&mut self, connection: Connection, declares: bool) {
        let (ahead, ahead_taken) = (mem::take(&mut self.ahead), self.ahead_taken);
        *self = Self { ahead, ahead_taken, is_later: true, ..Self::new(connection, declares) };
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
        Self::new(connection, direction == Direction::Put && request.declares_known_size())
    }

    /// Goes on with the server's side of the next object of a session. See
    /// [`Connection::next_server`].
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, Step};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.next_server(&Config::default());
    /// assert!(matches!(exchange.connection.step(), Step::Done(Err(_)))); // there was no first object
    /// ```
    pub fn next_server(&mut self, config: &Config) {
        self.go_on(self.connection.next_server(*config, now()), false);
    }

    /// Goes on with the client's side of the next object of a session. See
    /// [`Connection::next_client`].
    ///
    /// ```
    /// use dataserver_common::{Exchange, Request};
    /// use dataserver_core::{Config, Direction, Key, Step};
    ///
    /// let request = Request::new(Key::from_name("start")).framed();
    /// let config = Config::default();
    /// let mut exchange = Exchange::client(Direction::Put, request, &config);
    /// exchange.next_client(Direction::Put, request, &config);
    /// assert!(matches!(exchange.connection.step(), Step::Done(Err(_)))); // the first was not sent
    /// ```
    pub fn next_client(&mut self, direction: Direction, request: Request, config: &Config) {
        let connection = self.connection.next_client(*config, request.packet(direction), now());
        self.go_on(connection, direction == Direction::Put && request.declares_known_size());
    }

    /// Declares the size of the object of a put, if the request leaves that to the sender, and nothing has
    /// been sent yet. Returns whether it was declared.
    ///
    /// ```
    /// use dataserver_common::{Exchange, Request};
    /// use dataserver_core::{Config, Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("start"));
    /// let mut exchange = Exchange::client(Direction::Put, request, &Config::default());
    /// assert!(exchange.declare_known_size(5));
    /// assert_eq!(exchange.declared_size().bytes(), Some(5));
    /// ```
    pub fn declare_known_size(&mut self, bytes: u64) -> bool {
        let is_unsent = match self.connection.step() {
            Step::Write { bytes, .. } => bytes.len() == StartPacket::LEN,
            // Behind OPEN the start packet has left.
            Step::Offer { .. } => self.connection.moved() == 0 && !self.is_resumable(),
            _ => false,
        };
        match (self.declares, is_unsent, ObjectSize::new(bytes)) {
            (true, true, Ok(size)) => {
                self.connection.declare(size);
                true
            }
            _ => false,
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
        matches!(self.connection.step(), Step::Done(Ok(_))) && self.connection.packet().is_some()
    }

    /// Whether the framed format was asked for.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).is_framed());
    /// ```
    pub fn is_framed(&self) -> bool {
        self.connection.packet().is_some_and(|packet| packet.is_framed())
    }

    /// Whether the stream has carried framed objects, the last of which has succeeded.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).has_ended_session());
    /// ```
    pub fn has_ended_session(&self) -> bool {
        // A session that ends before its next object has no start packet for it.
        let is_framed = self.connection.packet().is_none_or(|packet| packet.is_framed());
        is_framed && matches!(self.connection.step(), Step::Done(Ok(_)))
    }

    /// Whether the first byte of a start packet is due.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(Exchange::server(&Config::default()).awaits_start_packet());
    /// ```
    pub fn awaits_start_packet(&self) -> bool {
        self.connection.step() == Step::Read { max: StartPacket::LEN }
    }

    /// Whether the peer has been promised more bytes of the object than have been written: the rest of the
    /// body of a frame.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).owes_bytes());
    /// ```
    pub fn owes_bytes(&self) -> bool {
        let owes = match self.connection.step() {
            Step::Write { payload, .. } => payload > 0,
            Step::Send { .. } => true,
            _ => false,
        };
        owes && self.is_framed()
    }

    /// The handler of this connection has a claim from now on, or gives it back: until then the peer is not
    /// told of a failure, because it may try again at once. Returns whether it had one. A receiver also has a
    /// claim of the part of a file that it stores to.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// Exchange::server(&Config::default()).set_holds_claim(true);
    /// ```
    pub fn set_holds_claim(&mut self, holds_claim: bool) -> bool {
        mem::replace(&mut self.holds_claim, holds_claim)
    }

    /// Whether the application has given nothing of the object yet.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(Exchange::server(&Config::default()).is_at_beginning());
    /// ```
    pub fn is_at_beginning(&self) -> bool {
        self.connection.moved() == 0 && self.skipped() == 0
    }

    fn is_resumable(&self) -> bool {
        self.connection.packet().is_some_and(|packet| packet.is_resumable())
    }

    fn has_digest(&self) -> bool {
        self.connection.packet().is_some_and(|packet| packet.has_digest())
    }

    /// Refuses the start packet. The peer of a framed connection is told to come back later if the claim could
    /// not be answered.
    ///
    /// ```
    /// use dataserver_common::{ClaimError, Exchange};
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.connection.handle_read(&[0; 25]);
    /// exchange.refuse(ClaimError::Unavailable("no route to host".into()));
    /// let error = exchange.error(None).to_string();
    /// assert!(error.ends_with("refused: the ticket store cannot answer: no route to host"), "{error}");
    /// ```
    pub fn refuse(&mut self, error: ClaimError) {
        self.connection.refuse(error.refusal());
        if let ClaimError::Unavailable(_) = error {
            self.keep(error.into());
        }
    }

    /// The ticket of this connection has this lease. It is renewed before the commit.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, claim: dataserver_common::HeldClaim) {
    /// exchange.set_lease(claim.lease());
    /// # }
    /// ```
    pub fn set_lease(&mut self, lease: HeldLease) {
        self.lease = Some(Box::new(lease));
    }

    /// The lease to renew before the object is committed or ended, if the connection is that of a ticket.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(Exchange::server(&Config::default()).lease().is_none());
    /// ```
    pub fn lease(&self) -> Option<HeldLease> {
        self.lease.as_deref().cloned()
    }

    /// Whether bytes were read ahead.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).has_read_ahead());
    /// ```
    pub fn has_read_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Takes bytes that were read ahead. 0 if there are none.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, Key, StartPacket};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// exchange.handle_read(&[packet.as_bytes().as_slice(), b"hello"].concat());
    /// assert_eq!(exchange.take_ahead(&mut [0; 9]), 5);
    /// ```
    pub fn take_ahead(&mut self, buffer: &mut [u8]) -> usize {
        if self.ahead.is_empty() {
            return 0;
        }
        let left = &self.ahead[self.ahead_taken as usize..];
        let taken = left.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&left[..taken]);
        self.ahead_taken += taken as u32; // of at most READ_AHEAD
        if taken == left.len() {
            (self.ahead, self.ahead_taken) = (Vec::new(), 0); // an idle connection holds no memory for it
        }
        taken
    }

    /// Bytes were read for [`Action::ReadProtocol`]. Those that belong to what follows are kept.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::{Config, Step};
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// exchange.handle_read(&[0; 5]);
    /// assert_eq!(exchange.connection.step(), Step::Read { max: 20 });
    /// ```
    pub fn handle_read(&mut self, bytes: &[u8]) {
        let taken = self.connection.handle_read(bytes);
        self.ahead.extend_from_slice(&bytes[taken..]);
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
    /// assert!(matches!(exchange.next(&mut Goal::Start), Action::ReadProtocol { .. }));
    /// ```
    pub fn next<'a>(&mut self, goal: &'a mut Goal<'_>) -> Action<'a> {
        if self.revoked.as_ref().is_some_and(|revoked| revoked.load(Ordering::Acquire)) {
            self.abort("the handler has ended without this object", None);
        }
        if let left @ 1.. = self.left_to_skip() {
            return self.skip(left, goal);
        }
        self.answer(goal);
        if let Some(Err(_)) = self.connection.outcome() {
            return self.next_after_failure();
        }
        match (self.connection.step(), goal) {
            (Step::Read { max }, _) => Action::ReadProtocol { max: self.read_ahead(max) },
            (Step::Write { bytes, payload }, goal) => {
                let protocol = ProtocolBytes::new(bytes);
                let (object, last) = goal.bytes(payload);
                Action::Write { protocol, object, last: last && !self.is_framed() }
            }
            (Step::Send { max }, goal @ (Goal::Send(_) | Goal::SendLast(_))) => {
                let (object, last) = goal.bytes(max);
                let last = last && !self.is_framed();
                Action::Write { protocol: ProtocolBytes::NONE, object, last }
            }
            (Step::Receive { max }, Goal::Receive(buffer)) => {
                let max = max.min(buffer.len());
                Action::Read(&mut buffer[..max])
            }
            (Step::Receive { max }, Goal::ReceiveFile(file))
                if !self.has_read_ahead() && (!self.has_digest() || is_readable(file)) =>
            {
                Action::ReceiveFile { file, max }
            }
            (Step::Send { max }, Goal::SendFile { file, end }) => match left_until(file, *end) {
                0 => Action::Return,
                left => Action::SendFile {
                    file,
                    max: usize::try_from(left).map_or(max, |left| left.min(max)),
                },
            },
            (Step::Receive { .. }, Goal::End) | (Step::AwaitEnd, Goal::Receive(_) | Goal::End) => {
                Action::ReadEnd
            }
            (Step::Digest, _) => Action::Digest,
            (Step::Peek, Goal::End) => Action::Peek,
            (Step::Shutdown, Goal::End) => Action::Shutdown,
            _ => Action::Return,
        }
    }

    /// Answers the steps that are about the application.
    fn answer(&mut self, goal: &Goal<'_>) {
        loop {
            match (self.connection.step(), goal) {
                (Step::Send { .. }, Goal::End) if self.is_framed() => {
                    return self.connection.abort(ENDED_WITHIN_WRITE);
                }
                (Step::Receive { .. }, Goal::End) if self.is_framed() => {
                    return self.connection.abort(NOT_READ_TO_END);
                }
                (Step::Send { .. } | Step::Offer { .. }, Goal::End) => {
                    self.connection.offer(0, true);
                }
                (Step::Offer { .. }, Goal::Send(more)) => {
                    return self.connection.offer(more.len(), false);
                }
                (Step::Offer { .. }, Goal::SendLast(more)) => {
                    return self.connection.offer(more.len(), true);
                }
                (Step::Offer { max }, Goal::SendFile { file, end }) if self.is_framed() => {
                    let left = regular_len(file).unwrap_or(0).min(left_until(file, *end));
                    let len = usize::try_from(left).map_or(max, |left| left.min(max));
                    return match len {
                        0 => {} // what is left is read and written
                        len => self.connection.offer(len, false),
                    };
                }
                (Step::Offer { .. }, Goal::Start) => {
                    self.declares = false; // the size can be declared until here
                    return self.connection.offer(0, false);
                }
                // An application that reads or ends has nothing of the object.
                (Step::Resume, Goal::Receive(_) | Goal::ReceiveFile(_) | Goal::End) => {
                    return self.connection.resume(0);
                }
                // The object is not there to be hashed: it was delivered earlier.
                (Step::Digest, _) => match self.whole_digest() {
                    Some(digest) => self.connection.digest(digest),
                    None => return,
                },
                (Step::Commit, Goal::End) => self.connection.committed(),
                _ => return,
            }
        }
    }

    /// A failure of a framed connection is told to the peer, or its reason is read.
    fn next_after_failure<'a>(&self) -> Action<'a> {
        match self.connection.step() {
            Step::Write { .. } if self.holds_claim => Action::Fail, // for now
            Step::Write { bytes, .. } => {
                Action::Write { protocol: ProtocolBytes::new(bytes), object: &[], last: false }
            }
            Step::Read { max } => Action::ReadProtocol { max },
            Step::AwaitEnd => Action::ReadEnd,
            _ => Action::Fail,
        }
    }

    /// How much to read where `max` bytes of the protocol are due. Not beyond them in the bare format: a Unix
    /// socket that is closed with unread bytes is reset. Nor within a large object, which the system may move
    /// by itself.
    fn read_ahead(&self, max: usize) -> usize {
        let begins = self.connection.side() != Some(Side::Sender) && self.connection.moved() == 0;
        let is_framed = self.is_later || self.is_framed();
        if is_framed && begins { READ_AHEAD } else { max }
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
            Step::Receive { .. } => self.connection.abort(NOT_READ_TO_END),
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
    /// let aborted = LocalError::Aborted { reason: "the server is stopping", code: 0 };
    /// assert_eq!(exchange.error(None).cause(), Some(Cause::Local(aborted)));
    /// ```
    pub fn transport_failed(&mut self, error: io::Error) {
        match error.downcast::<Abort>() {
            // The first error stays, and the peer is told nothing more.
            _ if matches!(self.connection.outcome(), Some(Err(_))) => {
                self.connection.handle_reset();
            }
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
        // And a second failure would keep the peer from learning of the first.
        if let Some(Err(_)) = self.connection.outcome() {
            return drop_application_value(source);
        }
        let code = source.as_ref().map_or(0, Failure::code_of);
        self.connection.abort_with_code(reason, code);
        if let Some(source) = source {
            self.keep(source);
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
        let cause = match self.connection.outcome() {
            Some(Err(cause)) => cause,
            _ => LocalError::Aborted { reason: "the application failed after the end", code: 0 }
                .into(),
        };
        // The peer's own reason says more than the error of the write that has failed.
        let is_of_peer = matches!(cause, Cause::Peer(PeerError::Aborted(_)));
        Error::Transfer {
            peer,
            packet: self.connection.packet(),
            cause,
            source: self.source.clone().filter(|_| !is_of_peer),
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
