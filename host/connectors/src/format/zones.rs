//! Time zones in text formats.
//!
//! The parsers and writers of text know zones only as offsets. A column in UTC, whatever its declaration
//! calls it, is therefore read and written as `+00:00` and given its own name afterwards; the values are the
//! same. Other named zones are refused for text formats: without their rules a local time would be misread.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};

const UTC_OFFSET: &str = "+00:00";

/// Whether a zone is UTC under one of its names.
pub(crate) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Etc/UTC" | "Z" | UTC_OFFSET)
}

/// The first zone in the type that text formats cannot hold.
pub(crate) fn unknown_zone(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if !is_utc(zone) && !zone.starts_with(['+', '-']) => Some(zone),
        DataType::List(item) | DataType::Map(item, _) => unknown_zone(item.data_type()),
        DataType::Struct(members) => members.iter().find_map(|member| unknown_zone(member.data_type())),
        _ => None,
    }
}

/// The field with UTC under the name that text formats know.
pub(crate) fn textual(field: &FieldRef) -> FieldRef {
    match textual_type(field.data_type()) {
        Some(data_type) => Arc::new(Field::clone(field).with_data_type(data_type)),
        None => field.clone(),
    }
}

/// The schema with UTC under the name that text formats know.
pub(crate) fn textual_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(textual).collect();
    Arc::new(Schema::new(fields))
}

/// `None`: as it is.
fn textual_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(unit, Some(zone)) if is_utc(zone) && zone.as_ref() != UTC_OFFSET => {
            Some(DataType::Timestamp(*unit, Some(UTC_OFFSET.into())))
        }
        DataType::List(item) => textual_type(item.data_type()).map(|_| DataType::List(textual(item))),
        DataType::Map(item, sorted) => textual_type(item.data_type()).map(|_| DataType::Map(textual(item), *sorted)),
        DataType::Struct(members) => {
            let changed = members.iter().any(|member| textual_type(member.data_type()).is_some());
            changed.then(|| DataType::Struct(members.iter().map(textual).collect()))
        }
        _ => None,
    }
}

/// The array under a type that differs only in the names of zones.
pub(crate) fn renamed(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        Ok(array.clone())
    } else {
        arrow_cast::cast(array.as_ref(), data_type)
    }
}

/// The rows under a schema that differs only in the names of zones.
pub(crate) fn renamed_rows(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns
        .map(|(column, field)| renamed(column, field.data_type()))
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// The rows as text formats can show them.
pub(crate) fn textual_rows(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    renamed_rows(rows, &textual_schema(&rows.schema()))
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

    #[test]
    fn utc_has_many_names_and_other_zones_are_found() {
        let at = |zone: &str| DataType::Timestamp(TimeUnit::Second, Some(zone.into()));
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
        assert_eq!(textual_type(&list(at("UTC"))), Some(list(at("+00:00"))));
        assert_eq!(textual_type(&list(at("+02:00"))), None);
        assert_eq!(unknown_zone(&list(at("Europe/Berlin"))), Some("Europe/Berlin"));
        assert_eq!(unknown_zone(&list(at("+02:00"))), None);
    }
}
