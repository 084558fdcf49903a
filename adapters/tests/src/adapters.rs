//! The adapters, each behind [`Adapter`](crate::Adapter).

pub mod smol;
pub mod std;

use crate::adapter::DynAdapter;

/// The adapter with this name.
///
/// # Panics
/// Panics if no adapter has it.
pub fn adapter(name: &str) -> DynAdapter {
    match name {
        "std" => &std::Std,
        "smol" => &smol::Smol,
        _ => panic!("no adapter is called {name}"),
    }
}
