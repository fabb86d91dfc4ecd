//! Keys that are integers: open addressing over entries of 16 bytes.
//!
//! An entry is (key, slot + 1), 0 meaning free, so that a new table is zeroed memory from the system. The
//! hash is a folded multiplication: fast, private to this table, and independent of the hash that chose
//! the subtask.

use millrace_core::function::Slot;

use super::{CHUNK, empty_entries, entry_count, is_about_to_grow};

#[derive(Debug)]
pub(super) struct IntegerTable {
    entries: Vec<[u64; 2]>,
    /// Key of each slot ever given.
    keys: Vec<i64>,
    used: usize,
}

#[inline(always)]
fn hash(key: u64) -> u64 {
    let product = u128::from(key ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    (product >> 64) as u64 ^ product as u64
}

/// What to shift a hash by to get an entry: its high bits number the entries, so that a table twice as large
/// has them in the same order and growing runs through memory, not all over it.
#[inline(always)]
fn home_shift(entries: &[[u64; 2]]) -> u32 {
    u64::BITS - entries.len().trailing_zeros()
}

#[inline(always)]
fn home(key: u64, shift: u32) -> usize {
    (hash(key) >> shift) as usize
}

impl IntegerTable {
    pub(super) fn new(capacity: usize) -> Self {
        IntegerTable {
            entries: empty_entries(entry_count(capacity)),
            keys: Vec::with_capacity(capacity),
            used: 0,
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
        let first = slots.len();
        let mut misses = [0u8; CHUNK];
        let mut miss_count = 0;
        let entries = self.entries.as_slice();
        let shift = home_shift(entries);
        // One pass only brings the entries into the cache. It does so little else that the processor has the
        // loads of some dozen keys under way at a time, three times as many as the pass after it could.
        let mut homes = [0u32; CHUNK];
        let mut touched = 0;
        for (at, &key) in homes.iter_mut().zip(keys) {
            let home = home(key as u64, shift);
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

    pub(super) fn find(&self, key: i64) -> Option<Slot> {
        let mask = self.entries.len() - 1;
        let mut at = home(key as u64, home_shift(&self.entries));
        loop {
            match self.entries[at] {
                [_, 0] => return None,
                [found, slot] if found == key as u64 => return Some(slot as Slot - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn find_or_insert_one(&mut self, key: i64, free: &mut Vec<Slot>, fresh: &mut Vec<Slot>) -> Slot {
        let mask = self.entries.len() - 1;
        let mut at = home(key as u64, home_shift(&self.entries));
        loop {
            let [found, slot] = self.entries[at];
            if slot == 0 {
                break;
            }
            if found == key as u64 {
                return slot as Slot - 1;
            }
            at = (at + 1) & mask;
        }
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
        self.entries[at] = [key as u64, u64::from(slot) + 1];
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
            let mut at = home(entry[0], shift);
            while self.entries[at][1] != 0 {
                at = (at + 1) & mask;
            }
            self.entries[at] = entry;
        }
    }

    /// Brings the entries of these slots' keys into the cache, and those after them, to which closing the gap
    /// leads: loads that depend on nothing overlap.
    pub(super) fn warm(&self, slots: &[Slot]) {
        let shift = home_shift(&self.entries);
        let mask = self.entries.len() - 1;
        let mut touched = 0;
        for &slot in slots {
            let home = home(self.keys[slot as usize] as u64, shift);
            touched |= self.entries[home][1] | self.entries[(home + 2) & mask][1];
        }
        std::hint::black_box(touched);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let mask = self.entries.len() - 1;
        let shift = home_shift(&self.entries);
        let mut hole = home(self.keys[slot as usize] as u64, shift);
        while self.entries[hole][1] != u64::from(slot) + 1 {
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
            let home = home(entry[0], shift);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = [0; 2];
        self.used -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.entries.fill([0; 2]);
        self.keys.clear();
        self.used = 0;
    }

    #[inline]
    pub(super) fn key(&self, slot: Slot) -> i64 {
        self.keys[slot as usize]
    }

    pub(super) fn slot_bound(&self) -> Slot {
        self.keys.len() as Slot
    }

    pub(super) fn growth_bytes_soon(&self) -> usize {
        match is_about_to_grow(self.used, self.entries.len()) {
            true => self.entries.len() * size_of::<[u64; 2]>(),
            false => 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<[u64; 2]>() + self.keys.capacity() * size_of::<i64>()
    }
}
