//! Random types and columns.

use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::testing::Random;

/// A type for a state, or one that may be in a key.
pub(super) fn data_type(random: &mut Random, depth: u32, in_key: bool) -> DataType {
    match random.below(if depth == 0 { 14 } else { 17 }) {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::UInt16,
        3 => DataType::Int32,
        4 => DataType::Int64,
        5 => DataType::UInt64,
        6 if in_key => DataType::Utf8,
        6 => DataType::Float64,
        7 => DataType::Utf8,
        8 => DataType::Binary,
        9 => DataType::FixedSizeBinary(3),
        10 => DataType::Decimal128(38, 2),
        11 => DataType::Date32,
        12 => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        13 => DataType::Time64(TimeUnit::Microsecond),
        14 => {
            let members = 1 + random.below(3);
            let member = |at| field(random, &format!("m{at}"), depth - 1, in_key);
            DataType::Struct((0..members).map(member).collect::<Vec<FieldRef>>().into())
        }
        15 if !in_key => {
            let value = field(random, "values", depth - 1, false);
            let key = Arc::new(Field::new("keys", DataType::Utf8, false));
            let entries = Field::new("entries", DataType::Struct(Fields::from(vec![key, value])), false);
            DataType::Map(Arc::new(entries), false)
        }
        _ => DataType::List(field(random, "item", depth - 1, in_key)),
    }
}

pub(super) fn field(random: &mut Random, name: &str, depth: u32, in_key: bool) -> FieldRef {
    let data_type = data_type(random, depth, in_key);
    Arc::new(Field::new(name, data_type, random.below(2) == 0))
}

/// A column of so many values. Few are different, so that keys meet again.
pub(super) fn column(random: &mut Random, field: &Field, count: usize) -> ArrayRef {
    let nulls: Option<NullBuffer> = field
        .is_nullable()
        .then(|| (0..count).map(|_| random.below(4) > 0).collect());
    macro_rules! numbers {
        ($array:ty) => {{
            let values = (0..count).map(|_| random.below(1_000) as _).collect::<Vec<_>>();
            let array = <$array>::new(values.into(), nulls);
            Arc::new(array.with_data_type(field.data_type().clone())) as ArrayRef
        }};
    }
    match field.data_type() {
        DataType::Boolean => {
            let values = (0..count).map(|_| random.below(2) == 0).collect();
            Arc::new(BooleanArray::new(values, nulls))
        }
        DataType::Int8 => {
            let values = (0..count).map(|_| random.next() as i8).collect::<Vec<_>>();
            Arc::new(Int8Array::new(values.into(), nulls))
        }
        DataType::UInt16 => numbers!(UInt16Array),
        DataType::Int32 => numbers!(Int32Array),
        DataType::Int64 => {
            let values = (0..count).map(|_| random.next() as i64).collect::<Vec<_>>();
            Arc::new(Int64Array::new(values.into(), nulls))
        }
        DataType::UInt64 => numbers!(UInt64Array),
        DataType::Float64 => {
            let values = (0..count).map(|_| random.below(1_000) as f64 / 8.0).collect::<Vec<_>>();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        DataType::Decimal128(..) => numbers!(Decimal128Array),
        DataType::Date32 => numbers!(Date32Array),
        DataType::Timestamp(..) => numbers!(TimestampMillisecondArray),
        DataType::Time64(_) => numbers!(Time64MicrosecondArray),
        DataType::Utf8 => {
            let values = (0..count).map(|row| is_valid(nulls.as_ref(), row).then(|| text(random)));
            Arc::new(values.collect::<StringArray>())
        }
        DataType::Binary => {
            let values = (0..count).map(|row| is_valid(nulls.as_ref(), row).then(|| text(random).into_bytes()));
            Arc::new(values.collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(bytes) => {
            let values: Vec<u8> = (0..count * *bytes as usize).map(|_| random.next() as u8).collect();
            Arc::new(FixedSizeBinaryArray::new(*bytes, values.into(), nulls))
        }
        DataType::Struct(members) => {
            let columns = members.iter().map(|member| column(random, member, count)).collect();
            Arc::new(StructArray::new(members.clone(), columns, nulls))
        }
        DataType::List(item) => {
            let offsets = lengths(random, nulls.as_ref(), count);
            let items = column(random, item, offsets.last().map_or(0, |end| *end as usize));
            Arc::new(ListArray::new(item.clone(), offsets, items, nulls))
        }
        DataType::Map(entries, sorted) => {
            let offsets = lengths(random, nulls.as_ref(), count);
            let items = column(random, entries, offsets.last().map_or(0, |end| *end as usize));
            let items = items.as_any().downcast_ref::<StructArray>().unwrap().clone();
            Arc::new(MapArray::new(entries.clone(), offsets, items, nulls, *sorted))
        }
        other => panic!("no columns of {other}"),
    }
}

fn is_valid(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_none_or(|nulls| nulls.is_valid(row))
}

fn lengths(random: &mut Random, nulls: Option<&NullBuffer>, count: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths((0..count).map(|row| match is_valid(nulls, row) {
        true => random.below(4) as usize,
        false => 0,
    }))
}

fn text(random: &mut Random) -> String {
    ["", "a", "ü", "\0", "long, with \"quotes\"", "x"][random.below(6) as usize].repeat(1 + random.below(3) as usize)
}
