//! One object crosses one connection, behind a 25-byte start packet, in either direction, and both
//! sides know how it ended. This crate is that protocol as a pure state machine: it has no socket,
//! no clock, no heap and no dependency, and the object never enters it.
//!
//! Programs mostly use it through an adapter: `dataserver-std` for blocking sockets and threads,
//! `dataserver-smol` for async. Use it directly to put the protocol into an event loop of your own,
//! onto another executor, or onto a machine without an operating system.
//!
//! # The protocol
//!
//! The client connects and sends a [`StartPacket`]:
//!
//! | offset | bytes | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | type | 0 = put: the object goes client to server; 1 = get: server to client |
//! | 1 | 8 | object size | signed 64-bit, little-endian; -1 = not known beforehand; less is malformed |
//! | 9 | 16 | key | which registered callback this is for: MD5 of a name, or 16 random bytes |
//!
//! Then the object's bytes follow, bare. The sender ends it by shutting down its write half. The
//! receiver sees the end of the stream, *commits* the object (syncs the file, inserts the row), and
//! only then shuts down its own half: that is the sender's receipt.
//!
//! - **An orderly end is success**, on both sides.
//! - **A reset is anything else**: refused, truncated, failed, timed out, killed. So a driver arms
//!   its socket to reset when it is closed (`SO_LINGER` with a zero timeout, socket(7)) from the
//!   moment it has it, and disarms it only at [`Step::Done`] with `Ok`. To forget is then safe.
//!
//! ```text
//! client, Put                 server, Put             client, Get                 server, Get
//!   Write(start packet)  ──▶    Read                    Write(start packet)  ──▶    Read
//!   │                           Decide ──refuse──▶ ✗    │                           Decide ──refuse──▶ ✗
//!   Send …  ─── object ───▶     Receive …               Receive …  ◀── object ───   Send …
//!   Shutdown ──── FIN ────▶     AwaitEnd (*)            AwaitEnd (*) ◀─── FIN ────  Shutdown
//!   AwaitEnd                    Commit                  Commit                      AwaitEnd
//!   │        ◀──── FIN ────     Shutdown                Shutdown ──── FIN ────▶     │
//!   Done(Ok)                    Done(Ok)                Done(Ok)                    Done(Ok)
//!
//!   (*) where the size is declared; where it is not, Receive itself meets the end
//! ```
//!
//! After the start packet nothing depends on who is the client: there is a sender and a receiver.
//!
//! A peer that does not arm its socket, as the original in Go does not, closes in order also when it
//! gives up. Against one, only a declared size tells a receiver that the object is whole, and an
//! orderly end tells a sender no more than that the peer has closed.
//!
//! # A driver
//!
//! A driver owns the stream and the application's end of the object. It asks
//! [`Connection::step`] what to do, does it, and reports what happened:
//!
//! 1. Ask [`step`](Connection::step). Asking changes nothing: if the driver is interrupted, the step
//!    is the same when it asks again.
//! 2. Take the time, then try to do it, and report what happened:
//!    - [`advance`](Connection::advance) with the bytes that moved, or the verb that the step names;
//!    - [`end_of_stream`](Connection::end_of_stream) if a read returned 0 bytes;
//!    - [`would_block`](Connection::would_block), with the time from before the attempt, if the stream
//!      was not ready;
//!    - [`reset`](Connection::reset) if the stream failed. A socket reports an error once. A driver
//!      that meets it anywhere, in a peek or in `take_error`, reports it: the next read may return 0,
//!      which looks like a graceful end.
//! 3. If the stream was not ready, sleep until it is, or until the
//!    [`deadline`](Connection::deadline). Then try again in both cases: only an attempt that fails
//!    after the deadline ends the connection. A socket can have room for more bytes long before
//!    `poll` says that it is writable, so readiness alone does not tell whether a peer is idle.
//! 4. After progress, call [`handle_timeout`](Connection::handle_timeout) with the current time:
//!    progress does not put off the transfer timer. Go to 1.
//! 5. At [`Step::Done`], close the stream: gracefully for `Ok`, abortively for `Err`.
//!
//! This program blocks in its reads and writes, which therefore get the deadline as their timeout:
//!
//! ```
#![doc = include_str!("../examples/blocking.rs")]
//! ```
//!
//! # In an event loop
//!
//! | step | wait until the stream is | then |
//! |---|---|---|
//! | `Read`, `Receive`, `AwaitEnd` | readable | `feed`, `advance`, or `end_of_stream` |
//! | `Write`, `Send` | writable | `advance` |
//! | `Shutdown` | (over TLS: writable) | `shut_down` |
//! | `Peek` | not at all: look once | `end_of_stream` or `still_open` |
//! | `Decide`, `Offer`, `Commit` | not at all: the application's turn | `accept` or `refuse`; `offer`; `commit` |
//! | `Done` | not at all | close |
//!
//! No step waits for both directions, and a stream is not watched while it is the application's turn:
//! that is the back-pressure. A sender need not watch for a peer that closes or resets: its next write
//! fails, or `Peek` finds the end.
//!
//! One-shot readiness fits best: after each turn of a connection, register it for what its *new* step
//! waits for, or for nothing. A turn ends when the stream is not ready, which is reported with
//! `would_block`; or after a number of steps, so that other connections have their turn, which is not
//! reported. Such a connection is queued for another turn. When a deadline is due, give the connection
//! a turn, as if its stream were ready. Take the time once, right after the poll: then a slow loop
//! blames no peer. Most deadlines are put off before they are due. So keep one alarm for each
//! connection, replace it only by an earlier one, and set it again when it goes off early.
//!
//! # With completions
//!
//! Ask for the step, submit the operation with a buffer that it owns, and await its completion or the
//! deadline, whichever is first. At the deadline, cancel the operation, and await its completion: if it
//! has moved bytes, report them; if not, report `would_block` with the time at which it was submitted,
//! and submit it again. Wait until the ring has released the socket before closing it, or the reset is
//! delayed.
//!
//! # What waits in the transport
//!
//! A sender's write succeeds when the kernel takes the bytes. They may leave much later: the buffers of
//! a socket can hold several MiB. The end timer ([`Timeouts::end`]) is meant for the receiver's commit,
//! but it also covers what these buffers hold when the object ends. So limit what the kernel holds
//! unsent (`TCP_NOTSENT_LOWAT`, tcp(7)), as the adapters do, or set a longer end timer for slow links.
//! No sender can see what waits in the peer's receive buffer.
//!
//! # Buffers
//!
//! The core owns the 25 bytes of the start packet and nothing else. Everything else is the driver's:
//! one buffer for a whole event loop, the object's own spare room for a completion, no buffer at all
//! where the kernel moves the bytes or a device takes them one by one. A declared size is the peer's
//! word: do not reserve it.
//!
//! A driver that reads at most `max` bytes in `Read` never takes a byte of the object: the rest is
//! still in the stream, for a large buffer of the application's, or for the kernel to splice. A
//! driver that reads into a large buffer keeps what [`feed`](Connection::feed) leaves, and takes it
//! as the beginning of the stream in whatever step reads next, without waiting for readiness; it
//! counts like any other.
//!
//! A client may send the beginning of the object in the same write as the start packet:
//! [`Step::Write`] says how much.
//!
//! The examples of the repository have whole drivers: `event_loop` (readiness), `io_uring`
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

mod connection;
mod error;
mod key;
#[cfg(feature = "registry")]
mod registry;
mod start_packet;
mod time;
mod transfer;

pub use connection::{Config, Connection, Step};
pub use error::{Error, LocalError, Malformed, PeerError, Refusal, SizeOutOfRange};
pub use key::Key;
#[cfg(feature = "registry")]
pub use registry::{AlreadyRegistered, Claim, Entry, Lease, Registry};
pub use start_packet::{Direction, ObjectSize, StartPacket, StartPacketParser};
pub use time::{Instant, Timeouts, Timer};
pub use transfer::{Side, Transfer};
