//! The spans and events of the feature `tracing`: the same for both adapters.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;

use dataserver_core::{Direction, Key, StartPacket};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::error::{Error, write_cause};
use crate::receipt::Receipt;
use crate::ticket_store::ClaimError;

/// The span of a connection of a server.
///
/// ```
/// let trace = dataserver_common::Trace::accepted(Some(([127, 0, 0, 1], 8089).into()));
/// let object = trace.object();
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    peer: Option<SocketAddr>,
    span: Span,
}

/// The events of one object of a connection.
///
/// ```
/// use dataserver_common::Trace;
/// use dataserver_core::{Key, StartPacket};
///
/// let trace = Trace::accepted(None);
/// let mut object = trace.object();
/// object.claimed(StartPacket::put(Key::from_name("report")));
/// ```
#[derive(Debug)]
pub struct ObjectTrace<'a> {
    connection: &'a Trace,
    packet: Option<StartPacket>,
    began: Instant,
}

impl Trace {
    /// A server has accepted a connection.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// ```
    pub fn accepted(peer: Option<SocketAddr>) -> Self {
        let peer_field = peer.map(display);
        let span = info_span!(
            target: "dataserver", "connection", peer = peer_field, direction = Empty, key = Empty,
        );
        debug!(target: "dataserver", parent: &span, peer = peer.map(display), "accepted");
        Self { peer, span }
    }

    /// The server waits for an object.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// let object = trace.object();
    /// ```
    pub fn object(&self) -> ObjectTrace<'_> {
        ObjectTrace { connection: self, packet: None, began: Instant::now() }
    }

    /// Runs a part of the connection within its span.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// assert_eq!(trace.within(|| 5), 5);
    /// ```
    pub fn within<T>(&self, run: impl FnOnce() -> T) -> T {
        self.span.in_scope(run)
    }

    /// Polls a part of the connection within its span.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// let future = trace.instrument(async { 5 });
    /// ```
    pub fn instrument<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.instrument(self.span.clone())
    }
}

impl ObjectTrace<'_> {
    /// The start packet has been accepted.
    ///
    /// ```
    /// # use dataserver_common::Trace;
    /// # use dataserver_core::{Key, StartPacket};
    /// # let trace = Trace::accepted(None);
    /// trace.object().claimed(StartPacket::put(Key::from_name("report")));
    /// ```
    pub fn claimed(&mut self, packet: StartPacket) {
        self.begins(packet);
        debug!(
            target: "dataserver", parent: &self.connection.span,
            peer = self.connection.peer.map(display),
            direction = direction(packet),
            key = %Prefix(packet.key()),
            size = packet.size().bytes(),
            framed = packet.is_framed(),
            "claimed"
        );
    }

    /// The start packet has been refused.
    ///
    /// ```
    /// # use dataserver_common::Trace;
    /// # use dataserver_core::{Key, Refusal, StartPacket};
    /// # let trace = Trace::accepted(None);
    /// let packet = StartPacket::put(Key::from_name("report"));
    /// trace.object().refused(packet, &Refusal::NotRegistered.into());
    /// ```
    pub fn refused(&mut self, packet: StartPacket, error: &ClaimError) {
        self.begins(packet);
        debug!(
            target: "dataserver", parent: &self.connection.span,
            peer = self.connection.peer.map(display),
            direction = direction(packet),
            key = %Prefix(packet.key()),
            size = packet.size().bytes(),
            framed = packet.is_framed(),
            cause = %error,
            "refused"
        );
    }

    fn begins(&mut self, packet: StartPacket) {
        self.packet = Some(packet);
        self.began = Instant::now();
        let span = &self.connection.span;
        span.record("direction", direction(packet)).record("key", display(Prefix(packet.key())));
    }

    /// The object is done, with this outcome. `moved` is how many bytes of it have moved, if that is known.
    ///
    /// ```
    /// # use dataserver_common::{Error, Trace};
    /// # let trace = Trace::accepted(None);
    /// let outcome = Err(Error::aborted(None, None, "the server is stopping", None));
    /// trace.object().done(&outcome, Some(5));
    /// ```
    pub fn done(self, outcome: &Result<Receipt, Error>, moved: Option<u64>) {
        let (word, cause) = match outcome {
            Ok(_) => ("delivered", None),
            Err(error) if error.is_refused() => ("refused", Some(error)),
            Err(error) => ("failed", Some(error)),
        };
        let packet = match outcome {
            Err(Error::Transfer { packet, .. }) => self.packet.or(*packet),
            _ => self.packet,
        };
        info!(
            target: "dataserver", parent: &self.connection.span,
            peer = self.connection.peer.map(display),
            direction = packet.map(direction),
            key = packet.map(|packet| display(Prefix(packet.key()))),
            size = packet.and_then(|packet| packet.size().bytes()),
            framed = packet.map(|packet| packet.is_framed()),
            bytes = outcome.as_ref().map_or(moved, |receipt| Some(receipt.bytes)),
            seconds = self.began.elapsed().as_secs_f64(),
            outcome = word,
            cause = cause.map(|error| display(WithoutPacket(error))),
            "done"
        );
    }
}

/// A server has met an error that is not that of a connection, such as that of its listener. Returns the
/// error.
///
/// ```
/// use dataserver_common::{Error, trace_server_error};
///
/// let error = trace_server_error(Error::listen(std::io::ErrorKind::InvalidInput.into()));
/// assert!(error.to_string().starts_with("cannot listen"));
/// ```
#[must_use]
pub fn trace_server_error(error: Error) -> Error {
    warn!(target: "dataserver", cause = %error, "server error");
    error
}

fn direction(packet: StartPacket) -> &'static str {
    match packet.direction() {
        Direction::Put => "put",
        Direction::Get => "get",
    }
}

/// The beginning of a key. Who knows all of a random key may use it, so a log must not hold it. What is left
/// out here, 96 of 128 bits, cannot be guessed.
struct Prefix(Key);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An error without its peer and start packet, which have fields of their own.
struct WithoutPacket<'a>(&'a Error);

impl fmt::Display for WithoutPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Error::Transfer { cause, source, .. } => write_cause(f, cause, source.as_deref()),
            error => error.fmt(f),
        }
    }
}
