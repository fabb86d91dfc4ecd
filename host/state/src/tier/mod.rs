//! Lower tiers of state backends: where entries are that have left the guest.
//!
//! - `memory`: encoded entries in the host's memory, for state that is larger than one instance may be, and for
//!   state just restored that nobody has asked for yet.
//! - `parted`: the same for entries in parts, which are read in order and dropped as a whole.
//! - `rocks` (feature `rocksdb`): on disk, for state larger than memory.
//! - `sorted` and `rocks::sorted`: the same two places for the entries of large maps and lists, in the order of keys.
//!
//! Neither is durable: what a job holds is in its checkpoints.

mod memory;
mod parted;
mod pieces;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sorted;

pub use memory::MemoryTier;
pub use parted::PartedMemoryTier;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksDb, RocksDbOptions, RocksDbSortedTier, RocksDbTier};
pub use sorted::SortedMemoryTier;

#[cfg(test)]
mod tests;
