//! The accumulators of a key, for somebody who asks.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::FieldRef;
use millrace_core::Result;
use millrace_core::function::WindowFunction;

use super::SlicedWindows;

impl SlicedWindows {
    /// The rows that a snapshot would have for a key, one for each slice.
    pub(in crate::window) fn look_up(
        &mut self,
        key: &[ArrayRef],
        accumulator: &FieldRef,
        max_parallelism: u32,
        function: &mut dyn WindowFunction,
    ) -> Result<Vec<RecordBatch>> {
        self.batch.load(key)?;
        let table = super::snapshot::table(&self.schema, accumulator, max_parallelism);
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for (&number, slice) in &self.slices {
            found.clear();
            slice.keys.find(&self.batch, 0..1, &mut found);
            let accumulators = match (&found[..], &mut self.tiering) {
                (&[Some(local)], _) => Some(function.export_state(0, &slice.slots_of(&[local]))?),
                (_, Some(tiering)) if !slice.is_whole() => tiering.peek(number, key)?,
                (_, _) => None,
            };
            // A window that is being fired may have let go of it.
            if let Some(accumulators) = accumulators.filter(|accumulators| accumulators.is_valid(0)) {
                let starts = Int64Array::from(vec![self.grid.slice_bounds(number).0]);
                rows.push(table.rows(key.to_vec(), vec![Arc::new(starts), accumulators])?);
            }
        }
        Ok(rows)
    }
}
