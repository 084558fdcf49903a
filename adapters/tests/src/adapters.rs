//! The adapters, each behind [`Adapter`](crate::Adapter).

pub mod smol;
pub mod std;
pub mod tls;

use dataserver_common::Request;
use dataserver_core::StartPacket;

use crate::adapter::DynAdapter;

/// The request that leads to exactly this start packet.
fn request(packet: StartPacket) -> Request {
    let request = Request::new(packet.key()).size(packet.size());
    match packet {
        _ if packet.is_resumable() => request.resumable(),
        _ if packet.has_digest() => request.with_digest(),
        _ if packet.is_framed() => request.framed(),
        _ => request.bare(),
    }
}

/// The adapter with this name.
///
/// # Panics
/// Panics if no adapter has it.
pub fn adapter(name: &str) -> DynAdapter {
    match name {
        "std" => &std::Std::TCP,
        "std-tls" => &std::Std::TLS,
        "smol" => &smol::Smol::TCP,
        "smol-tls" => &smol::Smol::TLS,
        _ => panic!("no adapter is called {name}"),
    }
}
