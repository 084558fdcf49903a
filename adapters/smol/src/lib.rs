//! dataserver for smol and every other executor: hand one object across one connection, and know on
//! both sides how it ended.
//!
//! The words are those of `dataserver-std`. Handlers are async: they get their object and return
//! `Box::pin(async move { … })`, and a put's object is an [`AsyncRead`](futures_lite::AsyncRead), a
//! get's an [`AsyncWrite`](futures_lite::AsyncWrite).
//!
//! ```
//! use dataserver_smol::{Client, Key, Server, StartPacket};
//! use futures_lite::{AsyncReadExt, future};
//! use std::io;
//! use std::time::Duration;
//!
//! const PUT: StartPacket = StartPacket::put(Key::from_name("report"));
//!
//! let server = Server::bind("127.0.0.1:0")?;
//! server.on_put(PUT, |object| {
//!     Box::pin(async move {
//!         let mut report = String::new();
//!         object.read_to_string(&mut report).await?;
//!         println!("{report}");
//!         Ok(()) // Ok = committed: now the client gets its receipt
//!     })
//! })?;
//! let (address, stop) = (server.local_addr()?, server.stop_handle());
//! let running = smol::spawn(server.run(|connection| smol::spawn(connection).detach()));
//!
//! smol::block_on(async {
//!     let receipt = Client::new(address).put(PUT).await?.send(b"all is well").await?;
//!     assert_eq!(receipt.bytes, 11);
//!     stop.stop(Duration::from_secs(5));
//!     running.await
//! })?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # How a connection ends
//!
//! An orderly end is success, on both sides: the sender has a [`Receipt`] only after the receiver
//! has committed. Anything else resets the connection: a [`Receiver`] or [`Sender`] that is dropped,
//! a handler that fails or panics, a time-out, a process that is killed. Every error says whose
//! fault it was: [`Error::of`] finds it in an [`io::Error`](std::io::Error), and
//! [`Error::cause`] has the [core's](dataserver_core::Error) word for it.
//!
//! # Cancelling
//!
//! Every future here may be dropped at any await. A connection whose future is dropped is reset, and
//! nothing else is affected: what was claimed for it can be claimed again, unless it was for once.
//!
//! # Which executor
//!
//! Any. Sockets and timers are those of [`async_io`], which brings its own thread where nobody
//! drives it. [`Server::run`] asks for a function that spawns a connection:
//! `|connection| executor.spawn(connection).detach()`. For handlers that are not `Send` there is
//! [`Handlers::local`].
//!
//! # Which part to use
//!
//! - [`Server`] and [`Client`] for TCP.
//! - [`Handlers::serve`], [`Sender::open`] and [`Receiver::open`] for a stream of your own that is
//!   connected already: a [`Socket`] (TCP or Unix), or anything that implements [`Stream`].
//! - [`dataserver_core`] for an event loop of your own.

mod client;
mod driver;
mod handlers;
mod object;
mod server;
mod stream;

pub use client::Client;
pub use dataserver_adapter::{Address, Error, Receipt, after, now};
pub use dataserver_core::{
    self as core, Config, Direction, Entry, Instant, Key, ObjectSize, StartPacket, Timeouts,
};
pub use handlers::{BoxFuture, Handlers, Kind, Local, LocalBoxFuture, Shared, WeakHandlers};
pub use object::{Receiver, Sender};
pub use server::{Server, StopHandle};
pub use stream::{Socket, Stream};
