//! The sink: rows and marks of the write-ahead log, in transactions of one database.
//!
//! ```text
//! BEGIN IMMEDIATE
//!   this entry's number, or a later one, in millrace_marks?   then it is there
//!   INSERT INTO table ... [ON CONFLICT (key) DO UPDATE]       row by row
//!   INSERT INTO millrace_marks ...
//! COMMIT
//! ```
//!
//! SQLite has one writer at a time: subtasks take turns, and other processes are waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use millrace_core::connector::{Committable, Delivery, Options, Sink, SinkContext, SinkWriter, SubtaskContext};
use millrace_core::{Error, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};

use super::values::{self, Column};
use super::{columns, failed, misfit, open, quoted};
use crate::identity;
use crate::write_ahead::{self, Applied, Limits, LogWriter, Mark, Target};

const BATCH_ROWS_DEFAULT: usize = 10_000;
const LOG_BYTES_DEFAULT: usize = 64 << 20;

const MAKE_MARKS: &str = "CREATE TABLE IF NOT EXISTS millrace_marks (
    sink TEXT NOT NULL, subtask INTEGER NOT NULL, log TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (sink, subtask, log)) WITHOUT ROWID";

/// See the module's documentation.
pub(super) struct SqliteSink(Arc<Shared>);

struct Shared {
    path: String,
    table: String,
    /// Columns over which rows replace others; none: they are added.
    key: Vec<String>,
    create: bool,
    limits: Limits,
    schema: SchemaRef,
    /// Which sink of which job.
    identity: String,
    turn: Mutex<()>,
    /// Rows that were written.
    rows: Arc<AtomicU64>,
}

impl SqliteSink {
    /// From the options in the pipeline.
    pub(super) fn new(mut options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Self> {
        let path = options.required("path")?;
        let table = options.required("table")?;
        let key = options.text("key").unwrap_or_default();
        let key: Vec<String> = key.split(',').map(|name| name.trim().to_owned()).collect();
        let key: Vec<String> = key.into_iter().filter(|name| !name.is_empty()).collect();
        let create = options.parsed("create", "`true` or `false`")?.unwrap_or(false);
        let limits = Limits {
            rows_per_entry: options
                .parsed("batch.rows", "a number of rows")?
                .unwrap_or(BATCH_ROWS_DEFAULT),
            bytes_max: options
                .parsed("log.bytes", "a number of bytes")?
                .unwrap_or(LOG_BYTES_DEFAULT),
            otherwise: "or raise option `log.bytes`",
        };
        let id = options.text("id").unwrap_or_default();
        options.finish()?;
        if limits.rows_per_entry == 0 || limits.bytes_max == 0 {
            return Err(misfit(&path, "options `batch.rows` and `log.bytes` must be above 0"));
        }
        values::check(&path, &schema)?;
        if schema.fields().is_empty() {
            return Err(misfit(&path, "rows without columns cannot be written to a table"));
        }
        if let Some(name) = key.iter().find(|name| schema.column_with_name(name).is_none()) {
            return Err(misfit(&path, &format!("option `key`: there is no column `{name}`")));
        }
        Ok(SqliteSink(Arc::new(Shared {
            identity: format!("{}:{}", identity::job(context), identity::hash(context, &id)),
            path,
            table,
            key,
            create,
            limits,
            schema,
            turn: Mutex::default(),
            rows: Arc::default(),
        })))
    }
}

impl Shared {
    fn open(&self) -> Result<Connection> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, self.create);
        open(&self.path, flags)
    }

    /// The statement that makes the table.
    fn create(&self) -> String {
        let column = |field: &arrow_schema::FieldRef| {
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            format!("{} {}{null}", quoted(field.name()), values::declared(field.data_type()))
        };
        let mut parts: Vec<String> = self.schema.fields().iter().map(column).collect();
        if !self.key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(&self.key)));
        }
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({})",
            quoted(&self.table),
            parts.join(", ")
        )
    }

    /// The statement that writes a row of this schema.
    fn insert(&self, schema: &Schema) -> String {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let marks: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
        let mut statement = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            quoted(&self.table),
            list(&names),
            marks.join(", ")
        );
        if !self.key.is_empty() {
            let others = names.iter().filter(|name| !self.key.iter().any(|key| key == *name));
            let sets: Vec<String> = others.map(|name| format!("{0} = excluded.{0}", quoted(name))).collect();
            let action = match sets.is_empty() {
                true => "NOTHING".to_owned(),
                false => format!("UPDATE SET {}", sets.join(", ")),
            };
            statement.push_str(&format!(" ON CONFLICT ({}) DO {action}", list(&self.key)));
        }
        statement
    }

    fn unwritten(&self, error: &rusqlite::Error) -> Error {
        use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch};
        let table = &self.table;
        match error.sqlite_error_code() {
            Some(ConstraintViolation | TypeMismatch) => {
                let message = format!(
                    "SQLite database `{}`: a row does not go into table `{table}`: {error}",
                    self.path
                );
                Error::pipeline("RW0106", message)
            }
            _ => failed(&self.path, &format!("table `{table}` cannot be written"), error),
        }
    }
}

fn list(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quoted(name.as_ref())).collect();
    quoted.join(", ")
}

impl Sink for SqliteSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self) -> Result<()> {
        let shared = &self.0;
        let (path, table) = (&shared.path, &shared.table);
        let connection = shared.open()?;
        if shared.create {
            let made = connection.execute(&shared.create(), []);
            made.map_err(|error| failed(path, &format!("table `{table}` cannot be made"), &error))?;
        }
        let columns = columns(&connection, path, table)?;
        let missing =
            |field: &&arrow_schema::FieldRef| !columns.iter().any(|name| name.eq_ignore_ascii_case(field.name()));
        if let Some(field) = shared.schema.fields().iter().find(missing) {
            let what = format!(
                "table `{table}` has no column `{}`; it has: {}",
                field.name(),
                columns.join(", ")
            );
            return Err(misfit(path, &what));
        }
        let prepared = connection.prepare(&shared.insert(&shared.schema));
        prepared.map_err(|error| misfit(path, &format!("rows cannot be written to table `{table}`: {error}")))?;
        let made = connection.execute(MAKE_MARKS, []);
        made.map_err(|error| failed(path, "the table of marks, millrace_marks, cannot be made", &error))?;
        Ok(())
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        match prepared.is_empty() {
            true => Ok(()),
            false => write_ahead::recover(&mut Writer::new(&self.0)?, prepared),
        }
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let target = Writer::new(&self.0)?;
        let (limits, rows) = (self.0.limits, self.0.rows.clone());
        Ok(Box::new(LogWriter::new(target, context.subtask, limits, rows)))
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("rows".into(), self.0.rows.load(Ordering::Relaxed).to_string())]
    }
}

/// Writes entries of the log.
struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
}

impl Writer {
    fn new(shared: &Arc<Shared>) -> Result<Self> {
        let connection = shared.open()?;
        // A transaction is bounded by its entry of the log. Pages that leave memory before its end cost a sync each.
        let set = connection.execute_batch("PRAGMA cache_spill = OFF");
        set.map_err(|error| failed(&shared.path, "it cannot be set up", &error))?;
        Ok(Writer {
            shared: shared.clone(),
            connection,
        })
    }

    /// Does something in a transaction, while no other subtask does.
    fn transact<T>(
        &mut self,
        step: impl FnOnce(&Shared, &Transaction<'_>) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let Writer { shared, connection } = self;
        let turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let done = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Failure::Sqlite)
            .and_then(|transaction| {
                let done = step(shared, &transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        drop(turn);
        done.map_err(|failure| match failure {
            Failure::Sqlite(error) => shared.unwritten(&error),
            Failure::Final(error) => error,
        })
    }
}

enum Failure {
    Sqlite(rusqlite::Error),
    Final(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

/// A log in the table of marks.
fn log(mark: Mark) -> String {
    format!("{:016x}", mark.log)
}

impl Target for Writer {
    fn apply(&mut self, mark: Mark, rows: &RecordBatch) -> Result<Applied> {
        self.transact(|shared, transaction| {
            let last: Option<i64> = transaction
                .query_row(
                    "SELECT number FROM millrace_marks WHERE sink = ?1 AND subtask = ?2 AND log = ?3",
                    params![shared.identity, mark.subtask, log(mark)],
                    |row| row.get(0),
                )
                .optional()?;
            let number = i64::try_from(mark.number).unwrap_or(i64::MAX);
            if last.is_some_and(|last| last >= number) {
                return Ok(Applied::Before);
            }
            let columns = Column::all(rows).map_err(Failure::Final)?;
            let mut insert = transaction.prepare(&shared.insert(&rows.schema()))?;
            for row in 0..rows.num_rows() {
                insert.execute(params_from_iter(columns.iter().map(|column| column.value(row))))?;
            }
            transaction.execute(
                "INSERT INTO millrace_marks (sink, subtask, log, number) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET number = excluded.number",
                params![shared.identity, mark.subtask, log(mark), number],
            )?;
            Ok(Applied::Now)
        })
    }

    fn forget_others(&mut self, last: &[Mark]) -> Result<()> {
        self.transact(|shared, transaction| {
            let mut marks = transaction.prepare("SELECT subtask, log FROM millrace_marks WHERE sink = ?1")?;
            let known = marks.query_map([&shared.identity], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let known: Vec<(u32, String)> = known.collect::<rusqlite::Result<_>>()?;
            for (subtask, its_log) in known {
                let of_subtask = || last.iter().filter(|mark| mark.subtask == subtask);
                if of_subtask().next().is_some() && of_subtask().all(|mark| log(*mark) != its_log) {
                    transaction.execute(
                        "DELETE FROM millrace_marks WHERE sink = ?1 AND subtask = ?2 AND log = ?3",
                        params![shared.identity, subtask, its_log],
                    )?;
                }
            }
            Ok(())
        })
    }
}
