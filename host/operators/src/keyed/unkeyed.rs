//! Rows without a key, with state that is their subtask's ("operator state").
//!
//! To the operator all of them have one key, the number of the subtask, and one slot. So snapshots, increments and careful
//! mode are those of keyed state. Only what is restored is not found by key group: each subtask is given the lists of
//! all. It takes its own, or, if there were more or fewer of them, its share of their items.
//!
//! ```text
//!   lists of old subtasks   | a b c | d | e f g h |
//!   dealt out to two        | a b c d | e f g h   |      neighbours stay together, in the order of subtasks
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, UInt32Array, new_null_array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, FieldRef};
use arrow_select::concat::concat;
use millrace_core::block::Block;
use millrace_core::function::{Effects, KeyedFunction, Slot};
use millrace_core::{Error, Result};

use super::KeyedOperator;
use super::call::misplaced;
use super::snapshot::TIMER_COLUMNS;
use crate::changes::{broken, tracked};

/// The slot under which a function reads the items of all subtasks, as they were when the job went on.
const UNION_SLOT: Slot = 1;

/// Whose state it is.
#[derive(Debug)]
pub(super) struct Unkeyed {
    subtask: u32,
    /// Of each state that the guest keeps whether every subtask is told the items of all.
    unions: Vec<bool>,
}

impl KeyedOperator {
    /// Rows have no key: the state is that of this subtask. `unions` says of each state whether every subtask is told
    /// the items of all. Call it before the first row.
    pub fn set_unkeyed(&mut self, subtask: u32, unions: Vec<bool>) {
        self.unkeyed = Some(Unkeyed { subtask, unions });
    }

    /// Whether rows have no key.
    pub fn is_unkeyed(&self) -> bool {
        self.unkeyed.is_some()
    }

    /// Rows of an input, of an operator whose rows have no key. `broadcast`: every subtask gets them, so that they may write
    /// broadcast state.
    pub fn handle_unkeyed(
        &mut self,
        input: u32,
        block: &Block,
        broadcast: bool,
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        let rows = block.row_count();
        if rows == 0 {
            return Ok(());
        }
        let slot = self.own_slot()?;
        self.slots.resize(rows, slot);
        self.export_before_touching(function)?;
        if let Some(collections) = &self.collections {
            collections.borrow_mut().begin_broadcast_call(&self.key_schema, rows)?;
        }
        let effects = function.process(input, &self.slots, block)?;
        if !effects.timers.is_empty() {
            return Err(misplaced("rows that have no key set timers"));
        }
        if !broadcast && !effects.collections.is_empty() {
            return Err(misplaced(
                "broadcast state was written by rows that only this subtask has",
            ));
        }
        self.apply(&effects, false)
    }

    /// The input has ended, and the function with it: a last call, `close`, over the slot that it is given.
    pub fn handle_unkeyed_end<F: KeyedFunction>(
        &mut self,
        function: &mut F,
        close: impl FnOnce(&mut F, &[Slot]) -> Result<Effects>,
    ) -> Result<()> {
        self.own_slot()?;
        self.export_before_touching(function)?;
        if let Some(collections) = &self.collections {
            collections.borrow_mut().begin_broadcast_call(&self.key_schema, 1)?;
        }
        let effects = close(function, &self.slots)?;
        if !effects.timers.is_empty() || !effects.collections.is_empty() {
            return Err(misplaced(
                "timers were set or broadcast state was written at the end of the input",
            ));
        }
        self.apply(&effects, false)
    }

    /// The one slot, alone in `self.slots`.
    fn own_slot(&mut self) -> Result<Slot> {
        let Some(unkeyed) = &self.unkeyed else {
            return Err(Error::internal("rows without a key came for an operator with keys"));
        };
        let key: ArrayRef = Arc::new(UInt32Array::from(vec![unkeyed.subtask]));
        self.batch.load(&[key])?;
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert(&self.batch, 0..1, &mut self.slots, &mut self.fresh);
        Ok(self.slots[0])
    }

    /// Goes on from the lists of `before` subtasks, now that there are `parallelism`: layers over each other, in order, of
    /// each subtask. Before the first row.
    pub fn restore_unkeyed(
        &mut self,
        batches: &[RecordBatch],
        (before, parallelism): (u32, u32),
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        let Some(Unkeyed { subtask, unions }) = &self.unkeyed else {
            return Err(Error::internal("lists of subtasks came for an operator with keys"));
        };
        let (subtask, unions) = (*subtask, unions.clone());
        let table = &tracked(&mut self.tracking)?.table;
        let mut lists = BTreeMap::<u32, Vec<ArrayRef>>::new();
        let mut layer_rows = 0;
        for batch in batches {
            let rows = table.read(batch)?;
            for (row, &of) in rows.keys[0].as_primitive::<UInt32Type>().values().iter().enumerate() {
                layer_rows += usize::from(of == subtask);
                match rows.deleted.value(row) {
                    true => lists.remove(&of),
                    false => lists.insert(of, rows.more.iter().map(|column| column.slice(row, 1)).collect()),
                };
            }
        }
        let mut columns = Vec::new();
        for (state, &is_union) in unions.iter().enumerate() {
            let items = Items::of(lists.iter().map(|(of, columns)| (*of, &columns[state])))?;
            let Some(items) = items else {
                columns.push(None);
                continue;
            };
            if is_union {
                let all = items.list(0..items.values.len());
                function.import_state(state as u32, &[UNION_SLOT], &all)?;
            }
            let own = match before == parallelism {
                true => items.of_subtask.get(&subtask).cloned().unwrap_or(0..0),
                false => share(items.values.len(), parallelism, subtask),
            };
            columns.push((!own.is_empty()).then(|| items.list(own)));
        }
        self.take_up_own(columns, layer_rows, function)
    }

    /// Has the function begin with these lists, as far as there are any.
    fn take_up_own(
        &mut self,
        lists: Vec<Option<ArrayRef>>,
        layer_rows: usize,
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        let is_empty = lists.iter().all(Option::is_none);
        let tracking = tracked(&mut self.tracking)?;
        let fields = tracking.table.more_fields();
        // Timers among them, of which there are none.
        let columns = fields.iter().enumerate().map(|(number, field)| {
            let list = lists.get(number).cloned().flatten();
            list.unwrap_or_else(|| new_null_array(field.data_type(), 1))
        });
        let columns: Vec<ArrayRef> = columns.collect();
        debug_assert_eq!(columns.len(), lists.len() + TIMER_COLUMNS.len());
        if is_empty {
            tracking.changes.restored(&[], layer_rows);
            return Ok(());
        }
        let slot = self.own_slot()?;
        tracked(&mut self.tracking)?.changes.restored(&[slot], layer_rows);
        self.take_up(&[slot], &columns, function)
    }
}

/// The items of a state of all subtasks, and which were whose.
struct Items {
    field: FieldRef,
    values: ArrayRef,
    of_subtask: BTreeMap<u32, Range<usize>>,
}

impl Items {
    /// Of a list of each subtask, in their order; `None`: there are no lists.
    fn of<'a>(lists: impl Iterator<Item = (u32, &'a ArrayRef)>) -> Result<Option<Self>> {
        let (mut parts, mut of_subtask, mut field) = (Vec::new(), BTreeMap::new(), None);
        let mut end = 0;
        for (subtask, list) in lists {
            let DataType::List(item) = list.data_type() else {
                return Err(Error::internal("a list of a subtask is no list"));
            };
            field = Some(item.clone());
            if list.is_null(0) {
                continue;
            }
            let items = list.as_list::<i32>().value(0);
            let begin = end;
            end += items.len();
            of_subtask.insert(subtask, begin..end);
            parts.push(items);
        }
        let Some(field) = field.filter(|_| !parts.is_empty()) else {
            return Ok(None);
        };
        let parts = parts.iter().map(AsRef::as_ref).collect::<Vec<_>>();
        let values = concat(&parts).map_err(broken)?;
        Ok(Some(Items {
            field,
            values,
            of_subtask,
        }))
    }

    /// A column of one list, of these items.
    fn list(&self, items: Range<usize>) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths([items.len()]);
        let values = self.values.slice(items.start, items.len());
        Arc::new(ListArray::new(self.field.clone(), offsets, values, None))
    }
}

/// Which of so many items are the subtask's.
fn share(count: usize, parallelism: u32, subtask: u32) -> Range<usize> {
    let start = |subtask: u32| (count as u64 * u64::from(subtask) / u64::from(parallelism)) as usize;
    start(subtask)..start(subtask + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_somebodys() {
        for count in 0..12 {
            for parallelism in 1..6 {
                let shares = (0..parallelism).map(|subtask| share(count, parallelism, subtask));
                let shares: Vec<_> = shares.collect();
                let all: Vec<usize> = shares.iter().cloned().flatten().collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
                let lengths = || shares.iter().map(Range::len);
                assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
            }
        }
    }
}
