//! From key bytes back to Arrow columns: the inverse of the tagged encoding in [`super`].
//!
//! The bytes are the host's own, so a malformed encoding is an internal error.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, FieldRef, Fields, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// A column of an integer-like type from values as [`super::integer_values`] gives them.
pub fn integers_to_array(values: Vec<i64>, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef> {
    macro_rules! narrowed {
        ($type:ty) => {{
            let values = values.into_iter().map(|value| value as _);
            let values = ScalarBuffer::from(values.collect::<Vec<<$type as ArrowPrimitiveType>::Native>>());
            Arc::new(PrimitiveArray::<$type>::new(values, nulls).with_data_type(data_type.clone())) as ArrayRef
        }};
    }
    Ok(match data_type {
        DataType::Int8 => narrowed!(Int8Type),
        DataType::Int16 => narrowed!(Int16Type),
        DataType::Int32 => narrowed!(Int32Type),
        DataType::Int64 => narrowed!(Int64Type),
        DataType::UInt8 => narrowed!(UInt8Type),
        DataType::UInt16 => narrowed!(UInt16Type),
        DataType::UInt32 => narrowed!(UInt32Type),
        DataType::UInt64 => narrowed!(UInt64Type),
        DataType::Date32 => narrowed!(Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => narrowed!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => narrowed!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => narrowed!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => narrowed!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => narrowed!(TimestampNanosecondType),
        other => return Err(Error::internal(format!("type {other} is no integer"))),
    })
}

/// The key columns of some tagged encodings, one row each, in order.
pub fn decode_columns<'a>(schema: &SchemaRef, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
    decode_prefixes(schema, keys, |rest| match rest {
        [] => Ok(()),
        _ => Err(malformed()),
    })
}

/// The same of bytes that begin with a tagged encoding; `rest` gets what is behind each. No encoding is the beginning
/// of another, so that it is certain where each ends.
pub fn decode_prefixes<'a>(
    schema: &SchemaRef,
    keys: impl Iterator<Item = &'a [u8]>,
    mut rest: impl FnMut(&'a [u8]) -> Result<()>,
) -> Result<Vec<ArrayRef>> {
    let fields = schema.fields().iter();
    let mut columns = fields
        .map(|field| Column::new(field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    for mut key in keys {
        for column in &mut columns {
            column.append(&mut key)?;
        }
        rest(key)?;
    }
    let fields = schema.fields().iter();
    columns
        .into_iter()
        .zip(fields)
        .map(|(column, field)| column.finish(field.data_type()))
        .collect()
}

fn malformed() -> Error {
    Error::internal("an encoded key does not match its schema")
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    take(bytes, N)?.try_into().map_err(|_| malformed())
}

fn take_length(bytes: &mut &[u8]) -> Result<usize> {
    Ok(u32::from_le_bytes(take_array(bytes)?) as usize)
}

/// A column being built.
struct Column {
    nulls: NullBufferBuilder,
    values: Values,
}

enum Values {
    Boolean(Vec<bool>),
    Integer(Vec<i64>),
    Decimal(Vec<i128>),
    Fixed(usize, Vec<u8>),
    Bytes(Vec<i32>, Vec<u8>),
    Struct(Vec<Column>, Fields),
    List(Vec<i32>, Box<Column>, FieldRef),
}

impl Column {
    fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Decimal128(..) => Values::Decimal(Vec::new()),
            DataType::FixedSizeBinary(width) => Values::Fixed(*width as usize, Vec::new()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(vec![0], Vec::new()),
            DataType::Struct(fields) => {
                let members = fields.iter().map(|field| Column::new(field.data_type()));
                Values::Struct(members.collect::<Result<_>>()?, fields.clone())
            }
            DataType::List(item) => Values::List(vec![0], Box::new(Column::new(item.data_type())?), item.clone()),
            _ => Values::Integer(Vec::new()),
        };
        Ok(Column {
            nulls: NullBufferBuilder::new(0),
            values,
        })
    }

    /// Takes one tagged value off the front of `key`.
    fn append(&mut self, key: &mut &[u8]) -> Result<()> {
        if take(key, 1)?[0] == 0 {
            self.nulls.append_null();
            self.append_placeholder();
            return Ok(());
        }
        self.nulls.append_non_null();
        match &mut self.values {
            Values::Boolean(values) => values.push(take(key, 1)?[0] != 0),
            Values::Integer(values) => values.push(i64::from_le_bytes(take_array(key)?)),
            Values::Decimal(values) => values.push(i128::from_le_bytes(take_array(key)?)),
            Values::Fixed(width, bytes) => bytes.extend_from_slice(take(key, *width)?),
            Values::Bytes(ends, bytes) => {
                let length = take_length(key)?;
                bytes.extend_from_slice(take(key, length)?);
                ends.push(offset(bytes.len())?);
            }
            Values::Struct(members, _) => {
                for member in members {
                    member.append(key)?;
                }
            }
            Values::List(ends, items, _) => {
                for _ in 0..take_length(key)? {
                    items.append(key)?;
                }
                ends.push(offset(items.nulls.len())?);
            }
        }
        Ok(())
    }

    /// What a column holds at a row that is null; members of a null struct get one too, marked as not null
    /// so that members that are never null stay so.
    fn append_placeholder(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer(values) => values.push(0),
            Values::Decimal(values) => values.push(0),
            Values::Fixed(width, bytes) => bytes.resize(bytes.len() + *width, 0),
            Values::Bytes(ends, _) | Values::List(ends, ..) => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(members, _) => {
                for member in members {
                    member.nulls.append_non_null();
                    member.append_placeholder();
                }
            }
        }
    }

    fn finish(mut self, data_type: &DataType) -> Result<ArrayRef> {
        let rows = self.nulls.len();
        let nulls = self.nulls.finish();
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(match self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Values::Integer(values) => integers_to_array(values, nulls, data_type)?,
            Values::Decimal(values) => {
                Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(data_type.clone()))
            }
            Values::Fixed(width, bytes) => {
                let array = FixedSizeBinaryArray::try_new_with_len(width as i32, Buffer::from_vec(bytes), nulls, rows);
                Arc::new(array.map_err(|_| malformed())?)
            }
            Values::Bytes(ends, bytes) if *data_type == DataType::Utf8 => {
                let array = StringArray::try_new(offsets(ends), Buffer::from_vec(bytes), nulls);
                Arc::new(array.map_err(|_| malformed())?)
            }
            Values::Bytes(ends, bytes) => Arc::new(BinaryArray::new(offsets(ends), Buffer::from_vec(bytes), nulls)),
            Values::Struct(members, fields) => {
                let columns = members.into_iter().zip(&fields);
                let columns = columns.map(|(column, field)| column.finish(field.data_type()));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let array = StructArray::try_new_with_length(fields, columns, nulls, rows);
                Arc::new(array.map_err(|_| malformed())?)
            }
            Values::List(ends, items, field) => {
                let items = items.finish(field.data_type())?;
                Arc::new(ListArray::try_new(field, offsets(ends), items, nulls).map_err(|_| malformed())?)
            }
        })
    }
}

fn offset(length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| Error::internal("the keys of one call have more than 2 GiB"))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{Field, Schema};

    use super::super::encode::RowEncoder;
    use super::*;

    fn check(columns: Vec<ArrayRef>) {
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(i, column)| Field::new(format!("k{i}"), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let encoder = RowEncoder::new(&columns).unwrap();
        let encode = |row| {
            let mut key = Vec::new();
            encoder.append_tagged(row, &mut key);
            key
        };
        let keys = (0..columns[0].len()).map(encode).collect::<Vec<_>>();
        let decoded = decode_columns(&schema, keys.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(decoded, columns);
        for (row, key) in keys.iter().enumerate() {
            let short = &key[..key.len() - 1];
            assert!(
                decode_columns(&schema, [short].into_iter()).is_err(),
                "row {row} cut off"
            );
        }
    }

    #[test]
    fn plain_types_come_back() {
        check(vec![
            Arc::new(Int8Array::from(vec![Some(-1), None, Some(i8::MAX)])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(StringArray::from(vec![Some("é"), Some(""), None])),
            Arc::new(BinaryArray::from(vec![None, Some(&b"\0"[..]), Some(&b""[..])])),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1, 2]), None, Some([0, 0])].into_iter(), 2)
                    .unwrap(),
            ),
            Arc::new(
                Decimal128Array::from(vec![Some(-12), None, Some(i128::MAX)])
                    .with_precision_and_scale(38, 3)
                    .unwrap(),
            ),
            Arc::new(Date32Array::from(vec![-1, 0, 1])),
            Arc::new(TimestampNanosecondArray::from(vec![Some(i64::MIN), None, Some(3)]).with_timezone("UTC")),
        ]);
    }

    #[test]
    fn nested_types_come_back() {
        let fields = Fields::from(vec![
            Field::new("tag", DataType::Int8, false),
            Field::new("name", DataType::Utf8, true),
        ]);
        let pair = StructArray::new(
            fields,
            vec![
                Arc::new(Int8Array::from(vec![0, 0, 2, 3])),
                Arc::new(StringArray::from(vec![Some("x"), Some(""), None, Some("yz")])),
            ],
            Some(NullBuffer::from(vec![true, false, true, true])),
        );
        let items = Int32Array::from(vec![Some(1), None, Some(3)]);
        let offsets = OffsetBuffer::new(vec![0, 2, 2, 2, 3].into());
        let field = Arc::new(Field::new_list_field(DataType::Int32, true));
        let nulls = NullBuffer::from(vec![true, true, false, true]);
        check(vec![
            Arc::new(pair),
            Arc::new(ListArray::new(field, offsets, Arc::new(items), Some(nulls))),
        ]);
    }
}
