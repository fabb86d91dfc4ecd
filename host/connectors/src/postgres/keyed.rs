//! A table that is asked for rows by key.
//!
//! All keys of a block go into one statement, as arrays of text that the server casts to the types of its columns; rows that
//! come back are sorted, so that those of a key have an order. With an index over the key columns that is a probe for each key.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use millrace_core::connector::{KeyedReader, KeyedTable, Options, Rows};
use millrace_core::{Error, Result};
use postgres::types::ToSql;
use postgres::{Client, Statement};

use super::read::Settings;
use super::server::{Server, quoted};
use super::table::{Column, SqlType};
use crate::format::json_texts;

/// A server that does not answer holds rows up no longer than this; the job's restart strategy decides then.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '30s'";

struct Asked {
    settings: Settings,
    /// Columns of the rows.
    key: Vec<usize>,
}

/// See the module's documentation.
pub(super) struct PostgresTable(Arc<Asked>);

impl PostgresTable {
    pub(super) fn new(options: Options, schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let settings = Settings::take(options, schema)?;
        Ok(PostgresTable(Arc::new(Asked { settings, key })))
    }

    fn reader(&self) -> Result<Reader> {
        let Asked { settings, .. } = &*self.0;
        let (server, mut client) = settings.connect()?;
        let failed = |error: postgres::Error| settings.failed(&server, &error);
        client.batch_execute(STATEMENT_TIMEOUT).map_err(failed)?;
        let columns = settings.columns(&server, &mut client)?;
        let condition = self.0.condition(&columns)?;
        let statement = client
            .prepare(&settings.statement(&columns, &condition)?)
            .map_err(failed)?;
        Ok(Reader {
            asked: self.0.clone(),
            server,
            client,
            statement,
        })
    }
}

impl KeyedTable for PostgresTable {
    fn check(&self) -> Result<()> {
        self.reader().map(drop)
    }

    fn open(&self) -> Result<Box<dyn KeyedReader>> {
        Ok(Box::new(self.reader()?))
    }
}

impl Asked {
    /// Which rows have some keys.
    fn condition(&self, columns: &[Column]) -> Result<String> {
        let (mut keys, mut arrays) = (Vec::new(), Vec::new());
        for (number, column_of) in (1..).zip(&self.key) {
            let field = self.settings.schema.field(*column_of);
            let name = field.name();
            let misfit = |message: String| self.settings.misfit(&message);
            let column = columns.iter().find(|column| column.name == *name);
            let column = column.ok_or_else(|| misfit(format!("has no column `{name}`, by which it is asked")))?;
            keys.push(quoted(name));
            let compared = compared_as(column, field.data_type());
            let compared = compared.ok_or_else(|| {
                misfit(format!(
                    "has column `{name}` of type {}, which is no key",
                    column.type_name
                ))
            })?;
            arrays.push(format!("${number}::text[]::{compared}[]"));
        }
        let (keys, arrays) = (keys.join(", "), arrays.join(", "));
        Ok(format!("({keys}) IN (SELECT * FROM unnest({arrays}))"))
    }
}

/// The type as which keys are compared with a column: one that has all of them, so that a number that is too large for the
/// column finds nothing and is no error.
fn compared_as<'c>(column: &'c Column, data_type: &DataType) -> Option<&'c str> {
    match (column.sql_type?, data_type) {
        (_, DataType::UInt64) => Some("numeric"),
        (_, integer) if integer.is_integer() => Some("bigint"),
        (SqlType::Text, DataType::Utf8) => Some("text"),
        (SqlType::Uuid, DataType::FixedSizeBinary(_)) => None,
        (_, _) => Some(&column.type_name),
    }
}

struct Reader {
    asked: Arc<Asked>,
    server: Server,
    client: Client,
    statement: Statement,
}

impl Reader {
    /// Keys as the server reads them, a list for each column.
    fn texts(&self, keys: &RecordBatch) -> Result<Vec<Vec<String>>> {
        let schema = keys.schema();
        let columns = keys.columns().iter().zip(schema.fields());
        let texts = columns.map(|(column, field)| {
            let texts = json_texts(column, field)
                .map_err(|error| Error::internal(format!("keys cannot be written as text: {error}")))?;
            let is_bytes = matches!(field.data_type(), DataType::Binary | DataType::FixedSizeBinary(_));
            let is_text = *field.data_type() == DataType::Utf8;
            let text = |row: usize| match (texts.value(row), is_bytes) {
                (text, false) if is_text => text.to_owned(),
                (text, false) => text.trim_matches('"').to_owned(),
                (text, true) => format!("\\x{}", text.trim_matches('"')),
            };
            Ok((0..texts.len()).map(text).collect())
        });
        texts.collect()
    }
}

impl KeyedReader for Reader {
    fn find(&mut self, keys: &RecordBatch) -> Result<Rows> {
        let texts = self.texts(keys)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
        let settings = &self.asked.settings;
        let found = self.client.query(&self.statement, &parameters);
        let found = found.map_err(|error| settings.failed(&self.server, &error))?;
        settings.rows(&found, true)
    }
}
