//! The order of entries in tables: by key group, hash of the key, the key's encoding, and what a window adds.

use std::ops::Range;

use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, PrimitiveArray};
use millrace_core::key::{RowEncoder, hash_rows};
use millrace_core::{Error, Result};

/// A row with its identity.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) group: u32,
    hash: u64,
    identity: Range<usize>,
    /// Which of the sources that were added.
    pub(crate) source: usize,
    /// Which row of it.
    pub(crate) row: usize,
}

/// Rows of several sources, to be ordered.
#[derive(Debug, Default)]
pub(crate) struct Order {
    entries: Vec<Entry>,
    identities: Vec<u8>,
    sources: usize,
}

impl Order {
    /// Adds the rows of a source. `number`: a part of the identity beside the key.
    pub(crate) fn add(
        &mut self,
        groups: &PrimitiveArray<UInt32Type>,
        keys: &[ArrayRef],
        number: Option<&dyn Fn(usize) -> i64>,
    ) -> Result<()> {
        self.add_with(groups, keys, &|row, identity| {
            if let Some(number) = number {
                // Big-endian with the sign flipped: bytes in the order of the numbers.
                let number = number(row) as u64 ^ (1 << 63);
                identity.extend(number.to_be_bytes());
            }
        })
    }

    /// The same; `rest` adds the part of a row's identity that is not its key.
    pub(crate) fn add_with(
        &mut self,
        groups: &PrimitiveArray<UInt32Type>,
        keys: &[ArrayRef],
        rest: &dyn Fn(usize, &mut Vec<u8>),
    ) -> Result<()> {
        let mut hashes = Vec::new();
        hash_rows(keys, &mut hashes)?;
        let encoder = RowEncoder::new(keys)?;
        if hashes.len() != groups.len() {
            return Err(Error::internal("a table without key columns"));
        }
        self.entries.reserve(hashes.len());
        for (row, (hash, group)) in hashes.into_iter().zip(groups.values()).enumerate() {
            let start = self.identities.len();
            encoder.append_tagged(row, &mut self.identities);
            rest(row, &mut self.identities);
            self.entries.push(Entry {
                group: *group,
                hash,
                identity: start..self.identities.len(),
                source: self.sources,
                row,
            });
        }
        self.sources += 1;
        Ok(())
    }

    /// Calls `each` with the rows of one identity after the other, those of earlier sources first.
    pub(crate) fn runs(mut self, mut each: impl FnMut(&[Entry])) {
        let identities = &self.identities;
        let key = |entry: &Entry| {
            let identity = &identities[entry.identity.clone()];
            (entry.group, entry.hash, identity, entry.source, entry.row)
        };
        // Stable, which is quick for what is in order already.
        self.entries.sort_by(|a, b| key(a).cmp(&key(b)));
        let same = |a: &Entry, b: &Entry| {
            (a.group, a.hash) == (b.group, b.hash) && identities[a.identity.clone()] == identities[b.identity.clone()]
        };
        self.entries.chunk_by(same).for_each(&mut each);
    }
}
