//! From layers to tables: laid over each other, in order, and each row taken apart.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take;
use millrace_core::{Error, Result};

use super::layout::{Layout, LayoutKind, ROW_COLUMNS, TIMER_KINDS, TableSpec};
use super::order::Order;

/// Rows that are handled at a time.
pub(crate) const BATCH_ROWS: usize = 8_192;

pub(crate) fn broken(error: ArrowError) -> Error {
    Error::internal(format!("rows of a savepoint could not be made: {error}"))
}

/// What the layers of a subtask hold, the oldest first: one row per entry, in the order of savepoints, none that
/// is deleted.
pub(crate) fn lay_over(layout: &Layout, layers: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut order = Order::default();
    for rows in layers {
        let keys = rows.column(2).as_struct().columns();
        let groups = rows.column(0).as_primitive::<UInt32Type>();
        match layout.kind {
            LayoutKind::Keyed(_) | LayoutKind::Sessions(_) => order.add(groups, keys, None)?,
            LayoutKind::Windows(_) => {
                let starts = rows.column(ROW_COLUMNS).as_primitive::<Int64Type>();
                order.add(groups, keys, Some(&|row| starts.value(row)))?;
            }
        }
    }
    last_of_each(order, layers)
}

/// The last row of each identity among those of these layers, unless it is deleted.
pub(super) fn last_of_each(order: Order, layers: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let deleted: Vec<&BooleanArray> = layers.iter().map(|rows| rows.column(1).as_boolean()).collect();
    let mut live = Vec::new();
    order.runs(|run| {
        if let Some(last) = run.last()
            && !deleted[last.source].value(last.row)
        {
            live.push((last.source, last.row));
        }
    });
    let layers: Vec<&RecordBatch> = layers.iter().collect();
    let pieces = live.chunks(BATCH_ROWS);
    pieces
        .map(|piece| interleave_record_batch(&layers, piece).map_err(broken))
        .collect()
}

/// The part of these rows, none of which is deleted, that goes to the table numbered `number`.
pub(crate) fn split(layout: &Layout, number: usize, table: &TableSpec, rows: &RecordBatch) -> Result<RecordBatch> {
    match &layout.kind {
        LayoutKind::Keyed(states) if number < states.len() => {
            let values = rows.column(ROW_COLUMNS + number);
            let present = (0..values.len()).map(|row| Some(values.is_valid(row)));
            let present = present.collect::<BooleanArray>();
            let rows = filter_record_batch(rows, &present).map_err(broken)?;
            let mut more = vec![rows.column(ROW_COLUMNS + number).clone()];
            if let Some(place) = layout.place_of_expiry(number) {
                let expires = rows.column(ROW_COLUMNS + states.len()).as_struct();
                more.push(expires.column(place).clone());
            }
            table_batch(table, &rows, None, more)
        }
        LayoutKind::Keyed(_) => split_timers(table, rows),
        LayoutKind::Windows(_) => {
            let more = rows.columns()[ROW_COLUMNS..].to_vec();
            table_batch(table, rows, None, more)
        }
        LayoutKind::Sessions(_) => {
            let lists = rows.column(ROW_COLUMNS).as_list::<i32>();
            let parents = parents_of(lists.value_offsets());
            let ends = lists.value_offsets();
            let (first, last) = (ends[0] as usize, ends[ends.len() - 1] as usize);
            let sessions = lists.values().slice(first, last - first);
            table_batch(table, rows, Some(&parents), sessions.as_struct().columns().to_vec())
        }
    }
}

/// Timers are the last two columns.
fn split_timers(table: &TableSpec, rows: &RecordBatch) -> Result<RecordBatch> {
    let (mut parents, mut kinds, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let columns = [2, 1].map(|back| rows.column(rows.num_columns() - back).as_list::<i32>());
    for row in 0..rows.num_rows() {
        for (kind, lists) in TIMER_KINDS.into_iter().zip(columns) {
            let list = lists.value(row);
            let mut sorted = list.as_primitive::<Int64Type>().values().to_vec();
            sorted.sort_unstable();
            for time in sorted {
                parents.push(row as u32);
                kinds.push(kind);
                times.push(time);
            }
        }
    }
    let more: Vec<ArrayRef> = vec![Arc::new(StringArray::from(kinds)), Arc::new(Int64Array::from(times))];
    table_batch(table, rows, Some(&UInt32Array::from(parents)), more)
}

/// For each item of some lists the row of its list.
fn parents_of(ends: &[i32]) -> UInt32Array {
    let rows = ends.windows(2).zip(0u32..);
    let rows = rows.flat_map(|(span, row)| std::iter::repeat_n(row, (span[1] - span[0]) as usize));
    UInt32Array::from_iter_values(rows)
}

fn table_batch(
    table: &TableSpec,
    rows: &RecordBatch,
    parents: Option<&UInt32Array>,
    more: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    let mut columns = vec![rows.column(0).clone()];
    columns.extend(rows.column(2).as_struct().columns().iter().cloned());
    if let Some(parents) = parents {
        let taken = columns.iter().map(|column| take(column, parents, None).map_err(broken));
        columns = taken.collect::<Result<_>>()?;
    }
    columns.extend(more);
    RecordBatch::try_new(table.schema.clone(), columns).map_err(broken)
}
