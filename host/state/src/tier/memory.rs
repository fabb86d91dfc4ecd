//! A lower tier in the host's memory: entries in segments that are only ever appended to.
//!
//! An entry is found by the hash of its key: segment and row. One that is got or replaced is dead; a segment of
//! which more than half is dead is given up and what lives in it appended anew. So memory is at most about twice
//! what lives, and no table of all entries is ever copied at once: the hash tables are many and small.
//!
//! Entries are in no order. Where one is asked for, keys are told apart by their first byte, and the part of them
//! that begin with the same one is sorted when it is read.
//!
//! Entries that expire are looked for by a hand that goes through the segments, some rows at a time.
//!
//! Freezing shares all segments, whose contents do not change, and their sets of live rows, which are copied if
//! they change while they are shared.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;
use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenTier, LowerTier, expiry_of};
use millrace_core::block::Millis;
use xxhash_rust::xxh3::xxh3_64;

use super::pieces::Pieces;

/// A segment with this many bytes gets no more entries.
const SEGMENT_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// Hash tables, each for a part of the keys.
const TABLES: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub struct MemoryTier {
    segments: Vec<Option<Segment>>,
    /// Numbers of segments that were given up.
    free: Vec<u32>,
    /// The segment that is appended to.
    open: Option<u32>,
    tables: Vec<HashTable<Location>>,
    /// Whether the table of a key is that of its first byte, so that keys can be read in order.
    by_first_byte: bool,
    /// The table that was read in order last, if nothing has changed since.
    sorted: Option<(usize, Vec<Location>)>,
    index: Index,
    /// Bytes that segments hold.
    segment_bytes: usize,
    live: u64,
    /// Of entries that expire.
    expiry: Option<Expiry>,
}

/// Rows that the hand looks at in one go.
const LOOKED_AT: u32 = if cfg!(test) { 7 } else { 4096 };

/// How far the hand is, and when there is something for it to find.
#[derive(Debug)]
struct Expiry {
    segment: u32,
    row: u32,
    /// No entry that was appended, or passed by the hand, since it began expires earlier.
    earliest: Millis,
}

impl Expiry {
    fn next(&self) -> Option<Millis> {
        Some(self.earliest).filter(|earliest| *earliest < Millis::MAX)
    }
}

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

impl Index {
    pub(super) fn change(&mut self, add: &ByteRows, remove: &ByteRows) {
        for entry in add.iter() {
            if self.entries.insert(entry.into()) {
                self.bytes += index_entry_bytes(entry);
            }
        }
        for entry in remove.iter() {
            if self.entries.remove(entry) {
                self.bytes -= index_entry_bytes(entry);
            }
        }
    }

    pub(super) fn read(&self, from: &[u8], to: &[u8], limit: usize, entries: &mut ByteRows) {
        entries.clear();
        let range = (Bound::Included(from), Bound::Excluded(to));
        for entry in self.entries.range::<[u8], _>(range).take(limit) {
            entries.push(entry);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Debug, Clone, Copy)]
struct Location {
    /// High half of the key's hash; the low half chose the table.
    hash: u32,
    segment: u32,
    row: u32,
}

#[derive(Debug, Clone)]
struct Segment {
    entries: Arc<Entries>,
    /// One bit for each row.
    live: Arc<Vec<u64>>,
    live_count: u32,
}

/// Keys and values, one after the other.
#[derive(Debug, Clone, Default)]
struct Entries {
    bytes: Vec<u8>,
    /// Where each value starts and ends.
    spans: Vec<[u32; 2]>,
}

impl Entries {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.spans.push([start, self.bytes.len() as u32]);
    }

    fn get(&self, row: u32) -> (&[u8], &[u8]) {
        let row = row as usize;
        let first = if row == 0 { 0 } else { self.spans[row - 1][1] };
        let [start, end] = self.spans[row];
        let (first, start, end) = (first as usize, start as usize, end as usize);
        (&self.bytes[first..start], &self.bytes[start..end])
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<[u32; 2]>()
    }
}

impl Default for MemoryTier {
    fn default() -> Self {
        MemoryTier {
            segments: Vec::new(),
            free: Vec::new(),
            open: None,
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            by_first_byte: false,
            sorted: None,
            index: Index::default(),
            segment_bytes: 0,
            live: 0,
            expiry: None,
        }
    }
}

fn split(hash: u64) -> (usize, u32) {
    (hash as usize % TABLES, (hash >> 32) as u32)
}

/// A table's hash of an entry: hash tables want good high and low bits.
fn rehash(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl MemoryTier {
    /// One whose entries can be [read in order](Self::read). Its keys have at least a byte, and the first is spread
    /// evenly.
    pub(super) fn ordered() -> Self {
        MemoryTier {
            by_first_byte: true,
            ..MemoryTier::default()
        }
    }

    /// Table and hash of a key.
    fn place(&self, key: &[u8]) -> (usize, u32) {
        let (table, hash) = split(xxh3_64(key));
        match key.first() {
            Some(&first) if self.by_first_byte => (first.into(), hash),
            _ => (table, hash),
        }
    }

    /// Appends entries whose keys are `from` or after it, in order, until there are `limit`; keys behind `part`.
    pub(super) fn read(&mut self, part: &[u8], from: &[u8], limit: usize, keys: &mut ByteRows, values: &mut ByteRows) {
        debug_assert!(self.by_first_byte, "of entries that are in order");
        let mut table = usize::from(from.first().copied().unwrap_or_default());
        while keys.len() < limit && table < TABLES {
            let sorted = self.sorted_table(table);
            let start = sorted.partition_point(|location| self.entry(*location).0 < from);
            for &location in sorted[start..].iter().take(limit - keys.len()) {
                let (key, value) = self.entry(location);
                keys.push_with(|bytes| {
                    bytes.extend_from_slice(part);
                    bytes.extend_from_slice(key);
                });
                values.push(value);
            }
            self.sorted = Some((table, sorted));
            table += 1;
        }
    }

    fn sorted_table(&mut self, table: usize) -> Vec<Location> {
        if let Some((_, sorted)) = self.sorted.take_if(|(sorted, _)| *sorted == table) {
            return sorted;
        }
        let mut sorted = self.tables[table].iter().copied().collect::<Vec<_>>();
        sorted.sort_unstable_by_key(|location| self.entry(*location).0);
        sorted
    }

    fn entry(&self, location: Location) -> (&[u8], &[u8]) {
        self.segment(location.segment).entries.get(location.row)
    }

    /// Takes an entry out and appends its value; if there is none, an empty one.
    pub(super) fn get_one(&mut self, key: &[u8], values: &mut ByteRows) -> bool {
        let location = self.take(key);
        match location {
            None => values.push(&[]),
            Some(location) => {
                values.push(self.entry(location).1);
                self.bury(location);
                self.live -= 1;
            }
        }
        location.is_some()
    }

    /// Sets an entry.
    pub(super) fn put_one(&mut self, key: &[u8], value: &[u8]) {
        match self.take(key) {
            Some(location) => self.bury(location),
            None => self.live += 1,
        }
        self.append(key, value);
    }

    /// Takes an entry out that may not be there.
    pub(super) fn remove_one(&mut self, key: &[u8]) {
        if let Some(location) = self.take(key) {
            self.bury(location);
            self.live -= 1;
        }
    }

    /// All segments as they are now.
    pub(super) fn frozen(&self) -> Frozen {
        Frozen(self.segments.iter().flatten().cloned().collect())
    }

    /// For entries that expire: their values begin with when they do.
    pub fn expiring() -> Self {
        MemoryTier {
            expiry: Some(Expiry {
                segment: 0,
                row: 0,
                earliest: Millis::MAX,
            }),
            ..Self::default()
        }
    }

    fn segment(&self, number: u32) -> &Segment {
        let segment = self.segments[number as usize].as_ref();
        segment.expect("a segment with entries is there")
    }

    fn take(&mut self, key: &[u8]) -> Option<Location> {
        let (table, hash) = self.place(key);
        let segments = &self.segments;
        let same = |found: &Location| {
            let segment = segments[found.segment as usize].as_ref();
            found.hash == hash && segment.is_some_and(|segment| segment.entries.get(found.row).0 == key)
        };
        let found = self.tables[table].find_entry(rehash(hash), same).ok()?;
        self.sorted = None;
        Some(found.remove().0)
    }

    fn append(&mut self, key: &[u8], value: &[u8]) {
        if let Some(expiry) = &mut self.expiry {
            expiry.earliest = expiry.earliest.min(expiry_of(value));
        }
        let number = self.open_segment(key.len() + value.len());
        let segment = self.segments[number as usize]
            .as_mut()
            .expect("the open segment is there");
        let entries = Arc::make_mut(&mut segment.entries);
        self.segment_bytes -= entries.memory_bytes();
        let row = entries.spans.len() as u32;
        entries.push(key, value);
        self.segment_bytes += entries.memory_bytes();
        let live = Arc::make_mut(&mut segment.live);
        if row.is_multiple_of(64) {
            live.push(0);
        }
        live[row as usize / 64] |= 1 << (row % 64);
        segment.live_count += 1;
        self.sorted = None;
        let (table, hash) = self.place(key);
        let location = Location {
            hash,
            segment: number,
            row,
        };
        self.tables[table].insert_unique(rehash(hash), location, |entry| rehash(entry.hash));
    }

    fn open_segment(&mut self, more: usize) -> u32 {
        if let Some(open) = self.open {
            let entries = &self.segment(open).entries;
            // What is shared with a frozen view stays as it is.
            if entries.bytes.len() + more <= SEGMENT_BYTES && Arc::strong_count(entries) == 1 {
                return open;
            }
        }
        let segment = Segment {
            entries: Arc::new(Entries::default()),
            live: Arc::new(Vec::new()),
            live_count: 0,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() as u32 - 1
        });
        self.segments[number as usize] = Some(segment);
        let sealed = self.open.replace(number);
        if let Some(sealed) = sealed {
            self.give_up_if_mostly_dead(sealed);
        }
        number
    }

    /// An entry that was taken out of its table is dead.
    fn bury(&mut self, location: Location) {
        let Some(segment) = &mut self.segments[location.segment as usize] else {
            return;
        };
        let live = Arc::make_mut(&mut segment.live);
        live[location.row as usize / 64] &= !(1 << (location.row % 64));
        segment.live_count -= 1;
        if self.open != Some(location.segment) {
            self.give_up_if_mostly_dead(location.segment);
        }
    }

    fn give_up_if_mostly_dead(&mut self, number: u32) {
        let segment = self.segment(number);
        if segment.live_count as usize * 2 > segment.entries.spans.len() {
            return;
        }
        let segment = self.segments[number as usize].take().expect("it was just looked at");
        self.segment_bytes -= segment.entries.memory_bytes();
        for row in live_rows(&segment, 0) {
            let (key, value) = segment.entries.get(row);
            self.take_at(key, number, row);
            self.append(key, value);
        }
        self.free.push(number);
    }

    /// Takes the entry of this key that is at this place out of its table.
    fn take_at(&mut self, key: &[u8], segment: u32, row: u32) -> Option<Location> {
        let (table, hash) = self.place(key);
        let same = |found: &Location| (found.segment, found.row) == (segment, row);
        let found = self.tables[table].find_entry(rehash(hash), same).ok()?;
        Some(found.remove().0)
    }

    /// Takes out what has expired among the rows that the hand comes to next.
    fn drop_expired(&mut self, now: Millis) {
        let Some(expiry) = &mut self.expiry else { return };
        let Some(Some(segment)) = self.segments.get(expiry.segment as usize) else {
            (expiry.segment, expiry.row) = (expiry.segment + 1, 0);
            return;
        };
        let entries = segment.entries.clone();
        let (number, end) = (expiry.segment, expiry.row.saturating_add(LOOKED_AT));
        let mut expired = Vec::new();
        for row in live_rows(segment, expiry.row).take_while(|row| *row < end) {
            match expiry_of(entries.get(row).1) {
                expires if expires <= now => expired.push(row),
                expires => expiry.earliest = expiry.earliest.min(expires),
            }
        }
        (expiry.segment, expiry.row) = match (end as usize) < entries.spans.len() {
            true => (number, end),
            false => (number + 1, 0),
        };
        for row in expired {
            // The ones before may have had the segment given up, and the rest moved.
            if let Some(location) = self.take_at(entries.get(row).0, number, row) {
                self.bury(location);
                self.live -= 1;
            }
        }
    }
}

/// Rows that live, from one on.
fn live_rows(segment: &Segment, first: u32) -> impl Iterator<Item = u32> + '_ {
    let rows = first..segment.entries.spans.len() as u32;
    rows.filter(|row| segment.live[*row as usize / 64] & (1 << (row % 64)) != 0)
}

impl LowerTier for MemoryTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        for key in keys.iter() {
            found.push(self.get_one(key, values));
        }
        Ok(())
    }

    fn keeps_what_was_got(&self) -> bool {
        false
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        for (key, value) in keys.iter().zip(values.iter()) {
            self.put_one(key, value);
        }
        Ok(())
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        keys.iter().for_each(|key| self.remove_one(key));
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

    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        let segments = self.segments.len();
        let Some(expiry) = &mut self.expiry else {
            return Ok(None);
        };
        if (expiry.segment, expiry.row) == (0, 0) {
            if expiry.earliest > now {
                return Ok(expiry.next());
            }
            expiry.earliest = Millis::MAX;
        }
        self.drop_expired(now);
        Ok(self.expiry.as_mut().and_then(|expiry| {
            if (expiry.segment as usize) < segments {
                return Some(now);
            }
            (expiry.segment, expiry.row) = (0, 0);
            expiry.next()
        }))
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenTier>> {
        Ok(Arc::new(self.frozen()))
    }

    fn len(&self) -> u64 {
        self.live
    }

    fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn memory_bytes(&self) -> usize {
        let tables = self.tables.iter().map(HashTable::allocation_size).sum::<usize>();
        let sorted = self.sorted.as_ref().map_or(0, |(_, sorted)| sorted.capacity());
        self.segment_bytes + tables + sorted * size_of::<Location>() + self.index.memory_bytes()
    }
}

/// About what an entry takes in the tree.
fn index_entry_bytes(entry: &[u8]) -> usize {
    entry.len() + 3 * size_of::<Box<[u8]>>()
}

/// All segments as they were.
#[derive(Debug)]
pub(super) struct Frozen(Vec<Segment>);

impl FrozenTier for Frozen {
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()> {
        let mut pieces = Pieces::new(limit, each);
        for segment in &self.0 {
            for row in live_rows(segment, 0) {
                let (key, value) = segment.entries.get(row);
                pieces.push(key, value)?;
            }
        }
        pieces.finish()
    }
}
