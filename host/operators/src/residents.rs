//! Which entries are in the guest, and which of them go when there are too many: the clock algorithm.
//!
//! A hand goes round the slots and takes those that were not touched since it came by last.

use millrace_core::function::Slot;

use crate::slot_set::SlotSet;

/// Entries that leave for a lower tier at a time: fewest, and most per call of the guest.
pub(crate) const LEAVING: std::ops::RangeInclusive<usize> = if cfg!(test) { 1..=7 } else { 1024..=4096 };

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Residents {
    /// Slots in use.
    live: SlotSet,
    /// Those touched since the hand came by.
    recent: SlotSet,
    hand: Slot,
}

impl Residents {
    /// These, all touched just now.
    pub(crate) fn new(live: SlotSet) -> Self {
        Residents {
            recent: live.clone(),
            live,
            hand: 0,
        }
    }

    /// These slots are touched, and those among them that are `fresh` in use from now on. All are below `bound`.
    pub(crate) fn touch(&mut self, slots: &[Slot], fresh: &[Slot], bound: Slot) {
        self.recent.insert_all(slots, bound);
        self.live.insert_all(fresh, bound);
    }

    /// Slots in use.
    pub(crate) fn live(&self) -> &SlotSet {
        &self.live
    }

    /// Takes `count` slots out that are to leave, or as many as there are.
    pub(crate) fn choose_victims(&mut self, count: usize, bound: Slot, victims: &mut Vec<Slot>) {
        victims.clear();
        // The first time round may only forgive; the second finds what it forgave.
        for _ in 0..2 * u64::from(bound) + 1 {
            if victims.len() == count {
                return;
            }
            if self.hand >= bound {
                self.hand = 0;
            }
            let slot = self.hand;
            self.hand += 1;
            if self.live.contains(slot) && !self.recent.remove(slot) {
                self.live.remove(slot);
                victims.push(slot);
            }
        }
    }

    /// These slots are given back.
    pub(crate) fn forget(&mut self, slots: &[Slot]) {
        self.live.remove_all(slots);
        self.recent.remove_all(slots);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.live.memory_bytes() + self.recent.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_stays_a_round_longer() {
        let mut residents = Residents::new(SlotSet::below(6));
        let mut victims = Vec::new();
        residents.choose_victims(2, 6, &mut victims);
        assert_eq!(victims, [0, 1]);
        residents.touch(&[2, 6], &[6], 7);
        residents.choose_victims(2, 7, &mut victims);
        assert_eq!(victims, [3, 4]);
        residents.forget(&[5]);
        residents.choose_victims(9, 7, &mut victims);
        assert_eq!(victims, [2, 6]);
        assert_eq!(residents.live().len(), 0);
    }
}
