//! State backends: which lower tier goes under the operators of a job, and when.

use std::path::PathBuf;

use arrow_schema::FieldRef;
use millrace_core::Result;
use millrace_core::backend::SortedTier;
use millrace_core::block::Millis;
use millrace_operators::{KeyedOperator, WindowOperator};
use millrace_state::tier::{MemoryTier, PartedMemoryTier, SortedMemoryTier};

/// Where the state of keys and windows is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateBackend {
    /// In memory: in the guest, and what does not fit there in the host.
    #[default]
    Memory,
    /// In RocksDB, with the hot part in memory.
    RocksDb {
        /// Folder for the databases. What is in it is deleted.
        folder: PathBuf,
        /// Memory of each slot: guest, tables of keys, and RocksDB.
        cache_bytes: usize,
    },
}

/// Of RocksDB's memory and the rest: so much of a slot's memory is RocksDB's.
const ROCKSDB_PART: usize = 4;

/// Of the guest's limit so much may be taken before entries leave for the host's memory: 15/16, for calls need room for
/// their blocks.
const HEADROOM_PART: usize = 16;

/// That room is no less in a small instance, unless it is more than a quarter of it.
const HEADROOM_MIN: usize = 4 << 20;

/// Background threads of RocksDB.
const BACKGROUND_THREADS: u32 = 2;

/// The backend of one attempt, for all its slots.
#[derive(Debug)]
pub(crate) enum Backend {
    Memory {
        /// Memory of an instance above which entries leave it.
        guest_bytes: usize,
    },
    #[cfg(feature = "rocksdb")]
    RocksDb {
        databases: millrace_state::tier::RocksDb,
        resident_bytes: usize,
    },
}

impl Backend {
    /// Ready for an attempt: nothing is left of an earlier one.
    pub(crate) fn open(options: &StateBackend, memory_limit: usize, slots: u32) -> Result<Self> {
        let headroom = (memory_limit / HEADROOM_PART).max(HEADROOM_MIN.min(memory_limit / 4));
        let guest_bytes = memory_limit - headroom;
        match options {
            StateBackend::Memory => Ok(Backend::Memory { guest_bytes }),
            #[cfg(feature = "rocksdb")]
            StateBackend::RocksDb { folder, cache_bytes } => {
                let rocksdb_bytes = cache_bytes / ROCKSDB_PART;
                let databases = millrace_state::tier::RocksDb::open(millrace_state::tier::RocksDbOptions {
                    folder: folder.clone(),
                    memory_bytes: rocksdb_bytes * slots as usize,
                    background_threads: BACKGROUND_THREADS,
                })?;
                Ok(Backend::RocksDb {
                    databases,
                    resident_bytes: (cache_bytes - rocksdb_bytes).min(guest_bytes),
                })
            }
            #[cfg(not(feature = "rocksdb"))]
            StateBackend::RocksDb { .. } => {
                let _ = (slots, ROCKSDB_PART, BACKGROUND_THREADS);
                let message = "this jobctl was built without RocksDB (cargo feature `rocksdb`)";
                Err(millrace_core::Error::user("CK0004", message))
            }
        }
    }
}

impl Backend {
    /// A tier for a large state, whose entries live so many ms if not for ever. `name` tells it from all others.
    pub(crate) fn sorted_tier(&self, name: &str, lifetime: Option<Millis>) -> Result<Box<dyn SortedTier>> {
        match self {
            Backend::Memory { .. } => {
                // In memory nothing has a name.
                let _ = name;
                Ok(Box::new(match lifetime {
                    None => SortedMemoryTier::default(),
                    Some(_) => SortedMemoryTier::expiring(),
                }))
            }
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb { databases, .. } => Ok(Box::new(match lifetime {
                None => databases.sorted_tier(name)?,
                Some(lifetime) => {
                    let lifetime = std::time::Duration::from_millis(lifetime.cast_unsigned());
                    databases.expiring_sorted_tier(name, lifetime)?
                }
            })),
        }
    }
}

/// Keeps the entries of one operator in the guest within a budget: how many may stay is found out as memory fills.
///
/// Memory that was taken is not given back, neither by a guest nor by a table of keys. So when the budget is reached,
/// as many entries as there are now may stay; and where entries grow, fewer, each time some more memory was taken.
#[derive(Debug)]
pub(crate) struct Residency {
    budget_bytes: usize,
    /// Memory at the last decision, and how many entries it left.
    decided: Option<(usize, usize)>,
}

/// Fewest entries that stay.
const RESIDENT_MIN: usize = 64;

/// Memory may exceed the last decision's by this part of the budget before fewer entries stay.
const TOLERANCE_PART: usize = 64;

impl Residency {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Residency {
            budget_bytes,
            decided: None,
        }
    }

    /// How many entries may stay from now on, if that changes.
    pub(crate) fn decide(&mut self, used_bytes: usize, resident: usize) -> Option<usize> {
        let (threshold, allowed) = match self.decided {
            None => (self.budget_bytes, resident),
            Some((bytes, allowed)) => (bytes + self.budget_bytes / TOLERANCE_PART, allowed.min(resident)),
        };
        if used_bytes < threshold {
            return None;
        }
        let allowed = (allowed - allowed / 16).max(RESIDENT_MIN);
        self.decided = Some((used_bytes.max(self.budget_bytes), allowed));
        Some(allowed)
    }
}

/// An operator whose entries need not all be in the guest.
pub(crate) trait Tiered {
    /// Puts a tier under it; up to `resident_max` entries stay in the guest.
    fn put_tier(&mut self, tier: NewTier, entries: &Entries, resident_max: usize) -> Result<()>;

    fn has_lower_tier(&self) -> bool;

    fn set_resident_max(&mut self, resident_max: usize);

    /// Entries for which the guest has taken memory.
    fn resident_count(&self) -> usize;

    /// Bytes of the host's memory for keys, soon.
    fn memory_bytes_soon(&self) -> usize;

    /// Whether it may come to hold twice as much as between blocks.
    fn doubles(&self) -> bool;

    /// How long states live at most, in ms; `None`: for ever.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only RocksDB's folders ask"))]
    fn longest_lifetime(&self) -> Option<Millis>;
}

/// Kinds of tiers.
pub(crate) enum NewTier {
    Memory,
    #[cfg(feature = "rocksdb")]
    RocksDb(millrace_state::tier::RocksDbTier),
}

/// What entries consist of.
#[derive(Debug)]
pub(crate) struct Entries {
    /// Fields of the states, or of the accumulator.
    pub(crate) states: Vec<FieldRef>,
    pub(crate) max_parallelism: u32,
}

impl Tiered for KeyedOperator {
    fn put_tier(&mut self, tier: NewTier, entries: &Entries, resident_max: usize) -> Result<()> {
        let tier: Box<dyn millrace_core::backend::LowerTier> = match tier {
            NewTier::Memory if self.longest_lifetime().is_some() => Box::new(MemoryTier::expiring()),
            NewTier::Memory => Box::new(MemoryTier::default()),
            #[cfg(feature = "rocksdb")]
            NewTier::RocksDb(tier) => Box::new(tier),
        };
        self.set_lower_tier(tier, &entries.states, entries.max_parallelism, resident_max)
    }

    fn has_lower_tier(&self) -> bool {
        KeyedOperator::has_lower_tier(self)
    }

    fn set_resident_max(&mut self, resident_max: usize) {
        KeyedOperator::set_resident_max(self, resident_max);
    }

    fn resident_count(&self) -> usize {
        KeyedOperator::resident_count(self)
    }

    fn memory_bytes_soon(&self) -> usize {
        KeyedOperator::memory_bytes_soon(self)
    }

    fn doubles(&self) -> bool {
        false
    }

    fn longest_lifetime(&self) -> Option<Millis> {
        KeyedOperator::longest_lifetime(self)
    }
}

impl Tiered for WindowOperator {
    fn put_tier(&mut self, tier: NewTier, entries: &Entries, resident_max: usize) -> Result<()> {
        let tier: Box<dyn millrace_core::backend::PartedTier> = match tier {
            NewTier::Memory => Box::new(PartedMemoryTier::default()),
            #[cfg(feature = "rocksdb")]
            NewTier::RocksDb(tier) => Box::new(tier),
        };
        self.set_lower_tier(tier, &entries.states[0], entries.max_parallelism, resident_max)
    }

    fn has_lower_tier(&self) -> bool {
        WindowOperator::has_lower_tier(self)
    }

    fn set_resident_max(&mut self, resident_max: usize) {
        WindowOperator::set_resident_max(self, resident_max);
    }

    fn resident_count(&self) -> usize {
        // After a firing there may be none, and the memory stays.
        self.resident_count_max()
    }

    fn memory_bytes_soon(&self) -> usize {
        WindowOperator::memory_bytes_soon(self)
    }

    fn doubles(&self) -> bool {
        self.merges_slices()
    }

    fn longest_lifetime(&self) -> Option<Millis> {
        None
    }
}

/// The lower tier of one operator, and what it needs to be put in place.
#[derive(Debug)]
pub(crate) struct Tier {
    entries: Entries,
    residency: Residency,
    /// Whether tables of keys count.
    counts_tables: bool,
    /// Blocks until memory is looked at again.
    countdown: u32,
}

/// State is restored to the lower tier once its rows have more than this part of the budget: in the guest they take more.
const RESTORED_PART: usize = 4;

/// Blocks from one look at the memory of tables to the next; how much a guest has taken is known at any time.
const LOOK_EVERY: u32 = 32;

impl Tier {
    /// For an operator with these entries; with RocksDB the tier is put in place at once.
    pub(crate) fn new(backend: &Backend, name: &str, operator: &mut dyn Tiered, entries: Entries) -> Result<Self> {
        let (budget, counts_tables) = match backend {
            Backend::Memory { guest_bytes } => (*guest_bytes, false),
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb {
                databases,
                resident_bytes,
            } => {
                let tier = match operator.longest_lifetime() {
                    None => databases.tier(name)?,
                    Some(lifetime) => {
                        let lifetime = std::time::Duration::from_millis(lifetime.cast_unsigned());
                        databases.expiring_tier(name, lifetime)?
                    }
                };
                operator.put_tier(NewTier::RocksDb(tier), &entries, usize::MAX)?;
                (*resident_bytes, true)
            }
        };
        // Without RocksDB nothing is put in place.
        let _ = name;
        let budget = if operator.doubles() { budget / 2 } else { budget };
        Ok(Tier {
            entries,
            residency: Residency::new(budget),
            counts_tables,
            countdown: 0,
        })
    }

    /// State of so many bytes is about to be restored at once. What the guest may not hold goes below, and comes up when it
    /// is asked for; what it may is imported, which takes a fifth of the time that all of it would take on its way
    /// through a lower tier.
    pub(crate) fn prepare_restore(&self, operator: &mut dyn Tiered, bytes: usize) -> Result<()> {
        match (bytes as u64) < self.restored_bytes_max() {
            true => Ok(()),
            false => self.put_for_restore(operator),
        }
    }

    /// Puts a lower tier in place, if there is none, for state that is restored.
    pub(crate) fn put_for_restore(&self, operator: &mut dyn Tiered) -> Result<()> {
        match operator.has_lower_tier() {
            true => Ok(()),
            false => operator.put_tier(NewTier::Memory, &self.entries, usize::MAX),
        }
    }

    /// Bytes of state that may be imported as it is restored.
    pub(crate) fn restored_bytes_max(&self) -> u64 {
        (self.residency.budget_bytes / RESTORED_PART) as u64
    }

    /// After a block: has entries leave when memory runs out.
    pub(crate) fn keep_within_budget(&mut self, operator: &mut dyn Tiered, guest_bytes: usize) -> Result<()> {
        if self.countdown > 0 {
            self.countdown -= 1;
            return Ok(());
        }
        self.countdown = if self.counts_tables { LOOK_EVERY } else { 0 };
        let tables = if self.counts_tables {
            operator.memory_bytes_soon()
        } else {
            0
        };
        let resident = operator.resident_count();
        match self.residency.decide(guest_bytes + tables, resident) {
            None => Ok(()),
            Some(allowed) if operator.has_lower_tier() => {
                operator.set_resident_max(allowed);
                Ok(())
            }
            Some(allowed) => operator.put_tier(NewTier::Memory, &self.entries, allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_stay_as_there_were_when_the_budget_was_reached() {
        let mut residency = Residency::new(64_000);
        let mut check = |used, resident, expect| {
            assert_eq!(
                residency.decide(used, resident),
                expect,
                "{used} bytes, {resident} entries"
            );
        };
        check(0, 0, None);
        check(63_999, 100_000, None);
        check(64_500, 160_000, Some(150_000));
        // Neither gives memory back: that is no reason to let go of more.
        check(64_500, 150_000, None);
        check(65_499, 150_000, None);
        // Values grow.
        check(65_500, 150_000, Some(140_625));
        check(66_500, 16_000, Some(15_000));
        check(1 << 20, 15_000, Some(14_063));
        check(2 << 20, 60, Some(RESIDENT_MIN));
    }
}
