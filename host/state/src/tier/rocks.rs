//! A lower tier on disk: RocksDB.
//!
//! Each subtask of an operator has a database of its own under one folder, all share one block cache, one budget
//! for memtables and one pool of threads. There is no log and nothing is flushed on purpose: a database outlives no
//! attempt, and its folder is emptied before it is opened.
//!
//! Entries that expire are dropped by compaction, whose filter is told the time by [`LowerTier::expire`] and reads no
//! clock. What no compaction comes by stays on disk; so files are rewritten when they are as old as entries live.
//!
//! Tuned for point reads of small entries that mostly are there: entries sorted by key group and key, filters
//! everywhere but in the last level, indexes and filters in the block cache, batched reads in key order.

mod sorted;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_core::backend::{ByteRows, FrozenTier, LowerTier, Part, PartedTier, expiry_of};
use millrace_core::block::Millis;
use millrace_core::{Error, Result};
use rocksdb::compaction_filter::Decision as CompactionDecision;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DataBlockIndexType, Options,
    ReadOptions, Snapshot, WriteBatch, WriteBufferManager, WriteOptions,
};
use self_cell::self_cell;

pub use self::sorted::RocksDbSortedTier;
use super::pieces::Pieces;
use crate::codes;

/// Column family of the index.
const INDEX: &str = "index";

/// Bytes of a block of entries.
const BLOCK_BYTES: usize = 4 << 10;

/// Bits of a filter for each key: one in a hundred absent keys is looked for in vain.
const FILTER_BITS: f64 = 10.0;

/// Files of entries that expire are rewritten no more often than so, whatever else they hold.
const REWRITTEN_AFTER_MIN: Duration = Duration::from_secs(3600);

/// Share of a memtable that its filter takes: more than ten bits for a small entry.
const MEMTABLE_FILTER_PART: f64 = 0.05;

/// How much memory and which folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// Folder for the databases; what is in it is deleted.
    pub folder: PathBuf,
    /// Bytes for blocks, filters, indexes and memtables of all databases together.
    pub memory_bytes: usize,
    /// Threads that flush and compact, for all databases together.
    pub background_threads: u32,
}

/// What the databases of a process share.
#[derive(Clone)]
pub struct RocksDb {
    options: RocksDbOptions,
    cache: Cache,
    memtables: WriteBufferManager,
}

impl fmt::Debug for RocksDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDb").field("options", &self.options).finish()
    }
}

impl RocksDb {
    /// Prepares the folder.
    ///
    /// # Errors
    /// `CS0301` if it cannot be made or emptied.
    pub fn open(options: RocksDbOptions) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            let folder = options.folder.display();
            Error::external(
                codes::BACKEND,
                format!("the folder `{folder}` of state {what}: {error}"),
            )
        };
        match std::fs::remove_dir_all(&options.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("cannot be emptied", error)),
        }
        std::fs::create_dir_all(&options.folder).map_err(|error| failed("cannot be made", error))?;
        // Blocks, and what memtables take is counted in.
        let cache = Cache::new_lru_cache(options.memory_bytes);
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(options.memory_bytes / 2, false, cache.clone());
        Ok(RocksDb {
            options,
            cache,
            memtables,
        })
    }

    /// An empty tier with a database of its own in this folder of the folder.
    ///
    /// # Errors
    /// `CS0301` if the database cannot be made.
    pub fn tier(&self, name: &str) -> Result<RocksDbTier> {
        self.open_tier(name, None)
    }

    /// The same for entries that expire, most of them about so long after they were put.
    ///
    /// # Errors
    /// As of [`tier`](Self::tier).
    pub fn expiring_tier(&self, name: &str, after: Duration) -> Result<RocksDbTier> {
        self.open_tier(name, Some(after))
    }

    fn open_tier(&self, name: &str, expire_after: Option<Duration>) -> Result<RocksDbTier> {
        let path = self.options.folder.join(name);
        let failed = |error: rocksdb::Error| failed(&path, error);
        let options = self.database_options();
        DB::destroy(&options, &path).map_err(failed)?;
        let now = Arc::new(AtomicI64::new(Millis::MIN));
        let mut entries = self.entries_options();
        if let Some(after) = expire_after {
            let now = now.clone();
            let filter = move |_level: u32, _key: &[u8], value: &[u8]| match expiry_of(value) <= now.load(Relaxed) {
                true => CompactionDecision::Remove,
                false => CompactionDecision::Keep,
            };
            entries.set_compaction_filter("expiry", filter);
            entries.set_periodic_compaction_seconds(after.max(REWRITTEN_AFTER_MIN).as_secs());
        }
        let families = [("default", entries), (INDEX, self.entries_options())];
        let db = DB::open_cf_with_opts(&options, &path, families).map_err(failed)?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(RocksDbTier {
            db: Arc::new(db),
            path,
            unlogged,
            order: Vec::new(),
            ever_put: false,
            now,
        })
    }

    fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_write_buffer_manager(&self.memtables);
        options.increase_parallelism(self.options.background_threads.cast_signed());
        options.set_max_background_jobs(self.options.background_threads.cast_signed());
        // One thread writes to each database.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        options.set_keep_log_file_num(1);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_avoid_unnecessary_blocking_io(true);
        options
    }

    fn entries_options(&self) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_block_size(BLOCK_BYTES);
        blocks.set_bloom_filter(FILTER_BITS, false);
        blocks.set_optimize_filters_for_memory(true);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // In one piece an index or filter of a large file would drive out all else.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(BLOCK_BYTES);
        blocks.set_pin_top_level_index_and_filter(true);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        blocks.set_data_block_hash_ratio(0.75);
        blocks.set_format_version(6);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size((self.options.memory_bytes / 4).clamp(4 << 20, 64 << 20));
        options.set_max_write_buffer_number(3);
        // Most keys that are looked for are in no memtable: going through its list of many levels costs a cache miss on each.
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_PART);
        options.set_memtable_whole_key_filtering(true);
        options.set_level_compaction_dynamic_level_bytes(true);
        // A block that was read anew would be decompressed for one small entry.
        options.set_compression_type(DBCompressionType::None);
        options
    }
}

/// See the module's documentation.
pub struct RocksDbTier {
    db: Arc<DB>,
    path: PathBuf,
    unlogged: WriteOptions,
    /// Rows of a batch in key order.
    order: Vec<u32>,
    ever_put: bool,
    /// What time it is to the compaction filter.
    now: Arc<AtomicI64>,
}

impl fmt::Debug for RocksDbTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbTier").field("path", &self.path).finish()
    }
}

fn failed(path: &Path, error: rocksdb::Error) -> Error {
    let message = format!("state in `{}` cannot be read or written: {error}", path.display());
    Error::external(codes::BACKEND, message)
}

impl RocksDbTier {
    fn index(&self) -> &ColumnFamily {
        self.db.cf_handle(INDEX).expect("it was opened with the database")
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        let written = self.db.write_opt(batch, &self.unlogged);
        written.map_err(|error| failed(&self.path, error))
    }

    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.db.flush().expect("a test has room");
    }

    /// Compacts all entries.
    #[cfg(test)]
    pub(super) fn compact(&self) {
        self.flush();
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    }

    fn sort(&mut self, keys: &ByteRows) {
        self.order.clear();
        self.order.extend(0..keys.len() as u32);
        // Stable: of equal keys the last is written last.
        self.order
            .sort_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
    }
}

impl LowerTier for RocksDbTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        self.sort(keys);
        let entries = self.db.cf_handle("default").expect("every database has it");
        let sorted = self.order.iter().map(|&row| keys.get(row as usize));
        let got = self.db.batched_multi_get_cf(entries, sorted, true);
        let mut places = vec![0; keys.len()];
        for (place, &row) in self.order.iter().enumerate() {
            places[row as usize] = place;
        }
        found.clear();
        values.clear();
        for place in places {
            match &got[place] {
                Ok(value) => {
                    found.push(value.is_some());
                    values.push(value.as_deref().unwrap_or(&[]));
                }
                Err(error) => return Err(failed(&self.path, error.clone())),
            }
        }
        Ok(())
    }

    fn keeps_what_was_got(&self) -> bool {
        true
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        self.ever_put = true;
        self.sort(keys);
        let mut batch = WriteBatch::default();
        for &row in &self.order {
            batch.put(keys.get(row as usize), values.get(row as usize));
        }
        self.write(batch)
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        let mut batch = WriteBatch::default();
        for key in keys.iter() {
            batch.delete(key);
        }
        self.write(batch)
    }

    fn change_index(&mut self, add: &ByteRows, remove: &ByteRows) -> Result<()> {
        let mut batch = WriteBatch::default();
        let index = self.index();
        for entry in add.iter() {
            batch.put_cf(index, entry, []);
        }
        for entry in remove.iter() {
            batch.delete_cf(index, entry);
        }
        self.write(batch)
    }

    fn read_index(&mut self, from: &[u8], to: &[u8], limit: usize, entries: &mut ByteRows) -> Result<()> {
        entries.clear();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut iterator = self.db.raw_iterator_cf_opt(self.index(), options);
        iterator.seek(from);
        while entries.len() < limit
            && let Some(entry) = iterator.key()
        {
            entries.push(entry);
            iterator.next();
        }
        iterator.status().map_err(|error| failed(&self.path, error))
    }

    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        self.now.store(now, Relaxed);
        Ok(None)
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenTier>> {
        Ok(Arc::new(FrozenRocksDb {
            path: self.path.clone(),
            snapshot: OwnedSnapshot::new(self.db.clone(), |db| db.snapshot()),
        }))
    }

    fn len(&self) -> u64 {
        let estimate = self.db.property_int_value("rocksdb.estimate-num-keys");
        estimate.ok().flatten().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        !self.ever_put
    }

    fn memory_bytes(&self) -> usize {
        // The cache and the memtables have a budget of their own.
        0
    }
}

/// The first key after those of a part.
fn end_of(part: Part) -> Vec<u8> {
    match u64::from_be_bytes(part).checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => [part, part].concat(),
    }
}

impl PartedTier for RocksDbTier {
    fn read_part(
        &mut self,
        part: Part,
        from: &[u8],
        limit: usize,
        keys: &mut ByteRows,
        values: &mut ByteRows,
    ) -> Result<()> {
        keys.clear();
        values.clear();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end_of(part));
        // What is read once must not drive out what is read often.
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(from.max(&part));
        while keys.len() < limit
            && let Some((key, value)) = iterator.item()
        {
            keys.push(key);
            values.push(value);
            iterator.next();
        }
        iterator.status().map_err(|error| failed(&self.path, error))
    }

    fn remove_part(&mut self, part: Part) -> Result<()> {
        let entries = self.db.cf_handle("default").expect("every database has it");
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(entries, part.as_slice(), end_of(part).as_slice());
        self.write(batch)
    }
}

self_cell!(
    struct OwnedSnapshot {
        owner: Arc<DB>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The entries as they were.
struct FrozenRocksDb {
    path: PathBuf,
    snapshot: OwnedSnapshot,
}

impl fmt::Debug for FrozenRocksDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenRocksDb").field("path", &self.path).finish()
    }
}

impl FrozenTier for FrozenRocksDb {
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()> {
        let mut options = ReadOptions::default();
        // What is read once must not drive out what is read often.
        options.fill_cache(false);
        options.set_readahead_size(2 << 20);
        let mut iterator = self.snapshot.borrow_dependent().raw_iterator_opt(options);
        iterator.seek_to_first();
        let mut pieces = Pieces::new(limit, each);
        while let Some((key, value)) = iterator.item() {
            pieces.push(key, value)?;
            iterator.next();
        }
        iterator.status().map_err(|error| failed(&self.path, error))?;
        pieces.finish()
    }
}
