//! Restoring sliced windows from the newest layer on, while rows of what has come are taken.
//!
//! An entry is a key in a slice, and of each the first row counts. A row whose slice is part of a window that has fired
//! waits: the window fires again with it, and may have slices of the key that have not come.

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::function::WindowFunction;

use super::SlicedWindows;
use super::snapshot::import;
use crate::changes::broken;
use crate::slot_set::SlotSet;
use crate::window::Context;

impl SlicedWindows {
    pub(in crate::window) fn restore_newest(
        &mut self,
        context: &mut Context,
        batch: &RecordBatch,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let Some(rows) = self.live_rows(context, batch)? else {
            return Ok(());
        };
        self.batch.load(&rows.keys)?;
        let (mut slots, mut order) = (Vec::new(), Vec::new());
        for group in self.group(&rows.starts) {
            self.insert_keys(context, &group)?;
            let Some(slice) = self.slices.get_mut(&group.slice) else {
                continue;
            };
            let bound = slice.keys.slot_bound();
            if let Some(tiered) = &mut slice.tiered {
                tiered.residents.touch(&self.fresh, &self.fresh, bound);
            }
            let mut fresh = SlotSet::default();
            fresh.insert_all(&self.fresh, bound);
            for (row, &local) in group.rows.into_iter().zip(&self.locals) {
                if fresh.contains(local) {
                    slots.push(slice.slots[local as usize]);
                    order.push(row);
                }
            }
        }
        import(context, slots, order, &rows.accumulators, function)
    }

    pub(in crate::window) fn restore_older(&mut self, context: &Context, batch: &RecordBatch) -> Result<()> {
        let Some(mut rows) = self.live_rows(context, batch)? else {
            return Ok(());
        };
        let found = self.find_entries(&rows.keys, &rows.starts)?;
        if found.contains(&true) {
            let unknown = (0u32..).zip(&found).filter(|(_, found)| !**found);
            let unknown = unknown.map(|(row, _)| row).collect::<Vec<_>>();
            rows.starts = unknown.iter().map(|&row| rows.starts[row as usize]).collect();
            (rows.keys, rows.accumulators) = rows.take(unknown)?;
        }
        self.restore_below(context, &rows)
    }

    pub(in crate::window) fn find_restored(
        &mut self,
        context: &Context,
        key_columns: &[ArrayRef],
        times: &[Millis],
    ) -> Result<Vec<bool>> {
        let mut found = self.find_entries(key_columns, times)?;
        for (found, &time) in found.iter_mut().zip(times) {
            let first_window = *self.grid.windows_of(self.grid.slice_of(time)).start();
            *found &= !context.ended(self.grid.window_last(first_window));
        }
        Ok(found)
    }

    /// Which of these keys are here, each in the slice with the time beside it.
    fn find_entries(&mut self, key_columns: &[ArrayRef], times: &[Millis]) -> Result<Vec<bool>> {
        let mut found = vec![false; times.len()];
        let mut locals = Vec::new();
        for group in self.group(times) {
            let Some(slice) = self.slices.get(&group.slice) else {
                continue;
            };
            let rows = UInt32Array::from(group.rows.clone());
            let select = |column: &ArrayRef| take(column, &rows, None).map_err(broken);
            let keys = key_columns.iter().map(select).collect::<Result<Vec<_>>>()?;
            self.batch.load(&keys)?;
            locals.clear();
            slice.keys.find(&self.batch, 0..group.rows.len(), &mut locals);
            for (row, local) in group.rows.into_iter().zip(&locals) {
                found[row as usize] = local.is_some();
            }
        }
        Ok(found)
    }
}
