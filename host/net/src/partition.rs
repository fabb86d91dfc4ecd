//! Splitting a block by receiver.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, RecordBatchOptions, UInt32Array,
    downcast_primitive,
};
use arrow_buffer::{ArrowNativeType, ScalarBuffer};
use arrow_select::take::take;
use millrace_core::block::Block;
use millrace_core::{Error, Result};

/// Rows that are split between two receivers at a time: the position of each fits a `u8`.
const CHUNK: usize = 128;

/// Rows of a block for each receiver, in order; computed anew for each block into reused memory.
///
/// A counting sort by receiver: one pass counts, one pass places, and nothing grows on the way. Between two
/// receivers one pass without a branch does, for which of them gets a row nobody can predict.
#[derive(Debug, Default)]
pub struct Selection {
    receivers: Vec<u32>,
    /// `rows[starts[r]..starts[r + 1]]` are the rows of receiver r.
    rows: Vec<u32>,
    starts: Vec<usize>,
    /// Where the next row of each receiver goes.
    next: Vec<usize>,
    /// Rows of the second of two receivers.
    second: Vec<u32>,
}

impl Selection {
    /// Groups rows by receiver: row i goes to that of `hashes[i]`, which is less than `count`.
    pub fn assign(&mut self, hashes: &[u64], receiver_of: impl Fn(u64) -> u32, count: usize) {
        self.starts.clear();
        self.starts.resize(count + 1, 0);
        if count == 2 {
            self.assign_two(hashes, receiver_of);
        } else {
            self.sort(hashes, receiver_of, count);
        }
    }

    fn assign_two(&mut self, hashes: &[u64], receiver_of: impl Fn(u64) -> u32) {
        self.rows.clear();
        self.second.clear();
        let (mut first, mut second) = ([0; 2 * CHUNK], [0; 2 * CHUNK]);
        let mut row = 0u32;
        for hashes in hashes.chunks(CHUNK) {
            // Each row is written to both; where it does not belong the next one is written over it.
            let (mut firsts, mut seconds) = (0u8, 0u8);
            for &hash in hashes {
                let is_second = u8::from(receiver_of(hash) != 0);
                first[usize::from(firsts)] = row;
                second[usize::from(seconds)] = row;
                firsts += 1 - is_second;
                seconds += is_second;
                row += 1;
            }
            self.rows.extend_from_slice(&first[..usize::from(firsts)]);
            self.second.extend_from_slice(&second[..usize::from(seconds)]);
        }
        self.starts[1] = self.rows.len();
        self.starts[2] = hashes.len();
        self.rows.extend_from_slice(&self.second);
    }

    fn sort(&mut self, hashes: &[u64], receiver_of: impl Fn(u64) -> u32, count: usize) {
        self.receivers.clear();
        self.receivers.extend(hashes.iter().map(|&hash| receiver_of(hash)));
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

fn gather<T: ArrowNativeType>(values: &[T], rows: &[u32]) -> ScalarBuffer<T> {
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
    macro_rules! primitive {
        ($type:ty) => {
            Ok(pick_primitive::<$type>(column, rows))
        };
    }
    if column.null_count() > 0 {
        return pick_any(column, rows, indices);
    }
    downcast_primitive! {
        column.data_type() => (primitive),
        _ => pick_any(column, rows, indices)
    }
}

/// Rows of a column of fixed width without nulls.
fn pick_primitive<T: ArrowPrimitiveType>(column: &ArrayRef, rows: &[u32]) -> ArrayRef {
    let values = gather(column.as_primitive::<T>().values(), rows);
    Arc::new(PrimitiveArray::<T>::new(values, None).with_data_type(column.data_type().clone()))
}

fn pick_any(column: &ArrayRef, rows: &[u32], indices: &mut Option<UInt32Array>) -> Result<ArrayRef> {
    let indices = indices.get_or_insert_with(|| UInt32Array::from(rows.to_vec()));
    take(column.as_ref(), indices, None).map_err(|error| Error::internal(format!("rows cannot be selected: {error}")))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::{Int32Type, TimestampMillisecondType};
    use arrow_array::{
        BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int8Array, Int64Array, ListArray, StringArray,
        StructArray,
    };
    use arrow_schema::{DataType, Field, Fields};
    use arrow_select::concat::concat_batches;

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
        selection.assign(&[2, 0, 2, 2], |hash| hash as u32, 4);
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
        selection.assign(&[1, 1], |hash| hash as u32, 2);
        let part = selection.part(&block, 1).expect("selects").expect("all rows");
        assert!(Arc::ptr_eq(part.rows.column(0), block.rows.column(0)));
    }

    /// Columns of every kind of type, with and without nulls; the second half of longer arrays, so that they
    /// do not start where their buffers do.
    fn columns_of_every_kind(rows: usize) -> RecordBatch {
        let at = |row: usize| if row % 7 == 3 { None } else { Some(row) };
        let text = |row: usize| "x".repeat(row % 5) + &row.to_string();
        let all = 0..2 * rows;
        let numbers = Int64Array::from_iter_values(all.clone().map(|row| row as i64 * 31));
        let fields = Fields::from(vec![Field::new("member", DataType::Int64, true)]);
        let member: ArrayRef = Arc::new(Int64Array::from_iter(
            all.clone().map(|row| at(row).map(|row| row as i64)),
        ));
        let pairs = all
            .clone()
            .map(|row| at(row).map(|row| vec![Some(row as i32); row % 3]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("int64", Arc::new(numbers.clone())),
            (
                "int8",
                Arc::new(Int8Array::from_iter_values(all.clone().map(|row| row as i8))),
            ),
            (
                "uint32",
                Arc::new(UInt32Array::from_iter(
                    all.clone().map(|row| at(row).map(|row| row as u32)),
                )),
            ),
            (
                "float64",
                Arc::new(Float64Array::from_iter_values(all.clone().map(|row| row as f64 / 3.0))),
            ),
            (
                "timestamp",
                Arc::new(
                    numbers
                        .reinterpret_cast::<TimestampMillisecondType>()
                        .with_timezone("UTC"),
                ),
            ),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from_iter_values(all.clone().map(|row| row as i128))
                        .with_data_type(DataType::Decimal128(9, 2)),
                ),
            ),
            (
                "boolean",
                Arc::new(BooleanArray::from_iter(
                    all.clone().map(|row| at(row).map(|row| row % 2 == 0)),
                )),
            ),
            ("utf8", Arc::new(StringArray::from_iter_values(all.clone().map(text)))),
            (
                "binary",
                Arc::new(BinaryArray::from_iter(all.clone().map(|row| at(row).map(text)))),
            ),
            ("struct", Arc::new(StructArray::new(fields, vec![member], None))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(pairs)),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length")
            .slice(rows, rows)
    }

    fn check(rows: usize, count: usize, receiver_of: impl Fn(u64) -> u32) {
        let batch = columns_of_every_kind(rows);
        let block = Block {
            times: Some(batch.column(0).as_primitive::<Int64Type>().values().clone()),
            keys: Some(batch.columns().into()),
            rows: batch,
        };
        // Receivers without any regularity.
        let hashes: Vec<u64> = (1..=rows as u64)
            .map(|row| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17)
            .collect();
        let mut selection = Selection::default();
        // Used before, to see that nothing stays.
        selection.assign(&[0; 300], |_| 1, 3);
        selection.assign(&hashes, &receiver_of, count);
        for receiver in 0..count {
            let mine = (0..rows).filter(|&row| receiver_of(hashes[row]) == receiver as u32);
            let naive: Vec<RecordBatch> = mine.map(|row| block.rows.slice(row, 1)).collect();
            let part = selection.part(&block, receiver).expect("selects");
            let Some(part) = part else {
                assert!(naive.is_empty(), "{rows} rows, receiver {receiver} of {count}");
                continue;
            };
            let expected = concat_batches(&block.rows.schema(), &naive).expect("rows of one schema");
            assert_eq!(part.rows, expected, "{rows} rows, receiver {receiver} of {count}");
            assert_eq!(part.keys.expect("keys travel too").as_ref(), expected.columns());
            let times = part.times.expect("times travel too");
            assert_eq!(times, *expected.column(0).as_primitive::<Int64Type>().values());
        }
    }

    #[test]
    fn parts_equal_those_made_row_by_row() {
        for count in 1..=5u32 {
            for rows in [0, 1, 2, 127, 128, 129, 1000] {
                check(rows, count as usize, |hash| (hash % u64::from(count)) as u32);
                check(rows, count as usize, |_| count - 1);
            }
            check(700, count as usize, |hash| u32::from(hash % 50 == 0) * (count - 1));
        }
    }
}
