//! Snapshots of session windows: a row per key with all its open sessions, oldest first.
//!
//! ```text
//! $group | $deleted | $key {…} | $sessions [{ $first, $last, the accumulator }]
//! ```
//!
//! Whether a session has fired, and whether it is over, follows from the watermark: nothing says that one is
//! gone, and restoring leaves out what is over.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StructArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use arrow_select::filter::{filter, filter_record_batch};
use arrow_select::take::take;
use millrace_core::block::Millis;
use millrace_core::checkpoint::{TableDelta, columns};
use millrace_core::function::{Slot, WindowFunction};
use millrace_core::{Error, Result};

use super::SessionWindows;
use super::store::{self, NONE, SessionStore};
use crate::changes::{Changes, TableSchema, broken, tracked};
use crate::key_table::KeyTable;
use crate::slot_set::SlotSet;
use crate::window::Context;

/// What windows of which snapshots are taken keep for them.
#[derive(Debug)]
pub(super) struct Tracking {
    changes: Changes,
    table: TableSchema,
    session_fields: Fields,
    slots: Vec<Slot>,
}

impl Tracking {
    #[inline]
    pub(super) fn mark_dirty(&mut self, keys: &[Slot], bound: Slot) {
        self.changes.dirty_mut().insert_all(keys, bound);
    }

    /// Exports the marked ones among these keys, which are about to be touched.
    pub(super) fn export_among(
        &mut self,
        keys: &[Slot],
        table: &KeyTable,
        store: &SessionStore,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if !self.changes.has_marked() {
            return Ok(());
        }
        let mut slots = std::mem::take(&mut self.slots);
        self.changes.marked_among(keys, &mut slots);
        let exported = self.export(&slots, table, store, function);
        self.slots = slots;
        exported
    }

    /// Rows of a layer were restored, and these keys from them.
    pub(super) fn restored(&mut self, keys: &[Slot], rows: usize) {
        self.changes.restored(keys, rows);
    }

    /// These keys have no session any more; their slots may be reused.
    pub(super) fn forget(&mut self, keys: &[Slot]) {
        self.changes.forget_silently(keys);
    }

    fn export(
        &mut self,
        keys: &[Slot],
        table: &KeyTable,
        store: &SessionStore,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let sessions = sessions(keys, store, &self.session_fields, function)?;
        let rows = self.table.rows(table.key_columns(keys)?, vec![sessions])?;
        self.changes.exported(keys, rows);
        Ok(())
    }

    /// These keys go to a lower tier.
    pub(super) fn depart(&mut self, keys: &[Slot], columns: Vec<ArrayRef>, sessions: ArrayRef) -> Result<()> {
        let dirty = self.changes.are_dirty(keys);
        if dirty.true_count() > 0 {
            let rows = self.table.rows(columns, vec![sessions])?;
            self.changes.depart(filter_record_batch(&rows, &dirty).map_err(broken)?);
        }
        self.forget(keys);
        Ok(())
    }
}

/// A column of sessions, taken apart.
pub(super) struct Sessions<'a> {
    offsets: &'a [i32],
    pub(super) firsts: &'a [Millis],
    pub(super) lasts: &'a [Millis],
    pub(super) accumulators: ArrayRef,
}

impl<'a> Sessions<'a> {
    pub(super) fn of(column: &'a ArrayRef) -> Self {
        let lists = column.as_list::<i32>();
        let sessions = lists.values().as_struct();
        Sessions {
            offsets: lists.value_offsets(),
            firsts: sessions.column(0).as_primitive::<Int64Type>().values(),
            lasts: sessions.column(1).as_primitive::<Int64Type>().values(),
            accumulators: sessions.column(2).clone(),
        }
    }

    /// The sessions of each row.
    pub(super) fn spans(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let spans = self.offsets.windows(2);
        spans.map(|span| span[0] as usize..span[1] as usize)
    }
}

/// The open sessions of these keys, oldest first.
pub(super) fn sessions(
    keys: &[Slot],
    store: &SessionStore,
    fields: &Fields,
    function: &mut dyn WindowFunction,
) -> Result<ArrayRef> {
    let (mut firsts, mut lasts, mut slots, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &key in keys {
        let sessions = store.sessions_of(key);
        lengths.push(sessions.len());
        for session in sessions.iter().rev().map(|&id| store.session(id)) {
            firsts.push(session.first);
            lasts.push(session.last);
            slots.push(session.slot);
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(firsts)),
        Arc::new(Int64Array::from(lasts)),
        function.export_state(0, &slots)?,
    ];
    lists(fields, columns, lengths)
}

/// A column of sessions: so many of these for each row.
fn lists(fields: &Fields, columns: Vec<ArrayRef>, lengths: Vec<usize>) -> Result<ArrayRef> {
    let sessions = StructArray::try_new(fields.clone(), columns, None).map_err(broken)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let lists = ListArray::try_new(item(fields), offsets, Arc::new(sessions), None).map_err(broken)?;
    Ok(Arc::new(lists))
}

/// What there is of a session.
pub(super) fn session_fields(accumulator: &FieldRef) -> Fields {
    let time = |name| Arc::new(Field::new(name, DataType::Int64, false));
    let (first, last) = (time(columns::SESSION_FIRST), time(columns::SESSION_LAST));
    Fields::from(vec![first, last, accumulator.clone()])
}

/// A key's sessions.
pub(super) fn sessions_field(fields: &Fields) -> FieldRef {
    Arc::new(Field::new(columns::SESSIONS, DataType::List(item(fields)), true))
}

fn item(fields: &Fields) -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), false))
}

impl SessionWindows {
    pub(in crate::window) fn track_changes(&mut self, accumulator: &FieldRef, max_parallelism: u32) {
        let fields = session_fields(accumulator);
        let sessions = sessions_field(&fields);
        self.tracking = Some(Box::new(Tracking {
            changes: Changes::default(),
            table: TableSchema::new(&self.schema, vec![sessions], max_parallelism),
            session_fields: fields,
            slots: Vec::new(),
        }));
    }

    pub(in crate::window) fn forget_changes(&mut self) {
        self.tracking = None;
    }

    pub(in crate::window) fn begin_snapshot(&mut self, full: bool) -> Result<()> {
        let below = self.tiering.as_ref().map_or(0, |tiering| tiering.keys_below());
        let (keys, live_rows) = (&self.keys, self.keys.len() as u64 + below);
        let changes = &mut tracked(&mut self.tracking)?.changes;
        changes.begin(full, || keys.live_slots(), live_rows)?;
        if changes.is_full()
            && let Some(tiering) = &mut self.tiering
            && let Some((cold, rows)) = tiering.freeze()?
        {
            changes.add_cold(cold, rows, SlotSet::default());
        }
        Ok(())
    }

    pub(in crate::window) fn export_some(&mut self, limit: usize, function: &mut dyn WindowFunction) -> Result<bool> {
        let Some(tracking) = &mut self.tracking else {
            return Ok(false);
        };
        let mut keys = std::mem::take(&mut tracking.slots);
        tracking.changes.take_marked(limit.max(1), &mut keys);
        let exported = tracking.export(&keys, &self.keys, &self.store, function);
        tracking.slots = keys;
        exported.map(|()| tracking.changes.has_marked())
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
        let mut rows = self.open_rows(context, batch)?;
        if self.tiering.is_some() {
            tracked(&mut self.tracking)?.restored(&[], batch.num_rows());
            return self.restore_below(context, &rows);
        }
        self.find_keys(&rows)?;
        let keys = std::mem::take(&mut self.slots);
        without_replaced(&keys, self.keys.slot_bound(), &mut rows.open);
        self.drop_sessions(context, &keys, function)?;
        tracked(&mut self.tracking)?.restored(&keys, batch.num_rows());
        let taken = self.open_all(context, &keys, &rows, function);
        self.slots = keys;
        taken
    }

    /// Those rows of a batch that have sessions which are not over.
    pub(super) fn open_rows(&mut self, context: &Context, batch: &RecordBatch) -> Result<OpenRows> {
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        let stored = Sessions::of(&rows.more[0]);
        let alive = |&row: &usize| !context.expired(store::last_ms(stored.lasts[row], self.gap));
        let open = stored.spans().map(|span| span.filter(alive).collect::<Vec<_>>());
        let mut open = open.collect::<Vec<_>>();
        let live = open.iter().map(|sessions| Some(!sessions.is_empty())).collect();
        let keys = rows.keys.iter().map(|column| filter(column, &live).map_err(broken));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        open.retain(|sessions| !sessions.is_empty());
        Ok(OpenRows {
            keys,
            stored: rows.more[0].clone(),
            open,
        })
    }

    /// Leaves the slots of these keys in `self.slots`, those that are new here in `self.fresh`.
    pub(super) fn find_keys(&mut self, rows: &OpenRows) -> Result<()> {
        self.batch.load(&rows.keys)?;
        self.slots.clear();
        self.fresh.clear();
        let count = self.batch.row_count();
        self.keys
            .find_or_insert(&self.batch, 0..count, &mut self.slots, &mut self.fresh);
        self.store.reserve_keys(self.keys.slot_bound());
        Ok(())
    }

    /// Opens the sessions of keys that have none.
    pub(super) fn open_all(
        &mut self,
        context: &mut Context,
        keys: &[Slot],
        rows: &OpenRows,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let stored = Sessions::of(&rows.stored);
        let (mut slots, mut order) = (Vec::new(), Vec::new());
        for (&key, sessions) in keys.iter().zip(&rows.open) {
            for &row in sessions {
                let (first, last) = (stored.firsts[row], stored.lasts[row]);
                let fired = context.ended(store::last_ms(last, self.gap));
                slots.push(self.open_again(context, key, first, last, fired));
                order.push(row as u32);
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        let accumulators = take(&stored.accumulators, &UInt32Array::from(order), None).map_err(broken)?;
        function.import_state(0, &slots, &accumulators)
    }

    /// What is restored goes below and comes up when it is needed.
    pub(super) fn restore_below(&mut self, context: &Context, rows: &OpenRows) -> Result<()> {
        let Some(tiering) = &mut self.tiering else {
            return Err(Error::internal("what was restored goes to no tier"));
        };
        let order = rows.open.iter().flatten().map(|&row| row as u32);
        let order = UInt32Array::from_iter_values(order);
        let columns = rows.stored.as_list::<i32>().values().as_struct().columns().iter();
        let columns = columns.map(|column| take(column, &order, None).map_err(broken));
        let lengths = rows.open.iter().map(Vec::len).collect();
        let sessions = lists(&self.session_fields, columns.collect::<Result<_>>()?, lengths)?;
        // In order, so that later rows replace earlier ones.
        tiering.restore(context, &rows.keys, &sessions)
    }

    /// Opens a session of which the guest gets the accumulator; it is newer than those of its key so far. Returns its
    /// slot.
    pub(super) fn open_again(
        &mut self,
        context: &mut Context,
        key: Slot,
        first: Millis,
        last: Millis,
        fired: bool,
    ) -> Slot {
        let slot = context.slots.allocate();
        let id = self.store.open(key, NONE, first, slot);
        let session = self.store.session_mut(id);
        session.last = last;
        session.in_guest = true;
        let end = store::last_ms(last, self.gap);
        if fired {
            self.await_expiry(context, id, end);
        } else {
            self.store.session_mut(id).unfired_at = end;
            self.unfired.push(end, id);
        }
        slot
    }

    /// Forgets what earlier layers said of these keys.
    fn drop_sessions(&mut self, context: &mut Context, keys: &[Slot], function: &mut dyn WindowFunction) -> Result<()> {
        let mut slots = Vec::new();
        for &key in keys {
            for id in self.store.sessions_of(key) {
                slots.push(self.store.session(id).slot);
                self.store.close(id);
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        function.drop_state(&slots)?;
        context.slots.release(&slots);
        Ok(())
    }
}

/// Rows of a batch, of keys with open sessions.
pub(super) struct OpenRows {
    pub(super) keys: Vec<ArrayRef>,
    /// All sessions of the batch.
    pub(super) stored: ArrayRef,
    /// Those of each key that are open.
    pub(super) open: Vec<Vec<usize>>,
}

/// Empties the lists of keys that are there again behind: what left for a lower tier and came back.
pub(super) fn without_replaced(keys: &[Slot], bound: Slot, open: &mut [Vec<usize>]) {
    let mut later = SlotSet::default();
    if !later.has_repeats(keys, bound) {
        return;
    }
    for (&key, sessions) in keys.iter().zip(open).rev() {
        if later.contains(key) {
            sessions.clear();
        }
        later.insert(key);
    }
}
