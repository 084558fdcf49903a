//! The tool as its users run it: as processes.

mod hostile_peers;
mod killed;
mod program;
mod progress;
#[cfg(feature = "redis")]
mod redis_tickets;
mod sandbox;
mod server;
mod signals;
mod statuses;
mod streams;
mod targets;
mod tickets;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_faults;
mod transfers;
