//! Snapshots of a keyed operator: a row per key with its states and timers.
//!
//! ```text
//! $group | $deleted | $key {…} | one column per state | $expires {ms …} | $event_timers [ms] | $processing_timers [ms]
//! ```
//!
//! `$expires` has a member for each state with a time to live, and is not there if none has.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use arrow_select::filter::{filter, filter_record_batch};
use millrace_core::block::Millis;
use millrace_core::checkpoint::{TableDelta, columns};
use millrace_core::function::{KeyedFunction, Slot, StateFunction, TimerKind, touched};
use millrace_core::{Error, Result};

use super::KeyedOperator;
use crate::changes::{Changes, TableSchema, broken, tracked};
use crate::key_table::KeyTable;
use crate::slot_set::SlotSet;

pub(super) const TIMER_COLUMNS: [(&str, TimerKind); 2] = [
    (columns::EVENT_TIMERS, TimerKind::EventTime),
    (columns::PROCESSING_TIMERS, TimerKind::ProcessingTime),
];

/// What an operator that takes snapshots keeps for them.
#[derive(Debug)]
pub(super) struct Tracking {
    pub(super) changes: Changes,
    pub(super) table: TableSchema,
    slots: Vec<Slot>,
    /// Empty but while a batch is restored.
    met: SlotSet,
}

/// Of the columns of entries those of timers: the last.
pub(super) fn timer_columns(columns: &[ArrayRef]) -> &[ArrayRef] {
    &columns[columns.len() - TIMER_COLUMNS.len()..]
}

fn times_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Int64, false))
}

/// The columns of an entry behind its states.
pub(crate) fn timer_fields() -> [FieldRef; 2] {
    TIMER_COLUMNS.map(|(name, _)| Arc::new(Field::new(name, DataType::List(times_field()), true)))
}

impl KeyedOperator {
    /// Keeps track of changes from now on, so that snapshots can be taken. `states` are the fields of the
    /// states, in order; call it before the first row.
    pub fn track_changes(&mut self, states: &[FieldRef], max_parallelism: u32) {
        let more = self.entry_fields(states);
        self.tracking = Some(Box::new(Tracking {
            changes: Changes::default(),
            table: TableSchema::new(&self.key_schema, more, max_parallelism),
            slots: Vec::new(),
            met: SlotSet::default(),
        }));
        if let Some(collections) = &self.collections {
            collections.borrow_mut().track_changes(true);
        }
    }

    /// Keeps track of changes no more: no snapshots will be taken.
    pub fn forget_changes(&mut self) {
        self.tracking = None;
        if let Some(collections) = &self.collections {
            collections.borrow_mut().track_changes(false);
        }
    }

    /// Begins a snapshot: of everything if it is to be `full` or there is no earlier one. The operator goes on
    /// with its rows; call [`export_some`](Self::export_some) until nothing is left.
    pub fn begin_snapshot(&mut self, full: bool) -> Result<()> {
        if let Some(collections) = &self.collections {
            self.collection_deltas = collections.borrow_mut().snapshots(full)?;
        }
        let (keys, live_rows) = (&self.keys, self.slot_count() as u64);
        let changes = &mut tracked(&mut self.tracking)?.changes;
        let Some(tiering) = &mut self.tiering else {
            return changes.begin(full, || keys.live_slots(), live_rows);
        };
        changes.begin(full, || tiering.only_here(), live_rows)?;
        if changes.is_full()
            && let Some((cold, rows)) = tiering.freeze(self.lifetimes.as_ref().map(|lifetimes| lifetimes.now))?
        {
            changes.add_cold(cold, rows, tiering.same_below());
        }
        Ok(())
    }

    /// Exports up to `limit` keys; false: the snapshot is complete.
    pub fn export_some(&mut self, limit: usize, function: &mut dyn KeyedFunction) -> Result<bool> {
        let Some(mut tracking) = self.tracking.take() else {
            return Ok(false);
        };
        let mut slots = std::mem::take(&mut tracking.slots);
        tracking.changes.take_marked(limit, &mut slots);
        let exported = self.export(&mut tracking, &slots, function);
        tracking.slots = slots;
        let more = tracking.changes.has_marked();
        self.tracking = Some(tracking);
        exported.map(|()| more)
    }

    /// The snapshot begun last, once it is complete.
    pub fn finish_snapshot(&mut self) -> Option<TableDelta> {
        self.tracking.as_mut()?.changes.finish()
    }

    /// The snapshots of large states that were begun with the last one, in the order of states.
    pub fn take_collection_snapshots(&mut self) -> Vec<TableDelta> {
        std::mem::take(&mut self.collection_deltas)
    }

    /// Lays a layer of a large state over what was restored of it so far, as [`restore`](Self::restore) does. States
    /// are numbered among the large ones.
    pub fn restore_collection(&mut self, state: usize, batch: &RecordBatch) -> Result<()> {
        match &self.collections {
            Some(collections) => collections.borrow_mut().restore(state, batch),
            None => Err(Error::internal("rows of a large state came for an operator without")),
        }
    }

    /// Exports what a call is about to touch and a snapshot has still to export.
    #[inline]
    pub(super) fn export_before_touching(&mut self, function: &mut dyn KeyedFunction) -> Result<()> {
        match &self.tracking {
            Some(tracking) if tracking.changes.has_marked() => {
                let slots = std::mem::take(&mut self.slots);
                let exported = self.export_marked_among(&slots, function);
                self.slots = slots;
                exported
            }
            _ => Ok(()),
        }
    }

    /// The same for due timers, which were taken already: at the barrier they were set.
    pub(super) fn export_before_firing(&mut self, kind: TimerKind, function: &mut dyn KeyedFunction) -> Result<()> {
        if !self
            .tracking
            .as_ref()
            .is_some_and(|tracking| tracking.changes.has_marked())
        {
            return Ok(());
        }
        for (&slot, &time) in self.slots.iter().zip(&self.times) {
            self.timers.set(slot, kind, time);
        }
        self.export_before_touching(function)?;
        for (&slot, &time) in self.slots.iter().zip(&self.times) {
            self.timers.delete(slot, kind, time);
        }
        Ok(())
    }

    /// Exports those of these entries that a snapshot has still to export.
    #[cold]
    pub(super) fn export_marked_among(&mut self, touched: &[Slot], function: &mut dyn KeyedFunction) -> Result<()> {
        let Some(mut tracking) = self.tracking.take() else {
            return Ok(());
        };
        let mut slots = std::mem::take(&mut tracking.slots);
        tracking.changes.marked_among(touched, &mut slots);
        let exported = self.export(&mut tracking, &slots, function);
        tracking.slots = slots;
        self.tracking = Some(tracking);
        exported
    }

    fn export(&self, tracking: &mut Tracking, slots: &[Slot], function: &mut dyn KeyedFunction) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let columns = self.entry_columns(slots, function)?;
        let rows = tracking.table.rows(self.keys.key_columns(slots)?, columns)?;
        tracking.changes.exported(slots, rows);
        Ok(())
    }

    /// States and timers of these entries, as columns.
    pub(super) fn entry_columns(&self, slots: &[Slot], function: &mut dyn KeyedFunction) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for state in 0..self.state_count {
            columns.push(function.export_state(state as u32, slots)?);
        }
        if let Some(lifetimes) = &self.lifetimes {
            columns.push(lifetimes.column(slots)?);
        }
        for (_, kind) in TIMER_COLUMNS {
            columns.push(self.timer_column(slots, kind, function)?);
        }
        Ok(columns)
    }

    fn timer_column(&self, slots: &[Slot], kind: TimerKind, function: &mut dyn KeyedFunction) -> Result<ArrayRef> {
        let (mut times, mut ends) = (Vec::new(), vec![0]);
        match function.keeps_timers() {
            true => ends.extend(slots.iter().map(|&slot| {
                function.timers_of(slot, kind, &mut times);
                times.len() as i32
            })),
            false if self.timers.has_none(kind) => ends.resize(slots.len() + 1, 0),
            false => ends.extend(slots.iter().map(|&slot| {
                self.timers.times_of(slot, kind, &mut times);
                times.len() as i32
            })),
        }
        let ends = OffsetBuffer::new(ends.into());
        let lists = ListArray::try_new(times_field(), ends, Arc::new(Int64Array::from(times)), None);
        Ok(Arc::new(lists.map_err(broken)?))
    }

    /// Takes up where an operator left off that had seen this watermark. Before the first row and before
    /// [`restore`](Self::restore).
    pub fn restore_watermark(&mut self, watermark: Millis) {
        self.watermark = watermark;
    }

    /// Makes room for up to so many entries that are about to be restored into the guest.
    pub fn expect_restored(&mut self, entries: usize) -> Result<()> {
        if self.tiering.is_none() && self.keys.is_empty() {
            self.keys = KeyTable::new(self.key_schema.clone(), entries)?;
        }
        Ok(())
    }

    /// Lays a layer over what was restored so far, oldest first. Before the first row.
    ///
    /// Rows of other keys than this operator's must have been filtered out.
    pub fn restore(&mut self, batch: &RecordBatch, function: &mut dyn KeyedFunction) -> Result<()> {
        let batch = &self.settled(batch)?;
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        if rows.deleted.true_count() == 0 && self.restore_live(&rows.keys, &rows.more, function)? {
            return Ok(());
        }
        let batch = self.without_replaced(batch, &rows.keys)?;
        let rows = tracked(&mut self.tracking)?.table.read(&batch)?;
        self.restore_deletions(&rows.deleted, &rows.keys, function)?;
        let live = not(&rows.deleted);
        let select = |column: &ArrayRef| filter(column, &live).map_err(broken);
        let keys = rows.keys.iter().map(select).collect::<Result<Vec<_>>>()?;
        let columns = rows.more.iter().map(select).collect::<Result<Vec<_>>>()?;
        let distinct = self.restore_live(&keys, &columns, function)?;
        debug_assert!(distinct, "of each key the last row was left");
        let changes = &mut tracked(&mut self.tracking)?.changes;
        changes.restored(&[], batch.num_rows() - keys[0].len());
        Ok(())
    }

    /// Rows as of now: entries that have expired are gone.
    pub(super) fn settled(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(lifetimes) = &self.lifetimes else {
            return Ok(batch.clone());
        };
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        let entries = lifetimes.settle(&rows.more, self.state_count)?;
        let (states, timers) = (&entries[..self.state_count], timer_columns(&entries));
        let timed = |lists: &ArrayRef, row| lists.as_list::<i32>().value_length(row) > 0;
        let holds =
            |row| states.iter().any(|values| values.is_valid(row)) || timers.iter().any(|lists| timed(lists, row));
        let gone = (0..batch.num_rows()).map(|row| Some(rows.deleted.value(row) || !holds(row)));
        let mut columns = batch.columns()[..3].to_vec();
        columns[1] = Arc::new(gone.collect::<BooleanArray>());
        columns.extend(entries);
        RecordBatch::try_new(batch.schema(), columns).map_err(broken)
    }

    /// Rows of entries that are there; false: nothing was done, for a key is there more than once.
    fn restore_live(
        &mut self,
        keys: &[ArrayRef],
        columns: &[ArrayRef],
        function: &mut dyn KeyedFunction,
    ) -> Result<bool> {
        let count = keys[0].len();
        let expiries = self.expiries(columns);
        if let Some(tiering) = &mut self.tiering {
            // In order, so that later rows replace earlier ones.
            tiering.restore(keys, columns, expiries.as_deref())?;
            tracked(&mut self.tracking)?.changes.restored(&[], count);
            return Ok(true);
        }
        self.batch.load(keys)?;
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert(&self.batch, 0..count, &mut self.slots, &mut self.fresh);
        let met = &mut tracked(&mut self.tracking)?.met;
        // Each slot that was just given was given once.
        if self.fresh.len() < count && met.has_repeats(&self.slots, self.keys.slot_bound()) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
        if !self.timers.is_empty() {
            for &slot in &self.slots {
                self.timers.clear(slot);
            }
        }
        let slots = std::mem::take(&mut self.slots);
        self.take_up(&slots, columns, function)?;
        tracked(&mut self.tracking)?.changes.restored(&slots, count);
        self.slots = slots;
        Ok(true)
    }

    /// The last row of each key: what left for a lower tier and came back is there more than once.
    fn without_replaced(&mut self, batch: &RecordBatch, keys: &[ArrayRef]) -> Result<RecordBatch> {
        self.batch.load(keys)?;
        let count = self.batch.row_count();
        let mut keys = KeyTable::new(self.key_schema.clone(), count)?;
        self.slots.clear();
        self.fresh.clear();
        keys.find_or_insert(&self.batch, 0..count, &mut self.slots, &mut self.fresh);
        if keys.len() == count {
            return Ok(batch.clone());
        }
        let last = SlotSet::below(keys.slot_bound()).take_last(&self.slots);
        filter_record_batch(batch, &BooleanArray::from(last)).map_err(broken)
    }

    /// Gives slots without timers the states and timers in these columns.
    pub(super) fn take_up(
        &mut self,
        slots: &[Slot],
        columns: &[ArrayRef],
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        let (states, timers) = (&columns[..self.state_count], timer_columns(columns));
        if !(self.always_writes && self.state_count > 0) {
            let flag = |valid| if valid { touched::WRITTEN } else { touched::CLEARED };
            let mut flags = Vec::with_capacity(states.len() * slots.len());
            for values in states {
                match values.nulls() {
                    None => flags.resize(flags.len() + slots.len(), flag(true)),
                    Some(nulls) => flags.extend(nulls.iter().map(flag)),
                }
            }
            self.present.cover(self.keys.slot_bound());
            self.present.mark(&flags, slots);
        }
        for (state, values) in states.iter().enumerate() {
            function.import_state(state as u32, slots, values)?;
        }
        if let Some(lifetimes) = &mut self.lifetimes {
            lifetimes.take_up(slots, &columns[self.state_count], self.keys.slot_bound());
        }
        for ((_, kind), lists) in TIMER_COLUMNS.into_iter().zip(timers) {
            let lists = lists.as_list::<i32>();
            let times = lists.values().as_primitive::<Int64Type>().values();
            if function.keeps_timers() {
                if !times.is_empty() {
                    function.resume_timers(kind);
                }
                continue;
            }
            let spans = lists.value_offsets().windows(2);
            for (&slot, span) in slots.iter().zip(spans) {
                for &time in &times[span[0] as usize..span[1] as usize] {
                    self.timers.set(slot, kind, time);
                }
            }
        }
        Ok(())
    }

    fn restore_deletions(
        &mut self,
        deleted: &BooleanArray,
        keys: &[ArrayRef],
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        if deleted.true_count() == 0 {
            return Ok(());
        }
        let keys = keys.iter().map(|column| filter(column, deleted).map_err(broken));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        if let Some(tiering) = &mut self.tiering {
            return tiering.restore_deletions(&keys);
        }
        self.batch.load(&keys)?;
        let mut found = Vec::new();
        self.keys.find(&self.batch, 0..self.batch.row_count(), &mut found);
        let slots = found.into_iter().flatten().collect::<Vec<_>>();
        if slots.is_empty() {
            return Ok(());
        }
        let changes = &mut tracked(&mut self.tracking)?.changes;
        for &slot in &slots {
            self.timers.clear(slot);
            changes.restored_deletion(slot);
        }
        self.forget_present(&slots);
        StateFunction::drop_state(function, &slots)?;
        self.keys.remove_all(&slots);
        Ok(())
    }
}

fn not(deleted: &BooleanArray) -> BooleanArray {
    BooleanArray::new(!deleted.values(), None)
}

impl Tracking {
    /// These keys hold nothing any more; their slots may be reused.
    pub(super) fn forget(&mut self, slots: &[Slot], keys: impl FnOnce(&[Slot]) -> Result<Vec<ArrayRef>>) -> Result<()> {
        let table = &self.table;
        self.changes.forget(slots, |known| table.deletions(keys(known)?))
    }
}
