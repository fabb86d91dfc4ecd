//! Accumulators of which one comes more than once: the last one counts.

use arrow_array::{ArrayRef, UInt32Array};
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::function::Slot;

use crate::changes::broken;
use crate::slot_set::SlotSet;

/// The last accumulator of each of these slots, all of which are below `bound`.
pub(super) fn without_replaced(slots: &mut Vec<Slot>, accumulators: ArrayRef, bound: Slot) -> Result<ArrayRef> {
    let mut later = SlotSet::default();
    if !later.has_repeats(slots, bound) {
        return Ok(accumulators);
    }
    let mut last = Vec::new();
    for row in (0..slots.len()).rev() {
        if !later.contains(slots[row]) {
            later.insert(slots[row]);
            last.push(row as u32);
        }
    }
    last.reverse();
    *slots = last.iter().map(|&row| slots[row as usize]).collect();
    take(&accumulators, &UInt32Array::from(last), None).map_err(broken)
}
