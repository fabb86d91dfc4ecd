//! Keys that are bytes, in entries of 8 bytes and one arena.
//!
//! An entry is (low half of the hash, slot + 1), 0 meaning free. The arena is append-only; removed keys
//! leave holes, and it is rewritten when more than half of it is holes.

use millrace_core::function::Slot;

use super::CHUNK;
use super::batch::KeyBatch;
use super::entries::{Entries, Entry, Vacant};

/// Holes below this many bytes are not worth a rewrite of the arena.
const HOLE_BYTES_MIN: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct BytesTable {
    entries: Entries<HashEntry>,
    /// Key of each slot ever given.
    spans: Vec<Span>,
    arena: Vec<u8>,
    hole_bytes: usize,
}

/// Where a slot's key is.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    length: u32,
    hash: u32,
}

/// Low half of the hash, and slot + 1 or 0.
type HashEntry = [u32; 2];

impl Entry for HashEntry {
    type Hash = u32;

    #[inline(always)]
    fn home(hash: u32, bits: u32) -> usize {
        (hash >> (u32::BITS - bits)) as usize
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        self[0]
    }

    #[inline(always)]
    fn is_free(&self) -> bool {
        self[1] == 0
    }
}

impl BytesTable {
    pub(super) fn new(capacity: usize) -> Self {
        BytesTable {
            entries: Entries::new(capacity),
            spans: Vec::with_capacity(capacity),
            arena: Vec::new(),
            hole_bytes: 0,
        }
    }

    /// At most [`CHUNK`] rows.
    #[inline]
    pub(super) fn find_or_insert(
        &mut self,
        batch: &KeyBatch,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        free: &mut Vec<Slot>,
        slots: &mut Vec<Slot>,
        fresh: &mut Vec<Slot>,
    ) {
        let (bytes, bounds, hashes) = batch.encoded();
        let key = |row: usize| &bytes[bounds[row] as usize..bounds[row + 1] as usize];
        self.entries.advance();
        // First pass: the entry at home, if its hash fits. Independent loads, no branches.
        let mut candidates = [0u32; CHUNK];
        match self.entries.settled() {
            Some((entries, bits)) => {
                for (candidate, row) in candidates.iter_mut().zip(rows.clone()) {
                    let [hash, slot] = entries[HashEntry::home(hashes[row], bits)];
                    *candidate = if hash == hashes[row] { slot } else { 0 };
                }
            }
            None => {
                let mut touched = false;
                for row in rows.clone() {
                    touched |= self.entries.touch(hashes[row]);
                }
                std::hint::black_box(touched);
            }
        }
        // Second pass: bring the keys of the candidates into the cache.
        let mut touched = 0u8;
        for &candidate in &candidates[..rows.len()] {
            if let Some(span) = self.spans.get((candidate as usize).wrapping_sub(1)) {
                touched ^= self.arena.get(span.start as usize).copied().unwrap_or(0);
            }
        }
        std::hint::black_box(touched);
        for (candidate, row) in candidates.into_iter().zip(rows) {
            let slot = if candidate != 0 && self.key(candidate - 1) == key(row) {
                candidate - 1
            } else {
                self.find_or_insert_one(key(row), hashes[row], free, fresh)
            };
            slots.push(slot);
        }
    }

    pub(super) fn find(&self, key: &[u8], hash: u32) -> Option<Slot> {
        Some(self.entry(key, hash).ok()?[1] - 1)
    }

    #[inline]
    fn entry(&self, key: &[u8], hash: u32) -> Result<HashEntry, Vacant> {
        let is_meant = |entry: &HashEntry| entry[0] == hash && self.key(entry[1] - 1) == key;
        self.entries.find(hash, is_meant)
    }

    fn find_or_insert_one(&mut self, key: &[u8], hash: u32, free: &mut Vec<Slot>, fresh: &mut Vec<Slot>) -> Slot {
        let vacant = match self.entry(key, hash) {
            Ok(entry) => return entry[1] - 1,
            Err(vacant) => vacant,
        };
        let span = Span {
            start: self.arena.len() as u64,
            length: key.len() as u32,
            hash,
        };
        self.arena.extend_from_slice(key);
        let slot = match free.pop() {
            Some(slot) => {
                self.spans[slot as usize] = span;
                slot
            }
            None => {
                self.spans.push(span);
                self.spans.len() as Slot - 1
            }
        };
        fresh.push(slot);
        self.entries.insert(vacant, [hash, slot + 1]);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let span = &mut self.spans[slot as usize];
        self.hole_bytes += span.length as usize;
        span.length = 0;
        self.entries.remove(span.hash, |entry| entry[1] == slot + 1);
        if self.hole_bytes >= HOLE_BYTES_MIN && self.hole_bytes * 2 > self.arena.len() {
            self.rewrite_arena();
        }
    }

    fn rewrite_arena(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.hole_bytes);
        for span in &mut self.spans {
            let start = span.start as usize;
            span.start = arena.len() as u64;
            arena.extend_from_slice(&self.arena[start..start + span.length as usize]);
        }
        self.arena = arena;
        self.hole_bytes = 0;
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.spans.clear();
        self.arena.clear();
        self.hole_bytes = 0;
    }

    #[inline]
    pub(super) fn key(&self, slot: Slot) -> &[u8] {
        let span = self.spans[slot as usize];
        &self.arena[span.start as usize..span.start as usize + span.length as usize]
    }

    #[inline]
    pub(super) fn hash(&self, slot: Slot) -> u32 {
        self.spans[slot as usize].hash
    }

    pub(super) fn slot_bound(&self) -> Slot {
        self.spans.len() as Slot
    }

    pub(super) fn growth_bytes_soon(&self) -> usize {
        self.entries.growth_bytes_soon()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.spans.capacity() * size_of::<Span>() + self.arena.capacity()
    }
}
