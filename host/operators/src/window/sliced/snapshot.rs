//! Snapshots of sliced windows: a row per key and slice with its accumulator.
//!
//! ```text
//! $group | $deleted | $key {…} | $slice: its first ms | the accumulator
//! ```
//!
//! Nothing says that a slice is gone: which slices are over follows from the watermark, and restoring leaves
//! them out.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef, SchemaRef};
use arrow_select::filter::{filter, filter_record_batch};
use arrow_select::take::take;
use millrace_core::block::Millis;
use millrace_core::checkpoint::{TableDelta, columns};
use millrace_core::function::{Slot, WindowFunction};
use millrace_core::{Error, Result};

use super::slice::Slice;
use super::{Grid, Group, SlicedWindows};
use crate::changes::{Changes, TableSchema, broken, tracked};
use crate::slot_set::SlotSet;
use crate::window::Context;
use crate::window::import::without_replaced;

/// What windows of which snapshots are taken keep for them.
#[derive(Debug)]
pub(super) struct Tracking {
    changes: Changes,
    table: TableSchema,
    locals: Vec<Slot>,
    /// The slice that exporting goes on with.
    at: i64,
}

impl Tracking {
    /// These keys of a slice get rows: what a snapshot has still to export of them goes out first.
    #[inline]
    pub(super) fn touch(
        &mut self,
        slice: &mut Slice,
        number: i64,
        grid: &Grid,
        locals: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        slice.dirty.insert_all(locals, slice.keys.slot_bound());
        self.export_among(slice, number, grid, locals, function)
    }

    /// Exports the marked ones among these keys of a slice.
    pub(super) fn export_among(
        &mut self,
        slice: &mut Slice,
        number: i64,
        grid: &Grid,
        locals: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if !self.changes.has_marked() {
            return Ok(());
        }
        let mut marked = std::mem::take(&mut self.locals);
        marked.clear();
        marked.extend(locals.iter().copied().filter(|&local| slice.marked.remove(local)));
        let exported = self.export(slice, number, grid, &marked, function);
        self.locals = marked;
        exported
    }

    /// Exports all marked keys of a slice.
    pub(super) fn export_rest(
        &mut self,
        slice: &mut Slice,
        number: i64,
        grid: &Grid,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if !self.changes.has_marked() {
            return Ok(());
        }
        let mut marked = Vec::new();
        slice.marked.take_from(0, usize::MAX, &mut marked);
        self.export(slice, number, grid, &marked, function)
    }

    fn export(
        &mut self,
        slice: &Slice,
        number: i64,
        grid: &Grid,
        locals: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if locals.is_empty() {
            return Ok(());
        }
        let accumulators = function.export_state(0, &slice.slots_of(locals))?;
        let rows = self.rows(number, grid, slice.keys.key_columns(locals)?, accumulators)?;
        self.changes.exported_elsewhere(rows);
        Ok(())
    }

    /// These keys of a slice go to a lower tier.
    pub(super) fn depart(
        &mut self,
        slice: &Slice,
        number: i64,
        grid: &Grid,
        locals: &[Slot],
        keys: Vec<ArrayRef>,
        accumulators: ArrayRef,
    ) -> Result<()> {
        let dirty = locals.iter().map(|&local| Some(slice.dirty.contains(local)));
        let dirty = dirty.collect::<BooleanArray>();
        if dirty.true_count() > 0 {
            let rows = self.rows(number, grid, keys, accumulators)?;
            self.changes.depart(filter_record_batch(&rows, &dirty).map_err(broken)?);
        }
        Ok(())
    }

    fn rows(&self, number: i64, grid: &Grid, keys: Vec<ArrayRef>, accumulators: ArrayRef) -> Result<RecordBatch> {
        let starts = Int64Array::from(vec![grid.slice_bounds(number).0; accumulators.len()]);
        self.table.rows(keys, vec![Arc::new(starts), accumulators])
    }
}

/// The rows of snapshots.
pub(super) fn table(key_schema: &SchemaRef, accumulator: &FieldRef, max_parallelism: u32) -> TableSchema {
    let slice = Arc::new(Field::new(columns::SLICE, DataType::Int64, true));
    TableSchema::new(key_schema, vec![slice, accumulator.clone()], max_parallelism)
}

impl SlicedWindows {
    pub(in crate::window) fn track_changes(&mut self, accumulator: &FieldRef, max_parallelism: u32) {
        self.tracking = Some(Box::new(Tracking {
            changes: Changes::default(),
            table: table(&self.schema, accumulator, max_parallelism),
            locals: Vec::new(),
            at: i64::MIN,
        }));
    }

    pub(in crate::window) fn forget_changes(&mut self) {
        self.tracking = None;
    }

    pub(in crate::window) fn begin_snapshot(&mut self, full: bool) -> Result<()> {
        let tracking = tracked(&mut self.tracking)?;
        if self.firing.is_some() {
            return Err(Error::internal("a snapshot begins in the middle of a firing"));
        }
        let live = self.slices.values().map(|slice| slice.keys.len() as u64);
        let live = live.sum::<u64>() + self.tiering.as_ref().map_or(0, |tiering| tiering.only_below());
        let dirty = self.slices.values().map(|slice| slice.dirty.len()).sum();
        let full = tracking.changes.begin_elsewhere(full, dirty, live)?;
        let mut marked = 0;
        for slice in self.slices.values_mut() {
            let dirty = std::mem::take(&mut slice.dirty);
            slice.marked = if full { slice.live() } else { dirty };
            marked += slice.marked.len();
        }
        tracking.changes.mark_elsewhere(marked);
        tracking.at = i64::MIN;
        if full
            && let Some(tiering) = &mut self.tiering
            && let Some((cold, rows)) = tiering.freeze(self.grid)?
        {
            tracking.changes.add_cold(cold, rows, SlotSet::default());
        }
        Ok(())
    }

    pub(in crate::window) fn export_some(&mut self, limit: usize, function: &mut dyn WindowFunction) -> Result<bool> {
        let Some(tracking) = &mut self.tracking else {
            return Ok(false);
        };
        let mut left = limit.max(1);
        while left > 0
            && tracking.changes.has_marked()
            && let Some((&number, slice)) = self.slices.range_mut(tracking.at..).next()
        {
            let mut locals = Vec::new();
            slice.marked.take_from(0, left, &mut locals);
            if locals.len() < left {
                tracking.at = number.saturating_add(1);
            }
            left -= locals.len();
            tracking.export(slice, number, &self.grid, &locals, function)?;
        }
        Ok(tracking.changes.has_marked())
    }

    pub(in crate::window) fn finish_snapshot(&mut self) -> Option<TableDelta> {
        self.tracking.as_mut()?.changes.finish()
    }

    pub(in crate::window) fn restore(
        &mut self,
        context: &mut Context,
        batch: &RecordBatch,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let Some(rows) = self.live_rows(context, batch)? else {
            return Ok(());
        };
        if self.tiering.is_some() {
            return self.restore_below(context, &rows);
        }
        self.batch.load(&rows.keys)?;
        let (mut slots, mut order) = (Vec::new(), Vec::new());
        for group in self.group(&rows.starts) {
            self.insert_keys(context, &group)?;
            slots.extend(self.slices[&group.slice].slots_of(&self.locals));
            order.extend(group.rows);
        }
        import(context, slots, order, &rows.accumulators, function)
    }

    /// Those rows of a batch that are of slices which are not over.
    pub(super) fn live_rows(&mut self, context: &Context, batch: &RecordBatch) -> Result<Option<LiveRows>> {
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        let starts = rows.more[0].as_primitive::<Int64Type>();
        let live_from = self.live_from(context);
        let alive = |start: Option<Millis>| {
            let last = self
                .grid
                .slice_bounds(self.grid.slice_of(start.unwrap_or(Millis::MIN)))
                .1;
            live_from.is_some_and(|from| last >= from)
        };
        let alive = starts.iter().map(|start| Some(alive(start))).collect();
        let select = |column: &ArrayRef| filter(column, &alive).map_err(broken);
        let keys = rows.keys.iter().map(select).collect::<Result<Vec<_>>>()?;
        let more = rows.more.iter().map(select).collect::<Result<Vec<_>>>()?;
        tracked(&mut self.tracking)?.changes.restored(&[], batch.num_rows());
        let rows = LiveRows {
            keys,
            starts: more[0].as_primitive::<Int64Type>().values().to_vec(),
            accumulators: more[1].clone(),
        };
        Ok((!rows.starts.is_empty()).then_some(rows))
    }

    /// Sees to it that the slice of a group of rows of the batch at hand has their keys. Leaves the numbers of these in
    /// `self.locals`, those that are new there in `self.fresh`.
    pub(super) fn insert_keys(&mut self, context: &mut Context, group: &Group) -> Result<()> {
        if !self.slices.contains_key(&group.slice) {
            self.add_slice(context, group.slice)?;
        }
        let slice = self.slices.get_mut(&group.slice).expect("it was just added");
        self.locals.clear();
        self.fresh.clear();
        slice
            .keys
            .find_or_insert_at(&self.batch, &group.rows, &mut self.locals, &mut self.fresh);
        slice.allocate(&self.fresh, &mut context.slots);
        Ok(())
    }

    /// What is restored goes below and comes up when rows are added to it.
    pub(super) fn restore_below(&mut self, context: &Context, rows: &LiveRows) -> Result<()> {
        for group in self.group(&rows.starts) {
            if !self.slices.contains_key(&group.slice) {
                self.add_slice(context, group.slice)?;
            }
            let (Some(tiering), Some(slice)) = (&mut self.tiering, self.slices.get_mut(&group.slice)) else {
                return Err(Error::internal("what was restored goes to no tier"));
            };
            let (keys, accumulators) = rows.take(group.rows)?;
            // In order, so that later rows replace earlier ones.
            tiering.put(slice, group.slice, &keys, &accumulators)?;
        }
        Ok(())
    }
}

/// Rows of a batch, by key and slice.
pub(super) struct LiveRows {
    pub(super) keys: Vec<ArrayRef>,
    /// First ms of the slice of each.
    pub(super) starts: Vec<Millis>,
    pub(super) accumulators: ArrayRef,
}

impl LiveRows {
    /// Keys and accumulators of some of them.
    pub(super) fn take(&self, rows: Vec<u32>) -> Result<(Vec<ArrayRef>, ArrayRef)> {
        let rows = UInt32Array::from(rows);
        let select = |column: &ArrayRef| take(column, &rows, None).map_err(broken);
        let keys = self.keys.iter().map(select).collect::<Result<Vec<_>>>()?;
        Ok((keys, select(&self.accumulators)?))
    }
}

/// Gives slots the accumulators of these rows, of each the last.
pub(super) fn import(
    context: &Context,
    mut slots: Vec<Slot>,
    rows: Vec<u32>,
    accumulators: &ArrayRef,
    function: &mut dyn WindowFunction,
) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    let accumulators = take(accumulators, &UInt32Array::from(rows), None).map_err(broken)?;
    // What left for a lower tier and came back is there more than once.
    let accumulators = without_replaced(&mut slots, accumulators, context.slots.bound())?;
    function.import_state(0, &slots, &accumulators)
}
