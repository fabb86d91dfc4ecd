//! Rows as binary `COPY` wants them: per row the number of columns, per column a length and bytes in network order.
//!
//! Columns are first brought to the width of the table's, whole arrays at a time, so that what is left per value is
//! to copy it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use millrace_core::{Error, Result};

use super::numeric;
use super::table::SqlType;
use crate::format::json_texts;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const NULL: i32 = -1;

/// From 1970 to 2000, where PostgreSQL counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Rows for one `COPY`.
#[derive(Debug, Default)]
pub(super) struct Copy {
    bytes: Vec<u8>,
    rows: usize,
    /// A last column, `bigint`: the number of the row.
    numbered: bool,
}

impl Copy {
    pub(super) fn new(numbered: bool) -> Self {
        Copy {
            bytes: Vec::new(),
            rows: 0,
            numbered,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
    }

    /// Appends rows whose columns are written as these types.
    pub(super) fn append(&mut self, rows: &RecordBatch, types: &[SqlType]) -> Result<()> {
        if self.bytes.is_empty() {
            self.bytes.extend(SIGNATURE);
            self.bytes.extend([0; 8]); // no flags, no extension
        }
        let columns = rows.columns().iter().zip(rows.schema_ref().fields()).zip(types);
        let columns = columns.map(|((array, field), sql_type)| {
            Column::new(array, field, *sql_type).map_err(|error| {
                let message = format!("column `{}` cannot be written to PostgreSQL: {error}", field.name());
                Error::pipeline("RW0103", message)
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let count = columns.len() as i16 + i16::from(self.numbered);
        for row in 0..rows.num_rows() {
            self.bytes.extend(count.to_be_bytes());
            for column in &columns {
                column.put(row, &mut self.bytes);
            }
            if self.numbered {
                put(&mut self.bytes, &(self.rows as i64).to_be_bytes());
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// The whole, with its end.
    pub(super) fn finished(&mut self) -> &[u8] {
        self.bytes.extend((-1_i16).to_be_bytes());
        &self.bytes
    }
}

/// A column in the width in which it is sent.
enum Column {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array, u16),
    Text(StringArray),
    Bytes(BinaryArray),
    Fixed(FixedSizeBinaryArray),
    /// Text with the version of the format in front.
    Jsonb(StringArray),
}

impl Column {
    fn new(array: &ArrayRef, field: &Arc<Field>, sql_type: SqlType) -> std::result::Result<Self, ArrowError> {
        let to = |data_type: DataType| cast(array, &data_type);
        Ok(match sql_type {
            SqlType::Bool => Column::Bool(array.as_boolean().clone()),
            SqlType::Int2 => Column::Int2(to(DataType::Int16)?.as_primitive().clone()),
            SqlType::Int4 => Column::Int4(to(DataType::Int32)?.as_primitive().clone()),
            SqlType::Int8 => Column::Int8(to(DataType::Int64)?.as_primitive().clone()),
            SqlType::Float4 => Column::Float4(to(DataType::Float32)?.as_primitive().clone()),
            SqlType::Float8 => Column::Float8(to(DataType::Float64)?.as_primitive().clone()),
            SqlType::Numeric => match array.data_type() {
                DataType::Decimal128(_, scale) => {
                    let scale = u16::try_from(*scale).map_err(|_| ArrowError::CastError("negative scale".into()))?;
                    Column::Numeric(array.as_primitive().clone(), scale)
                }
                _ => Column::Numeric(to(DataType::Decimal128(20, 0))?.as_primitive().clone(), 0),
            },
            SqlType::Date => Column::Int4(array.as_primitive::<Date32Type>().try_unary(|days| {
                days.checked_sub(EPOCH_DAYS)
                    .ok_or_else(|| ArrowError::CastError(format!("day {days} is too long ago")))
            })?),
            SqlType::Time => Column::Int8(array.as_primitive::<Time64MicrosecondType>().unary(|micros| micros)),
            SqlType::Timestamp | SqlType::Timestamptz => Column::Int8(timestamps(array)?),
            SqlType::Text => Column::Text(array.as_string().clone()),
            SqlType::Bytea | SqlType::Uuid => match array.data_type() {
                DataType::FixedSizeBinary(_) => Column::Fixed(array.as_fixed_size_binary().clone()),
                _ => Column::Bytes(array.as_binary().clone()),
            },
            SqlType::Json => Column::Text(json_texts(array, field)?),
            SqlType::Jsonb => Column::Jsonb(json_texts(array, field)?),
        })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        let array: &dyn Array = match self {
            Column::Bool(array) => array,
            Column::Int2(array) => array,
            Column::Int4(array) => array,
            Column::Int8(array) => array,
            Column::Float4(array) => array,
            Column::Float8(array) => array,
            Column::Numeric(array, _) => array,
            Column::Text(array) | Column::Jsonb(array) => array,
            Column::Bytes(array) => array,
            Column::Fixed(array) => array,
        };
        if array.is_null(row) {
            out.extend(NULL.to_be_bytes());
            return;
        }
        match self {
            Column::Bool(array) => put(out, &[u8::from(array.value(row))]),
            Column::Int2(array) => put(out, &array.value(row).to_be_bytes()),
            Column::Int4(array) => put(out, &array.value(row).to_be_bytes()),
            Column::Int8(array) => put(out, &array.value(row).to_be_bytes()),
            Column::Float4(array) => put(out, &array.value(row).to_be_bytes()),
            Column::Float8(array) => put(out, &array.value(row).to_be_bytes()),
            Column::Text(array) => put(out, array.value(row).as_bytes()),
            Column::Bytes(array) => put(out, array.value(row)),
            Column::Fixed(array) => put(out, array.value(row)),
            Column::Numeric(array, scale) => {
                put_measured(out, |out| numeric::put(array.value(row), *scale, out));
            }
            Column::Jsonb(array) => put_measured(out, |out| {
                out.push(1);
                out.extend(array.value(row).as_bytes());
            }),
        }
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend((value.len() as i32).to_be_bytes());
    out.extend(value);
}

fn put_measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Microseconds since 2000. Nanoseconds are cut off towards the past.
fn timestamps(array: &ArrayRef) -> std::result::Result<Int64Array, ArrowError> {
    let since_2000 = |value: i64, micros: Option<i64>| {
        micros
            .and_then(|micros| micros.checked_sub(EPOCH_MICROS))
            .ok_or_else(|| ArrowError::CastError(format!("time {value} is out of range")))
    };
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => array
            .as_primitive::<TimestampSecondType>()
            .try_unary(|value| since_2000(value, value.checked_mul(1_000_000))),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive::<TimestampMillisecondType>()
            .try_unary(|value| since_2000(value, value.checked_mul(1_000))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive::<TimestampMicrosecondType>()
            .try_unary(|value| since_2000(value, Some(value))),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive::<TimestampNanosecondType>()
            .try_unary(|value| since_2000(value, Some(value.div_euclid(1_000)))),
        other => Err(ArrowError::CastError(format!("{other} is no time"))),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;

    #[test]
    fn rows_are_laid_out() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("t", DataType::Utf8, false),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec!["a", ""])),
        ];
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        let mut copy = Copy::new(true);
        copy.append(&rows, &[SqlType::Int8, SqlType::Text]).unwrap();
        let mut expect = [SIGNATURE, &[0; 8]].concat();
        expect.extend([0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'a']);
        expect.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        expect.extend([0, 3, 255, 255, 255, 255, 0, 0, 0, 0]);
        expect.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255]);
        assert_eq!((copy.rows(), copy.finished()), (2, expect.as_slice()));
    }

    #[test]
    fn times_out_of_range_are_refused() {
        let schema = Arc::new(Schema::new(vec![Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Second, None),
            false,
        )]));
        let columns: Vec<ArrayRef> = vec![Arc::new(TimestampSecondArray::from(vec![i64::MAX]))];
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        let error = Copy::new(false).append(&rows, &[SqlType::Timestamp]).unwrap_err();
        assert_eq!(error.code(), "RW0103");
        assert!(error.to_string().contains("`at`"), "{error}");
    }
}
