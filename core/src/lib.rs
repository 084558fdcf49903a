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
//! 1. Ask [`step`](Connection::step). Asking takes nothing away: whatever interrupts the driver, the
//!    step is the same when it asks again.
//! 2. Do it, as far as it goes now, and report it: [`advance`](Connection::advance) with the bytes
//!    that moved, or the verb that the step names. Reading 0 bytes is
//!    [`end_of_stream`](Connection::end_of_stream); an error of the stream is
//!    [`reset`](Connection::reset). Go to 1.
//! 3. Where the stream is not ready: [`wait`](Connection::wait), and sleep until it is, or until
//!    [`deadline`](Connection::deadline).
//! 4. After each sleep, and after progress, which does not put off every timer:
//!    [`handle_timeout`](Connection::handle_timeout), which does nothing while nothing is due. Try
//!    the stream first: bytes that are there were in time. Go to 1.
//! 5. At [`Step::Done`], close the stream: in order for `Ok`, with a reset for `Err`.
//!
//! This one blocks in its reads and writes, which therefore get the deadline as their timeout:
//!
//! ```
//! use dataserver_core::{Config, Connection, Error, Instant, Key, Refusal, StartPacket, Step};
//! use rustix::net::sockopt::set_socket_linger;
//! use std::io::{ErrorKind, Read, Write};
//! use std::net::{Shutdown, TcpListener, TcpStream};
//! use std::time::{self, Duration};
//!
//! const PUT: StartPacket = StartPacket::put(Key::from_name("start"));
//!
//! /// Carries a connection to its end. The object comes from `object`, or goes there.
//! fn drive(
//!     mut connection: Connection,
//!     mut stream: TcpStream,
//!     object: &mut Vec<u8>,
//!     now: impl Fn() -> Instant,
//! ) -> std::io::Result<Result<u64, Error>> {
//!     set_socket_linger(&stream, Some(Duration::ZERO))?; // from here on, to drop is to reset
//!     let mut buffer = [0; 4096];
//!     loop {
//!         connection.wait(now());
//!         connection.handle_timeout(now());
//!         let left = connection.deadline().map(|deadline| deadline.saturating_since(now()));
//!         let left = left.map(|left| left.max(Duration::from_micros(1))); // zero is not allowed
//!         stream.set_read_timeout(left)?;
//!         stream.set_write_timeout(left)?;
//!
//!         let done = match connection.step() {
//!             // At most `max`, so that no payload is taken; see below.
//!             Step::Read { max } => stream.read(&mut buffer[..max]).map(|n| match n {
//!                 0 => connection.end_of_stream(),
//!                 n => _ = connection.feed(&buffer[..n]),
//!             }),
//!             Step::Decide(PUT) => Ok(connection.accept(1 << 20)), // puts of up to 1 MiB
//!             Step::Decide(_) => Ok(connection.refuse(Refusal::NotRegistered)),
//!             Step::Write { bytes, .. } => stream.write(bytes).map(|n| connection.advance(n)),
//!             Step::Receive { max } => {
//!                 let max = max.min(buffer.len());
//!                 stream.read(&mut buffer[..max]).map(|n| match n {
//!                     0 => connection.end_of_stream(),
//!                     n => {
//!                         object.extend_from_slice(&buffer[..n]);
//!                         connection.advance(n);
//!                     }
//!                 })
//!             }
//!             Step::Send { max } => match &object[connection.moved() as usize..] {
//!                 [] => Ok(connection.end_of_object()),
//!                 rest => stream
//!                     .write(&rest[..rest.len().min(max)])
//!                     .map(|n| connection.advance(n)),
//!             },
//!             Step::Commit => Ok(connection.commit()), // a file would be synced and renamed first
//!             Step::Shutdown => {
//!                 stream.shutdown(Shutdown::Write).map(|()| connection.shut_down())
//!             }
//!             Step::AwaitEnd => stream.read(&mut buffer[..1]).map(|n| match n {
//!                 0 => connection.end_of_stream(),
//!                 n => connection.advance(n), // the peer should have been at its end: an error
//!             }),
//!             Step::Done(result) => {
//!                 if result.is_ok() {
//!                     set_socket_linger(&stream, None)?;
//!                 }
//!                 return Ok(result);
//!             }
//!         };
//!         match done.map_err(|error| error.kind()) {
//!             Ok(()) | Err(ErrorKind::Interrupted) => {}
//!             Err(ErrorKind::WouldBlock) => connection.handle_timeout(now()), // SO_RCVTIMEO
//!             Err(_) => connection.reset(),
//!         }
//!     }
//! }
//!
//! let epoch = time::Instant::now();
//! let now = move || Instant::new(epoch.elapsed());
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let stream = TcpStream::connect(listener.local_addr()?)?;
//!
//! let server = std::thread::spawn(move || {
//!     let mut object = Vec::new();
//!     let (stream, _) = listener.accept()?;
//!     let connection = Connection::server(Config::default(), now());
//!     Ok::<_, std::io::Error>((drive(connection, stream, &mut object, now)?, object))
//! });
//! let mut object = b"hello, world".to_vec();
//! let connection = Connection::client(Config::default(), PUT, now());
//! assert_eq!(drive(connection, stream, &mut object, now)?, Ok(12));
//! assert_eq!(server.join().unwrap()?, (Ok(12), object));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # In an event loop
//!
//! | step | wait until the stream is | then |
//! |---|---|---|
//! | `Read`, `Receive`, `AwaitEnd` | readable | `feed`, `advance`, or `end_of_stream` |
//! | `Write`, `Send` | writable | `advance` |
//! | `Shutdown` | (over TLS: writable) | `shut_down` |
//! | `Decide`, `Commit` | not at all: the application's turn | `accept` or `refuse`; `commit` |
//! | `Done` | not at all | close |
//!
//! No step waits for both, and none is watched for while it is the application's turn: that is the
//! back-pressure. A sender need not watch for a peer that closes or resets: its next write fails.
//!
//! One-shot readiness fits best: after each turn of a connection, arm it for what its *new* step
//! waits for, and for nothing where that is nothing. A turn ends where the stream is not ready, or
//! after so many steps that others should have theirs; in both cases say `wait`, or no timer runs.
//! Take the time once, right after the poll, and handle time-outs after readiness: then a loop that
//! is slow blames no peer. Most deadlines are put off before they are due. So keep one alarm for each
//! connection, replace it only by an earlier one, and when it goes off early, set it again.
//!
//! # With completions
//!
//! Ask for the step, submit the operation with a buffer that it owns, and await its completion or the
//! deadline, whichever is first; then report, and ask again. Say `wait` when it is submitted. An
//! operation that is cancelled may have moved bytes that nobody reports: so cancel one only to end
//! the connection, as [`handle_timeout`](Connection::handle_timeout) or
//! [`abort`](Connection::abort) do, and wait until the ring has let go of the socket before closing
//! it, or the reset comes late.
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
