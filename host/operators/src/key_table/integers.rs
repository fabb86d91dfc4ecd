//! Keys that are integers, in entries of 16 bytes.
//!
//! An entry is (key, slot + 1), 0 meaning free. The hash is a folded multiplication: fast, private to this
//! table, and independent of the hash that chose the subtask.

use millrace_core::function::Slot;

use super::CHUNK;
use super::entries::{Entries, Entry, Vacant};

#[derive(Debug)]
pub(super) struct IntegerTable {
    entries: Entries<KeyEntry>,
    /// Key of each slot ever given.
    keys: Vec<i64>,
}

/// Key, and slot + 1 or 0.
type KeyEntry = [u64; 2];

#[inline(always)]
fn hash(key: u64) -> u64 {
    let product = u128::from(key ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    (product >> 64) as u64 ^ product as u64
}

impl Entry for KeyEntry {
    type Hash = u64;

    #[inline(always)]
    fn home(hash: u64, bits: u32) -> usize {
        (hash >> (u64::BITS - bits)) as usize
    }

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash(self[0])
    }

    #[inline(always)]
    fn is_free(&self) -> bool {
        self[1] == 0
    }
}

impl IntegerTable {
    pub(super) fn new(capacity: usize) -> Self {
        IntegerTable {
            entries: Entries::new(capacity),
            keys: Vec::with_capacity(capacity),
        }
    }

    /// At most [`CHUNK`] keys.
    #[inline]
    pub(super) fn find_or_insert(
        &mut self,
        keys: &[i64],
        free: &mut Vec<Slot>,
        slots: &mut Vec<Slot>,
        fresh: &mut Vec<Slot>,
    ) {
        self.entries.advance();
        let Some((entries, bits)) = self.entries.settled() else {
            return self.find_or_insert_moving(keys, free, slots, fresh);
        };
        let first = slots.len();
        let mut misses = [0u8; CHUNK];
        let mut miss_count = 0;
        // One pass only brings the entries into the cache. It does so little else that the processor has the
        // loads of some dozen keys under way at a time, three times as many as the pass after it could.
        let mut homes = [0u32; CHUNK];
        let mut touched = 0;
        for (at, &key) in homes.iter_mut().zip(keys) {
            let home = KeyEntry::home(hash(key as u64), bits);
            *at = home as u32;
            touched |= entries[home][1];
        }
        std::hint::black_box(touched);
        // No load and no branch of this loop depends on another turn.
        slots.extend(keys.iter().zip(&homes).enumerate().map(|(i, (&key, &home))| {
            let [found, slot] = entries[home as usize];
            misses[miss_count % CHUNK] = i as u8;
            miss_count += usize::from((found != key as u64) | (slot == 0));
            (slot as u32).wrapping_sub(1)
        }));
        for &i in &misses[..miss_count] {
            slots[first + usize::from(i)] = self.find_or_insert_one(keys[usize::from(i)], free, fresh);
        }
    }

    /// The same while the table grows.
    #[cold]
    fn find_or_insert_moving(
        &mut self,
        keys: &[i64],
        free: &mut Vec<Slot>,
        slots: &mut Vec<Slot>,
        fresh: &mut Vec<Slot>,
    ) {
        let mut touched = false;
        for &key in keys {
            touched |= self.entries.touch(hash(key as u64));
        }
        std::hint::black_box(touched);
        for &key in keys {
            slots.push(self.find_or_insert_one(key, free, fresh));
        }
    }

    pub(super) fn find(&self, key: i64) -> Option<Slot> {
        let found = self.entry(key).ok()?;
        Some(found[1] as Slot - 1)
    }

    #[inline]
    fn entry(&self, key: i64) -> Result<KeyEntry, Vacant> {
        let key = key as u64;
        self.entries.find(hash(key), |entry| entry[0] == key)
    }

    fn find_or_insert_one(&mut self, key: i64, free: &mut Vec<Slot>, fresh: &mut Vec<Slot>) -> Slot {
        let vacant = match self.entry(key) {
            Ok(entry) => return entry[1] as Slot - 1,
            Err(vacant) => vacant,
        };
        let slot = match free.pop() {
            Some(slot) => {
                self.keys[slot as usize] = key;
                slot
            }
            None => {
                self.keys.push(key);
                self.keys.len() as Slot - 1
            }
        };
        fresh.push(slot);
        self.entries.insert(vacant, [key as u64, u64::from(slot) + 1]);
        slot
    }

    /// Brings what removing these slots touches into the cache.
    pub(super) fn warm(&self, slots: &[Slot]) {
        let hashes = slots.iter().map(|&slot| hash(self.keys[slot as usize] as u64));
        self.entries.warm(hashes);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = hash(self.keys[slot as usize] as u64);
        self.entries.remove(hash, |entry| entry[1] == u64::from(slot) + 1);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.keys.clear();
    }

    #[inline]
    pub(super) fn key(&self, slot: Slot) -> i64 {
        self.keys[slot as usize]
    }

    pub(super) fn slot_bound(&self) -> Slot {
        self.keys.len() as Slot
    }

    pub(super) fn growth_bytes_soon(&self) -> usize {
        self.entries.growth_bytes_soon()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.keys.capacity() * size_of::<i64>()
    }
}
