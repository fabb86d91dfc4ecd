//! A table that is asked for rows by key.
//!
//! All keys of a block go into one statement, as arrays of text that the server casts to the types of its columns; rows come
//! back as JSON, which is read as JSON lines are, and sorted, so that those of a key have an order. With an index over the key
//! columns that is a probe for each key.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use millrace_core::connector::{KeyedReader, KeyedTable, Options, Rows};
use millrace_core::{Error, Result};
use postgres::types::ToSql;
use postgres::{Client, Statement};

use super::server::{Server, quoted};
use super::settings::Access;
use super::table::{self, Column, SqlType};
use crate::format::{Format, json_texts, ndjson_rows};

/// By this name the server's people know who asks.
const CONNECTION_NAME: &str = "millrace lookup";

/// A server that does not answer holds rows up no longer than this; the job's restart strategy decides then.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '30s'";

struct Settings {
    access: Access,
    table: String,
    /// Condition for rows to be found.
    filter: Option<String>,
    schema: SchemaRef,
    key: Vec<usize>,
}

/// See the module's documentation.
pub(super) struct PostgresTable(Arc<Settings>);

impl PostgresTable {
    pub(super) fn new(mut options: Options, schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let access = Access::take(&mut options)?;
        let table = options.required("table")?;
        let filter = options.text("where");
        options.finish()?;
        Format::Ndjson.check_schema(&schema)?;
        Ok(PostgresTable(Arc::new(Settings {
            access,
            table,
            filter,
            schema,
            key,
        })))
    }

    fn reader(&self) -> Result<Reader> {
        let settings = self.0.clone();
        let server = Server::parse(&settings.access)?;
        let mut client = server.connect(CONNECTION_NAME)?;
        let failed = |error: postgres::Error| {
            let what = format!("table `{}` cannot be asked", settings.table);
            server.error(&what, &error)
        };
        client.batch_execute(STATEMENT_TIMEOUT).map_err(failed)?;
        let columns = table::columns(&mut client, &server, &table::name(&settings.table)?)?;
        let statement = client.prepare(&settings.statement(&columns)?).map_err(failed)?;
        Ok(Reader {
            settings,
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

impl Settings {
    fn misfit(&self, message: &str) -> Error {
        Error::user("CN0122", format!("table `{}` {message}", self.table))
    }

    /// The statement that asks for all rows with some keys.
    fn statement(&self, columns: &[Column]) -> Result<String> {
        if columns.is_empty() {
            return Err(self.misfit("does not exist"));
        }
        let find = |name: &str| columns.iter().find(|column| column.name == name);
        let mut wanted = Vec::new();
        for field in self.schema.fields() {
            match find(field.name()) {
                Some(column) => wanted.push(read_as(column, field.data_type())),
                None if field.is_nullable() => {}
                None => {
                    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                    let names = names.join("`, `");
                    return Err(self.misfit(&format!("has no column `{}`; it has `{names}`", field.name())));
                }
            }
        }
        let (mut keys, mut arrays) = (Vec::new(), Vec::new());
        for (number, column_of) in (1..).zip(&self.key) {
            let name = self.schema.field(*column_of).name();
            let column =
                find(name).ok_or_else(|| self.misfit(&format!("has no column `{name}`, by which it is asked")))?;
            keys.push(quoted(name));
            let compared = compared_as(column, self.schema.field(*column_of).data_type());
            let compared = compared.ok_or_else(|| {
                self.misfit(&format!(
                    "has column `{name}` of type {}, which is no key",
                    column.type_name
                ))
            })?;
            arrays.push(format!("${number}::text[]::{compared}[]"));
        }
        let table = table::name(&self.table)?;
        let (wanted, keys, arrays) = (wanted.join(", "), keys.join(", "), arrays.join(", "));
        let filter = self.filter.as_deref().unwrap_or("TRUE");
        Ok(format!(
            "SELECT row_to_json(found)::text FROM (SELECT {wanted} FROM {table} \
             WHERE ({keys}) IN (SELECT * FROM unnest({arrays})) AND ({filter})) found"
        ))
    }
}

/// A column as JSON lines have it.
fn read_as(column: &Column, data_type: &DataType) -> String {
    let name = quoted(&column.name);
    match (column.sql_type, data_type) {
        (Some(SqlType::Bytea), _) => format!("encode({name}, 'hex') AS {name}"),
        (Some(SqlType::Uuid), DataType::FixedSizeBinary(_)) => format!("replace({name}::text, '-', '') AS {name}"),
        (_, DataType::Utf8) => format!("{name}::text AS {name}"),
        (_, _) => name,
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
    settings: Arc<Settings>,
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
        let found = self.client.query(&self.statement, &parameters).map_err(|error| {
            let what = format!("table `{}` cannot be asked", self.settings.table);
            self.server.error(&what, &error)
        })?;
        let mut lines: Vec<&str> = found.iter().map(|row| row.get(0)).collect();
        lines.sort_unstable();
        // A line end within a row is between members, in a column of type json: within text it is escaped.
        let text: String = lines.iter().map(|line| line.replace('\n', " ") + "\n").collect();
        let bytes = text.len() as u64;
        let (rows, mut rejected) = ndjson_rows(text.into_bytes(), lines.len(), &self.settings.schema)?;
        for row in &mut rejected {
            row.place = format!("table {}", self.settings.table);
        }
        Ok(Rows { rows, rejected, bytes })
    }
}
