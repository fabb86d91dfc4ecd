//! Results of windows, gathered into calls of up to [`SLOTS_PER_CALL`] slots.

use std::ops::Range;

use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::function::{Slot, WindowFunction};

use super::SLOTS_PER_CALL;
use crate::key_table::KeyTable;

/// Emits one window of many keys: `slots[i]` has the key of slot `keys[i]` in `table`.
pub(super) fn emit_window(
    function: &mut dyn WindowFunction,
    table: &KeyTable,
    keys: &[Slot],
    slots: &[Slot],
    window: Range<Millis>,
    then_drop: bool,
) -> Result<()> {
    let longest = slots.len().min(SLOTS_PER_CALL);
    let (starts, ends) = (vec![window.start; longest], vec![window.end; longest]);
    for (keys, slots) in keys.chunks(SLOTS_PER_CALL).zip(slots.chunks(SLOTS_PER_CALL)) {
        let columns = table.key_columns(keys)?;
        let count = slots.len();
        function.emit(slots, &starts[..count], &ends[..count], &columns, then_drop)?;
    }
    Ok(())
}

/// Drops accumulators.
pub(super) fn drop_slots(function: &mut dyn WindowFunction, slots: &[Slot]) -> Result<()> {
    slots
        .chunks(SLOTS_PER_CALL)
        .try_for_each(|slots| function.drop_state(slots))
}

/// Merges accumulators pair by pair, in order.
pub(super) fn merge_slots(function: &mut dyn WindowFunction, targets: &[Slot], sources: &[Slot]) -> Result<()> {
    let pairs = targets.chunks(SLOTS_PER_CALL).zip(sources.chunks(SLOTS_PER_CALL));
    pairs
        .into_iter()
        .try_for_each(|(targets, sources)| function.merge(targets, sources))
}
