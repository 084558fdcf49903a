//! The adapters, each behind [`Adapter`](crate::Adapter).

pub mod smol;
pub mod std;
