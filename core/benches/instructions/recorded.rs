//! How many instructions each operation took when this was last recorded: rustc 1.95, x86-64, release
//! profile. A count that rises by more than 5 % fails; record anew what was meant to change.

/// Bytes to start packet.
pub(crate) const DECODE: u64 = 11;
/// Key and size to bytes.
pub(crate) const ENCODE: u64 = 37;
/// One step of a sender, and the report that its chunk was sent: with [`NOTHING`], which is not its.
pub(crate) const CHUNK: u64 = 65;
/// The bench of a chunk, without the chunk.
pub(crate) const NOTHING: u64 = 6;
/// 1 GiB in chunks of 256 KiB, from start packet to receipt, one side.
pub(crate) const TRANSFER: u64 = 225_508;
/// The MD5 of a name of 32 bytes.
pub(crate) const KEY: u64 = 999;
/// To claim an entry and to release it, of so many.
pub(crate) const CLAIM_1: u64 = 408;
/// The same.
pub(crate) const CLAIM_1_000: u64 = 750;
/// The same.
pub(crate) const CLAIM_1_000_000: u64 = 1_092;
