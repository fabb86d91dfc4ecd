//! Open addressing: the entries of a table of keys, and how they grow without stopping the stream.
//!
//! The high bits of a hash number the entry that is a key's home, so that a table twice as large has its keys in the
//! same order. Growing therefore runs through memory, and can be done bit by bit:
//!
//! ```text
//!   old   ....#..##.|.#..###..#...      # in use; everything left of | has moved
//!   new   ..#....#.#.........................................
//! ```
//!
//! The mark stands behind a free entry, so that no run of entries crosses it: a key is in the new table if its old
//! home is left of the mark, and else in the old one. Some entries move with each chunk of keys looked up. As runs may
//! reach over the end to the beginning, all this is counted from the first free entry on, round the table.

/// An entry of a table.
pub(super) trait Entry: Copy + Default {
    /// What says where it is.
    type Hash: Copy;

    /// Number of its home in a table of `1 << bits` entries.
    fn home(hash: Self::Hash, bits: u32) -> usize;

    /// Hash of the key of an entry that is in use.
    fn hash(&self) -> Self::Hash;

    /// Whether no key has it.
    fn is_free(&self) -> bool;
}

/// Old entries that move with each chunk of keys: few enough not to be felt.
const MOVED_PER_CHUNK: usize = if cfg!(test) { 5 } else { 1024 };

/// Old entries that move with each key that is added: enough to be done before the old table is full.
const MOVED_PER_KEY: usize = 8;

/// Entries that a growing table is ahead of what moved: most runs end within.
const AHEAD: usize = if cfg!(test) { 3 } else { 256 };

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Entries<E> {
    /// While the table grows only its beginning is there: entries after it are free. Memory that the kernel hands out is
    /// written to before it is read, for otherwise each of its pages would be mapped twice, and the second mapping
    /// interrupts all processors that run threads of this process.
    entries: Vec<E>,
    bits: u32,
    used: usize,
    moving: Option<Moving<E>>,
}

/// Where an entry that was looked for and not found would be, until the table changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vacant(usize);

/// A table that grows.
#[derive(Debug)]
struct Moving<E> {
    old: Vec<E>,
    bits: u32,
    /// A free entry, where counting begins.
    start: usize,
    /// So many entries, from the start on, have moved.
    moved: usize,
}

impl<E: Entry> Moving<E> {
    /// Whether keys of this hash are still in the old table.
    #[inline(always)]
    fn has(&self, hash: E::Hash) -> bool {
        E::home(hash, self.bits).wrapping_sub(self.start) & (self.old.len() - 1) >= self.moved
    }
}

impl<E: Entry> Entries<E> {
    /// Without keys; takes so many without growing.
    pub(super) fn new(capacity: usize) -> Self {
        let count = (capacity * 2).next_power_of_two().max(16);
        Entries {
            entries: written(count),
            bits: count.trailing_zeros(),
            used: 0,
            moving: None,
        }
    }

    /// All entries and the number of bits of a home in them, unless the table is growing.
    #[inline(always)]
    pub(super) fn settled(&self) -> Option<(&[E], u32)> {
        match self.moving {
            None => Some((&self.entries, self.bits)),
            Some(_) => None,
        }
    }

    /// Brings the home of a hash into the cache. What is returned depends on it and means nothing.
    #[inline(always)]
    pub(super) fn touch(&self, hash: E::Hash) -> bool {
        let (entries, bits) = self.table_of(hash);
        entries[E::home(hash, bits)].is_free()
    }

    #[inline(always)]
    fn table_of(&self, hash: E::Hash) -> (&[E], u32) {
        match &self.moving {
            Some(moving) if moving.has(hash) => (&moving.old, moving.bits),
            _ => (&self.entries, self.bits),
        }
    }

    #[inline(always)]
    fn table_of_mut(&mut self, hash: E::Hash) -> (&mut Vec<E>, u32) {
        match &mut self.moving {
            Some(moving) if moving.has(hash) => (&mut moving.old, moving.bits),
            _ => (&mut self.entries, self.bits),
        }
    }

    /// The entry of this hash that is meant, or where it would be.
    #[inline]
    pub(super) fn find(&self, hash: E::Hash, is_meant: impl Fn(&E) -> bool) -> Result<E, Vacant> {
        let (entries, bits) = self.table_of(hash);
        let mask = (1 << bits) - 1;
        let mut at = E::home(hash, bits);
        while let Some(entry) = entries.get(at).filter(|entry| !entry.is_free()) {
            if is_meant(entry) {
                return Ok(*entry);
            }
            at = (at + 1) & mask;
        }
        Err(Vacant(at))
    }

    /// Adds the entry of a key that was just not found.
    pub(super) fn insert(&mut self, Vacant(at): Vacant, entry: E) {
        let (entries, bits) = self.table_of_mut(entry.hash());
        extend(entries, at + 1, bits);
        entries[at] = entry;
        self.used += 1;
        if self.moving.is_some() {
            self.move_some(MOVED_PER_KEY);
        }
        if self.used * 2 > 1 << self.bits {
            self.grow();
        }
    }

    fn grow(&mut self) {
        // Two tables are enough: the last growth ends before the next begins.
        while self.moving.is_some() {
            self.move_some(MOVED_PER_CHUNK);
        }
        let entries = Vec::with_capacity(self.entries.len() * 2);
        let old = std::mem::replace(&mut self.entries, entries);
        let start = old.iter().position(E::is_free);
        let start = start.expect("a table is at most half full");
        // What is before the start moves at the end, and is there before.
        extend(&mut self.entries, 2 * start + AHEAD, self.bits + 1);
        self.moving = Some(Moving {
            start,
            old,
            bits: self.bits,
            moved: 0,
        });
        self.bits += 1;
        // Keys added to the old table from now on may stand at its start; the mark is always ahead of them.
        self.move_some(MOVED_PER_KEY);
    }

    /// Moves some entries if the table is growing: to be called with each chunk of keys that is looked up.
    #[inline]
    pub(super) fn advance(&mut self) {
        if self.moving.is_some() {
            self.move_some(MOVED_PER_CHUNK);
        }
    }

    #[cold]
    fn move_some(&mut self, count: usize) {
        let Some(moving) = &mut self.moving else { return };
        let mask = moving.old.len() - 1;
        let end = moving.old.len().min(moving.moved + count);
        let mut last_free = true;
        // To the end of the run, for no run may be split.
        while moving.moved < end || !last_free {
            let entry = std::mem::take(&mut moving.old[(moving.start + moving.moved) & mask]);
            // A key added meanwhile may stand beyond the end, where all before it has moved.
            moving.moved += 1;
            last_free = entry.is_free();
            extend(&mut self.entries, 2 * (moving.start + moving.moved) + AHEAD, self.bits);
            if !last_free {
                place(&mut self.entries, self.bits, entry);
            }
        }
        if moving.moved >= moving.old.len() {
            extend(&mut self.entries, 1 << self.bits, self.bits);
            self.moving = None;
        }
    }

    /// Takes out the entry of this hash that is meant, which is there.
    pub(super) fn remove(&mut self, hash: E::Hash, is_meant: impl Fn(&E) -> bool) {
        let (entries, bits) = self.table_of_mut(hash);
        let mask = (1 << bits) - 1;
        let mut hole = E::home(hash, bits);
        while !is_meant(&entries[hole]) {
            assert!(!entries[hole].is_free(), "what is removed is there");
            hole = (hole + 1) & mask;
        }
        // Close the gap: every later entry of the run that may stand nearer to its home moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(&entry) = entries.get(at).filter(|entry| !entry.is_free()) else {
                break;
            };
            let home = E::home(entry.hash(), bits);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                entries[hole] = entry;
                hole = at;
            }
        }
        entries[hole] = E::default();
        self.used -= 1;
    }

    /// Brings the homes of these hashes into the cache, and the entries after them, to which closing a gap leads:
    /// loads that depend on nothing overlap.
    pub(super) fn warm(&self, hashes: impl Iterator<Item = E::Hash>) {
        let mut touched = 0;
        for hash in hashes {
            let (entries, bits) = self.table_of(hash);
            let home = E::home(hash, bits);
            let after = entries.get(home + 2).is_some_and(E::is_free);
            touched += usize::from(entries[home].is_free()) + usize::from(after);
        }
        std::hint::black_box(touched);
    }

    /// Takes all entries out and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.moving = None;
        self.entries.fill(E::default());
        extend(&mut self.entries, 1 << self.bits, self.bits);
        self.used = 0;
    }

    /// Bytes that the table will take more when it doubles, if that is about to be.
    pub(super) fn growth_bytes_soon(&self) -> usize {
        let entries = 1 << self.bits;
        match self.used * 2 > entries - entries / 8 {
            true => entries * size_of::<E>(),
            false => 0,
        }
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let old = self.moving.as_ref().map_or(0, |moving| moving.old.capacity());
        (self.entries.capacity() + old) * size_of::<E>()
    }
}

fn place<E: Entry>(entries: &mut Vec<E>, bits: u32, entry: E) {
    let mask = (1 << bits) - 1;
    let mut at = E::home(entry.hash(), bits);
    while entries.get(at).is_some_and(|entry| !entry.is_free()) {
        at = (at + 1) & mask;
    }
    // The run may end behind what is there.
    extend(entries, at + 1, bits);
    entries[at] = entry;
}

/// Makes sure that the first so many entries of a table are there.
#[inline]
fn extend<E: Entry>(entries: &mut Vec<E>, count: usize, bits: u32) {
    let count = count.min(1 << bits);
    if entries.len() < count {
        entries.resize(count, E::default());
    }
}

/// Entries of nothing, in memory that has been written to.
fn written<E: Entry>(count: usize) -> Vec<E> {
    let mut entries = Vec::with_capacity(count);
    // Without this the compiler would ask for zeroed memory after all.
    std::hint::black_box(&mut entries);
    entries.resize(count, E::default());
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::Random;

    /// A key, or 0. Hashes of few bits, so that runs are long and reach over the end.
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    struct Key(u32);

    impl Entry for Key {
        type Hash = u8;

        fn home(hash: u8, bits: u32) -> usize {
            (usize::from(hash) << 16) >> (24 - bits)
        }

        fn hash(&self) -> u8 {
            // The end is crowded.
            if self.0.is_multiple_of(3) {
                255
            } else {
                (self.0 * 97) as u8
            }
        }

        fn is_free(&self) -> bool {
            self.0 == 0
        }
    }

    #[test]
    fn agrees_with_a_set_while_it_grows() {
        let mut grew = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut entries, mut model) = (Entries::<Key>::new(0), BTreeSet::new());
            let keys = 10 + random.below(600);
            for step in 0..1500 {
                let key = Key(1 + random.below(keys) as u32);
                let found = entries.find(key.hash(), |entry| *entry == key);
                assert_eq!(found.is_ok(), model.contains(&key.0), "seed {seed}, step {step}");
                let adds = random.below(3) > 0;
                match (found, adds) {
                    (Err(vacant), true) => {
                        entries.insert(vacant, key);
                        model.insert(key.0);
                    }
                    (Ok(_), false) => {
                        entries.remove(key.hash(), |entry| *entry == key);
                        model.remove(&key.0);
                    }
                    _ => {}
                }
                if random.below(4) == 0 {
                    entries.advance();
                }
                grew += usize::from(entries.settled().is_none());
                if random.below(1000) == 0 {
                    entries.clear();
                    model.clear();
                }
            }
            for key in 1..=keys as u32 {
                let found = entries.find(Key(key).hash(), |entry| entry.0 == key);
                assert_eq!(found.is_ok(), model.contains(&key));
            }
            assert_eq!(entries.used, model.len());
        }
        assert!(grew > 1000, "{grew}");
    }
}
