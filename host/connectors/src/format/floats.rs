//! Floats that JSON has no numbers for, and numbers that floats have no room for.
//!
//! NaN and the infinities are written as the texts `"NaN"`, `"Infinity"` and `"-Infinity"`, which the parser reads.
//! The parsers make an infinity of a number that is too large: values that came from no such text are found here.

use std::sync::LazyLock;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow_json::EncoderOptions;
use arrow_json::writer::{Encoder, EncoderFactory, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, FieldRef};
use serde_json::Value;

static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

/// Writes floats that are no JSON numbers as texts.
#[derive(Debug)]
pub(crate) struct FloatTexts;

impl EncoderFactory for FloatTexts {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        match array.data_type() {
            DataType::Float32 => texts(array.as_primitive::<Float32Type>(), field),
            DataType::Float64 => texts(array.as_primitive::<Float64Type>(), field),
            _ => Ok(None),
        }
    }
}

/// An encoder for these values; `None` if all of them are numbers.
fn texts<'a, T: ArrowPrimitiveType>(
    array: &'a PrimitiveArray<T>,
    field: &'a FieldRef,
) -> Result<Option<NullableEncoder<'a>>, ArrowError>
where
    T::Native: Into<f64>,
{
    if array.values().iter().all(|&value| value.into().is_finite()) {
        return Ok(None);
    }
    let numbers = make_encoder(field, array, &PLAIN)?;
    let encoder = Texts { array, numbers };
    Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
}

struct Texts<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    numbers: NullableEncoder<'a>,
}

impl<T: ArrowPrimitiveType> Encoder for Texts<'_, T>
where
    T::Native: Into<f64>,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value: f64 = self.array.value(row).into();
        if value.is_nan() {
            out.extend_from_slice(b"\"NaN\"");
        } else if value.is_infinite() {
            let text: &[u8] = if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" };
            out.extend_from_slice(text);
        } else {
            self.numbers.encode(row, out);
        }
    }
}

/// Whether an infinity is anywhere in the array.
pub(crate) fn has_infinity(array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .any(|v| v.is_infinite()),
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .any(|v| v.is_infinite()),
        DataType::List(_) => has_infinity(array.as_list::<i32>().values().as_ref()),
        DataType::Struct(_) => array.as_struct().columns().iter().any(|column| has_infinity(column)),
        DataType::Map(_, _) => has_infinity(array.as_map().values().as_ref()),
        _ => false,
    }
}

/// Whether a value became infinite although its JSON is a number.
pub(crate) fn is_cut(array: &ArrayRef, row: usize, value: &Value) -> bool {
    let is_number = |infinite: bool| infinite && value.is_number();
    match array.data_type() {
        _ if array.is_null(row) => false,
        DataType::Float32 => is_number(array.as_primitive::<Float32Type>().value(row).is_infinite()),
        DataType::Float64 => is_number(array.as_primitive::<Float64Type>().value(row).is_infinite()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let values = value.as_array().into_iter().flatten();
            values.enumerate().any(|(index, value)| is_cut(&items, index, value))
        }
        DataType::Struct(members) => {
            let mut columns = members.iter().zip(array.as_struct().columns());
            columns.any(|(member, column)| value.get(member.name()).is_some_and(|value| is_cut(column, row, value)))
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let values = value.as_object().into_iter().flatten();
            values
                .enumerate()
                .any(|(index, (_, value))| is_cut(entries.column(1), index, value))
        }
        _ => false,
    }
}
