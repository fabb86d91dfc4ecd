//! Keys that are bytes: open addressing over entries of 8 bytes, the keys in one arena.
//!
//! An entry is (low half of the hash, slot + 1), 0 meaning free. The arena is append-only; removed keys
//! leave holes, and it is rewritten when more than half of it is holes.

use millrace_core::function::Slot;

use super::batch::KeyBatch;
use super::{CHUNK, empty_entries, entry_count, is_about_to_grow};

/// Holes below this many bytes are not worth a rewrite of the arena.
const HOLE_BYTES_MIN: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct BytesTable {
    entries: Vec<[u32; 2]>,
    /// Key of each slot ever given.
    spans: Vec<Span>,
    arena: Vec<u8>,
    hole_bytes: usize,
    used: usize,
}

/// Where a slot's key is.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    length: u32,
    hash: u32,
}

/// What to shift a hash by to get an entry, as for integers: growing keeps the order.
#[inline(always)]
fn home_shift(entries: &[[u32; 2]]) -> u32 {
    u32::BITS - entries.len().trailing_zeros()
}

impl BytesTable {
    pub(super) fn new(capacity: usize) -> Self {
        BytesTable {
            entries: empty_entries(entry_count(capacity)),
            spans: Vec::with_capacity(capacity),
            arena: Vec::new(),
            hole_bytes: 0,
            used: 0,
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
        let shift = home_shift(&self.entries);
        // First pass: the entry at home, if its hash fits. Independent loads, no branches.
        let mut candidates = [0u32; CHUNK];
        for (candidate, row) in candidates.iter_mut().zip(rows.clone()) {
            let [hash, slot] = self.entries[(hashes[row] >> shift) as usize];
            *candidate = if hash == hashes[row] { slot } else { 0 };
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
        let mask = self.entries.len() - 1;
        let mut at = (hash >> home_shift(&self.entries)) as usize;
        loop {
            match self.entries[at] {
                [_, 0] => return None,
                [found, slot] if found == hash && self.key(slot - 1) == key => return Some(slot - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn find_or_insert_one(&mut self, key: &[u8], hash: u32, free: &mut Vec<Slot>, fresh: &mut Vec<Slot>) -> Slot {
        let mask = self.entries.len() - 1;
        let mut at = (hash >> home_shift(&self.entries)) as usize;
        loop {
            let [found, slot] = self.entries[at];
            if slot == 0 {
                break;
            }
            if found == hash && self.key(slot - 1) == key {
                return slot - 1;
            }
            at = (at + 1) & mask;
        }
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
        self.entries[at] = [hash, slot + 1];
        self.used += 1;
        if self.used * 2 > self.entries.len() {
            self.grow();
        }
        slot
    }

    fn grow(&mut self) {
        let entries = empty_entries(self.entries.len() * 2);
        let (mask, shift) = (entries.len() - 1, home_shift(&entries));
        let old = std::mem::replace(&mut self.entries, entries);
        for entry in old.into_iter().filter(|entry| entry[1] != 0) {
            let mut at = (entry[0] >> shift) as usize;
            while self.entries[at][1] != 0 {
                at = (at + 1) & mask;
            }
            self.entries[at] = entry;
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let mask = self.entries.len() - 1;
        let shift = home_shift(&self.entries);
        let span = &mut self.spans[slot as usize];
        let mut hole = (span.hash >> shift) as usize;
        self.hole_bytes += span.length as usize;
        span.length = 0;
        while self.entries[hole][1] != slot + 1 {
            assert!(self.entries[hole][1] != 0, "slot {slot} is in use");
            hole = (hole + 1) & mask;
        }
        // Close the gap: every later entry of the run that may stand nearer to its home moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry[1] == 0 {
                break;
            }
            let home = (entry[0] >> shift) as usize;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = [0; 2];
        self.used -= 1;
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
        self.entries.fill([0; 2]);
        self.spans.clear();
        self.arena.clear();
        self.hole_bytes = 0;
        self.used = 0;
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
        match is_about_to_grow(self.used, self.entries.len()) {
            true => self.entries.len() * size_of::<[u32; 2]>(),
            false => 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<[u32; 2]>()
            + self.spans.capacity() * size_of::<Span>()
            + self.arena.capacity()
    }
}
