//! Snapshots of session windows: a row per key with all its open sessions, oldest first.
//!
//! ```text
//! $group | $deleted | $key {…} | $sessions [{ $first, $last, the accumulator }]
//! ```
//!
//! Whether a session has fired, and whether it is over, follows from the watermark: nothing says that one is
//! gone, and restoring leaves out what is over.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StructArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use arrow_select::filter::filter;
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::checkpoint::{TableDelta, columns};
use millrace_core::function::{Slot, WindowFunction};

use super::SessionWindows;
use super::store::{self, NONE, SessionStore};
use crate::changes::{Changes, TableSchema, broken, tracked};
use crate::key_table::KeyTable;
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
        let sessions = StructArray::try_new(self.session_fields.clone(), columns, None).map_err(broken)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let sessions =
            ListArray::try_new(item(&self.session_fields), offsets, Arc::new(sessions), None).map_err(broken)?;
        let rows = self.table.rows(table.key_columns(keys)?, vec![Arc::new(sessions)])?;
        self.changes.exported(keys, rows);
        Ok(())
    }
}

fn item(fields: &Fields) -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), false))
}

impl SessionWindows {
    pub(in crate::window) fn track_changes(&mut self, accumulator: &FieldRef, max_parallelism: u32) {
        let time = |name| Arc::new(Field::new(name, DataType::Int64, false));
        let fields = Fields::from(vec![
            time(columns::SESSION_FIRST),
            time(columns::SESSION_LAST),
            accumulator.clone(),
        ]);
        let sessions = Field::new(columns::SESSIONS, DataType::List(item(&fields)), true);
        self.tracking = Some(Box::new(Tracking {
            changes: Changes::default(),
            table: TableSchema::new(&self.schema, vec![Arc::new(sessions)], max_parallelism),
            session_fields: fields,
            slots: Vec::new(),
        }));
    }

    pub(in crate::window) fn forget_changes(&mut self) {
        self.tracking = None;
    }

    pub(in crate::window) fn begin_snapshot(&mut self, full: bool) -> Result<()> {
        let (keys, live_rows) = (&self.keys, self.keys.len() as u64);
        let changes = &mut tracked(&mut self.tracking)?.changes;
        changes.begin(full, || keys.live_slots(), live_rows)
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
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        let lists = rows.more[0].as_list::<i32>();
        let sessions = lists.values().as_struct();
        let firsts = sessions.column(0).as_primitive::<Int64Type>().values();
        let lasts = sessions.column(1).as_primitive::<Int64Type>().values();
        let alive = |&row: &usize| !context.expired(store::last_ms(lasts[row], self.gap));
        let spans = lists.value_offsets().windows(2);
        let open = spans.map(|span| (span[0] as usize..span[1] as usize).filter(alive).collect::<Vec<_>>());
        let mut open = open.collect::<Vec<_>>();
        let live = open.iter().map(|sessions| Some(!sessions.is_empty())).collect();
        let keys = rows.keys.iter().map(|column| filter(column, &live).map_err(broken));
        self.batch.load(&keys.collect::<Result<Vec<_>>>()?)?;
        self.slots.clear();
        self.fresh.clear();
        let count = self.batch.row_count();
        self.keys
            .find_or_insert(&self.batch, 0..count, &mut self.slots, &mut self.fresh);
        self.store.reserve_keys(self.keys.slot_bound());
        let keys = std::mem::take(&mut self.slots);
        self.drop_sessions(context, &keys, function)?;
        tracked(&mut self.tracking)?.changes.restored(&keys, batch.num_rows());
        open.retain(|sessions| !sessions.is_empty());
        let (mut slots, mut order) = (Vec::new(), Vec::new());
        for (&key, sessions) in keys.iter().zip(open) {
            for row in sessions {
                slots.push(self.restore_session(context, key, firsts[row], lasts[row]));
                order.push(row as u32);
            }
        }
        self.slots = keys;
        if slots.is_empty() {
            return Ok(());
        }
        let accumulators = take(sessions.column(2), &UInt32Array::from(order), None).map_err(broken)?;
        function.import_state(0, &slots, &accumulators)
    }

    /// Opens a session that is newer than those of its key so far, and returns its slot.
    fn restore_session(&mut self, context: &mut Context, key: Slot, first: Millis, last: Millis) -> Slot {
        let slot = context.slots.allocate();
        let id = self.store.open(key, NONE, first, slot);
        let session = self.store.session_mut(id);
        session.last = last;
        session.in_guest = true;
        let end = store::last_ms(last, self.gap);
        if context.ended(end) {
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
