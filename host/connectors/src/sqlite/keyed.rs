//! A table that is asked for rows by key.
//!
//! The keys of a block go into one statement, or into few: `WHERE "id" IN (?, ?, ...)`. Rows come as JSON lines, as those of the
//! source, and are sorted, so that those of a key have an order.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{KeyedReader, KeyedTable, Options, Rows};
use rusqlite::{Connection, params_from_iter};

use super::source::{Settings, append_line};
use super::values::{self, Column};
use super::{misfit, quoted};
use crate::format::ndjson_rows;

/// Keys in a statement, in which SQLite takes some 32,000 parameters.
const KEYS_MAX: usize = 2048;

/// See the module's documentation.
pub(super) struct SqliteTable {
    settings: Arc<Settings>,
    key: Vec<usize>,
}

impl SqliteTable {
    pub(super) fn new(options: Options, schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let settings = Arc::new(Settings::take(options, schema)?);
        Ok(SqliteTable { settings, key })
    }

    fn reader(&self) -> Result<Reader> {
        let connection = self.settings.open()?;
        let present = self.settings.present(&connection)?;
        let columns = self.settings.columns(&present);
        Ok(Reader {
            settings: self.settings.clone(),
            key: self.key.clone(),
            connection,
            columns,
        })
    }
}

impl KeyedTable for SqliteTable {
    fn check(&self) -> Result<()> {
        let Settings {
            path, table, schema, ..
        } = self.settings.as_ref();
        let reader = self.reader()?;
        let keys = schema.project(&self.key);
        values::check(path, &keys.map_err(super::values::broken)?)?;
        let prepared = reader.connection.prepare(&reader.statement(1));
        let prepared = prepared.map(drop);
        prepared.map_err(|error| {
            let what = format!("table `{table}` cannot be asked by key with option `where`, if there is one: {error}");
            misfit(path, &what)
        })
    }

    fn open(&self) -> Result<Box<dyn KeyedReader>> {
        Ok(Box::new(self.reader()?))
    }
}

struct Reader {
    settings: Arc<Settings>,
    key: Vec<usize>,
    connection: Connection,
    /// The declared columns in a statement.
    columns: String,
}

impl Reader {
    /// The statement that asks for so many keys.
    fn statement(&self, keys: usize) -> String {
        let Settings {
            table, filter, schema, ..
        } = self.settings.as_ref();
        let names = self.key.iter().map(|column| quoted(schema.field(*column).name()));
        let names = names.collect::<Vec<_>>().join(", ");
        let one = vec!["?"; self.key.len()].join(", ");
        let keys = match self.key.len() {
            1 => vec![one; keys].join(", "),
            _ => format!("VALUES {}", vec![format!("({one})"); keys].join(", ")),
        };
        let (columns, table) = (&self.columns, quoted(table));
        let filter = filter.as_deref().unwrap_or("TRUE");
        format!("SELECT {columns} FROM {table} WHERE ({names}) IN ({keys}) AND ({filter})")
    }

    /// The rows of some keys, as JSON lines.
    fn ask(&self, columns: &[Column], keys: std::ops::Range<usize>, lines: &mut Vec<Vec<u8>>) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&self.statement(keys.len()))?;
        let cells = keys.flat_map(|row| columns.iter().map(move |column| column.value(row)));
        let mut rows = statement.query(params_from_iter(cells))?;
        while let Some(row) = rows.next()? {
            let mut line = Vec::new();
            append_line(&self.settings.schema, row, 0, &mut line)?;
            lines.push(line);
        }
        Ok(())
    }
}

impl KeyedReader for Reader {
    fn find(&mut self, keys: &RecordBatch) -> Result<Rows> {
        let columns = Column::all(keys)?;
        let mut lines = Vec::new();
        let count = keys.num_rows();
        for start in (0..count).step_by(KEYS_MAX) {
            let asked = self.ask(&columns, start..count.min(start + KEYS_MAX), &mut lines);
            asked.map_err(|error| self.settings.failed(&error))?;
        }
        lines.sort_unstable();
        let bytes = lines.iter().map(Vec::len).sum::<usize>() as u64;
        let (rows, mut rejected) = ndjson_rows(lines.concat(), lines.len(), &self.settings.schema)?;
        for row in &mut rejected {
            row.place = format!("{} table {}", self.settings.path, self.settings.table);
        }
        Ok(Rows { rows, rejected, bytes })
    }
}
