//! Schemas as JSON that people can read.
//!
//! ```text
//! {"name":"total","type":"decimal128(38, 2)","nullable":true}
//! {"name":"tags","type":"list","nullable":false,"fields":[{"name":"item","type":"utf8","nullable":false}]}
//! ```

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields};
use millrace_core::block::Millis;
use millrace_core::graph::{Renewal, TimeToLive};
use millrace_core::schema::{Declared, DeclaredState, Hints, Variant, field_text, parse_type, type_name};
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
    /// Of the tag of a sum type: its variants in the order of tags, if they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
    /// Of a state: its time to live, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<SavedTtl>,
    /// Of a state: it is a large map or list, whose entries are rows of a table of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub large: bool,
    /// Of a large state: every subtask has it whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
}

/// How long a state lives without being touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTtl {
    /// From its last renewal until it expires.
    pub after_ms: Millis,
    /// Whether it is renewed by reads too, beside writes.
    pub on_read: bool,
}

impl From<TimeToLive> for SavedTtl {
    fn from(ttl: TimeToLive) -> Self {
        SavedTtl {
            after_ms: ttl.after_ms,
            on_read: ttl.renewed_by == Renewal::ReadOrWrite,
        }
    }
}

impl From<SavedTtl> for TimeToLive {
    fn from(saved: SavedTtl) -> Self {
        TimeToLive {
            after_ms: saved.after_ms,
            renewed_by: match saved.on_read {
                true => Renewal::ReadOrWrite,
                false => Renewal::Write,
            },
        }
    }
}

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
            flat => match type_name(flat) {
                Some(name) => (name, Vec::new()),
                None => {
                    let message = format!("field `{}` has type {flat}, which savepoints do not have", field.name());
                    return Err(Error::user(codes::TABLE, message));
                }
            },
        };
        Ok(Column {
            name: field.name().clone(),
            data_type,
            nullable: field.is_nullable(),
            fields,
            variants: Vec::new(),
            ttl: None,
            large: false,
            broadcast: false,
        })
    }

    /// Describes a field with the variants of its sum types.
    ///
    /// # Errors
    /// See [`of`](Self::of).
    pub fn of_declared(declared: &Declared) -> Result<Column> {
        let mut column = Column::of(&declared.field)?;
        column.add_variants(&declared.hints);
        Ok(column)
    }

    /// Describes a state.
    ///
    /// # Errors
    /// See [`of`](Self::of).
    pub(super) fn of_state(state: &DeclaredState) -> Result<Column> {
        let mut column = Column::of_declared(&state.value)?;
        column.ttl = state.ttl.map(Into::into);
        Ok(column)
    }

    fn add_variants(&mut self, hints: &Hints) {
        let names = hints.variants.iter().map(|variant| variant.name.clone());
        self.variants = names.collect();
        let children = self.fields.iter_mut().zip(&hints.children);
        children.for_each(|(column, hints)| column.add_variants(hints));
    }

    /// The field that is described, with the variants of its sum types; `None` if there is no such type.
    pub fn declared(&self) -> Option<Declared> {
        Some(Declared {
            field: self.field()?,
            hints: self.hints(),
        })
    }

    fn hints(&self) -> Hints {
        let variant = |name: &String| Variant {
            name: name.clone(),
            aliases: Vec::new(),
        };
        Hints {
            variants: self.variants.iter().map(variant).collect(),
            children: self.fields.iter().map(Column::hints).collect(),
            ..Hints::default()
        }
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
            (flat, []) => parse_type(flat)?,
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
        let shown = self
            .field()
            .map_or_else(|| self.data_type.clone(), |field| field_text(field.data_type()));
        format!("{shown}{}", if self.nullable { "?" } else { "" })
    }

    /// Fields with their names in one line, for people.
    pub fn shown_all(columns: &[Column]) -> String {
        let fields = Column::fields(columns).unwrap_or_default();
        field_text(&DataType::Struct(fields))
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

    #[test]
    fn every_type_comes_back() {
        let plain =
            "boolean int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 utf8 binary date32 time64[us]";
        let plain = plain.split(' ').map(|name| parse_type(name).expect("a type"));
        let mut types: Vec<DataType> = plain.collect();
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
                variants: Vec::new(),
                ttl: None,
                large: false,
                broadcast: false,
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
