//! A lower tier in the host's memory whose entries are in parts: a tier for each.
//!
//! A part that is over is given up at once, whatever is in it; see `memory` for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenTier, LowerTier, PART_BYTES, Part, PartedTier};
use millrace_core::block::Millis;

use super::memory::{Frozen, Index, MemoryTier};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct PartedMemoryTier {
    parts: BTreeMap<Part, MemoryTier>,
    index: Index,
}

fn split(key: &[u8]) -> (Part, &[u8]) {
    let (first, rest) = key.split_at(PART_BYTES);
    let mut part = Part::default();
    part.copy_from_slice(first);
    (part, rest)
}

impl PartedMemoryTier {
    /// The part of these keys is given up if nothing is left in it.
    fn forget_empty(&mut self, keys: &ByteRows) {
        for key in keys.iter() {
            let part = split(key).0;
            if self.parts.get(&part).is_some_and(|tier| tier.is_empty()) {
                self.parts.remove(&part);
            }
        }
    }
}

impl LowerTier for PartedMemoryTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        for key in keys.iter() {
            let (part, rest) = split(key);
            match self.parts.get_mut(&part) {
                Some(tier) => found.push(tier.get_one(rest, values)),
                None => {
                    found.push(false);
                    values.push(&[]);
                }
            }
        }
        self.forget_empty(keys);
        Ok(())
    }

    fn keeps_what_was_got(&self) -> bool {
        false
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        for (key, value) in keys.iter().zip(values.iter()) {
            let (part, rest) = split(key);
            let tier = self.parts.entry(part).or_insert_with(MemoryTier::ordered);
            tier.put_one(rest, value);
        }
        Ok(())
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        for key in keys.iter() {
            let (part, rest) = split(key);
            if let Some(tier) = self.parts.get_mut(&part) {
                tier.remove_one(rest);
            }
        }
        self.forget_empty(keys);
        Ok(())
    }

    fn change_index(&mut self, add: &ByteRows, remove: &ByteRows) -> Result<()> {
        self.index.change(add, remove);
        Ok(())
    }

    fn read_index(&mut self, from: &[u8], to: &[u8], limit: usize, entries: &mut ByteRows) -> Result<()> {
        self.index.read(from, to, limit, entries);
        Ok(())
    }

    fn expire(&mut self, _: Millis) -> Result<Option<Millis>> {
        // Entries of windows do not: they end with their part.
        Ok(None)
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenTier>> {
        let parts = self.parts.iter().map(|(part, tier)| (*part, tier.frozen()));
        Ok(Arc::new(FrozenParts(parts.collect())))
    }

    fn len(&self) -> u64 {
        self.parts.values().map(MemoryTier::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn memory_bytes(&self) -> usize {
        self.parts.values().map(MemoryTier::memory_bytes).sum::<usize>() + self.index.memory_bytes()
    }
}

impl PartedTier for PartedMemoryTier {
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
        let from = if from > part.as_slice() { split(from).1 } else { &[] };
        if let Some(tier) = self.parts.get_mut(&part) {
            tier.read(&part, from, limit, keys, values);
        }
        Ok(())
    }

    fn remove_part(&mut self, part: Part) -> Result<()> {
        self.parts.remove(&part);
        Ok(())
    }
}

/// All parts as they were.
#[derive(Debug)]
struct FrozenParts(Vec<(Part, Frozen)>);

impl FrozenTier for FrozenParts {
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()> {
        for (part, frozen) in &self.0 {
            frozen.scan(limit, &mut |rest, values| {
                let mut keys = ByteRows::default();
                for rest in rest.iter() {
                    keys.push_with(|bytes| {
                        bytes.extend_from_slice(part);
                        bytes.extend_from_slice(rest);
                    });
                }
                each(&keys, values)
            })?;
        }
        Ok(())
    }
}
