//! The same database as a tier of entries in order, which stay while they are read.

use std::sync::Arc;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenSorted, LowerTier, ScanRange, SortedTier};
use millrace_core::block::Millis;
use rocksdb::{ReadOptions, WriteBatch};

use super::{FrozenRocksDb, OwnedSnapshot, RocksDb, RocksDbTier, failed};

/// A database of entries in the order of their keys.
#[derive(Debug)]
pub struct RocksDbSortedTier(RocksDbTier);

impl RocksDb {
    /// An empty sorted tier with a database of its own in this folder of the folder.
    ///
    /// # Errors
    /// `CS0301` if the database cannot be made.
    pub fn sorted_tier(&self, name: &str) -> Result<RocksDbSortedTier> {
        self.tier(name).map(RocksDbSortedTier)
    }

    /// The same for entries that expire, most of them about so long after they were put.
    ///
    /// # Errors
    /// As of [`sorted_tier`](Self::sorted_tier).
    pub fn expiring_sorted_tier(&self, name: &str, after: Duration) -> Result<RocksDbSortedTier> {
        self.expiring_tier(name, after).map(RocksDbSortedTier)
    }
}

#[cfg(test)]
impl RocksDbSortedTier {
    /// Compacts all entries.
    pub(in super::super) fn compact(&self) {
        self.0.compact();
    }
}

impl SortedTier for RocksDbSortedTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        if keys.len() != 1 {
            return self.0.get(keys, found, values);
        }
        let got = self.0.db.get_pinned(keys.get(0));
        let got = got.map_err(|error| failed(&self.0.path, error))?;
        found.clear();
        values.clear();
        found.push(got.is_some());
        values.push(got.as_deref().unwrap_or(&[]));
        Ok(())
    }

    fn scan(&mut self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows) -> Result<bool> {
        keys.clear();
        values.clear();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to);
        let mut iterator = self.0.db.raw_iterator_opt(options);
        iterator.seek(range.from);
        let mut bytes = 0;
        while let Some((key, value)) = iterator.item() {
            if keys.len() >= range.limit || (bytes >= range.bytes_max && !keys.is_empty()) {
                return Ok(true);
            }
            bytes += key.len() + value.len();
            keys.push(key);
            values.push(value);
            iterator.next();
        }
        iterator.status().map_err(|error| failed(&self.0.path, error))?;
        Ok(false)
    }

    fn last(&mut self, from: &[u8], to: &[u8], key: &mut Vec<u8>) -> Result<bool> {
        key.clear();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mut iterator = self.0.db.raw_iterator_opt(options);
        iterator.seek_to_last();
        if let Some(last) = iterator.key() {
            key.extend_from_slice(last);
            return Ok(true);
        }
        iterator.status().map_err(|error| failed(&self.0.path, error))?;
        Ok(false)
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        self.0.put(keys, values)
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        self.0.remove(keys)
    }

    fn remove_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let entries = self.0.db.cf_handle("default").expect("every database has it");
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(entries, from, to);
        self.0.write(batch)
    }

    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        self.0.expire(now)
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenSorted>> {
        Ok(Arc::new(FrozenRocksDb {
            path: self.0.path.clone(),
            snapshot: OwnedSnapshot::new(self.0.db.clone(), |db| db.snapshot()),
        }))
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        LowerTier::is_empty(&self.0)
    }
}

impl FrozenSorted for FrozenRocksDb {
    fn get(&self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        let snapshot = self.snapshot.borrow_dependent();
        for key in keys.iter() {
            let mut options = ReadOptions::default();
            // What is read once must not drive out what is read often.
            options.fill_cache(false);
            let got = snapshot.get_pinned_opt(key, options);
            let got = got.map_err(|error| failed(&self.path, error))?;
            found.push(got.is_some());
            values.push(got.as_deref().unwrap_or(&[]));
        }
        Ok(())
    }
}
