//! Restoring session windows from the newest layer on, while rows of keys that have come are taken.
//!
//! Of each key the first row counts. If all of its sessions are over then so are those of older rows, which they
//! contain, so that nothing has to be kept to know it by.

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::filter;
use millrace_core::Result;
use millrace_core::function::{Slot, WindowFunction};

use super::SessionWindows;
use super::snapshot::without_replaced;
use crate::changes::{broken, tracked};
use crate::slot_set::SlotSet;
use crate::window::Context;

impl SessionWindows {
    pub(in crate::window) fn restore_newest(
        &mut self,
        context: &mut Context,
        batch: &RecordBatch,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let mut rows = self.open_rows(context, batch)?;
        self.find_keys(&rows)?;
        let (keys, bound) = (std::mem::take(&mut self.slots), self.keys.slot_bound());
        without_replaced(&keys, bound, &mut rows.open);
        let mut fresh = SlotSet::default();
        fresh.insert_all(&self.fresh, bound);
        for (&key, open) in keys.iter().zip(&mut rows.open) {
            if !fresh.contains(key) {
                open.clear();
            }
        }
        let tracking = tracked(&mut self.tracking)?;
        tracking.restored(&self.fresh, batch.num_rows());
        if let Some(tiering) = &mut self.tiering {
            tiering.restored_here(&self.fresh, bound);
        }
        let taken = self.open_all(context, &keys, &rows, function);
        self.slots = keys;
        taken
    }

    pub(in crate::window) fn restore_older(&mut self, context: &Context, batch: &RecordBatch) -> Result<()> {
        let mut rows = self.open_rows(context, batch)?;
        tracked(&mut self.tracking)?.restored(&[], batch.num_rows());
        let found = self.find(&rows.keys)?;
        if found.iter().any(Option::is_some) {
            let unknown = found.iter().map(|key| Some(key.is_none())).collect::<BooleanArray>();
            let keys = rows.keys.iter().map(|column| filter(column, &unknown).map_err(broken));
            rows.keys = keys.collect::<Result<_>>()?;
            let mut found = found.into_iter();
            rows.open.retain(|_| found.next().is_some_and(|key| key.is_none()));
        }
        self.restore_below(context, &rows)
    }

    pub(in crate::window) fn find_restored(&mut self, key_columns: &[ArrayRef]) -> Result<Vec<bool>> {
        Ok(self.find(key_columns)?.into_iter().map(|key| key.is_some()).collect())
    }

    /// The slots of those keys that are here.
    fn find(&mut self, key_columns: &[ArrayRef]) -> Result<Vec<Option<Slot>>> {
        self.batch.load(key_columns)?;
        let mut found = Vec::with_capacity(self.batch.row_count());
        self.keys.find(&self.batch, 0..self.batch.row_count(), &mut found);
        Ok(found)
    }
}
