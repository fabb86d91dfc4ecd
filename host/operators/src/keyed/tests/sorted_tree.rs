//! A tree as a sorted tier.

use std::sync::Arc;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenSorted, LowerTier, ScanRange, SortedTier};
use millrace_core::block::Millis;

use crate::tree_tier::TreeTier;

impl SortedTier for TreeTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        FrozenSorted::get(self, keys, found, values)
    }

    fn scan(&mut self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows) -> Result<bool> {
        keys.clear();
        values.clear();
        let mut entries = self.entries.range(range.from.to_vec()..range.to.to_vec());
        for (key, value) in entries.by_ref().take(range.limit) {
            keys.push(key);
            values.push(value);
        }
        Ok(entries.next().is_some())
    }

    fn last(&mut self, from: &[u8], to: &[u8], key: &mut Vec<u8>) -> Result<bool> {
        let last = self.entries.range(from.to_vec()..to.to_vec()).next_back();
        key.clear();
        key.extend(last.into_iter().flat_map(|(key, _)| key));
        Ok(last.is_some())
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        LowerTier::put(self, keys, values)
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        LowerTier::remove(self, keys)
    }

    fn remove_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.entries
            .retain(|key, _| key.as_slice() < from || to <= key.as_slice());
        Ok(())
    }

    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        LowerTier::expire(self, now)
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenSorted>> {
        Ok(Arc::new(self.clone()))
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FrozenSorted for TreeTier {
    fn get(&self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        for key in keys.iter() {
            let value = self.entries.get(key);
            found.push(value.is_some());
            values.push(value.map_or(&[], Vec::as_slice));
        }
        Ok(())
    }
}
