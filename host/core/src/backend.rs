//! State backends: where keyed state is that is not in the guest.
//!
//! Every backend is a cache in two tiers. The upper tier is the guest itself: entries by slot, as fast as memory
//! is. An entry that has not been touched for long leaves it for the [`LowerTier`], as bytes, and comes back when
//! its key is next seen. `millrace-operators` decides which, `millrace-state` has the tiers (host memory, RocksDB),
//! and neither knows what the other's bytes mean.
//!
//! Large maps and lists never enter the guest as a whole: their entries are in a [`SortedTier`], one per state, where
//! they are read and written one by one and scanned in the order of their keys.
//!
//! A tier outlives no attempt. What survives a crash is in checkpoints, which the operators export; so
//! a tier needs no log and no flush.

use std::fmt::Debug;
use std::sync::Arc;

use crate::block::Millis;
use crate::error::Result;

/// Strings of bytes, one after the other in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByteRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ByteRows {
    /// None, with the memory kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends one.
    pub fn push(&mut self, row: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(row));
    }

    /// Appends what `write` appends to the buffer.
    ///
    /// ```
    /// # use millrace_core::backend::ByteRows;
    /// let mut rows = ByteRows::default();
    /// rows.push_with(|bytes| bytes.extend([1, 2]));
    /// assert_eq!((rows.len(), rows.get(0)), (1, [1, 2].as_slice()));
    /// ```
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// Bytes in front of the value of an entry that may expire.
pub const EXPIRY_BYTES: usize = 8;

/// From when on nothing of an entry counts, as bytes in front of its value: big-endian, the sign bit turned.
pub fn expiry_bytes(expires: Millis) -> [u8; EXPIRY_BYTES] {
    (expires as u64 ^ (1 << 63)).to_be_bytes()
}

/// From when on nothing of an entry with this value counts; never if the value is too short to say so.
///
/// ```
/// # use millrace_core::backend::{expiry_bytes, expiry_of};
/// assert_eq!(expiry_of(&expiry_bytes(-5)), -5);
/// ```
pub fn expiry_of(value: &[u8]) -> Millis {
    let first = value.first_chunk::<EXPIRY_BYTES>();
    first.map_or(Millis::MAX, |bytes| (u64::from_be_bytes(*bytes) ^ (1 << 63)) as Millis)
}

/// Entries of one subtask of an operator, by key, and an index of their timers.
///
/// Keys and values are bytes that mean nothing here; keys order as bytes do. The index is a set of bytes in order.
/// After an error a tier is unusable.
pub trait LowerTier: Debug + Send {
    /// Looks keys up that differ: for each whether it is `found`, and in `values` its value, empty where it is not
    /// there. Both are cleared before.
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()>;

    /// Whether entries are still there after they were got; if not, getting takes them out.
    fn keeps_what_was_got(&self) -> bool;

    /// Sets entries, in order.
    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()>;

    /// Takes entries out; some may not be there.
    fn remove(&mut self, keys: &ByteRows) -> Result<()>;

    /// Adds to the index and takes out of it.
    fn change_index(&mut self, add: &ByteRows, remove: &ByteRows) -> Result<()>;

    /// The first entries of the index from `from` up to and without `to`, up to `limit`. `entries` is cleared before.
    fn read_index(&mut self, from: &[u8], to: &[u8], limit: usize, entries: &mut ByteRows) -> Result<()>;

    /// It is this time: what has expired may go, at once or when it suits the tier. `Some`: when to call again; if that
    /// is not later than now, there is more to be looked at. `None`: until an entry is set there is nothing to do.
    ///
    /// Only of a tier that was made for entries that expire: their values begin with [`EXPIRY_BYTES`] bytes that say
    /// when, see [`expiry_bytes`].
    fn expire(&mut self, now: Millis) -> Result<Option<Millis>>;

    /// All entries as they are now, to be read while this changes.
    fn freeze(&mut self) -> Result<Arc<dyn FrozenTier>>;

    /// Number of entries, about.
    fn len(&self) -> u64;

    /// Whether there is certainly no entry.
    fn is_empty(&self) -> bool;

    /// Bytes of memory held for this alone.
    fn memory_bytes(&self) -> usize;
}

/// Bytes at the beginning of a key that say which part of a [`PartedTier`] it is in.
pub const PART_BYTES: usize = 8;

/// Names a part of a [`PartedTier`].
pub type Part = [u8; PART_BYTES];

/// A [`LowerTier`] whose keys begin with a [`Part`] and go on with at least a byte more. A part can be read in order and
/// dropped as a whole.
pub trait PartedTier: LowerTier {
    /// The first entries of a part whose keys are `from` or after it, in order, up to `limit`. `keys` and `values` are
    /// cleared before. What was read stays.
    fn read_part(
        &mut self,
        part: Part,
        from: &[u8],
        limit: usize,
        keys: &mut ByteRows,
        values: &mut ByteRows,
    ) -> Result<()>;

    /// Takes all entries of a part out.
    fn remove_part(&mut self, part: Part) -> Result<()>;
}

/// The entries of a [`LowerTier`] at one moment.
pub trait FrozenTier: Debug + Send + Sync {
    /// Goes through all entries in pieces of up to `limit`: keys, and the value of each.
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()>;
}

/// Entries in the order of their keys, which stay while they are read: what large maps and lists are made of.
///
/// Keys and values are bytes that mean nothing here; keys order as bytes do. After an error a tier is unusable.
pub trait SortedTier: Debug + Send {
    /// Looks keys up, of which some may be the same: for each whether it is `found`, and in `values` its value, empty
    /// where it is not there. Both are cleared before.
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()>;

    /// Entries from `range.from` up to and without `range.to`, in order, as many as it says. `keys` and `values` are
    /// cleared before. Whether there may be more.
    fn scan(&mut self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows) -> Result<bool>;

    /// The key of the last entry from `from` up to and without `to`, in place of what `key` held; whether there is one.
    fn last(&mut self, from: &[u8], to: &[u8], key: &mut Vec<u8>) -> Result<bool>;

    /// Sets entries, in order.
    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()>;

    /// Takes entries out; some may not be there.
    fn remove(&mut self, keys: &ByteRows) -> Result<()>;

    /// Takes out all entries from `from` up to and without `to`, at once. For many: of few it takes longer, now or when
    /// others are read, than to name them.
    fn remove_range(&mut self, from: &[u8], to: &[u8]) -> Result<()>;

    /// It is this time: what has expired may go, see [`LowerTier::expire`].
    fn expire(&mut self, now: Millis) -> Result<Option<Millis>>;

    /// All entries as they are now, to be read while this changes. Takes no time that grows with them.
    fn freeze(&mut self) -> Result<Arc<dyn FrozenSorted>>;

    /// Number of entries, about.
    fn len(&self) -> u64;

    /// Whether there is certainly no entry.
    fn is_empty(&self) -> bool;
}

/// Which entries of a [`SortedTier`] are wanted.
#[derive(Debug, Clone, Copy)]
pub struct ScanRange<'a> {
    /// The first key.
    pub from: &'a [u8],
    /// Behind the last key.
    pub to: &'a [u8],
    /// No more entries than this.
    pub limit: usize,
    /// No more entries once they have so many bytes; the first is there whatever it has.
    pub bytes_max: usize,
}

/// The entries of a [`SortedTier`] at one moment.
pub trait FrozenSorted: FrozenTier {
    /// Looks keys up, see [`SortedTier::get`].
    fn get(&self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()>;
}
