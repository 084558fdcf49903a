//! Tickets in Redis or Valkey, for several [dataserver](https://docs.rs/dataserver-std) servers: any of them may
//! be asked, and *once*, *until delivered* and expiry hold across all of them.
//!
//! [`Tickets`] issues, looks up and revokes tickets, and is the store that servers take with `on_tickets`. A
//! program in any language can issue tickets, too: the layout of the keys is below.
//!
#![doc = include_str!("../LAYOUT.md")]

mod batch;
mod error;
mod lease;
mod nodes;
mod pool;
mod script;
mod ticket;
mod tickets;

pub use dataserver_common::{ClaimError, Claimed, LeaseError, TicketStore};
pub use error::Error;
pub use lease::Lease;
pub use nodes::Nodes;
pub use ticket::{Found, Ticket};
pub use tickets::{Options, Tickets};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
