//! From keys to slots: the table that every keyed operator asks for every row.
//!
//! A [`KeyTable`] gives each distinct key a small dense number, its slot, and takes it back with
//! [`KeyTable::remove`]. The key columns of a block are loaded once into a [`KeyBatch`] and looked up in as
//! many tables as the block has windows.
//!
//! There are two representations, chosen by the key schema: `integers` for one column that is an integer
//! underneath, and `bytes` for all other keys, encoded. Both work on chunks of rows in passes whose loads
//! do not depend on each other, so that the processor overlaps cache misses: the first pass loads the entry
//! of each key and decides without branching whether it is a hit, later passes do the rest.
//!
//! Growth doubles the entries and moves some of them with each chunk of keys that is looked up, so that no block waits
//! for all.

mod batch;
mod bytes;
mod entries;
mod integers;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{DataType, SchemaRef};
use millrace_core::function::Slot;
use millrace_core::key::{check_key_schema, decode_columns, integers_to_array};
use millrace_core::{Error, Result};

use crate::slot_set::SlotSet;
pub use batch::KeyBatch;
use batch::KeyForm;
use bytes::BytesTable;
use integers::IntegerTable;

/// Rows per pass.
const CHUNK: usize = 128;

/// Maps keys of one schema to slots.
#[derive(Debug)]
pub struct KeyTable {
    schema: SchemaRef,
    keys: Keys,
    /// Slots below the highest ever given that are free again; the last freed is given first.
    free: Vec<Slot>,
}

#[derive(Debug)]
enum Keys {
    Integers(IntegerTable),
    Bytes(BytesTable),
}

impl KeyTable {
    /// An empty table that takes `capacity` keys without growing.
    pub fn new(schema: SchemaRef, capacity: usize) -> Result<Self> {
        check_key_schema(&schema)?;
        let keys = match KeyForm::of(&schema) {
            KeyForm::Integer => Keys::Integers(IntegerTable::new(capacity)),
            KeyForm::Bare | KeyForm::Tagged => Keys::Bytes(BytesTable::new(capacity)),
        };
        Ok(KeyTable {
            schema,
            keys,
            free: Vec::new(),
        })
    }

    /// Appends the slot of each of these rows to `slots`, and the slots that are new, in the order in which
    /// their keys first occur, to `fresh`.
    ///
    /// New slots are those freed last, then the lowest never given. The batch has the table's schema.
    pub fn find_or_insert(
        &mut self,
        batch: &KeyBatch,
        rows: Range<usize>,
        slots: &mut Vec<Slot>,
        fresh: &mut Vec<Slot>,
    ) {
        let free = &mut self.free;
        match &mut self.keys {
            Keys::Integers(table) => {
                for keys in batch.integers()[rows].chunks(CHUNK) {
                    table.find_or_insert(keys, free, slots, fresh);
                }
            }
            Keys::Bytes(table) => {
                let mut start = rows.start;
                while start < rows.end {
                    let end = rows.end.min(start + CHUNK);
                    table.find_or_insert(batch, start..end, free, slots, fresh);
                    start = end;
                }
            }
        }
    }

    /// As [`find_or_insert`](Self::find_or_insert) for rows anywhere in the batch.
    pub fn find_or_insert_at(&mut self, batch: &KeyBatch, rows: &[u32], slots: &mut Vec<Slot>, fresh: &mut Vec<Slot>) {
        let free = &mut self.free;
        for rows in rows.chunks(CHUNK) {
            match &mut self.keys {
                Keys::Integers(table) => {
                    let mut keys = [0; CHUNK];
                    for (key, &row) in keys.iter_mut().zip(rows) {
                        *key = batch.integers()[row as usize];
                    }
                    table.find_or_insert(&keys[..rows.len()], free, slots, fresh);
                }
                Keys::Bytes(table) => {
                    let rows = rows.iter().map(|&row| row as usize);
                    table.find_or_insert(batch, rows, free, slots, fresh);
                }
            }
        }
    }

    /// Appends the slot of each of these rows to `slots`, or `None` where the key is not there.
    pub(crate) fn find(&self, batch: &KeyBatch, rows: Range<usize>, slots: &mut Vec<Option<Slot>>) {
        match &self.keys {
            Keys::Integers(table) => slots.extend(batch.integers()[rows].iter().map(|&key| table.find(key))),
            Keys::Bytes(table) => {
                let (bytes, bounds, hashes) = batch.encoded();
                let key = |row: usize| &bytes[bounds[row] as usize..bounds[row + 1] as usize];
                slots.extend(rows.map(|row| table.find(key(row), hashes[row])));
            }
        }
    }

    /// Forgets the key of a slot that is in use.
    pub fn remove(&mut self, slot: Slot) {
        match &mut self.keys {
            Keys::Integers(table) => table.remove(slot),
            Keys::Bytes(table) => table.remove(slot),
        }
        self.free.push(slot);
    }

    /// Forgets the keys of slots that are in use, each named once.
    pub fn remove_all(&mut self, slots: &[Slot]) {
        // In chunks, for the first-level cache holds no more.
        for slots in slots.chunks(CHUNK) {
            if let Keys::Integers(table) = &self.keys {
                table.warm(slots);
            }
            for &slot in slots {
                self.remove(slot);
            }
        }
    }

    /// Forgets all keys and keeps the memory.
    pub fn clear(&mut self) {
        self.free.clear();
        match &mut self.keys {
            Keys::Integers(table) => table.clear(),
            Keys::Bytes(table) => table.clear(),
        }
    }

    /// The keys of slots in use, one row each, as columns of the key schema.
    pub fn key_columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Integers(table) => {
                let values = slots.iter().map(|&slot| table.key(slot)).collect();
                Ok(vec![integers_to_array(values, None, self.schema.field(0).data_type())?])
            }
            Keys::Bytes(table) if KeyForm::of(&self.schema) == KeyForm::Bare => {
                let mut bytes = Vec::new();
                for &slot in slots {
                    bytes.extend_from_slice(table.key(slot));
                }
                if i32::try_from(bytes.len()).is_err() {
                    return Err(Error::internal("the keys of one call have more than 2 GiB"));
                }
                let offsets = OffsetBuffer::from_lengths(slots.iter().map(|&slot| table.key(slot).len()));
                let bytes = Buffer::from_vec(bytes);
                Ok(vec![match self.schema.field(0).data_type() {
                    DataType::Utf8 => Arc::new(
                        StringArray::try_new(offsets, bytes, None)
                            .map_err(|error| Error::internal(format!("a string key came back broken: {error}")))?,
                    ),
                    _ => Arc::new(BinaryArray::new(offsets, bytes, None)),
                }])
            }
            Keys::Bytes(table) => decode_columns(&self.schema, slots.iter().map(|&slot| table.key(slot))),
        }
    }

    /// Slots in use.
    pub(crate) fn live_slots(&self) -> SlotSet {
        let mut live = SlotSet::below(self.slot_bound());
        for &slot in &self.free {
            live.remove(slot);
        }
        live
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.slot_bound() as usize - self.free.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All slots ever given are below this.
    pub fn slot_bound(&self) -> Slot {
        match &self.keys {
            Keys::Integers(table) => table.slot_bound(),
            Keys::Bytes(table) => table.slot_bound(),
        }
    }

    /// Bytes that the table will take more when it doubles, if that is about to be.
    pub(crate) fn growth_bytes_soon(&self) -> usize {
        match &self.keys {
            Keys::Integers(table) => table.growth_bytes_soon(),
            Keys::Bytes(table) => table.growth_bytes_soon(),
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Integers(table) => table.memory_bytes(),
            Keys::Bytes(table) => table.memory_bytes(),
        };
        keys + self.free.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests;
