//! A lower tier that is a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenTier, LowerTier, Part, PartedTier, expiry_of};
use millrace_core::block::Millis;

#[derive(Debug, Clone, Default)]
pub(crate) struct TreeTier {
    pub(crate) entries: BTreeMap<Vec<u8>, Vec<u8>>,
    index: BTreeSet<Vec<u8>>,
    keeps: bool,
    expired: u32,
}

impl TreeTier {
    /// `keeps`: what was got stays.
    pub(crate) fn new(keeps: bool) -> Self {
        TreeTier {
            keeps,
            ..TreeTier::default()
        }
    }
}

impl LowerTier for TreeTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        for key in keys.iter() {
            let value = match self.keeps {
                true => self.entries.get(key).cloned(),
                false => self.entries.remove(key),
            };
            found.push(value.is_some());
            values.push(&value.unwrap_or_default());
        }
        Ok(())
    }

    fn keeps_what_was_got(&self) -> bool {
        self.keeps
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        for (key, value) in keys.iter().zip(values.iter()) {
            self.entries.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        for key in keys.iter() {
            self.entries.remove(key);
        }
        Ok(())
    }

    fn change_index(&mut self, add: &ByteRows, remove: &ByteRows) -> Result<()> {
        self.index.extend(add.iter().map(<[u8]>::to_vec));
        for entry in remove.iter() {
            self.index.remove(entry);
        }
        Ok(())
    }

    fn read_index(&mut self, from: &[u8], to: &[u8], limit: usize, entries: &mut ByteRows) -> Result<()> {
        entries.clear();
        for entry in self.index.range(from.to_vec()..to.to_vec()).take(limit) {
            entries.push(entry);
        }
        Ok(())
    }

    /// All at once; or now and then, like a compaction.
    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        self.expired += 1;
        if !self.keeps || self.expired.is_multiple_of(3) {
            self.entries.retain(|_, value| expiry_of(value) > now);
        }
        let next = self.entries.values().map(|value| expiry_of(value));
        Ok(next.min().filter(|next| !self.keeps && *next < Millis::MAX))
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenTier>> {
        Ok(Arc::new(self.clone()))
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

impl PartedTier for TreeTier {
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
        let entries = self.entries.range(from.max(&part).to_vec()..);
        for (key, value) in entries.take_while(|(key, _)| key.starts_with(&part)).take(limit) {
            keys.push(key);
            values.push(value);
        }
        Ok(())
    }

    fn remove_part(&mut self, part: Part) -> Result<()> {
        self.entries.retain(|key, _| !key.starts_with(&part));
        Ok(())
    }
}

impl FrozenTier for TreeTier {
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()> {
        let entries = self.entries.iter().collect::<Vec<_>>();
        for piece in entries.chunks(limit) {
            let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
            for (key, value) in piece {
                keys.push(key);
                values.push(value);
            }
            each(&keys, &values)?;
        }
        Ok(())
    }
}
