//! The dataserver protocol as a pure state machine. One object is transferred over one connection,
//! behind a 25-byte start packet, in either direction, and both sides know how it ended.
//!
//! This crate has no socket, no clock and no dependency, and the object never enters it. Only the feature
//! `registry` needs a heap. Most
//! programs use it through an adapter: `dataserver-std` for blocking sockets and threads,
//! `dataserver-smol` for async. Use it directly for a custom event loop, another async runtime, or an
//! embedded target.
//!
//! # Two formats
//!
//! A client chooses the format in its start packet ([`StartPacket::framed`]), and a server serves both.
//!
//! - *Bare*, the default: the original's. The object ends with the end of the stream. A graceful close is the
//!   receipt, and a reset is a failure. It holds as long as the peers share one TCP connection.
//! - *Framed*: the end of the object, the receipt and the reason for a failure are on the wire. It holds over
//!   any stream of bytes, also through proxies and tunnels, and over Unix sockets and serial lines. It
//!   carries objects one after the other over one stream.
//!
//! The [`specification`] defines both formats, for those who write another implementation. The next section
//! is about the bare format, and [the one after it](#the-framed-format) about the framed format.
//!
//! # The bare format
//!
//! The client connects and sends a [`StartPacket`]:
//!
//! | offset | bytes | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | type | 0 = put: the object goes client to server; 1 = get: server to client; 128 more if framed, 160 with a digest, 224 resumable |
//! | 1 | 8 | object size | signed 64-bit, little-endian; -1 = unknown; below -1 is malformed |
//! | 9 | 16 | key | selects the registered handler: MD5 of a name, or 16 random bytes |
//!
//! The object follows as raw bytes. The sender ends it by shutting down its write half. The receiver sees
//! the end of the stream, *commits* the object (syncs the file, inserts the row), and only then shuts
//! down its own half. That is the sender's receipt.
//!
//! - **A graceful close (FIN) is success**, on both sides.
//! - **An abortive close (RST) is failure**: refused, truncated, failed, timed out, killed. A driver arms
//!   its socket as soon as it has it, so that closing it sends a reset (`SO_LINGER` with a zero timeout,
//!   socket(7)), and disarms it only at [`Step::Done`] with `Ok`. A server arms its listener too: on
//!   Linux, accepted sockets inherit the option.
//!
//! ```text
//! client, put                  server, put            client, get                  server, get
//!   Write(start packet)  ──▶     Read                   Write(start packet)  ──▶     Read
//!   │                            Decide                 │                            Decide
//!   Send ...  ── object ──▶      Receive ...            Receive ... ◀── object ──    Send ...
//!   Offer (1), Peek              │                      │                            Offer (1), Peek
//!   Shutdown  ──── FIN ───▶      AwaitEnd (2)           AwaitEnd (2) ◀─── FIN ───    Shutdown
//!   AwaitEnd                     Commit                 Commit                       AwaitEnd
//!   │         ◀─── FIN ────      Shutdown               Shutdown  ──── FIN ───▶      │
//!   Done(Ok)                     Done(Ok)               Done(Ok)                     Done(Ok)
//!
//!   (1) if the size is declared; otherwise the application ends the object in Send
//!   (2) if the size is declared; otherwise Receive itself meets the end of the stream
//! ```
//!
//! After the start packet it does not matter which side is the client: there is a sender and a receiver.
//!
//! A peer that does not arm its socket closes gracefully even when it fails. The original in Go is such a
//! peer. Against it, only a declared size tells a receiver that the object is complete, and a graceful
//! close tells a sender only that the peer has closed.
//!
//! # The framed format
//!
//! ```text
//! client, put                   server, put            client, get                   server, get
//!   Offer                         Read                   Write(start packet)  ──▶      Read
//!   Write(start packet,           Decide                 │                             Decide
//!         header, bytes)   ──▶    Read                   │                             Offer
//!   Send ...  ── bytes ──▶        Receive ...            Read         ◀── header ──    Write(header, bytes)
//!   Offer ... (next frame)        Read ...               Receive ...  ◀── bytes ──     Send ...
//!   │                             Commit                 Commit                        │
//!   Read         ◀── receipt ──   Write                  Write      ── receipt ──▶     Read
//!   Done(Ok)                      Done(Ok)               Done(Ok)                      Done(Ok)
//! ```
//!
//! The application of the sender decides where its object ends, with [`Connection::offer`]. After `Done(Ok)` the
//! stream is closed gracefully, or it carries the next object ([`Connection::next_server`],
//! [`Connection::next_client`]). A server ends a session that waits with [`Connection::abort`].
//!
//! With a digest ([`StartPacket::with_digest`]) both sides have a `Digest` step behind the object: the sender then
//! has one more `Write`, and the receiver one more `Read`. If the transfer can be resumed
//! ([`StartPacket::resumable`]), the receiver begins with `Resume`, and the sender reads the answer. The core
//! compares digests and computes none: a server that cannot refuses the packet ([`Refusal::Unsupported`]).
//!
//! A driver of the bare format follows these steps, too. There is a little more for it to do:
//!
//! - [`Connection::outcome`] tells a failure before the peer knows. From then on the driver calls no more
//!   application code and goes on to `Done`, which takes at most one idle timeout. A server releases its
//!   lease at this moment.
//! - `AwaitEnd` drops up to 16 MiB of a peer that does not know yet. Read at least 4 KiB at a time.
//! - Do not delay the last bytes (`MSG_MORE`, `TCP_CORK`): no end of the stream follows them.
//! - If the transport buffers what is written, flush it before a step that reads.
//! - A client whose object comes later may send its start packet alone: `offer(0, false)`.
//! - A driver that has canceled a write does not know what has left. It calls
//!   [`handle_reset`](Connection::handle_reset), and not `abort`.
//!
//! # What a transport must provide
//!
//! Framed:
//!
//! - Bytes in order, in both directions, and room for one frame of 12 bytes that is not read yet.
//!
//! Bare:
//!
//! - Bytes in order, in both directions.
//! - An end of each direction that the peer sees, and that leaves the other direction open.
//! - An abortive close that the peer can tell from that end.
//!
//! TCP has all of them, and so has TLS: its end is a `close_notify`, and a stream that ends without one is
//! aborted. A Unix socket has no abortive close: there a bare receipt does not prove a commit. On a line without
//! connections the driver represents the end and the abort itself, as the example `embedded` does. If such a
//! line has no room for the abort at once, the driver must remember that it owes one.
//!
//! # A driver
//!
//! A driver owns the transport and the application's end of the object. It asks [`Connection::step`] what
//! to do, does it, and reports what happened:
//!
//! 1. Ask [`step`](Connection::step). Asking changes nothing: the step stays the same until something is
//!    reported.
//! 2. Take the time. Then try to do the step, and report what happened:
//!    - [`handle_moved`](Connection::handle_moved) with the number of bytes that moved, or the report that
//!      the step names;
//!    - [`handle_end_of_stream`](Connection::handle_end_of_stream) if a read returned 0 bytes;
//!    - [`handle_blocked`](Connection::handle_blocked), with the time from before the attempt, if the
//!      transport was not ready;
//!    - [`handle_reset`](Connection::handle_reset) if the transport failed, or if a write returned 0
//!      bytes.
//! 3. If the transport was not ready, sleep until it is, or until the
//!    [`deadline`](Connection::deadline). Then try the step again, also at the deadline. The connection
//!    times out only if that attempt fails too.
//! 4. After progress, or at the beginning of each turn, call
//!    [`handle_timeout`](Connection::handle_timeout) with the current time: progress does not extend the
//!    total timeout. Go to 1.
//! 5. At [`Step::Done`], close the transport: gracefully for `Ok`, abortively for `Err`.
//!
//! A socket reports an error once. A driver that meets an error anywhere, in a peek or in `take_error`,
//! must report it: the next read may return 0, which looks like a graceful end.
//!
//! This program blocks in its reads and writes, which therefore get the deadline as their timeout. On a
//! stream without a peek, `Step::Peek` may read without waiting, and report the bytes:
//!
//! ```
#![doc = include_str!("../examples/blocking.rs")]
//! ```
//!
//! # Registered handlers
//!
//! A server can use a `Registry` (feature `registry`) to decide: it claims the entry for the start packet
//! at [`Step::Decide`], and then calls [`accept`](Connection::accept) or
//! [`refuse`](Connection::refuse). Release the lease before the transport
//! is closed: a client that sees the end may try again at once.
//!
//! # In an event loop
//!
//! | step | wait until the transport is | then report |
//! |---|---|---|
//! | `Read` | readable | `handle_read`, or `handle_end_of_stream` |
//! | `Receive`, `AwaitEnd` | readable | `handle_moved`, or `handle_end_of_stream` |
//! | `Write`, `Send` | writable | `handle_moved` |
//! | `Shutdown` | (over TLS: writable) | `handle_shutdown` |
//! | `Peek` | no wait: look once | `handle_end_of_stream`, or `handle_still_open` |
//! | `Decide`, `Resume`, `Offer`, `Digest`, `Commit` | no wait: the application acts | `accept` or `refuse`; `resume`; `offer`; `digest`; `committed` |
//! | `Done` | no wait: close | |
//!
//! No step waits for both directions, and the transport is not watched while the application acts: that is
//! the back-pressure. A sender need not watch for a peer that closes or resets: its next write fails, or
//! `Peek` finds the end.
//!
//! Make a client's `Connection` when the connect begins. If a non-blocking connect fails, the first write
//! tells. Set `TCP_NODELAY`, or the last segment of an object may be delayed.
//!
//! *Level-triggered or one-shot* (poll, epoll): after each turn of a connection, register it for what its
//! new step waits for, or for nothing. *Edge-triggered* (mio): register once for both directions, and try
//! the step on any event.
//!
//! A turn ends when the transport is not ready, which is reported with `handle_blocked`; or after a number
//! of steps, so that other connections have their turn, which is not reported. Queue such a connection for
//! another turn. When a deadline is due, give the connection a turn, as if its transport were ready. While
//! the connection waits for its own application, ignore the deadline. Take the time once, right after the
//! poll: then a slow loop does not count against the peers. Most deadlines are extended before they are
//! due. So keep one timer for each connection, replace it only by an earlier one, and set it again when it
//! goes off early.
//!
//! # With completions
//!
//! Ask for the step, submit the operation with a buffer that it owns, and await its completion or the
//! deadline, whichever is first. At the deadline, cancel the operation and await its completion; repeat
//! the cancellation if it missed the operation. If the operation has moved bytes, report them. If not,
//! report `handle_blocked` with the time at which it was submitted, and submit it again before the next
//! deadline is looked at. Close the socket only when the ring has released it, or the reset is delayed.
//!
//! # Buffers
//!
//! The core holds the start packet and the header of a frame, and nothing else. The driver chooses its buffers: one
//! for a whole event loop, one for each operation, or none if the kernel moves the bytes. A declared size
//! comes from the peer: do not allocate it.
//!
//! A driver that reads at most `max` bytes in `Read` never takes a byte of the object. A driver that reads
//! into a large buffer keeps the bytes that [`handle_read`](Connection::handle_read) does not take, and
//! uses them first in the step that reads next.
//!
//! A client may send the beginning of the object in the same write as the start packet: [`Step::Write`]
//! says how much.
//!
//! # What the kernel holds
//!
//! A sender's write succeeds when the kernel takes the bytes. They may leave much later: the buffers of a
//! socket can hold several MiB. The receipt timeout ([`Timeouts::receipt`]) is meant for the receiver's
//! commit, but it also covers what these buffers hold when the object ends. So limit what the kernel holds
//! unsent (`TCP_NOTSENT_LOWAT`, tcp(7)), as the adapters do, or set a longer receipt timeout for slow
//! links. A sender cannot see what waits in the peer's receive buffer.
//!
//! # Time
//!
//! The core has no clock: each call gets an [`Instant`], a duration since an epoch of the caller's choice.
//! Each connection may have an epoch of its own. A clock of milliseconds is precise enough.
//!
//! The examples of the repository have complete drivers: `event_loop` (readiness), `io_uring`
//! (completions), `tokio`, and `embedded` (fixed buffers, no operating system).
#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[cfg(feature = "registry")]
extern crate alloc;

mod config;
mod connection;
mod error;
mod frame;
mod key;
mod output;
#[cfg(feature = "registry")]
mod registry;
mod start_packet;
mod step;
mod time;
mod transfer;

pub use config::Config;
pub use connection::Connection;
pub use error::{Cause, LocalError, PeerError, Refusal};
pub use frame::{AbortReason, Frame, FrameParser, MalformedFrame};
pub use key::{InvalidKey, Key};
#[cfg(feature = "registry")]
pub use registry::{AlreadyRegistered, Claim, Delivery, Entry, Lease, Registry};
pub use start_packet::{
    Direction, Malformed, ObjectSize, SizeOutOfRange, StartPacket, StartPacketParser,
};
pub use step::Step;
pub use time::{Instant, Timeouts, Timer};
pub use transfer::{Side, Transfer};

#[doc = include_str!("specification.md")]
pub mod specification {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
