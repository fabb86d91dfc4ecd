//! State backends: which lower tier goes under the keyed operators of a job, and when.

use std::path::PathBuf;

use arrow_schema::FieldRef;
use millrace_core::Result;
use millrace_core::backend::{LowerTier, SortedTier};
use millrace_operators::KeyedOperator;
use millrace_state::tier::{MemoryTier, SortedMemoryTier};

/// Where keyed state is.
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

/// Of the guest's limit so much may be taken before entries leave for the host's memory: 15/16.
const HEADROOM_PART: usize = 16;

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
        let guest_bytes = memory_limit - memory_limit / HEADROOM_PART;
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
    /// A tier for a large state. `name` tells it from all others.
    pub(crate) fn sorted_tier(&self, name: &str) -> Result<Box<dyn SortedTier>> {
        match self {
            Backend::Memory { .. } => {
                // In memory nothing has a name.
                let _ = name;
                Ok(Box::new(SortedMemoryTier::default()))
            }
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb { databases, .. } => Ok(Box::new(databases.sorted_tier(name)?)),
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

/// The lower tier of one keyed operator, and what it needs to be put in place.
#[derive(Debug)]
pub(crate) struct Tier {
    states: Vec<FieldRef>,
    max_parallelism: u32,
    residency: Residency,
    /// Whether tables of keys count.
    counts_tables: bool,
    /// Blocks until memory is looked at again.
    countdown: u32,
}

/// State is restored to the lower tier if its rows have more than this part of the budget: in the guest they take more.
const RESTORED_PART: usize = 4;

/// Blocks from one look at the memory to the next.
const LOOK_EVERY: u32 = 32;

impl Tier {
    /// For an operator with these states; with RocksDB the tier is put in place at once.
    pub(crate) fn new(
        backend: &Backend,
        name: &str,
        operator: &mut KeyedOperator,
        states: Vec<FieldRef>,
        max_parallelism: u32,
    ) -> Result<Self> {
        let (budget, counts_tables) = match backend {
            Backend::Memory { guest_bytes } => (*guest_bytes, false),
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb {
                databases,
                resident_bytes,
            } => {
                let tier: Box<dyn LowerTier> = Box::new(databases.tier(name)?);
                operator.set_lower_tier(tier, &states, max_parallelism, usize::MAX)?;
                (*resident_bytes, true)
            }
        };
        // Without RocksDB nothing is put in place.
        let _ = (name, operator);
        Ok(Tier {
            states,
            max_parallelism,
            residency: Residency::new(budget),
            counts_tables,
            countdown: 0,
        })
    }

    /// State of so many bytes is about to be restored. What the guest may not hold goes below, and comes up when it is
    /// asked for; what it may is imported at once, which takes a fifth of the time that all of it would take on its way
    /// through a lower tier.
    pub(crate) fn prepare_restore(&self, operator: &mut KeyedOperator, bytes: usize) -> Result<()> {
        if operator.has_lower_tier() || bytes < self.residency.budget_bytes / RESTORED_PART {
            return Ok(());
        }
        self.put_memory(operator, usize::MAX)
    }

    /// After a block: has entries leave when memory runs out.
    pub(crate) fn keep_within_budget(&mut self, operator: &mut KeyedOperator, guest_bytes: usize) -> Result<()> {
        if self.countdown > 0 {
            self.countdown -= 1;
            return Ok(());
        }
        self.countdown = LOOK_EVERY;
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
            Some(allowed) => self.put_memory(operator, allowed),
        }
    }

    fn put_memory(&self, operator: &mut KeyedOperator, resident_max: usize) -> Result<()> {
        let tier: Box<dyn LowerTier> = Box::new(MemoryTier::default());
        operator.set_lower_tier(tier, &self.states, self.max_parallelism, resident_max)
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
