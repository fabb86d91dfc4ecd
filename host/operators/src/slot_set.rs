//! A set of slots: one bit each.

use millrace_core::function::Slot;

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// All slots below `bound`.
    pub(crate) fn below(bound: Slot) -> Self {
        let mut words = vec![u64::MAX; bound as usize / 64];
        if !bound.is_multiple_of(64) {
            words.push((1 << (bound % 64)) - 1);
        }
        SlotSet { words }
    }

    /// Makes room for slots below `bound`, so that [`insert_reserved`](Self::insert_reserved) may be called.
    pub(crate) fn reserve(&mut self, bound: Slot) {
        let words = (bound as usize).div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words.next_power_of_two(), 0);
        }
    }

    /// Adds a slot for which there is room.
    #[inline]
    pub(crate) fn insert_reserved(&mut self, slot: Slot) {
        self.words[slot as usize / 64] |= 1 << (slot % 64);
    }

    pub(crate) fn insert(&mut self, slot: Slot) {
        self.reserve(slot + 1);
        self.insert_reserved(slot);
    }

    /// Takes a slot out; whether it was there.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        let Some(word) = self.words.get_mut(slot as usize / 64) else {
            return false;
        };
        let bit = 1 << (slot % 64);
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }

    /// Adds all of these slots; they are below `bound`.
    #[inline]
    pub(crate) fn insert_all(&mut self, slots: &[Slot], bound: Slot) {
        self.reserve(bound);
        for &slot in slots {
            self.insert_reserved(slot);
        }
    }

    /// Adds those of these slots for which it is said; they are below `bound`.
    #[inline]
    pub(crate) fn insert_where(&mut self, slots: impl Iterator<Item = (bool, Slot)>, bound: Slot) {
        self.reserve(bound);
        for (said, slot) in slots {
            if said {
                self.insert_reserved(slot);
            }
        }
    }

    /// Which of these slots are the last mention of one in the set; all of them are taken out.
    pub(crate) fn take_last(&mut self, slots: &[Slot]) -> Vec<bool> {
        let mut last = vec![false; slots.len()];
        for (&slot, last) in slots.iter().zip(&mut last).rev() {
            *last = self.remove(slot);
        }
        last
    }

    /// Whether a slot is among these more than once; they are below `bound`. The set is empty, and is empty again.
    pub(crate) fn has_repeats(&mut self, slots: &[Slot], bound: Slot) -> bool {
        self.reserve(bound);
        let mut repeats = false;
        for &slot in slots {
            repeats |= self.contains(slot);
            self.insert_reserved(slot);
        }
        self.remove_all(slots);
        repeats
    }

    pub(crate) fn remove_all(&mut self, slots: &[Slot]) {
        for &slot in slots {
            self.remove(slot);
        }
    }

    /// Takes out what is in the other set.
    pub(crate) fn subtract(&mut self, other: &SlotSet) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.words
            .get(slot as usize / 64)
            .is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Appends the lowest slots from `start` on, up to `limit` of them.
    pub(crate) fn read_from(&self, start: Slot, limit: usize, slots: &mut Vec<Slot>) {
        let end = slots.len() + limit;
        let mut at = start as usize / 64;
        let mut mask = u64::MAX << (start % 64);
        while let Some(word) = self.words.get(at) {
            let mut word = word & mask;
            while word != 0 {
                if slots.len() == end {
                    return;
                }
                slots.push(at as Slot * 64 + word.trailing_zeros());
                word &= word - 1;
            }
            mask = u64::MAX;
            at += 1;
        }
    }

    /// Takes out the lowest slots from `start` on, up to `limit` of them, into `slots`; where to go on.
    pub(crate) fn take_from(&mut self, start: Slot, limit: usize, slots: &mut Vec<Slot>) -> Slot {
        let mut at = start as usize / 64;
        while at < self.words.len() {
            let word = &mut self.words[at];
            while *word != 0 {
                if slots.len() == limit {
                    return at as Slot * 64;
                }
                slots.push(at as Slot * 64 + word.trailing_zeros());
                *word &= *word - 1;
            }
            at += 1;
        }
        at as Slot * 64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::Random;

    #[test]
    fn agrees_with_a_tree() {
        let mut random = Random::new(1);
        for bound in [0, 1, 63, 64, 65, 1000] {
            let (mut set, mut model) = (SlotSet::below(bound), (0..bound).collect::<BTreeSet<_>>());
            for _ in 0..500 {
                let slot = random.below(1200) as Slot;
                if random.below(2) == 0 {
                    set.insert(slot);
                    model.insert(slot);
                } else {
                    assert_eq!(set.remove(slot), model.remove(&slot));
                }
                assert_eq!((set.contains(slot), set.len()), (model.contains(&slot), model.len()));
            }
            for (start, limit) in [(0, 7), (63, 1), (64, 100), (900, 9999)] {
                let mut some = vec![5];
                set.read_from(start, limit, &mut some);
                let expected = model.range(start..).take(limit).copied();
                assert_eq!(some[1..], expected.collect::<Vec<_>>());
            }
            let (mut start, mut all) = (0, Vec::new());
            while set.len() > 0 {
                let mut some = Vec::new();
                start = set.take_from(start, 7, &mut some);
                assert!(!some.is_empty() && some.len() <= 7);
                all.extend(some);
            }
            assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
