//! The values that stand in for those that are missing.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Int8Array, ListArray, MapArray, StringArray,
    StructArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;
use millrace_core::schema::{Declared, Missing, field_text};
use millrace_core::{Error, Result};

/// Refuses defaults that are no values of their fields, at any depth.
///
/// # Errors
/// `GR0014`, which names the field.
pub fn check_defaults(declared: &Declared) -> Result<()> {
    one(declared, &declared.hints.missing).map_err(|error| {
        let (name, data_type) = (declared.field.name(), field_text(declared.field.data_type()));
        Error::user(
            "GR0014",
            format!("the default of field `{name}` is no {data_type}: {error}"),
        )
    })?;
    declared.children().iter().try_for_each(check_defaults)
}

/// So many rows of what stands in for a missing value.
pub(super) fn constant(declared: &Declared, missing: &Missing, rows: usize) -> Result<ArrayRef, ArrowError> {
    take(&one(declared, missing)?, &UInt32Array::from(vec![0; rows]), None)
}

/// One row of it.
pub(super) fn one(declared: &Declared, missing: &Missing) -> Result<ArrayRef, ArrowError> {
    let data_type = declared.field.data_type();
    match missing {
        Missing::Undeclared => Ok(new_null_array(data_type, 1)),
        Missing::Zero => zero(declared),
        Missing::Text(text) => {
            let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            if data_type.is_nested() {
                let message = "a struct, list or map has no default but zero";
                return Err(ArrowError::InvalidArgumentError(message.to_owned()));
            }
            match data_type {
                // With a zone or without, what counts from 1970 is a number; names of zones are not looked up.
                DataType::Timestamp(unit, Some(_)) => {
                    let instant = cast_with_options(&text, &DataType::Timestamp(*unit, None), &strict)?;
                    let number = cast_with_options(&instant, &DataType::Int64, &strict)?;
                    cast_with_options(&number, data_type, &strict)
                }
                plain => cast_with_options(&text, plain, &strict),
            }
        }
    }
}

/// Zero, false, empty; of a sum type the first variant.
fn zero(declared: &Declared) -> Result<ArrayRef, ArrowError> {
    let one_empty = || OffsetBuffer::from_lengths([0]);
    Ok(match declared.field.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false])),
        DataType::Utf8 => Arc::new(StringArray::from(vec![""])),
        DataType::Binary => Arc::new(BinaryArray::from(vec![b"".as_slice()])),
        DataType::FixedSizeBinary(bytes) => {
            let zeros = vec![0; usize::try_from(*bytes).unwrap_or(0)];
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(zeros))?)
        }
        DataType::List(item) => {
            let items = new_empty_array(item.data_type());
            Arc::new(ListArray::try_new(item.clone(), one_empty(), items, None)?)
        }
        DataType::Map(entries, sorted) => {
            let pairs = new_empty_array(entries.data_type()).as_struct().clone();
            Arc::new(MapArray::try_new(entries.clone(), one_empty(), pairs, None, *sorted)?)
        }
        DataType::Struct(members) => {
            let first = declared.variants().and_then(<[_]>::first);
            let columns = declared.children().into_iter().map(|member| {
                let is_first = first.is_some_and(|first| first.name == *member.field.name());
                match (&member.hints.missing, member.field.is_nullable() && !is_first) {
                    (Missing::Undeclared, true) => Ok(new_null_array(member.field.data_type(), 1)),
                    (Missing::Undeclared, false) => zero(&member),
                    (missing, _) => one(&member, missing),
                }
            });
            let columns = columns.collect::<Result<_, ArrowError>>()?;
            Arc::new(StructArray::try_new(members.clone(), columns, None)?)
        }
        DataType::Date32 => number(&DataType::Int32, declared.field.data_type())?,
        DataType::Time64(_) | DataType::Timestamp(..) => number(&DataType::Int64, declared.field.data_type())?,
        plain => number(&DataType::Int8, plain)?,
    })
}

fn number(through: &DataType, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions::default();
    let zero: ArrayRef = Arc::new(Int8Array::from(vec![0]));
    cast_with_options(&cast_with_options(&zero, through, &options)?, to, &options)
}
