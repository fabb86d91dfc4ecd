//! What is held for a key, as JSON: out of the tables of a savepoint, or out of the rows that a subtask would hand over now.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use millrace_core::schema::{KeyedKind, KeyedSchema};
use millrace_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::split::split;
use super::values::rows_as_json;
use super::{Column, Layout, SavedOperator, SavedSchema, SavedTable, Savepoint, StateKind, collections};
use crate::codes;

/// The value of a state, or one of several rows: a timer, a window, an entry of a large map or list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Name of the state, or `timers`.
    pub state: String,
    /// It is the whole value of the state.
    pub whole: bool,
    /// The value, or the columns of the row.
    pub value: Value,
}

/// A key as people write it: a text for each of its fields.
#[derive(Debug, Clone, Copy)]
pub struct KeyText<'a> {
    /// Name of the operator, for messages.
    pub operator: &'a str,
    /// One for each field.
    pub texts: &'a [String],
}

impl KeyText<'_> {
    /// The columns of the key, of one row.
    ///
    /// # Errors
    /// `CS0205` if the texts are no such key.
    pub fn parse(&self, schema: &KeyedSchema) -> Result<Vec<ArrayRef>> {
        self.parse_columns(&SavedSchema::of(schema)?.key)
    }

    pub(super) fn parse_columns(&self, key: &[Column]) -> Result<Vec<ArrayRef>> {
        let refuse = |why: String| Error::user(codes::KEY, format!("operator `{}`: {why}", self.operator));
        let fields = Column::fields(key).unwrap_or_default();
        if fields.is_empty() {
            return Err(refuse("it has no keyed state".to_owned()));
        }
        if fields.len() != self.texts.len() {
            let shown = Column::shown_all(key);
            let (wanted, got) = (fields.len(), self.texts.len());
            return Err(refuse(format!(
                "its key {shown} has {wanted} fields, and {got} were given"
            )));
        }
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let parsed = fields.iter().zip(self.texts).map(|(field, text)| {
            let texts: ArrayRef = std::sync::Arc::new(StringArray::from(vec![text.as_str()]));
            cast_with_options(&texts, field.data_type(), &strict).map_err(|error| {
                let (name, data_type) = (field.name(), field.data_type());
                refuse(format!(
                    "`{text}` is no {data_type} for field `{name}` of its key: {error}"
                ))
            })
        });
        parsed.collect()
    }
}

/// The subtask whose state it is, if the key is no other than its number.
pub fn subtask_of_key(schema: &KeyedSchema, key: &[ArrayRef]) -> Option<u32> {
    let number = key.first().and_then(|column| column.as_primitive_opt::<UInt32Type>());
    number.filter(|_| schema.is_unkeyed()).map(|number| number.value(0))
}

impl Savepoint {
    /// What an operator holds for a key, which is given as a text per field.
    ///
    /// # Errors
    /// `CS0205` if the texts are no key of the operator; if a file cannot be read.
    pub fn held(&self, operator: &SavedOperator, key: &[String]) -> Result<Vec<Held>> {
        let mut held = Vec::new();
        for (table, rows) in self.find(operator, key)? {
            let whole = operator.kind == StateKind::Keyed && table.state.is_some() && !table.is_large();
            held.extend(held_in(shown_name(table), whole, operator.key.len(), &rows)?);
        }
        Ok(held)
    }
}

/// What a table is called: its state, or its own name.
pub fn shown_name(table: &SavedTable) -> &str {
    table.state.as_ref().map_or(&table.name, |state| &state.name)
}

/// What is held for a key of an operator with this schema, out of rows as those of layers, none of which is deleted.
/// `entries` are those of large states, by name.
///
/// # Errors
/// If the rows are not of this schema, or a value cannot be shown.
pub fn held_of_rows(
    schema: &KeyedSchema,
    rows: &[RecordBatch],
    entries: &[(String, RecordBatch)],
) -> Result<Vec<Held>> {
    let layout = Layout::of_schema(schema);
    let mut held = Vec::new();
    for (number, table) in layout.tables().iter().enumerate() {
        let name = table.value.as_ref().map_or(&table.name, |state| state.name());
        let whole = schema.kind == KeyedKind::Keyed && table.value.is_some() && table.large.is_none();
        let tables: Vec<RecordBatch> = match &table.large {
            None => {
                let split = rows.iter().map(|rows| split(&layout, number, table, rows));
                split.collect::<Result<_>>()?
            }
            Some(large) => {
                let own = entries.iter().filter(|(state, _)| *state == large.name);
                let own = own.map(|(_, rows)| collections::to_table(&table.schema, rows));
                own.collect::<Result<_>>()?
            }
        };
        for rows in &tables {
            held.extend(held_in(name, whole, schema.key.len(), rows)?);
        }
    }
    Ok(held)
}

/// The rows of a table, without the group and the key that they begin with.
fn held_in(state: &str, whole: bool, key_fields: usize, rows: &RecordBatch) -> Result<Vec<Held>> {
    let columns: Vec<usize> = (1 + key_fields..rows.num_columns()).collect();
    let rows = rows.project(&columns).map_err(super::broken)?;
    let held = rows_as_json(&rows)?.into_iter().map(|row| {
        // A state is a value; timers, windows and entries of large states are rows.
        let value = match row.len() {
            1 => row.into_iter().next().map_or(Value::Null, |(_, value)| value),
            _ => Value::Object(row),
        };
        Held {
            state: state.to_owned(),
            whole,
            value,
        }
    });
    Ok(held.collect())
}
