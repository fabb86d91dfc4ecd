//! Columns as the values of SQLite: integers, floats, text and bytes.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Schema};
use millrace_core::{Error, Result};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};

use crate::format::{json_texts, type_name, zones};

/// What SQLite calls the type of a column that is made for it.
pub(super) fn declared(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "INTEGER",
        integer if integer.is_integer() => "INTEGER",
        DataType::Float32 | DataType::Float64 => "REAL",
        DataType::Binary | DataType::FixedSizeBinary(_) => "BLOB",
        _ => "TEXT",
    }
}

/// Refuses columns that SQLite has no room for.
pub(super) fn check(path: &str, schema: &Schema) -> Result<()> {
    for field in schema.fields() {
        let name = field.name();
        if *field.data_type() == DataType::UInt64 {
            let what = format!(
                "column `{name}` is {}, and SQLite's integers end at 2^63: make it int64 or text",
                type_name(field.data_type())
            );
            return Err(super::misfit(path, &what));
        }
        if let Some(zone) = zones::unknown_zone(field.data_type()) {
            let what =
                format!("column `{name}`: times are held in UTC or at an offset such as +02:00, not in zone {zone}");
            return Err(super::misfit(path, &what));
        }
    }
    Ok(())
}

/// A column, ready to be read value by value.
pub(super) enum Column {
    Integers(ArrayRef),
    Floats(ArrayRef),
    Bytes(ArrayRef),
    Texts(ArrayRef),
}

impl Column {
    /// All columns of some rows.
    pub(super) fn all(rows: &RecordBatch) -> Result<Vec<Column>> {
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, array)| {
            let made: std::result::Result<Column, ArrowError> = match field.data_type() {
                DataType::Boolean => cast(array, &DataType::Int64).map(Column::Integers),
                integer if integer.is_integer() => cast(array, &DataType::Int64).map(Column::Integers),
                DataType::Float32 | DataType::Float64 => cast(array, &DataType::Float64).map(Column::Floats),
                DataType::Binary | DataType::FixedSizeBinary(_) => cast(array, &DataType::Binary).map(Column::Bytes),
                DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) | DataType::Utf8 => {
                    json_texts(array, field).map(|texts| Column::Texts(std::sync::Arc::new(texts)))
                }
                _ => zones::textual_rows(&RecordBatch::try_from_iter([("", array.clone())]).map_err(broken)?)
                    .and_then(|rows| cast(rows.column(0), &DataType::Utf8))
                    .map(Column::Texts),
            };
            made.map_err(broken)
        });
        columns.collect()
    }

    pub(super) fn value(&self, row: usize) -> Cell<'_> {
        match self {
            Column::Integers(array) | Column::Floats(array) | Column::Bytes(array) | Column::Texts(array)
                if array.is_null(row) =>
            {
                Cell::Owned(Value::Null)
            }
            Column::Integers(array) => Cell::Owned(Value::Integer(array.as_primitive::<Int64Type>().value(row))),
            Column::Floats(array) => Cell::Owned(Value::Real(array.as_primitive::<Float64Type>().value(row))),
            Column::Bytes(array) => Cell::Borrowed(ValueRef::Blob(array.as_binary::<i32>().value(row))),
            Column::Texts(array) => Cell::Borrowed(ValueRef::Text(array.as_string::<i32>().value(row).as_bytes())),
        }
    }
}

pub(super) fn broken(error: ArrowError) -> Error {
    Error::internal(format!("a column cannot be made values of SQLite: {error}"))
}

/// A value of a row.
pub(super) enum Cell<'a> {
    Owned(Value),
    Borrowed(ValueRef<'a>),
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Owned(value) => ToSqlOutput::Borrowed(value.into()),
            Cell::Borrowed(value) => ToSqlOutput::Borrowed(*value),
        })
    }
}
