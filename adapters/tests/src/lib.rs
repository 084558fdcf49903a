//! Support code for the integration tests in `tests/`: what every adapter must do, over real sockets.
//!
//! A test is a function that takes a server and a client, each a [`DynAdapter`], or one of them and a
//! [`Raw`] peer that writes and reads the bytes of the protocol itself. [`pairs!`], [`servers!`] and
//! [`clients!`] expand it to one test for each adapter or pair of adapters.
//!
//! What the application does, in a handler and as a client, is a list of [`Op`], which an adapter runs
//! on its own objects. No test uses a fixed sleep to wait for an event: each waits for a message, for
//! bytes, or for the state of a socket in the kernel, and fails after [`TIMEOUT`].
//!
//! Random tests are derived from a seed, by [`seeds`]: the faults that a [`Relay`] injects, and the
//! moment at which one side of a [`ProcessTransfer`] is killed.
//!
//! Long tests are marked `#[ignore = "long: …"]`. They print their measurements with
//! `--ignored --nocapture`.
//!
//! To add an adapter, implement [`Adapter`] beside [`Std`], and add it to the three macros below and to
//! [`adapter`].

mod adapter;
pub mod adapters;
mod fault_plan;
mod idle_flood;
pub mod kernel;
mod packets;
pub mod process;
pub mod process_main;
pub mod process_transfer;
mod raw;
mod relay;
mod relay_direction;
mod script;
pub mod seeds;
mod server;
mod temp;
mod wait;

pub use adapter::{
    Adapter, ConnectedStream, DynAdapter, OnComplete, Outcome, RunningServer, Setup,
};
pub use adapters::adapter;
pub use adapters::smol::Smol;
pub use adapters::std::Std;
pub use fault_plan::{DirectionPlan, Fault, FaultKind, FaultPlan, FaultPoint, OnReset};
pub use idle_flood::IdleFlood;
pub use packets::{KEY, assert_reset, cause, get, long_timeouts, object, put, with};
pub use process::Process;
pub use process_transfer::ProcessTransfer;
pub use raw::{End, Raw, RawListener, start, start_for};
pub use relay::{Relay, Relayed};
pub use relay_direction::Delivered;
pub use script::{Call, Gate, Op, Source};
pub use server::Server;
pub use temp::{TempDir, TempFile};
pub use wait::{TIMEOUT, Wait, eventually, spawn};

/// Expands tests between a server and a client to one for each pair of adapters, over TCP
/// and over TLS.
#[macro_export]
macro_rules! pairs {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_std() {
                super::$scenario(&$crate::Std::TCP, &$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn std_smol() {
                super::$scenario(&$crate::Std::TCP, &$crate::Smol::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_std() {
                super::$scenario(&$crate::Smol::TCP, &$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_smol() {
                super::$scenario(&$crate::Smol::TCP, &$crate::Smol::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn std_smol_over_tls() {
                super::$scenario(&$crate::Std::TLS, &$crate::Smol::TLS);
            }
            #[test]
            $(#[$attribute])*
            fn smol_std_over_tls() {
                super::$scenario(&$crate::Smol::TLS, &$crate::Std::TLS);
            }
        }
    )*};
}

/// [`pairs!`], for tests that look at the bytes on the wire, or need TCP for another reason.
#[macro_export]
macro_rules! tcp_pairs {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_std() {
                super::$scenario(&$crate::Std::TCP, &$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn std_smol() {
                super::$scenario(&$crate::Std::TCP, &$crate::Smol::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_std() {
                super::$scenario(&$crate::Smol::TCP, &$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_smol() {
                super::$scenario(&$crate::Smol::TCP, &$crate::Smol::TCP);
            }
        }
    )*};
}

/// Expands tests between a server and a raw client to one for each adapter.
#[macro_export]
macro_rules! servers {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_server() {
                super::$scenario(&$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_server() {
                super::$scenario(&$crate::Smol::TCP);
            }
        }
    )*};
}

/// Expands tests between a raw server and a client to one for each adapter.
#[macro_export]
macro_rules! clients {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            $(#[$attribute])*
            fn std_client() {
                super::$scenario(&$crate::Std::TCP);
            }
            #[test]
            $(#[$attribute])*
            fn smol_client() {
                super::$scenario(&$crate::Smol::TCP);
            }
        }
    )*};
}

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
