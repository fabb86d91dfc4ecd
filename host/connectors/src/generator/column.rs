//! What fills each column of the generator's schema: an expression cast to the column's type, a text
//! template, or the row's due time.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, TimeUnit};
use millrace_core::{Error, Result};

use super::expression::Expression;
use super::kernel::{Indices, evaluate};

/// How one column is made.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    /// An expression, cast to the type.
    Value(Expression, DataType),
    /// Literal text and expressions in turn.
    Text(Vec<Piece>),
    /// When the row was due, in ns since the job started.
    Now,
}

/// A part of a text template.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// As it is.
    Literal(String),
    /// The value in decimal, signed as an int64 is.
    Value(Expression),
}

impl Column {
    /// From the text of option `column.<name>`.
    pub(crate) fn parse(field: &Field, text: &str) -> Result<Self> {
        let name = field.name();
        let here = |error: Error| error.context(format!("option `column.{name}`"));
        match field.data_type() {
            DataType::Utf8 => Ok(Column::Text(pieces(text).map_err(here)?)),
            DataType::Int64 if text.trim() == "now" => Ok(Column::Now),
            data_type if is_generated(data_type) => {
                Ok(Column::Value(Expression::parse(text).map_err(here)?, data_type.clone()))
            }
            other => Err(Error::user(
                "CN0105",
                format!("column `{name}` is of type {other}, which the generator does not make"),
            )),
        }
    }

    /// The column's values; `due` gives those of `now`.
    pub(crate) fn values(&self, indices: Indices, seed: u64, due: impl FnOnce() -> Vec<u64>) -> ArrayRef {
        match self {
            Column::Value(expression, data_type) => cast(evaluate(expression, indices, seed), data_type),
            Column::Text(pieces) => texts(pieces, indices, seed),
            Column::Now => cast(due(), &DataType::Int64),
        }
    }
}

fn is_generated(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Float32
                | DataType::Float64
                | DataType::Boolean
                | DataType::Date32
                | DataType::Time64(TimeUnit::Microsecond)
                | DataType::Timestamp(_, _)
        )
}

/// Splits `user-{mix % 1000}` at its braces.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let close = rest[open..]
            .find('}')
            .ok_or_else(|| Error::user("CN0104", format!("text `{text}`: a `{{` has no `}}`")))?;
        if open > 0 {
            pieces.push(Piece::Literal(rest[..open].to_owned()));
        }
        pieces.push(Piece::Value(Expression::parse(&rest[open + 1..open + close])?));
        rest = &rest[open + close + 1..];
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

fn texts(pieces: &[Piece], indices: Indices, seed: u64) -> ArrayRef {
    let columns: Vec<Vec<u64>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(_) => Vec::new(),
            Piece::Value(expression) => evaluate(expression, indices, seed),
        })
        .collect();
    let mut builder = StringBuilder::with_capacity(indices.count, indices.count * 16);
    let mut text = String::new();
    let mut digits = itoa::Buffer::new();
    for row in 0..indices.count {
        text.clear();
        for (piece, values) in pieces.iter().zip(&columns) {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(_) => text.push_str(digits.format(values[row] as i64)),
            }
        }
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<u64>,
    cast: impl Fn(u64) -> T::Native,
    data_type: &DataType,
) -> ArrayRef {
    let values: Vec<T::Native> = values.into_iter().map(cast).collect();
    Arc::new(PrimitiveArray::<T>::new(values.into(), None).with_data_type(data_type.clone()))
}

/// 64-bit types take the values' memory as it is.
fn same_width<T: ArrowPrimitiveType>(values: Vec<u64>, data_type: &DataType) -> ArrayRef {
    let count = values.len();
    let buffer = ScalarBuffer::<u64>::from(values).into_inner();
    let values = ScalarBuffer::<T::Native>::new(buffer, 0, count);
    Arc::new(PrimitiveArray::<T>::new(values, None).with_data_type(data_type.clone()))
}

fn cast(values: Vec<u64>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Int8 => primitive::<Int8Type>(values, |v| v as i8, data_type),
        DataType::Int16 => primitive::<Int16Type>(values, |v| v as i16, data_type),
        DataType::Int32 => primitive::<Int32Type>(values, |v| v as i32, data_type),
        DataType::Int64 => same_width::<Int64Type>(values, data_type),
        DataType::UInt8 => primitive::<UInt8Type>(values, |v| v as u8, data_type),
        DataType::UInt16 => primitive::<UInt16Type>(values, |v| v as u16, data_type),
        DataType::UInt32 => primitive::<UInt32Type>(values, |v| v as u32, data_type),
        DataType::UInt64 => same_width::<UInt64Type>(values, data_type),
        DataType::Float32 => primitive::<Float32Type>(values, |v| v as i64 as f32, data_type),
        DataType::Float64 => primitive::<Float64Type>(values, |v| v as i64 as f64, data_type),
        DataType::Date32 => primitive::<Date32Type>(values, |v| v as i32, data_type),
        DataType::Time64(_) => same_width::<Time64MicrosecondType>(values, data_type),
        DataType::Timestamp(TimeUnit::Second, _) => same_width::<TimestampSecondType>(values, data_type),
        DataType::Timestamp(TimeUnit::Millisecond, _) => same_width::<TimestampMillisecondType>(values, data_type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => same_width::<TimestampMicrosecondType>(values, data_type),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => same_width::<TimestampNanosecondType>(values, data_type),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.into_iter().map(|v| Some(v != 0)))),
        other => unreachable!("parse refuses {other}"),
    }
}

#[cfg(test)]
mod tests {
    use arrow_cast::display::array_value_to_string;

    use super::*;

    fn column(data_type: DataType, text: &str) -> Vec<String> {
        let field = Field::new("x", data_type.clone(), false);
        let indices = Indices {
            first: 0,
            stride: 1,
            count: 3,
        };
        let array = Column::parse(&field, text)
            .unwrap()
            .values(indices, 0, || vec![7, 8, 9]);
        assert_eq!(array.data_type(), &data_type);
        (0..3).map(|row| array_value_to_string(&array, row).unwrap()).collect()
    }

    #[test]
    fn values_take_the_type_of_their_column() {
        assert_eq!(column(DataType::Int8, "index - 1"), ["-1", "0", "1"]);
        assert_eq!(
            column(DataType::UInt64, "index - 1"),
            ["18446744073709551615", "0", "1"]
        );
        assert_eq!(column(DataType::Float64, "index * 2"), ["0.0", "2.0", "4.0"]);
        assert_eq!(column(DataType::Boolean, "index % 2"), ["false", "true", "false"]);
        assert_eq!(
            column(DataType::Date32, "index + 31"),
            ["1970-02-01", "1970-02-02", "1970-02-03"]
        );
        let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        assert_eq!(column(millis, "index * 500")[1], "1970-01-01T00:00:00.500Z");
        assert_eq!(column(DataType::Int64, "now"), ["7", "8", "9"]);
    }

    #[test]
    fn texts_mix_literals_and_expressions() {
        assert_eq!(
            column(DataType::Utf8, "user-{index % 2}!"),
            ["user-0!", "user-1!", "user-0!"]
        );
        assert_eq!(column(DataType::Utf8, "{index}{index - 1}"), ["0-1", "10", "21"]);
        assert_eq!(column(DataType::Utf8, ""), ["", "", ""]);
        assert_eq!(column(DataType::Utf8, "now"), ["now", "now", "now"]);
        let field = Field::new("name", DataType::Utf8, false);
        let error = Column::parse(&field, "a{index").unwrap_err();
        assert_eq!(
            error.to_string(),
            "option `column.name`: text `a{index`: a `{` has no `}`"
        );
    }

    #[test]
    fn other_types_are_refused() {
        let error = Column::parse(&Field::new("x", DataType::Binary, false), "index").unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("`x`")), ("CN0105", true));
    }
}
