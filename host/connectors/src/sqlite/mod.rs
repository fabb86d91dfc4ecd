//! The `sqlite` connector: tables of a database in a file.
//!
//! [`source`] reads a table by ranges of its rowids, [`keyed`] by keys. [`sink`] writes rows and the mark of their entry of the write-ahead
//! log in one transaction of the same database, so that each is there once. [`values`] turns columns into SQLite's
//! values; the other way goes by JSON lines.

mod keyed;
mod sink;
mod source;
mod values;

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use millrace_core::connector::{Connector, KeyedTable, Options, Sink, SinkContext, Source};
use millrace_core::{Error, Result};
use rusqlite::{Connection, OpenFlags};

/// Connector kind `sqlite`.
pub(crate) struct SqliteConnector;

impl Connector for SqliteConnector {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(source::SqliteSource::new(options, schema)?)))
    }

    fn keyed_table(&self, options: Options, schema: SchemaRef, key: &[usize]) -> Result<Option<Arc<dyn KeyedTable>>> {
        let table = keyed::SqliteTable::new(options, schema, key.to_vec())?;
        Ok(Some(Arc::new(table)))
    }

    fn sink(&self, options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(sink::SqliteSink::new(options, schema, context)?)))
    }
}

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the database.
fn open(path: &str, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| failed(path, "it cannot be opened", &error))?;
    let set = connection.busy_timeout(BUSY_TIMEOUT);
    set.map_err(|error| failed(path, "it cannot be opened", &error))?;
    Ok(connection)
}

fn failed(path: &str, what: &str, error: &rusqlite::Error) -> Error {
    Error::external("IO0160", format!("SQLite database `{path}`: {what}: {error}"))
}

fn misfit(path: &str, what: &str) -> Error {
    Error::user("CN0160", format!("SQLite database `{path}`: {what}"))
}

/// A name in a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns of a table or view, in order; an error if there is none of that name.
fn columns(connection: &Connection, path: &str, table: &str) -> Result<Vec<String>> {
    let fail = |error: rusqlite::Error| failed(path, &format!("table `{table}` cannot be looked up"), &error);
    let mut statement = connection
        .prepare("SELECT name FROM pragma_table_info(?1)")
        .map_err(fail)?;
    let names = statement.query_map([table], |row| row.get(0)).map_err(fail)?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>().map_err(fail)?;
    match names.is_empty() {
        false => Ok(names),
        true => Err(misfit(path, &format!("there is no table `{table}` (option `table`)"))),
    }
}

#[cfg(test)]
mod tests;
