//! One connection, from the start packet to its end, as client or server.

mod application;
mod ask;
mod begin;
mod failure;
mod timers;
mod transport;

use core::time::Duration;

use crate::error::Cause;
use crate::frame::FrameParser;
use crate::output::Output;
use crate::start_packet::StartPacketParser;
use crate::time::Instant;
use crate::transfer::Transfer;

/// One object on one stream: the start packet, the object in one direction, then the receipt.
///
/// Ask [`step`](Self::step) what to do, do it, report what happened, and ask again. The
/// [crate page](crate) has the whole loop. Reports on the transport and on time are named `handle_*`;
/// the others are what the application decided or did. The methods by purpose:
///
/// - begin: [`server`](Self::server), [`client`](Self::client), [`next_server`](Self::next_server),
///   [`next_client`](Self::next_client);
/// - ask: [`step`](Self::step), [`deadline`](Self::deadline), [`outcome`](Self::outcome),
///   [`packet`](Self::packet), [`side`](Self::side), [`moved`](Self::moved), [`position`](Self::position);
/// - report on the transport: [`handle_read`](Self::handle_read), [`handle_moved`](Self::handle_moved),
///   [`handle_blocked`](Self::handle_blocked), [`handle_end_of_stream`](Self::handle_end_of_stream),
///   [`handle_still_open`](Self::handle_still_open), [`handle_shutdown`](Self::handle_shutdown),
///   [`handle_reset`](Self::handle_reset);
/// - report on the application: [`declare`](Self::declare), [`accept`](Self::accept),
///   [`refuse`](Self::refuse), [`resume`](Self::resume), [`offer`](Self::offer),
///   [`reject_offset`](Self::reject_offset), [`digest`](Self::digest),
///   [`committed`](Self::committed), [`abort`](Self::abort), [`abort_with_code`](Self::abort_with_code);
/// - report on time: [`handle_timeout`](Self::handle_timeout).
///
/// A report that the step did not ask for fails the connection with [`LocalError::Misuse`](crate::LocalError::Misuse). After
/// [`Step::Done`](crate::Step::Done) nothing changes: the first error stays.
///
/// ```
/// use dataserver_core::{Config, Connection, Frame, Instant, Key, StartPacket, Step};
///
/// // A client sends three bytes in the framed format, and gets its receipt.
/// let packet = StartPacket::put(Key::from_name("start")).framed();
/// let mut client = Connection::client(Config::default(), packet, Instant::default());
///
/// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
/// client.offer(3, true); // the application has three bytes, which are all
/// let Step::Write { bytes, payload: 3 } = client.step() else { panic!() };
/// assert_eq!(bytes.len(), 25 + 12); // the start packet and a header
/// client.handle_moved(25 + 12 + 3);
/// assert_eq!(client.step(), Step::Read { max: 12 });
/// client.handle_read(&Frame::Receipt { size: 3 }.to_bytes());
/// assert_eq!(client.step(), Step::Done(Ok(3)));
/// ```
///
/// The same in the bare format, which is the default, with a declared size:
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Key, StartPacket, Step};
///
/// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
/// let mut client = Connection::client(Config::default(), packet, Instant::default());
///
/// assert_eq!(client.step(), Step::Write { bytes: packet.as_bytes(), payload: 3 });
/// client.handle_moved(25);
/// assert_eq!(client.step(), Step::Send { max: 3 });
/// client.handle_moved(3);
/// assert_eq!(client.step(), Step::Offer { max: 4 << 20 });
/// client.offer(0, true); // the application has no more
/// assert_eq!(client.step(), Step::Peek);
/// client.handle_still_open(); // the peer has not closed early
/// assert_eq!(client.step(), Step::Shutdown);
/// client.handle_shutdown();
/// assert_eq!(client.step(), Step::AwaitEnd);
/// client.handle_end_of_stream();
/// assert_eq!(client.step(), Step::Done(Ok(3)));
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    state: State,
    /// Why the connection has failed. An ABORT may still be on its way to the peer, or from it.
    failure: Option<Cause>,
    /// The start packet, as far as it has come. A client has the whole one.
    packet: StartPacketParser,
    /// What a step writes, or wrote last.
    output: Output,
    /// It counts from the beginning of the object, what was resumed included.
    transfer: Transfer,
    /// How many bytes of the object the receiver had before.
    resumed: u64,
    /// How many bytes of the body of the current frame are left. After a failure: how many more are dropped.
    body_left: u64,
    /// Whether the object ends with the body of the current frame.
    body_is_last: bool,
    /// A server's side of an object that is not the first on its stream.
    is_later: bool,
    /// How many tries are left at `retry`. The wait ends with the last one.
    tries: u8,
    /// When to try the transport again, while the driver waits for the peer.
    retry: Option<Instant>,
    /// When the total timer ends. Before it has begun: when it would end if it had begun at the epoch.
    total: Instant,
    /// For a later object it begins when the first byte of the start packet has been read.
    total_has_begun: bool,
    idle: Duration,
    receipt: Duration,
}

/// Until the start packet has passed, server and client differ; after it, sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    ReadPacket {
        start: Duration,
    },
    Decide,
    /// Framed: a receiver is asked how much of the object it has.
    Resume,
    /// What is unwritten of the output. Then the next state.
    Write(Next),
    /// Bare: the object, without any frame.
    Object,
    /// Bare: the sender has sent the declared size.
    OfferEnd,
    Peek,
    Shutdown,
    /// Bare: the sender awaits its receipt. Framed: a receiver drops what comes after its ABORT.
    AwaitEnd,
    /// Framed: a sender may write a header, behind what is unwritten of the start packet.
    Offer,
    ReadFrame(FrameParser),
    /// Framed: a sender waits for OPEN.
    ReadOpen(FrameParser),
    /// Framed: the body of a frame.
    Body,
    /// Framed: the object has been sent or received, and this side computes its digest.
    Digest,
    /// Framed: a receiver compares the digest of the sender with its own, which is in the output.
    ReadDigest,
    Commit,
    Done,
}

/// What follows when the output has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Bare: the object.
    Object,
    /// The next frame of a sender.
    Offer,
    /// The body of the frame.
    Body,
    ReadFrame,
    ReadOpen,
    AwaitEnd,
    Done,
}
