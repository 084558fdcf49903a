//! stub
mod client;
mod driver;
mod handlers;
mod object;
mod server;
mod stream;

pub use client::Client;
pub use dataserver_adapter::{Error, Receipt, after, now};
pub use dataserver_core::{
    self as core, Config, Direction, Entry, Instant, Key, ObjectSize, StartPacket, Timeouts,
};
pub use handlers::{BoxFuture, Handlers, Kind, Local, LocalBoxFuture, Shared};
pub use object::{Receiver, Sender};
pub use server::{Server, StopHandle};
pub use stream::{Socket, Stream};
