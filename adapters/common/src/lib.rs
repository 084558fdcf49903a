//! What the adapters of dataserver share beside the core. It is internal: its only users are
//! `dataserver-std` and `dataserver-smol`, which export what programs need, and it may change with any
//! release.

mod address;
mod attempts;
mod clock;
mod delivered;
#[cfg_attr(not(feature = "digest"), path = "digest/off.rs")]
#[cfg_attr(feature = "digest", path = "digest/on.rs")]
mod digest;
mod error;
mod exchange;
mod lend;
mod new_file;
pub mod object;
mod panic;
mod part;
mod receipt;
mod request;
mod session;
mod shared_registry;
pub mod socket;
pub mod tcp;
mod ticket_store;
#[cfg(feature = "rustls")]
pub mod tls;
#[cfg_attr(not(feature = "tracing"), path = "trace/off.rs")]
#[cfg_attr(feature = "tracing", path = "trace/on.rs")]
mod trace;
mod write_options;

pub use address::{Address, InvalidAddress};
pub use attempts::Attempts;
pub use clock::{now, registry_now, to_std};
pub use delivered::Delivered;
pub use digest::ObjectDigest;
pub use error::{BoxError, Error, Failure};
pub use exchange::{Abort, Action, Exchange, Goal, ProtocolBytes, READ_AHEAD, Revoker};
pub use lend::{Home, Lent};
pub use new_file::NewFile;
pub use panic::{catch_application_panic, drop_application_value, drop_panic_payload};
pub use receipt::Receipt;
pub use request::Request;
pub use session::{GRACE, SHARE};
pub use shared_registry::{ActiveClaim, ClaimGuard, SharedRegistry};
pub use ticket_store::{
    ClaimError, Claimed, HeldClaim, HeldLease, LeaseError, SharedStore, TicketStore,
};
pub use trace::{ObjectTrace, Trace, trace_server_error};
pub use write_options::{MAX_UNSENT, WriteOptions, limit_unsent};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
