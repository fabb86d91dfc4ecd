//! Splitting a block by receiver.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take;
use millrace_core::block::Block;
use millrace_core::{Error, Result};

/// Rows of a block for each receiver, in order; computed anew for each block into reused memory.
///
/// A counting sort by receiver: one pass counts, one pass places, and nothing grows on the way.
#[derive(Debug, Default)]
pub struct Selection {
    receivers: Vec<u32>,
    /// `rows[starts[r]..starts[r + 1]]` are the rows of receiver r.
    rows: Vec<u32>,
    starts: Vec<usize>,
    next: Vec<usize>,
}

impl Selection {
    /// Groups rows by receiver: the i-th of `receivers` gets row i; each is less than `count`.
    pub fn assign(&mut self, receivers: impl Iterator<Item = u32>, count: usize) {
        self.receivers.clear();
        self.receivers.extend(receivers);
        self.starts.clear();
        self.starts.resize(count + 1, 0);
        for &receiver in &self.receivers {
            self.starts[receiver as usize + 1] += 1;
        }
        for receiver in 0..count {
            self.starts[receiver + 1] += self.starts[receiver];
        }
        self.next.clear();
        self.next.extend_from_slice(&self.starts[..count]);
        self.rows.resize(self.receivers.len(), 0);
        for (row, &receiver) in (0u32..).zip(&self.receivers) {
            let next = &mut self.next[receiver as usize];
            self.rows[*next] = row;
            *next += 1;
        }
    }

    /// The part of a block for one receiver; `None` if it gets nothing, the block itself if it gets all.
    pub fn part(&self, block: &Block, receiver: usize) -> Result<Option<Block>> {
        let rows = &self.rows[self.starts[receiver]..self.starts[receiver + 1]];
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.len() == block.row_count() {
            return Ok(Some(block.clone()));
        }
        select(block, rows).map(Some)
    }
}

/// The given rows of a block, in that order.
pub fn select(block: &Block, rows: &[u32]) -> Result<Block> {
    let mut indices = None;
    let columns = block
        .rows
        .columns()
        .iter()
        .map(|column| pick(column, rows, &mut indices))
        .collect::<Result<Vec<_>>>()?;
    let keys = match &block.keys {
        Some(keys) => Some(
            keys.iter()
                .map(|key| pick(key, rows, &mut indices))
                .collect::<Result<Vec<_>>>()?
                .into(),
        ),
        None => None,
    };
    // Event time is often a column of the rows: then it is already picked.
    let times = block.times.as_ref().map(|times| {
        let same = block.rows.columns().iter().position(|column| is_same(column, times));
        same.map_or_else(
            || gather(times, rows),
            |column| columns[column].as_primitive::<Int64Type>().values().clone(),
        )
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let rows = RecordBatch::try_new_with_options(block.rows.schema(), columns, &options)
        .map_err(|error| Error::internal(format!("selected rows do not form a block: {error}")))?;
    Ok(Block { rows, times, keys })
}

fn gather(values: &ScalarBuffer<i64>, rows: &[u32]) -> ScalarBuffer<i64> {
    rows.iter().map(|&row| values[row as usize]).collect::<Vec<_>>().into()
}

fn is_same(column: &ArrayRef, times: &ScalarBuffer<i64>) -> bool {
    match column.as_primitive_opt::<Int64Type>() {
        Some(column) => column.values().ptr_eq(times) && column.null_count() == 0,
        None => false,
    }
}

/// Rows of a column. `indices` holds the rows as Arrow wants them, once a column asked for that.
fn pick(column: &ArrayRef, rows: &[u32], indices: &mut Option<UInt32Array>) -> Result<ArrayRef> {
    if let Some(column) = column.as_primitive_opt::<Int64Type>()
        && column.null_count() == 0
    {
        return Ok(Arc::new(Int64Array::new(gather(column.values(), rows), None)));
    }
    let indices = indices.get_or_insert_with(|| UInt32Array::from(rows.to_vec()));
    take(column.as_ref(), indices, None).map_err(|error| Error::internal(format!("rows cannot be selected: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_their_receivers_in_order_with_their_times() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![10, 11, 12, 13]));
        let rows = RecordBatch::try_from_iter([("value", values.clone())]).expect("one column");
        let block = Block {
            rows,
            times: Some(vec![1, 2, 3, 4].into()),
            keys: Some(Arc::from([values])),
        };
        let mut selection = Selection::default();
        selection.assign([2, 0, 2, 2].into_iter(), 4);
        let expected = [
            Some((vec![11], vec![2])),
            None,
            Some((vec![10, 12, 13], vec![1, 3, 4])),
            None,
        ];
        for (receiver, expected) in expected.into_iter().enumerate() {
            let part = selection.part(&block, receiver).expect("selects");
            let part = part.map(|part| {
                let values = part.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
                let keys = part.keys.expect("keys travel too");
                assert_eq!(keys[0].as_primitive::<Int64Type>().values().to_vec(), values);
                (values, part.times.expect("times travel too").to_vec())
            });
            assert_eq!(part, expected);
        }
    }

    #[test]
    fn a_block_for_one_receiver_is_not_copied() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let block = Block::new(RecordBatch::try_from_iter([("value", values)]).expect("one column"));
        let mut selection = Selection::default();
        selection.assign([1, 1].into_iter(), 2);
        let part = selection.part(&block, 1).expect("selects").expect("all rows");
        assert!(Arc::ptr_eq(part.rows.column(0), block.rows.column(0)));
    }
}
