//! Splitting a block by receiver.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take;
use millrace_core::block::Block;
use millrace_core::{Error, Result};

/// Rows of a block for each receiver, in order; computed anew for each block into reused memory.
#[derive(Debug, Default)]
pub struct Selection {
    rows: Vec<Vec<u32>>,
}

impl Selection {
    /// Groups rows by receiver: `receivers[i]` gets row i.
    pub fn assign(&mut self, receivers: impl Iterator<Item = u32>, count: usize) {
        self.rows.resize_with(count, Vec::new);
        for rows in &mut self.rows {
            rows.clear();
        }
        for (row, receiver) in (0u32..).zip(receivers) {
            self.rows[receiver as usize].push(row);
        }
    }

    /// The part of a block for one receiver; `None` if it gets nothing, the block itself if it gets all.
    pub fn part(&mut self, block: &Block, receiver: usize) -> Result<Option<Block>> {
        let rows = &mut self.rows[receiver];
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.len() == block.row_count() {
            return Ok(Some(block.clone()));
        }
        select(block, std::mem::take(rows)).map(Some)
    }
}

/// The given rows of a block, in that order.
pub fn select(block: &Block, rows: Vec<u32>) -> Result<Block> {
    let indices = UInt32Array::from(rows);
    let pick = |column: &ArrayRef| -> Result<ArrayRef> {
        take(column.as_ref(), &indices, None)
            .map_err(|error| Error::internal(format!("rows cannot be selected: {error}")))
    };
    let columns = block.rows.columns().iter().map(pick).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    let picked = RecordBatch::try_new_with_options(block.rows.schema(), columns, &options)
        .map_err(|error| Error::internal(format!("selected rows do not form a block: {error}")))?;
    let times = block.times.as_ref().map(|times| {
        let picked: Vec<i64> = indices.values().iter().map(|&row| times[row as usize]).collect();
        ScalarBuffer::from(picked)
    });
    let keys = match &block.keys {
        Some(keys) => Some(keys.iter().map(pick).collect::<Result<Vec<_>>>()?.into()),
        None => None,
    };
    Ok(Block {
        rows: picked,
        times,
        keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use std::sync::Arc;

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
