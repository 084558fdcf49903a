//! What every adapter of dataserver needs beside the core, so that it stands once.
//!
//! A program uses this through `dataserver-std` or `dataserver-smol`, which export it again. Only
//! who writes an adapter of their own depends on it directly.

mod address;
mod clock;
mod error;
mod failure;
mod handlers;
mod new_file;
pub mod object;
mod panic;
pub mod socket;
pub mod tcp;
mod want;

pub use address::Address;
pub use clock::{after, now, registry_now, to_std};
pub use error::{Error, Receipt};
pub use failure::{Abort, Failure};
pub use handlers::{Claimed, Handlers};
pub use new_file::NewFile;
pub use panic::drop_application_value;
pub use want::Want;
