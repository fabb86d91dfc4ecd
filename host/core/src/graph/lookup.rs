//! Lookups of rows in tables: what a pipeline declares of them, and what rows look like before and after.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::graph::{ConnectorConfig, RejectPolicy};
use crate::key::check_key_schema;
use crate::schema::Hints;

/// What the host has of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TableAccess {
    /// All of it, in memory.
    Full {
        /// How often it is read anew if it may have changed; `None`: never.
        refresh_ms: Option<u64>,
        /// Bytes that it may take.
        bytes_max: u64,
    },
    /// Answers to keys that rows had.
    Cached {
        /// How many rows.
        rows_max: u64,
        /// After how long a key is asked for again.
        expire_after_ms: Option<u64>,
        /// Whether it is remembered that there are none of a key.
        remembers_missing: bool,
    },
    /// Nothing.
    Uncached,
}

/// A table, and how rows are looked up in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookupDecl {
    /// Where the table is.
    pub connector: ConnectorConfig,
    /// Its rows.
    #[serde(skip)]
    pub table: SchemaRef,
    /// What their fields say of themselves: the variants of enums.
    #[serde(skip)]
    pub table_hints: Vec<Hints>,
    /// Its key columns.
    pub key: Vec<u32>,
    /// What of it is in memory.
    pub access: TableAccess,
    /// Rows that find none go on.
    pub outer: bool,
    /// Rows of the table that cannot be read: never a dead letter.
    pub on_reject: RejectPolicy,
    /// Rows that come out.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// What its fields say of themselves.
    #[serde(skip)]
    pub hints: Vec<Hints>,
}

/// Columns that keys are made of.
#[derive(Debug, Clone)]
pub struct KeyColumns {
    /// In the order of the table's key columns.
    pub columns: Vec<ArrayRef>,
    /// Keys that are null as a whole.
    pub nulls: Option<NullBuffer>,
}

impl KeyColumns {
    /// Whether the key of a row, or a member of it, is null: then it is the key of nothing.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
            || self.columns.iter().any(|column| column.is_null(row))
    }
}

impl LookupDecl {
    /// Checks that rows come in and go out as they should.
    ///
    /// # Errors
    /// `GR0021` that says what is wrong.
    pub fn check(&self, input: &Schema) -> Result<()> {
        let refuse = |why: String| Err(Error::user("GR0021", format!("lookup: {why}")));
        let key = self.key_schema()?;
        check_key_schema(&key).map_err(|error| error.context("the key of the table"))?;
        let ([row, asked], [passed, found]) = (input.fields().as_ref(), self.schema.fields().as_ref()) else {
            return refuse("rows have two columns, before and after".to_owned());
        };
        if row.data_type() != passed.data_type() || row.is_nullable() || passed.is_nullable() {
            return refuse("the first column goes out as it comes in, and is not nullable".to_owned());
        }
        if !is_key(asked.data_type(), &key) {
            return refuse(format!(
                "the key of rows is {}, and that of the table {}",
                asked.data_type(),
                DataType::Struct(key.fields().clone())
            ));
        }
        if *found.data_type() != DataType::Struct(self.table.fields().clone()) || found.is_nullable() != self.outer {
            return refuse(
                "the second column of rows that go out is a row of the table, nullable if it may be missing".to_owned(),
            );
        }
        if matches!(self.on_reject, RejectPolicy::DeadLetter(_)) {
            return refuse("rows of a table that cannot be read fail the job or are skipped".to_owned());
        }
        match self.access {
            TableAccess::Full {
                refresh_ms: Some(0), ..
            } => refuse("a table is read again after 1 ms at least".to_owned()),
            TableAccess::Cached { rows_max: 0, .. } => refuse("a cache has room for 1 row at least".to_owned()),
            TableAccess::Full { .. } | TableAccess::Cached { .. } | TableAccess::Uncached => Ok(()),
        }
    }

    /// The key columns of the table.
    ///
    /// # Errors
    /// `GR0021` if it has no such columns.
    pub fn key_schema(&self) -> Result<Schema> {
        let field =
            |column: &u32| -> Option<Field> { Some(self.table.fields().get(*column as usize)?.as_ref().clone()) };
        let fields: Option<Vec<Field>> = self.key.iter().map(field).collect();
        match fields.filter(|fields| !fields.is_empty()) {
            Some(fields) => Ok(Schema::new(fields)),
            None => Err(Error::user("GR0021", "lookup: the table has no such key columns")),
        }
    }

    /// The columns of keys, of the column with the keys of rows.
    pub fn keys_of_rows(&self, keys: &ArrayRef) -> KeyColumns {
        let is_plain = match (self.key.as_slice(), self.table.fields()) {
            ([column], fields) => fields[*column as usize].data_type() == keys.data_type(),
            (_, _) => false,
        };
        if is_plain {
            return KeyColumns {
                columns: vec![keys.clone()],
                nulls: None,
            };
        }
        let members = keys.as_struct();
        KeyColumns {
            columns: members.columns().to_vec(),
            nulls: members.nulls().cloned(),
        }
    }
}

/// Whether keys of rows are of the type of the table's.
fn is_key(asked: &DataType, key: &Schema) -> bool {
    let members = |fields: &[arrow_schema::FieldRef]| {
        let mut pairs = fields.iter().zip(key.fields());
        fields.len() == key.fields().len() && pairs.all(|(a, b)| a.data_type() == b.data_type())
    };
    match (asked, key.fields().as_ref()) {
        (asked, [one]) if asked == one.data_type() => true,
        (DataType::Struct(fields), _) => members(fields),
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Fields;

    use super::*;

    fn declared(key: Vec<u32>) -> LookupDecl {
        let table = Fields::from(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("region", DataType::Utf8, true),
            Field::new("price", DataType::Float64, false),
        ]);
        LookupDecl {
            connector: ConnectorConfig {
                kind: "files".into(),
                options: Vec::new(),
            },
            table: Arc::new(Schema::new(table.clone())),
            table_hints: Vec::new(),
            key,
            access: TableAccess::Uncached,
            outer: true,
            on_reject: RejectPolicy::Fail,
            schema: Arc::new(Schema::new(vec![
                Field::new("0", DataType::Int32, false),
                Field::new("1", DataType::Struct(table), true),
            ])),
            hints: Vec::new(),
        }
    }

    fn input(key: DataType) -> Schema {
        Schema::new(vec![
            Field::new("0", DataType::Int32, false),
            Field::new("1", key, true),
        ])
    }

    fn pair(first: DataType, second: DataType) -> DataType {
        DataType::Struct(Fields::from(vec![
            Field::new("0", first, false),
            Field::new("1", second, false),
        ]))
    }

    #[test]
    fn keys_are_of_the_tables_types() {
        let check = |key: &[u32], asked: DataType, expect: Option<&str>| {
            let checked = declared(key.to_vec()).check(&input(asked));
            let message = checked.err().map(|error| error.to_string());
            match (expect, &message) {
                (None, None) => {}
                (Some(part), Some(message)) => assert!(message.contains(part), "{message}"),
                (_, _) => panic!("{expect:?}, and {message:?}"),
            }
        };
        check(&[0], DataType::Int64, None);
        check(&[0, 1], pair(DataType::Int64, DataType::Utf8), None);
        check(&[0], DataType::Utf8, Some("the key of rows is Utf8"));
        check(&[0, 1], pair(DataType::Utf8, DataType::Int64), Some("the key of rows"));
        check(&[0, 1], DataType::Int64, Some("the key of rows"));
        check(&[2], DataType::Float64, Some("`price`"));
        check(&[3], DataType::Int64, Some("no such key columns"));
        check(&[], DataType::Int64, Some("no such key columns"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |change: fn(&mut LookupDecl), part: &str| {
            let mut declared = declared(vec![0]);
            change(&mut declared);
            let error = declared.check(&input(DataType::Int64)).unwrap_err();
            assert_eq!(error.code(), "GR0021");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(|lookup| lookup.outer = false, "nullable if it may be missing");
        check(
            |lookup| lookup.on_reject = RejectPolicy::DeadLetter("x".into()),
            "fail the job or are skipped",
        );
        check(
            |lookup| {
                lookup.access = TableAccess::Cached {
                    rows_max: 0,
                    expire_after_ms: None,
                    remembers_missing: true,
                }
            },
            "room for 1 row",
        );
        check(
            |lookup| {
                lookup.access = TableAccess::Full {
                    refresh_ms: Some(0),
                    bytes_max: 1,
                }
            },
            "1 ms at least",
        );
    }
}
