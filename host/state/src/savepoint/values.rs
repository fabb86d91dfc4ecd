//! Rows as JSON values, and the rows of a key: what people see of a savepoint.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, RecordBatch, make_array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace_core::key::{KeyGroup, RowEncoder, hash_rows};
use millrace_core::{Error, Result};
use serde_json::{Map, Value};

use super::split::broken;
use super::{KeyText, SavedOperator, SavedTable, Savepoint};
use crate::codes;

/// The rows of a batch as objects. Bytes are base64, decimals and times text, maps with keys of text objects and others
/// lists of pairs.
///
/// # Errors
/// If a value cannot be shown, such as a time out of all calendars.
pub fn rows_as_json(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>> {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    let mut rows = vec![Map::new(); batch.num_rows()];
    for (field, column) in fields {
        for (number, row) in rows.iter_mut().enumerate() {
            row.insert(field.name().clone(), value(column, number).map_err(unshown)?);
        }
    }
    Ok(rows)
}

fn unshown(error: ArrowError) -> Error {
    Error::external(codes::DAMAGED, format!("a value cannot be shown: {error}"))
}

fn value(array: &ArrayRef, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
        DataType::FixedSizeBinary(_) => STANDARD.encode(array.as_fixed_size_binary().value(row)).into(),
        DataType::Struct(members) => {
            let columns = members.iter().zip(array.as_struct().columns());
            let members = columns.map(|(member, column)| Ok((member.name().clone(), value(column, row)?)));
            Value::Object(members.collect::<Result<_, ArrowError>>()?)
        }
        DataType::List(_) => items(&array.as_list::<i32>().value(row))?,
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            if *keys.data_type() == DataType::Utf8 {
                let texts = keys.as_string::<i32>();
                let pairs = (0..keys.len()).map(|at| Ok((texts.value(at).to_owned(), value(values, at)?)));
                return Ok(Value::Object(pairs.collect::<Result<_, ArrowError>>()?));
            }
            let pairs = (0..keys.len()).map(|at| Ok(Value::Array(vec![value(keys, at)?, value(values, at)?])));
            Value::Array(pairs.collect::<Result<_, ArrowError>>()?)
        }
        // Instants, in UTC by its number: the formatter knows no names of zones.
        DataType::Timestamp(unit, Some(_)) => {
            let instant = array.slice(row, 1).to_data().into_builder();
            let instant = instant.data_type(DataType::Timestamp(*unit, Some("+00:00".into())));
            text(&make_array(instant.build()?), 0)?
        }
        _ => text(array, row)?,
    })
}

fn text(array: &ArrayRef, row: usize) -> Result<Value, ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    Ok(formatter.value(row).try_to_string()?.into())
}

fn items(list: &ArrayRef) -> Result<Value, ArrowError> {
    let items = (0..list.len()).map(|at| value(list, at));
    items.collect::<Result<_, _>>().map(Value::Array)
}

impl Savepoint {
    /// What the tables of an operator hold for a key, which is given as a text per field: each table with its rows.
    ///
    /// # Errors
    /// `CS0205` if the texts are no key of the operator; if a file cannot be read.
    pub fn find<'a>(&self, operator: &'a SavedOperator, key: &[String]) -> Result<Vec<(&'a SavedTable, RecordBatch)>> {
        let text = KeyText {
            operator: &operator.name,
            texts: key,
        };
        let key = text.parse_columns(&operator.key)?;
        let mut hashes = Vec::new();
        hash_rows(&key, &mut hashes)?;
        let group = KeyGroup::of_hash(hashes[0], self.manifest().max_parallelism).0;
        let wanted = encodings(&key)?;
        let mut found = Vec::new();
        for table in &operator.tables {
            for batch in self.read_table(table, group..group + 1)? {
                let keys = encodings(&batch.columns()[1..=key.len()])?;
                let own = keys.iter().map(|encoded| Some(*encoded == wanted[0]));
                let rows = arrow_select::filter::filter_record_batch(&batch, &own.collect()).map_err(broken)?;
                if rows.num_rows() > 0 {
                    found.push((table, rows));
                }
            }
        }
        Ok(found)
    }
}

fn encodings(keys: &[ArrayRef]) -> Result<Vec<Vec<u8>>> {
    let encoder = RowEncoder::new(keys)?;
    let rows = 0..keys.first().map_or(0, |column| column.len());
    let encoded = rows.map(|row| {
        let mut encoded = Vec::new();
        encoder.append_tagged(row, &mut encoded);
        encoded
    });
    Ok(encoded.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::TimestampMillisecondArray;
    use arrow_array::builder::{ListBuilder, PrimitiveBuilder};

    use super::*;

    #[test]
    fn instants_are_shown_whatever_their_zone_is_called() {
        for (zone, shown) in [
            (None, "1970-01-01T00:00:01.500"),
            (Some("UTC"), "1970-01-01T00:00:01.500Z"),
            (Some("Europe/Berlin"), "1970-01-01T00:00:01.500Z"),
        ] {
            let times = || TimestampMillisecondArray::from(vec![None, Some(1_500)]).with_timezone_opt(zone);
            let data_type = times().data_type().clone();
            let mut lists =
                ListBuilder::new(PrimitiveBuilder::<TimestampMillisecondType>::new().with_data_type(data_type));
            lists.append_value([Some(1_500), None]);
            lists.append_value([]);
            let columns: [(&str, ArrayRef); 2] = [("at", Arc::new(times())), ("all", Arc::new(lists.finish()))];
            let rows = rows_as_json(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
            let expected = [
                serde_json::json!({"at": null, "all": [shown, null]}),
                serde_json::json!({"at": shown, "all": []}),
            ];
            assert_eq!(
                rows.into_iter().map(Value::Object).collect::<Vec<_>>(),
                expected,
                "{zone:?}"
            );
        }
    }
}
