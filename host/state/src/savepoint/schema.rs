//! Schemas as JSON that people can read.
//!
//! ```text
//! {"name":"total","type":"decimal128(38, 2)","nullable":true}
//! {"name":"tags","type":"list","nullable":false,"fields":[{"name":"item","type":"utf8","nullable":false}]}
//! ```

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use millrace_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::codes;

/// A field of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as text; `SAVEPOINT.md` lists them.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether a value may be missing.
    pub nullable: bool,
    /// Members of a struct, the item of a list, the entries of a map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Column>,
}

/// Types that are a word.
const PLAIN: &[(&str, DataType)] = &[
    ("boolean", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("utf8", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date32", DataType::Date32),
    ("time64[us]", DataType::Time64(TimeUnit::Microsecond)),
];

const UNITS: &[(&str, TimeUnit)] = &[
    ("s", TimeUnit::Second),
    ("ms", TimeUnit::Millisecond),
    ("us", TimeUnit::Microsecond),
    ("ns", TimeUnit::Nanosecond),
];

impl Column {
    /// Describes a field.
    ///
    /// # Errors
    /// `CS0203` for a type that no state has.
    pub fn of(field: &Field) -> Result<Column> {
        let (data_type, fields) = match field.data_type() {
            DataType::List(item) => ("list".to_owned(), vec![Column::of(item)?]),
            DataType::Struct(members) => ("struct".to_owned(), Column::all(members)?),
            DataType::Map(entries, sorted) => {
                let name = if *sorted { "sorted-map" } else { "map" };
                (name.to_owned(), vec![Column::of(entries)?])
            }
            flat => (type_name(flat, field.name())?, Vec::new()),
        };
        Ok(Column {
            name: field.name().clone(),
            data_type,
            nullable: field.is_nullable(),
            fields,
        })
    }

    /// Describes fields, in their order.
    ///
    /// # Errors
    /// See [`of`](Self::of).
    pub fn all(fields: &Fields) -> Result<Vec<Column>> {
        fields.iter().map(|field| Column::of(field)).collect()
    }

    /// The field that is described; `None` if there is no such type.
    pub fn field(&self) -> Option<FieldRef> {
        let data_type = match (self.data_type.as_str(), self.fields.as_slice()) {
            ("list", [item]) => DataType::List(item.field()?),
            ("struct", _) => DataType::Struct(Column::fields(&self.fields)?),
            ("map", [entries]) => DataType::Map(entries.field()?, false),
            ("sorted-map", [entries]) => DataType::Map(entries.field()?, true),
            (flat, []) => parse(flat)?,
            _ => return None,
        };
        Some(Arc::new(Field::new(&self.name, data_type, self.nullable)))
    }

    /// The fields that are described, in their order.
    pub fn fields(columns: &[Column]) -> Option<Fields> {
        columns.iter().map(Column::field).collect()
    }

    /// In one line, for people: `{id: int64, tags: list<utf8>?}`.
    pub fn shown(&self) -> String {
        let inner = match (self.data_type.as_str(), self.fields.as_slice()) {
            ("struct", members) => Column::shown_all(members),
            ("list", [item]) => format!("list<{}>", item.shown()),
            ("map" | "sorted-map", [entries]) => {
                let members = entries.fields.iter().map(Column::shown);
                format!("map<{}>", members.collect::<Vec<_>>().join(", "))
            }
            (flat, _) => flat.to_owned(),
        };
        let mark = if self.nullable { "?" } else { "" };
        format!("{inner}{mark}")
    }

    /// Fields with their names in one line, for people.
    pub fn shown_all(columns: &[Column]) -> String {
        let members = columns
            .iter()
            .map(|column| format!("{}: {}", column.name, column.shown()));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }
}

fn type_name(data_type: &DataType, field: &str) -> Result<String> {
    if let Some((name, _)) = PLAIN.iter().find(|(_, plain)| plain == data_type) {
        return Ok((*name).to_owned());
    }
    Ok(match data_type {
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        DataType::FixedSizeBinary(bytes) => format!("fixed-size-binary({bytes})"),
        DataType::Timestamp(unit, zone) => {
            let unit = UNITS
                .iter()
                .find(|(_, known)| known == unit)
                .map_or("", |(name, _)| name);
            match zone {
                Some(zone) => format!("timestamp[{unit}, {zone}]"),
                None => format!("timestamp[{unit}]"),
            }
        }
        other => {
            let message = format!("field `{field}` has type {other}, which savepoints do not have");
            return Err(Error::user(codes::TABLE, message));
        }
    })
}

fn parse(text: &str) -> Option<DataType> {
    if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == text) {
        return Some(plain.clone());
    }
    if let Some(rest) = text.strip_prefix("decimal128(") {
        let (precision, scale) = rest.strip_suffix(')')?.split_once(", ")?;
        return Some(DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?));
    }
    if let Some(rest) = text.strip_prefix("fixed-size-binary(") {
        return Some(DataType::FixedSizeBinary(rest.strip_suffix(')')?.parse().ok()?));
    }
    let rest = text.strip_prefix("timestamp[")?.strip_suffix(']')?;
    let (unit, zone) = match rest.split_once(", ") {
        Some((unit, zone)) => (unit, Some(zone.into())),
        None => (rest, None),
    };
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(DataType::Timestamp(*unit, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back() {
        let mut types: Vec<DataType> = PLAIN.iter().map(|(_, plain)| plain.clone()).collect();
        types.extend([
            DataType::Decimal128(38, 2),
            DataType::Decimal128(5, -1),
            DataType::FixedSizeBinary(16),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ]);
        let members: Fields = types
            .iter()
            .enumerate()
            .map(|(at, data_type)| Field::new(format!("f{at}"), data_type.clone(), at % 2 == 0))
            .collect();
        let item = Arc::new(Field::new_list_field(DataType::Struct(members), true));
        let entries = Field::new(
            "entries",
            DataType::Struct(Fields::from(vec![
                Field::new("keys", DataType::Utf8, false),
                Field::new("values", DataType::List(item), true),
            ])),
            false,
        );
        for sorted in [false, true] {
            let field = Field::new("x", DataType::Map(Arc::new(entries.clone()), sorted), true);
            let column = Column::of(&field).unwrap();
            assert_eq!(*column.field().unwrap(), field);
            let text = serde_json::to_string(&column).unwrap();
            assert_eq!(serde_json::from_str::<Column>(&text).unwrap(), column);
        }
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let error = Column::of(&Field::new("x", DataType::LargeUtf8, true)).unwrap_err();
        assert_eq!(error.code(), codes::TABLE);
        assert!(error.to_string().contains("`x`"), "{error}");
        for text in ["int7", "list", "decimal128(38)", "timestamp[h]", "timestamp[ms"] {
            let column = Column {
                name: "x".to_owned(),
                data_type: text.to_owned(),
                nullable: true,
                fields: Vec::new(),
            };
            assert_eq!(column.field(), None, "{text}");
        }
    }

    #[test]
    fn schemas_are_shown_in_a_line() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false)));
        let members = vec![Field::new("id", DataType::Int64, false), Field::new("tags", list, true)];
        let field = Field::new("x", DataType::Struct(members.into()), true);
        let column = Column::of(&field).unwrap();
        assert_eq!(column.shown(), "{id: int64, tags: list<utf8>?}?");
    }
}
