//! The stage for the scenarios in `tests/`: what every adapter must do, over real sockets.
//!
//! A scenario is a function that is written once. It takes a server and a client, each an
//! [`Adapter`], or one of them and a [`Raw`] peer that speaks the wire by hand; [`pairs!`],
//! [`servers!`] and [`clients!`] make a test of it for every adapter and crosswise.
//!
//! What the application does, in a handler and as a client, is a list of [`Do`]: an adapter has only
//! to carry that out on its own objects. No scenario sleeps in hope: each waits for a message, for
//! bytes, or for what the kernel says of a socket, and gives up after [`PATIENCE`].
//!
//! What is random is made from a seed, by [`seeds`]: the faults of a [`Relay`] between the two, and the
//! moment in which one of a [`Crossing`] is killed.
//!
//! What takes long stands there with an `#[ignore = "long: …"]` before its name, and shows its figures
//! under `--ignored --nocapture`.
//!
//! To add an adapter: implement [`Adapter`] beside [`Std`], and name it in the three macros below and
//! in [`adapter`].

mod adapter;
pub mod adapters;
pub mod crossing;
mod crowd;
pub mod kernel;
mod lane;
mod orders;
mod patience;
pub mod process;
mod raw;
mod relay;
mod script;
pub mod seeds;
mod server;
mod things;

pub use adapter::{Adapter, Any, Carrier, Outcome, Report, Running, Setup, adapter};
pub use adapters::smol::Smol;
pub use adapters::std::Std;
pub use crossing::Crossing;
pub use crowd::Crowd;
pub use orders::{Act, At, Fault, Orders, Way};
pub use patience::{PATIENCE, Soon, eventually, spawn};
pub use process::Process;
pub use raw::{End, Raw, RawListener, start, start_for};
pub use relay::{Passed, Relay, Stream};
pub use script::{Call, Do, Gate, Source};
pub use server::Server;
pub use things::{KEY, TempDir, TempFile, cause, get, object, patient, put, reset, with};

/// Tests of scenarios between a server and a client, for each pair of adapters.
#[macro_export]
macro_rules! pairs {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_std() {
                super::$scenario(&$crate::Std, &$crate::Std);
            }
            #[test]
            $(#[$attribute])*
            fn std_smol() {
                super::$scenario(&$crate::Std, &$crate::Smol);
            }
            #[test]
            $(#[$attribute])*
            fn smol_std() {
                super::$scenario(&$crate::Smol, &$crate::Std);
            }
            #[test]
            $(#[$attribute])*
            fn smol_smol() {
                super::$scenario(&$crate::Smol, &$crate::Smol);
            }
        }
    )*};
}

/// Tests of scenarios between a server and a raw client, for each adapter.
#[macro_export]
macro_rules! servers {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_server() {
                super::$scenario(&$crate::Std);
            }
            #[test]
            $(#[$attribute])*
            fn smol_server() {
                super::$scenario(&$crate::Smol);
            }
        }
    )*};
}

/// Tests of scenarios between a raw server and a client, for each adapter.
#[macro_export]
macro_rules! clients {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_client() {
                super::$scenario(&$crate::Std);
            }
            #[test]
            $(#[$attribute])*
            fn smol_client() {
                super::$scenario(&$crate::Smol);
            }
        }
    )*};
}
