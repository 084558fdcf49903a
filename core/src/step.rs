//! What a driver does next.

use crate::error::Cause;
use crate::start_packet::StartPacket;

/// What a driver should do next, from [`Connection::step`](crate::Connection::step).
///
/// The enum is exhaustive on purpose: a new step must stop drivers from compiling.
///
/// ```
/// use dataserver_core::{Config, Connection, Instant, Step};
///
/// let connection = Connection::server(Config::default(), Instant::default());
/// assert_eq!(connection.step(), Step::Read { max: 25 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Read protocol bytes from the transport, and pass them to
    /// [`handle_read`](crate::Connection::handle_read). At the end of the stream:
    /// [`handle_end_of_stream`](crate::Connection::handle_end_of_stream). A driver that reads at most `max` bytes
    /// never takes bytes of the object.
    Read {
        /// How many bytes of the start packet, of the frame or of the digest are missing: at most 32.
        max: usize,
    },
    /// Server: [`accept`](crate::Connection::accept) this start packet, or [`refuse`](crate::Connection::refuse) it.
    Decide(StartPacket),
    /// Receiver of a resumable transfer: how much of the object is there from an earlier attempt? Then
    /// [`resume`](crate::Connection::resume), with 0 if nothing is.
    ///
    /// From now on no other connection may use these bytes. Nothing is read.
    Resume,
    /// Write `bytes` to the transport, then [`handle_moved`](crate::Connection::handle_moved). The same vectored
    /// write may carry the next bytes of the object behind them, and the same report counts them.
    Write {
        /// What is left of the start packet, of a frame, or of both, or of the digest: at most 37 bytes.
        bytes: &'a [u8],
        /// How many bytes of the object may follow in the same write.
        payload: usize,
    },
    /// Move bytes from the transport to the application, then
    /// [`handle_moved`](crate::Connection::handle_moved). At the end of the stream:
    /// [`handle_end_of_stream`](crate::Connection::handle_end_of_stream).
    Receive {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Move bytes from the application to the transport, then
    /// [`handle_moved`](crate::Connection::handle_moved).
    ///
    /// In the framed format the application has offered these bytes. If it cannot have them any more, give
    /// up: [`abort`](crate::Connection::abort). In the bare format it may have no more. The object then ends here:
    /// [`offer(0, true)`](crate::Connection::offer).
    ///
    /// Bytes that the peer sends during this step stay in the transport. A later step reads them.
    Send {
        /// The most bytes to move: at least 1, at most the chunk.
        max: usize,
    },
    /// Sender: ask the application how much of the object it has, then
    /// [`offer`](crate::Connection::offer) it.
    ///
    /// In the framed format this step precedes each frame, and the offer decides its length and whether it
    /// is the last. In the bare format it follows the last byte of a declared size.
    ///
    /// Only the application knows whether its object ends. If it has more than was declared, the
    /// connection fails instead of passing a part off as the whole.
    Offer {
        /// The most bytes that need to be offered: the chunk.
        max: usize,
    },
    /// Sender: look, without waiting, whether the peer has ended the stream already. If it has, it
    /// closed before it could commit: [`handle_end_of_stream`](crate::Connection::handle_end_of_stream). If not,
    /// or if the transport cannot tell: [`handle_still_open`](crate::Connection::handle_still_open).
    ///
    /// A driver may peek or read. Bytes that it has read are an error of the peer: report them to
    /// [`handle_moved`](crate::Connection::handle_moved).
    Peek,
    /// With a digest: the object has been sent or received. Compute the BLAKE3 digest of the whole object, as it
    /// was sent or is stored, then [`digest`](crate::Connection::digest). Nothing is read.
    Digest,
    /// Receiver: the object is complete. Make it durable, then [`committed`](crate::Connection::committed).
    Commit,
    /// Bare format: shut down the write half, then [`handle_shutdown`](crate::Connection::handle_shutdown). This
    /// ends the object of a sender, and is the receipt of a receiver.
    Shutdown,
    /// Read until the end of the stream, into a buffer of 4 KiB or more:
    /// [`handle_end_of_stream`](crate::Connection::handle_end_of_stream). If bytes come, drop them, and report how
    /// many to [`handle_moved`](crate::Connection::handle_moved).
    ///
    /// In the bare format the end is due, and bytes are an error. In the framed format this side has written an
    /// ABORT: it reads until the peer knows, up to 16 MiB, for at most one idle timeout.
    AwaitEnd,
    /// The end. `Ok` has the size of the object: close gracefully, or go on with the next object
    /// ([`Connection::next_server`](crate::Connection::next_server), [`next_client`](crate::Connection::next_client)). `Err`: close abortively.
    Done(Result<u64, Cause>),
}

impl Step<'_> {
    /// The name of the step, without its fields.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Decide(_) => "Decide",
            Self::Resume => "Resume",
            Self::Write { .. } => "Write",
            Self::Receive { .. } => "Receive",
            Self::Send { .. } => "Send",
            Self::Offer { .. } => "Offer",
            Self::Peek => "Peek",
            Self::Digest => "Digest",
            Self::Commit => "Commit",
            Self::Shutdown => "Shutdown",
            Self::AwaitEnd => "AwaitEnd",
            Self::Done(_) => "Done",
        }
    }
}
