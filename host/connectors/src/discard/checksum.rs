//! A checksum over all rows and columns that does not depend on the order of the rows.
//!
//! Each row is hashed over its columns in order, and row hashes are added up. Fixed-width columns are
//! hashed from their values, texts and bytes with XXH3; other types from their text form. The checksum
//! depends on types as little as possible: int32 7 and int64 7 are alike.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use millrace_core::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::format::zones;

const NULL: u64 = 0x9e37_79b9_7f4a_7c15;

/// Sum of the hashes of all rows.
pub(crate) fn of(rows: &RecordBatch) -> Result<u64> {
    let mut hashes = vec![0u64; rows.num_rows()];
    let rows =
        zones::textual_rows(rows).map_err(|error| Error::internal(format!("a zone cannot be renamed: {error}")))?;
    for column in rows.columns() {
        add_column(&mut hashes, column)?;
    }
    Ok(hashes.into_iter().fold(0, |sum, hash| sum.wrapping_add(finish(hash))))
}

#[inline(always)]
fn finish(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Takes one more column's value into a row's hash; the order of columns matters.
#[inline(always)]
fn combine(hash: u64, value: u64) -> u64 {
    finish(hash.rotate_left(23) ^ value.wrapping_add(NULL))
}

fn add_values(hashes: &mut [u64], column: &ArrayRef, value: impl Fn(usize) -> u64) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        let value = if column.is_null(row) { NULL } else { value(row) };
        *hash = combine(*hash, value);
    }
}

fn add_primitives<T: ArrowPrimitiveType>(hashes: &mut [u64], column: &ArrayRef, bits: impl Fn(T::Native) -> u64) {
    let values = column.as_primitive::<T>().values();
    if column.null_count() == 0 {
        hashes
            .iter_mut()
            .zip(values.iter())
            .for_each(|(hash, value)| *hash = combine(*hash, bits(*value)));
    } else {
        add_values(hashes, column, |row| bits(values[row]));
    }
}

fn add_column(hashes: &mut [u64], column: &ArrayRef) -> Result<()> {
    match column.data_type() {
        DataType::Int8 => add_primitives::<Int8Type>(hashes, column, |v| v as u64),
        DataType::Int16 => add_primitives::<Int16Type>(hashes, column, |v| v as u64),
        DataType::Int32 => add_primitives::<Int32Type>(hashes, column, |v| v as u64),
        DataType::Int64 => add_primitives::<Int64Type>(hashes, column, |v| v as u64),
        DataType::UInt8 => add_primitives::<UInt8Type>(hashes, column, u64::from),
        DataType::UInt16 => add_primitives::<UInt16Type>(hashes, column, u64::from),
        DataType::UInt32 => add_primitives::<UInt32Type>(hashes, column, u64::from),
        DataType::UInt64 => add_primitives::<UInt64Type>(hashes, column, |v| v),
        DataType::Date32 => add_primitives::<Date32Type>(hashes, column, |v| v as u64),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => add_primitives::<TimestampSecondType>(hashes, column, |v| v as u64),
            TimeUnit::Millisecond => add_primitives::<TimestampMillisecondType>(hashes, column, |v| v as u64),
            TimeUnit::Microsecond => add_primitives::<TimestampMicrosecondType>(hashes, column, |v| v as u64),
            TimeUnit::Nanosecond => add_primitives::<TimestampNanosecondType>(hashes, column, |v| v as u64),
        },
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            add_values(hashes, column, |row| xxh3_64(texts.value(row).as_bytes()));
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            add_values(hashes, column, |row| xxh3_64(bytes.value(row)));
        }
        _ => {
            let options = FormatOptions::default().with_display_error(true);
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)
                .map_err(|error| Error::internal(format!("a column cannot be shown: {error}")))?;
            add_values(hashes, column, |row| {
                xxh3_64(formatter.value(row).to_string().as_bytes())
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn rows(values: &[(Option<i64>, &str, f64)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, false),
            Field::new("c", DataType::Float64, false),
        ]);
        let a: Int64Array = values.iter().map(|v| v.0).collect();
        let b: StringArray = values.iter().map(|v| Some(v.1)).collect();
        let c: Float64Array = values.iter().map(|v| Some(v.2)).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(b), Arc::new(c)]).unwrap()
    }

    #[test]
    fn order_does_not_matter_and_values_do() {
        let values = [(Some(1), "a", 0.5), (None, "b", 1.5), (Some(0), "", 2.5)];
        let whole = of(&rows(&values)).unwrap();
        let mut turned = values;
        turned.reverse();
        assert_eq!(of(&rows(&turned)).unwrap(), whole);
        let parts = of(&rows(&values[..1]))
            .unwrap()
            .wrapping_add(of(&rows(&values[1..])).unwrap());
        assert_eq!(parts, whole);
        for (at, changed) in [
            (0, (Some(2), "a", 0.5)),
            (1, (Some(0), "b", 1.5)),
            (2, (Some(0), "", 2.25)),
        ] {
            let mut other = values;
            other[at] = changed;
            assert_ne!(of(&rows(&other)).unwrap(), whole);
        }
        let mut swapped = values;
        (swapped[0].1, swapped[1].1) = ("b", "a");
        assert_ne!(of(&rows(&swapped)).unwrap(), whole, "values stay with their rows");
    }
}
