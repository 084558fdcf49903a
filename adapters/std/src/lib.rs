//! dataserver over blocking sockets and threads: hand one object across one connection, and know on
//! both sides how it ended.
//!
//! A [`Server`] registers handlers for start packets; a [`Client`] connects, sends a start packet,
//! and the matching handler reads the object ([put](Server::on_put)) or writes it
//! ([get](Server::on_get)).
//!
//! ```
//! use std::fs::File;
//! use std::io;
//! use dataserver_std::{Client, Key, Server, StartPacket};
//!
//! const PUT: StartPacket = StartPacket::put(Key::from_name("report"));
//!
//! # let path = std::env::temp_dir().join(format!("dataserver-doc-{}", std::process::id()));
//! # let stored = path.clone();
//! let server = Server::bind("127.0.0.1:0")?;
//! server.on_put(PUT, move |object| {
//!     let file = File::create(&stored)?;
//!     object.receive_file(&file)?;
//!     file.sync_all() // Ok = committed: now the client gets its receipt
//! })?;
//! let address = server.local_addr()?;
//! std::thread::spawn(|| server.run());
//!
//! let receipt = Client::new(address).put(PUT)?.send(b"all is well")?;
//! assert_eq!(receipt.bytes, 11);
//! assert_eq!(std::fs::read(&path)?, b"all is well");
//! # std::fs::remove_file(path)?;
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
//! # Which part to use
//!
//! - [`Server`] and [`Client`] for TCP.
//! - [`Handlers::serve`], [`Sender::open`] and [`Receiver::open`] for a stream of your own that is
//!   connected already: a [`Socket`] (TCP or Unix), or anything that implements [`Stream`].
//! - [`dataserver_core`] for an event loop of your own.
//!
//! # Time
//!
//! The timeouts of [`Config`] concern the peer only: a handler that is slow on its own side is not
//! cut off. There is no timer thread; each wait for a socket ends at the core's deadline.

mod client;
mod driver;
mod handlers;
mod listener;
mod object;
mod report;
mod server;
mod stream;

pub use client::Client;
pub use dataserver_adapter::{Address, Error, Receipt, after, now};
pub use dataserver_core::{
    self as core, Config, Direction, Entry, Instant, Key, ObjectSize, StartPacket, Timeouts,
};
pub use handlers::{Handlers, WeakHandlers};
pub use object::{Receiver, Sender};
pub use server::{Server, StopHandle};
pub use stream::{Socket, Stream};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
