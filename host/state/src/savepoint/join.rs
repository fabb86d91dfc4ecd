//! From tables back to rows of a layer: the inverse of `split`.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use millrace_core::Result;

use super::layout::{Layout, LayoutKind, TIMER_KINDS, expires_fields, session_fields, session_item, times_field};
use super::order::Order;
use super::split::{BATCH_ROWS, broken};

/// An entry of the result: where its parts are.
struct Found {
    group: u32,
    /// Source and row with its key.
    key: (usize, usize),
    /// By source: its rows there.
    parts: Vec<Vec<usize>>,
}

/// Rows of a layer from the tables of a layout; `Err(Ok(why))`: the tables contradict themselves.
pub(crate) fn join(layout: &Layout, tables: &[RecordBatch]) -> Result<Vec<RecordBatch>, Unsound> {
    let key_count = layout.key.len();
    if let (LayoutKind::Windows(_), [table]) = (&layout.kind, tables) {
        return Ok(vec![windows(layout, table, key_count)?]);
    }
    let mut order = Order::default();
    for table in tables {
        let groups = table.column(0).as_primitive::<UInt32Type>();
        order.add(groups, &table.columns()[1..=key_count], None)?;
    }
    let mut found = Vec::new();
    order.runs(|run| {
        let Some(first) = run.first() else { return };
        let mut parts = vec![Vec::new(); tables.len()];
        for entry in run {
            parts[entry.source].push(entry.row);
        }
        found.push(Found {
            group: first.group,
            key: (first.source, first.row),
            parts,
        });
    });
    let pieces = found.chunks(BATCH_ROWS);
    pieces.map(|piece| rows(layout, tables, piece)).collect()
}

/// Why tables cannot be joined.
#[derive(Debug)]
pub(crate) enum Unsound {
    /// What they say cannot be.
    Content(String),
    /// It failed otherwise.
    Error(millrace_core::Error),
}

impl From<millrace_core::Error> for Unsound {
    fn from(error: millrace_core::Error) -> Self {
        Unsound::Error(error)
    }
}

fn windows(layout: &Layout, table: &RecordBatch, key_count: usize) -> Result<RecordBatch> {
    let keys = table.columns()[1..=key_count].to_vec();
    let more = table.columns()[1 + key_count..].to_vec();
    row_batch(layout, table.column(0).clone(), keys, more)
}

fn rows(layout: &Layout, tables: &[RecordBatch], found: &[Found]) -> Result<RecordBatch, Unsound> {
    let key_count = layout.key.len();
    let groups = UInt32Array::from_iter_values(found.iter().map(|found| found.group));
    let positions: Vec<(usize, usize)> = found.iter().map(|found| found.key).collect();
    let keys = (1..=key_count).map(|column| {
        let sources: Vec<&dyn Array> = tables.iter().map(|table| table.column(column).as_ref()).collect();
        interleave(&sources, &positions).map_err(broken)
    });
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let more = match &layout.kind {
        LayoutKind::Keyed(states) => keyed(layout, states.len(), tables, found)?,
        LayoutKind::Sessions(accumulator) => vec![sessions(accumulator, &tables[0], key_count, found)?],
        LayoutKind::Windows(_) => Vec::new(), // handled by the caller
    };
    Ok(row_batch(layout, Arc::new(groups), keys, more)?)
}

fn keyed(layout: &Layout, states: usize, tables: &[RecordBatch], found: &[Found]) -> Result<Vec<ArrayRef>, Unsound> {
    let key_count = layout.key.len();
    let (mut more, mut expires) = (Vec::new(), Vec::new());
    for (state, table) in tables[..states].iter().enumerate() {
        let mut rows = Vec::with_capacity(found.len());
        for found in found {
            match found.parts[state].as_slice() {
                [] => rows.push(None),
                [row] => rows.push(Some(*row as u32)),
                _ => {
                    return Err(Unsound::Content(
                        "a key is in a table of a state more than once".to_owned(),
                    ));
                }
            }
        }
        let rows = UInt32Array::from(rows);
        more.push(take(table.column(1 + key_count), &rows, None).map_err(broken)?);
        if layout.place_of_expiry(state).is_some() {
            expires.push(take(table.column(2 + key_count), &rows, None).map_err(broken)?);
        }
    }
    if !expires.is_empty() {
        let times = expires_fields(layout.states(), &layout.expiring);
        let column = StructArray::try_new(times, expires, None).map_err(broken)?;
        more.push(Arc::new(column));
    }
    let timers = &tables[states];
    let kinds: &StringArray = timers.column(1 + key_count).as_string();
    let times = timers.column(2 + key_count).as_primitive::<Int64Type>();
    if let Some(unknown) = kinds.iter().flatten().find(|kind| !TIMER_KINDS.contains(kind)) {
        return Err(Unsound::Content(format!("`{unknown}` is no kind of timer")));
    }
    for kind in TIMER_KINDS {
        let mut lists = ListBuilder::new(Int64Builder::new()).with_field(times_field());
        for found in found {
            for &row in found.parts[states].iter().filter(|row| kinds.value(**row) == kind) {
                lists.values().append_value(times.value(row));
            }
            lists.append(true);
        }
        more.push(Arc::new(lists.finish()) as ArrayRef);
    }
    Ok(more)
}

fn sessions(
    accumulator: &arrow_schema::FieldRef,
    table: &RecordBatch,
    key_count: usize,
    found: &[Found],
) -> Result<ArrayRef> {
    let firsts: &Int64Array = table.column(1 + key_count).as_primitive();
    let mut rows = Vec::new();
    for found in found {
        let start = rows.len();
        rows.extend(found.parts[0].iter().map(|row| *row as u32));
        rows[start..].sort_by_key(|row| firsts.value(*row as usize));
    }
    let rows = UInt32Array::from(rows);
    let columns = (1 + key_count..table.num_columns()).map(|at| take(table.column(at), &rows, None).map_err(broken));
    let items = StructArray::try_new(session_fields(accumulator), columns.collect::<Result<_>>()?, None);
    let offsets = OffsetBuffer::from_lengths(found.iter().map(|found| found.parts[0].len()));
    let lists = ListArray::try_new(
        session_item(accumulator),
        offsets,
        Arc::new(items.map_err(broken)?),
        None,
    );
    Ok(Arc::new(lists.map_err(broken)?))
}

fn row_batch(layout: &Layout, groups: ArrayRef, keys: Vec<ArrayRef>, more: Vec<ArrayRef>) -> Result<RecordBatch> {
    let deleted = BooleanArray::from(vec![false; groups.len()]);
    let keys = StructArray::try_new(layout.key.clone(), keys, None).map_err(broken)?;
    let mut columns: Vec<ArrayRef> = vec![groups, Arc::new(deleted), Arc::new(keys)];
    columns.extend(more);
    RecordBatch::try_new(layout.rows_schema(), columns).map_err(broken)
}
