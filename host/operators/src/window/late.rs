//! Late rows out of a block: the only place where windows copy rows, and only if there are any.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use arrow_select::filter::{FilterBuilder, FilterPredicate};
use millrace_core::block::{Block, Millis};
use millrace_core::{Error, Result};

use super::Context;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It belongs to a window.
    Kept,
    /// All its windows are past.
    Late,
    /// It never had one.
    Outside,
}

/// Rows that are left.
pub(super) struct Kept {
    pub(super) block: Block,
    selection: FilterPredicate,
}

impl Kept {
    /// The same rows of other columns.
    pub(super) fn columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        columns
            .iter()
            .map(|column| self.selection.filter(column).map_err(broken))
            .collect()
    }

    /// The same rows of event times.
    pub(super) fn times(&self, times: &[Millis]) -> Result<ScalarBuffer<Millis>> {
        filter_times(&ScalarBuffer::from(times.to_vec()), &self.selection)
    }
}

/// Counts late rows and rows outside, puts late ones out if there is a port, and returns the rest.
pub(super) fn split(context: &mut Context, block: &Block, fates: &[Fate], late: &mut Vec<Block>) -> Result<Kept> {
    let count = |fate: Fate| fates.iter().filter(|&&other| other == fate).count() as u64;
    let late_rows = count(Fate::Late);
    context.counters.late_rows += late_rows;
    context.counters.outside_rows += count(Fate::Outside);
    if late_rows > 0 && context.has_late_port() {
        let mut rows = filter_block(block, &selection(fates, Fate::Late))?;
        rows.keys = None;
        late.push(rows);
    } else {
        context.counters.dropped_rows += late_rows;
    }
    let selection = selection(fates, Fate::Kept);
    Ok(Kept {
        block: filter_block(block, &selection)?,
        selection,
    })
}

fn selection(fates: &[Fate], fate: Fate) -> FilterPredicate {
    let rows = BooleanBuffer::collect_bool(fates.len(), |row| fates[row] == fate);
    FilterBuilder::new(&BooleanArray::new(rows, None)).optimize().build()
}

fn filter_block(block: &Block, selection: &FilterPredicate) -> Result<Block> {
    let filter = |column: &ArrayRef| selection.filter(column).map_err(broken);
    let rows: RecordBatch = selection.filter_record_batch(&block.rows).map_err(broken)?;
    let times = block.times.as_ref().map(|times| filter_times(times, selection));
    let keys = block
        .keys
        .as_ref()
        .map(|keys| keys.iter().map(filter).collect::<Result<Arc<[_]>>>());
    Ok(Block {
        rows,
        times: times.transpose()?,
        keys: keys.transpose()?,
    })
}

fn filter_times(times: &ScalarBuffer<Millis>, selection: &FilterPredicate) -> Result<ScalarBuffer<Millis>> {
    let times = Int64Array::new(times.clone(), None);
    let filtered = selection.filter(&times).map_err(broken)?;
    let data = filtered.to_data();
    Ok(ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len()))
}

fn broken(error: ArrowError) -> Error {
    Error::internal(format!("late rows could not be taken out of a block: {error}"))
}
