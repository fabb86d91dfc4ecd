//! Which states of a slot hold a value, a bit for each.
//!
//! Every row of a keyed chain marks its slot here, so this is kept small: with up to eight states a million
//! slots take a megabyte, which the second-level cache holds.

use millrace_core::function::{Slot, touched};

/// A bit per slot and state.
#[derive(Debug)]
pub(crate) struct Present {
    /// `stride` bytes per slot; bit s % 8 of byte s / 8 stands for state s.
    bits: Vec<u8>,
    stride: usize,
}

impl Present {
    /// Of chains with so many states. None holds a value.
    pub(crate) fn new(state_count: usize) -> Self {
        Present {
            bits: Vec::new(),
            stride: state_count.div_ceil(8),
        }
    }

    /// Makes room for the slots below this.
    pub(crate) fn cover(&mut self, slot_bound: Slot) {
        let length = slot_bound as usize * self.stride;
        if length > self.bits.len() {
            self.bits.resize(length, 0);
        }
    }

    /// Notes what a call reported: `flags[state * slots.len() + entry]` for the entry of `slots[entry]`, all of
    /// which are covered. A slot may be met many times: the last entry decides.
    pub(crate) fn mark(&mut self, flags: &[u8], slots: &[Slot]) {
        if self.stride == 1 {
            for (state, flags) in flags.chunks_exact(slots.len()).enumerate() {
                for (&flags, &slot) in flags.iter().zip(slots) {
                    mark(&mut self.bits[slot as usize], state, flags);
                }
            }
            return;
        }
        for (state, flags) in flags.chunks_exact(slots.len()).enumerate() {
            for (&flags, &slot) in flags.iter().zip(slots) {
                mark(&mut self.bits[slot as usize * self.stride + state / 8], state, flags);
            }
        }
    }

    /// Notes that a state of slots, all of which are covered, holds nothing.
    pub(crate) fn clear(&mut self, state: usize, slots: &[Slot]) {
        for &slot in slots {
            self.bits[slot as usize * self.stride + state / 8] &= !(1 << (state % 8));
        }
    }

    /// Whether no state of a slot that is covered holds a value.
    #[inline]
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        if self.stride == 1 {
            return self.bits[slot as usize] == 0;
        }
        let start = slot as usize * self.stride;
        self.bits[start..start + self.stride].iter().all(|&bits| bits == 0)
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bits.capacity()
    }
}

/// Without a branch: what user code does with a row is nothing that a processor could foresee.
#[inline(always)]
fn mark(bits: &mut u8, state: usize, flags: u8) {
    let cleared = u8::from(flags & touched::CLEARED != 0);
    let written = u8::from(flags & touched::WRITTEN != 0);
    *bits = *bits & !((cleared | written) << (state % 8)) | ((written & !cleared) << (state % 8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_the_last_report_of_each_state() {
        const NONE: u8 = 0;
        const READ: u8 = touched::READ;
        const WRITTEN: u8 = touched::WRITTEN;
        const CLEARED: u8 = touched::CLEARED;
        for state_count in [1, 2, 8, 9, 17, 64] {
            let check = |present: &mut Present, state: usize, reports: &[(Slot, u8)], empty: &[Slot]| {
                let slots: Vec<Slot> = reports.iter().map(|report| report.0).collect();
                let mut flags = vec![NONE; state_count * slots.len()];
                for (entry, report) in reports.iter().enumerate() {
                    flags[state * slots.len() + entry] = report.1;
                }
                present.mark(&flags, &slots);
                let found: Vec<Slot> = (0..4).filter(|&slot| present.is_empty(slot)).collect();
                assert_eq!(found, empty, "{state_count} states, {reports:?}");
            };
            for state in 0..state_count {
                let mut present = Present::new(state_count);
                present.cover(2);
                present.cover(4);
                present.cover(1);
                check(&mut present, state, &[(1, READ), (3, WRITTEN), (0, NONE)], &[0, 1, 2]);
                check(
                    &mut present,
                    state,
                    &[(0, WRITTEN | READ), (3, READ), (2, WRITTEN)],
                    &[1],
                );
                check(
                    &mut present,
                    state,
                    &[(2, CLEARED), (2, WRITTEN), (0, CLEARED)],
                    &[0, 1],
                );
                check(
                    &mut present,
                    state,
                    &[(2, WRITTEN), (2, CLEARED), (2, NONE)],
                    &[0, 1, 2],
                );
                check(&mut present, state, &[(3, CLEARED | WRITTEN)], &[0, 1, 2, 3]);
            }
        }
    }

    #[test]
    fn without_states_nothing_is_held() {
        let mut present = Present::new(0);
        present.cover(100);
        present.mark(&[], &[1, 2]);
        assert!(present.is_empty(99));
        assert_eq!(present.memory_bytes(), 0);
    }
}
