//! Encoding of keys from Arrow columns; the format is described in [`super`].
//!
//! A [`RowEncoder`] looks at the types of a block's key columns once and then appends row after row.
//! [`integer_values`] is the shortcut for columns that are integers underneath: no encoding at all.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, Result};

/// The values of an integer-like column (integers, date, time, timestamp) widened to 64 bits, as they are
/// encoded; `None` for other types. Columns of 64 bits are shared, not copied. Null rows hold anything.
pub fn integer_values(column: &dyn Array) -> Option<ScalarBuffer<i64>> {
    macro_rules! shared {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>().values();
            ScalarBuffer::new(values.inner().clone(), 0, values.len())
        }};
    }
    macro_rules! widened {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>().values();
            values.iter().map(|&value| i64::from(value)).collect::<Vec<_>>().into()
        }};
    }
    Some(match column.data_type() {
        DataType::Int64 => shared!(Int64Type),
        DataType::UInt64 => shared!(UInt64Type),
        DataType::Time64(TimeUnit::Microsecond) => shared!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => shared!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => shared!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => shared!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => shared!(TimestampNanosecondType),
        DataType::Int8 => widened!(Int8Type),
        DataType::Int16 => widened!(Int16Type),
        DataType::Int32 => widened!(Int32Type),
        DataType::UInt8 => widened!(UInt8Type),
        DataType::UInt16 => widened!(UInt16Type),
        DataType::UInt32 => widened!(UInt32Type),
        DataType::Date32 => widened!(Date32Type),
        _ => return None,
    })
}

/// Appends the encoding of rows of some key columns.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> RowEncoder<'a> {
    /// An encoder of these columns. Types that [`super::check_key_schema`] refuses are an internal error.
    pub fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        let columns = columns.iter().map(Column::new).collect::<Result<_>>()?;
        Ok(RowEncoder { columns })
    }

    /// Appends the tagged columns of a row: the encoding in which equal bytes mean equal keys.
    pub fn append_tagged(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            column.append_tagged(row, out);
        }
    }

    /// Appends what a key's hash is taken over: bare for one plain column, tagged otherwise.
    pub fn append_for_hash(&self, row: usize, out: &mut Vec<u8>) {
        match self.columns.as_slice() {
            [column] if !column.nested() && column.is_null(row) => out.push(0),
            [column] if !column.nested() => column.append_bare(row, out),
            _ => self.append_tagged(row, out),
        }
    }
}

#[derive(Debug)]
struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Boolean(&'a BooleanArray),
    Integer(ScalarBuffer<i64>),
    Decimal(&'a Decimal128Array),
    Fixed(&'a FixedSizeBinaryArray),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    Struct(Vec<Column<'a>>),
    List(&'a OffsetBuffer<i32>, Box<Column<'a>>),
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Decimal128(..) => Values::Decimal(array.as_primitive()),
            DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary()),
            DataType::Utf8 => Values::Utf8(array.as_string()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::Struct(_) => {
                let members = array.as_struct().columns().iter().map(Column::new);
                Values::Struct(members.collect::<Result<_>>()?)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(list.offsets(), Box::new(Column::new(list.values())?))
            }
            other => Values::Integer(
                integer_values(array)
                    .ok_or_else(|| Error::internal(format!("a key column has type {other}, which has no encoding")))?,
            ),
        };
        Ok(Column {
            nulls: array.nulls(),
            values,
        })
    }

    fn nested(&self) -> bool {
        matches!(self.values, Values::Struct(_) | Values::List(..))
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    fn append_tagged(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.push(0);
            return;
        }
        out.push(1);
        match &self.values {
            Values::Utf8(array) => append_length(array.value(row).len(), out),
            Values::Binary(array) => append_length(array.value(row).len(), out),
            _ => {}
        }
        self.append_bare(row, out);
    }

    /// The payload of a value that is not null, without the length of utf8 and binary.
    fn append_bare(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Boolean(array) => out.push(u8::from(array.value(row))),
            Values::Integer(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Decimal(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Fixed(array) => out.extend_from_slice(array.value(row)),
            Values::Utf8(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::Binary(array) => out.extend_from_slice(array.value(row)),
            Values::Struct(members) => members.iter().for_each(|member| member.append_tagged(row, out)),
            Values::List(offsets, items) => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                append_length(range.len(), out);
                range.for_each(|item| items.append_tagged(item, out));
            }
        }
    }
}

fn append_length(length: usize, out: &mut Vec<u8>) {
    // Arrow's offsets are i32, so a length fits.
    out.extend_from_slice(&(length as u32).to_le_bytes());
}
