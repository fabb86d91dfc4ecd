//! Which calls a row of a sliced window means.

use arrow_array::ArrayRef;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::function::WindowFunction;

use super::SlicedWindows;
use super::slice::Slice;
use crate::careful::RowCalls;
use crate::key_table::KeyBatch;
use crate::window::Context;

impl SlicedWindows {
    /// What adding this row will ask of the guest; `None`: nothing, it is too late or in no window. What a snapshot has
    /// still to export of the row's accumulator goes out.
    pub(in crate::window) fn calls_of_row(
        &mut self,
        context: &mut Context,
        key_columns: &[ArrayRef],
        time: Millis,
        function: &mut dyn WindowFunction,
    ) -> Result<Option<RowCalls>> {
        let in_time = self.live_from(context).is_some_and(|from| time >= from);
        if !in_time || (self.grid.has_gaps() && self.grid.in_gap(time)) {
            return Ok(None);
        }
        self.batch.load(key_columns)?;
        let number = self.grid.slice_of(time);
        let is_here = |slice: &Slice, batch: &KeyBatch| {
            let mut found = Vec::with_capacity(1);
            slice.keys.find(batch, 0..1, &mut found);
            found[0].is_some()
        };
        let slice = self.slices.get(&number).filter(|slice| !slice.is_whole());
        if slice.is_some_and(|slice| !is_here(slice, &self.batch)) {
            self.fetch_missing(context, number, &[0], key_columns, function)?;
        }
        let mut slot = context.slots.next();
        if let Some(slice) = self.slices.get_mut(&number) {
            let mut found = Vec::with_capacity(1);
            slice.keys.find(&self.batch, 0..1, &mut found);
            if let Some(local) = found[0] {
                slot = slice.slots[local as usize];
                if let Some(tracking) = &mut self.tracking {
                    tracking.export_among(slice, number, &self.grid, &[local], function)?;
                }
            }
        }
        Ok(Some(RowCalls { merge: None, slot }))
    }
}
