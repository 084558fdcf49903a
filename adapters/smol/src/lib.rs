//! Transfer one object over one connection, on smol or any other executor, and know on both sides how it
//! ended.
//!
//! The API is that of `dataserver-std`, with async handlers and `.await`.
//!
//! ```
//! use std::time::Duration;
//! use dataserver_smol::{Client, Key, Server};
//!
//! const REPORT: Key = Key::from_name("report");
//!
//! # let directory = std::env::temp_dir().join(format!("dataserver-async-{}", std::process::id()));
//! # std::fs::create_dir(&directory).unwrap();
//! # std::env::set_current_dir(&directory).unwrap();
//! # std::fs::write("report.csv", "all is well").unwrap();
//! let server = Server::bind("127.0.0.1:0")?;
//! server.on_put(REPORT, |object| object.receive_to("stored.csv"))?; // the receipt follows the commit
//! server.on_get(REPORT, |object| object.send_path("stored.csv"))?;
//! let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
//! let running = smol::spawn(server.run(|connection| smol::spawn(connection).detach()));
//!
//! smol::block_on(async {
//!     let client = Client::new(address)?;
//!     let receipt = client.put(REPORT).await?.send_path("report.csv").await?;
//!     assert_eq!(receipt.bytes, 11); // stored by the server
//!     client.get(REPORT).await?.receive_to("copy.csv").await?;
//!     shutdown.shutdown(Duration::from_secs(5));
//!     running.await
//! })?;
//! # assert_eq!(std::fs::read("copy.csv").unwrap(), b"all is well");
//! # std::fs::remove_dir_all(directory).unwrap();
//! # Ok::<(), dataserver_smol::Error>(())
//! ```
//!
//! # How a transfer ends
//!
//! The sender has a [`Receipt`] only after the receiver has committed. Anything else is a failure: an
//! [`ObjectReader`] or [`ObjectWriter`] that is dropped, a handler that fails or panics, a timeout, a process
//! that is killed. An [`Error`] says which side was at fault.
//!
//! There are two formats. A server serves both, and the client chooses one.
//!
//! - *Bare*, the default: a graceful close is the receipt, and a reset is a failure. It is the format of the
//!   original, and holds over one TCP connection.
//! - *Framed* ([`Request::framed`]): the receipt and the reason for a failure are on the wire
//!   ([`Error::abort_reason`], [`Failure`]). They hold over proxies, tunnels, TLS and Unix sockets, too. A
//!   [`Session`] transfers framed objects one after the other over one connection.
//!
//! # Cancel safety
//!
//! Every future may be dropped at any await. If a connection is aborted by that, nothing else is affected:
//! its entry may be claimed again, unless it was for one claim. Each method says what dropping its future
//! does. A handler's future is dropped when the server is shut down and the grace period is over: clean up
//! in `Drop`.
//!
//! # Executors
//!
//! Any executor will do. Sockets and timers are those of [`async_io`], which runs a thread of its own if no
//! executor drives it. [`Server::run`] takes a function that spawns a connection:
//! `|connection| executor.spawn(connection).detach()`. [`Handlers::local`] is for handlers that are not
//! `Send`.
//!
//! # Errors
//!
//! Reads and writes of objects return [`std::io::Error`], everything else [`Error`], which converts into it;
//! [`Error::of`] finds it there again. So a `main` that does both returns `io::Result<()>`, and a handler ends
//! with `Ok::<_, io::Error>(object.commit().await?)`.
//!
//! # Which part to use
//!
//! - [`Server`] and [`Client`] for TCP.
//! - [`Handlers::serve`], [`ObjectWriter::open`] and [`ObjectReader::open`] for a transport that is
//!   connected already: a [`Socket`] (TCP or Unix), or any other [`Transport`].
//! - [`dataserver_core`] for an event loop of your own.
//!
//! # TLS
//!
//! With the feature `rustls`, `Client::tls` and `Server::tls` use TLS, with configurations of rustls. There the
//! framed format is the default. A connection that is cut is a truncation in both formats. The system cannot move
//! files through TLS: they pass through this process, at about half of the rate of sendfile(2) over loopback.
//!
//! # Digests and resume
//!
//! With the feature `digest`, a client can ask for two things, and every server with the feature has them:
//!
//! - A *digest* ([`Request`]`::with_digest`): the receiver commits only the object that the sender has, byte for byte.
//!   A file that changes while it is sent fails ([`Error::is_mismatch`]). Bytes that pass through the program are
//!   hashed on the way. What the system moves between a file and the socket is read once more, by a second thread
//!   beside the transfer.
//! - *Resume* ([`Request`]`::resumable`), with a digest: if the connection fails, [`ObjectReader::receive_to`] keeps what
//!   it has, in a file beside the target whose name begins with `.dataserver-`. The next transfer with the same key
//!   and declared size to the same target goes on behind it. Sender and receiver hash what is there already. If
//!   the digests differ, the transfer fails, the file is removed, and the next attempt begins at 0. A file that
//!   has not been written for a week is removed by the next transfer that can be resumed to that directory. Two
//!   transfers at the same time do not share one.
//!
//! A sender gives the whole object in every attempt, in any way: what the receiver has is hashed and not sent. So a
//! source that cannot be read twice, such as a pipe, cannot be resumed. A receiver that reads the object by itself,
//! without `receive_to`, begins at 0. A handler that is for one use ([`Entry::once`]) is used up by the first attempt:
//! use [`Entry::until_delivered`].
//!
//! A put that can be resumed and whose receipt was lost is tried again. Where its entry was until delivered, the
//! [`Handlers`] recognize it by its key, declared size and digest: the sender has its receipt without sending the object
//! again, and no handler runs. They know it for an hour, among the last 1024 such objects, until the key is
//! registered or removed, and not after a restart. Then it is refused. Tickets of a [`TicketStore`] are not recognized.
//! An entry that stays receives the object again.
//!
#![cfg_attr(feature = "digest", doc = "```no_run")]
#![cfg_attr(not(feature = "digest"), doc = "```ignore")]
//! use dataserver_smol::{Client, Key, Request};
//!
//! # async fn example() -> Result<(), dataserver_smol::Error> {
//! let request = Request::new(Key::from_name("disk image")).resumable();
//! let client = Client::new("127.0.0.1:8089")?;
//! let receipt = client.get(request).await?.receive_to("disk.img").await?;
//! println!("{} bytes", receipt.bytes);
//! # Ok(())
//! # }
//! ```
//!
//! # Tracing
//!
//! With the feature `tracing`, a server has a [span](https://docs.rs/tracing) `connection` for each connection,
//! and these events, all with the target `dataserver`:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `accepted` | debug | `peer` |
//! | `claimed` | debug | `peer`, `direction`, `key`, `size`, `framed` |
//! | `refused` | debug | the same, and `cause` |
//! | `done` | info | the same, and `bytes`, `seconds`, `outcome` |
//! | `server error` | warn | `cause` |
//!
//! There is one `done` for each object, and one for a connection that fails before its start packet is known.
//! `outcome` is `delivered`, `refused` or `failed`. `seconds` counts from the start packet, or from when it was
//! due. A field that is not known is left out. The span has the `peer`, and the `direction` and `key` of the
//! object that began last. What a handler emits while it is polled is in the span too.
//!
//! A random key is a secret, so `key` has only its first 4 bytes, as 8 hexadecimal digits.
//!
//! ```
//! use dataserver_smol::{Client, Key, Server};
//! use futures_lite::future;
//! use tracing_subscriber::prelude::*;
//!
//! // An application usually has one subscriber for all its threads.
//! let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
//! tracing_subscriber::registry().with(lines).init();
//!
//! let greeting = Key::from_name("greeting");
//! let server = Server::bind("127.0.0.1:0")?;
//! server.on_get(greeting, |object| async {
//!     tracing::info!("the greeting is sent"); // in the span of the connection
//!     object.send(b"hello").await
//! })?;
//! let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
//! let run = server.run(|connection| smol::spawn(connection).detach());
//! # let path = std::env::temp_dir().join(format!("dataserver-traced-{}", std::process::id()));
//! let get = async {
//!     Client::new(address)?.get(greeting).await?.receive_to(&path).await?;
//!     shutdown.shutdown(std::time::Duration::MAX);
//!     Ok(())
//! };
//! smol::block_on(future::try_zip(run, get))?; // all events have been emitted
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), dataserver_smol::Error>(())
//! ```

mod client;
mod connect;
mod driver;
mod handlers;
mod object;
mod recall;
mod server;
mod session;
mod socket;
#[cfg(feature = "rustls")]
mod tls;
mod transport;

pub use client::Client;
pub use dataserver_common::{
    Abort, Address, BoxError, ClaimError, Claimed, Error, Failure, InvalidAddress, LeaseError,
    Receipt, Request, TicketStore, now,
};
pub use dataserver_core::{
    self as protocol, AbortReason, AlreadyRegistered, Cause, Config, Delivery, Direction, Entry,
    Instant, InvalidKey, Key, LocalError, ObjectSize, PeerError, Refusal, SizeOutOfRange,
    StartPacket, Timeouts, Timer,
};
pub use handlers::{BoxFuture, Handlers, Kind, Local, LocalBoxFuture, Shared, WeakHandlers};
pub use object::{ObjectReader, ObjectWriter, TicketObject};
pub use server::{Server, ShutdownHandle};
pub use session::Session;
pub use socket::Socket;
#[cfg(feature = "rustls")]
pub use tls::TlsStream;
pub use transport::Transport;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
