//! The recorded instruction counts: rustc 1.95, x86-64, release profile. The bench fails if a count rises
//! by more than 5 %. Record a count again if it was meant to change.

/// Decoding a start packet.
pub(crate) const DECODE: u64 = 17;
/// Encoding a start packet.
pub(crate) const ENCODE: u64 = 37;
/// One step of a sender, and the report of its chunk. Includes the overhead, [`NOTHING`].
pub(crate) const CHUNK: u64 = 61;
/// A sender that offers one chunk in the framed format, and writes it with its header.
pub(crate) const FRAMED_1_CHUNK: u64 = 184;
/// The same with 11 chunks.
pub(crate) const FRAMED_11_CHUNKS: u64 = 1_684;
/// The overhead of the benchmark of a chunk.
pub(crate) const NOTHING: u64 = 6;
/// One side of a transfer of 1 GiB in chunks of 256 KiB, from the start packet to the receipt.
pub(crate) const TRANSFER: u64 = 217_694;
/// The key of a name of 32 bytes.
pub(crate) const KEY: u64 = 1_003;
/// Claiming and releasing an entry of a registry with one entry.
pub(crate) const CLAIM_1: u64 = 431;
/// The same with 1000 entries.
pub(crate) const CLAIM_1_000: u64 = 773;
/// The same with a million entries.
pub(crate) const CLAIM_1_000_000: u64 = 1_115;
