//! Mode `upsert`: rows replace those with the same key.
//!
//! Rows are copied into a temporary table and go from there into the real one in one statement, of several with the
//! same key the last. They go in the order of their keys: two subtasks that write the same rows wait for each
//! other, but not both at once. Nothing is left to commit, so nothing is in the checkpoint: what was written after
//! it is written again after a restart, with the same result.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use millrace_core::connector::{Committable, Elapsed, SinkWriter};
use millrace_core::{Error, Result};
use postgres::Client;

use super::encode::Copy;
use super::server::{Server, quoted};
use super::settings::{BATCH_BYTES_MAX, Settings};
use super::sink::Shared;
use super::table::{self, SqlType};
use super::two_phase::copy_in;

/// The temporary table, and its column for the order in which rows came.
const STAGE: &str = "pg_temp.millrace_rows";
const ORDER: &str = "\"millrace order\"";

/// Writes for one subtask.
pub(super) struct Upsert {
    shared: Arc<Shared>,
    server: Server,
    client: Client,
    types: Vec<SqlType>,
    copy_statement: String,
    merge_statement: String,
    copy: Copy,
    bytes: u64,
    poisoned: bool,
}

impl Upsert {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: &[String],
        server: Server,
        mut client: Client,
        types: Vec<SqlType>,
    ) -> Result<Self> {
        let table = table::name(&shared.settings.table)?;
        let columns = table::list(&table::names(&shared.schema));
        let make = format!(
            "CREATE TEMPORARY TABLE millrace_rows ON COMMIT DELETE ROWS AS \
             SELECT {columns}, 0::bigint AS {ORDER} FROM {table} WITH NO DATA"
        );
        client
            .batch_execute(&make)
            .map_err(|error| server.error("a temporary table cannot be made", &error))?;
        Ok(Upsert {
            copy_statement: format!("COPY {STAGE} ({columns}, {ORDER}) FROM STDIN (FORMAT binary)"),
            merge_statement: merge(
                &table,
                &shared.schema,
                key,
                &format!("{STAGE} ORDER BY {}, {ORDER} DESC", table::list(key)),
            ),
            shared,
            server,
            client,
            types,
            copy: Copy::new(true),
            bytes: 0,
            poisoned: false,
        })
    }

    fn send(&mut self) -> Result<()> {
        if self.poisoned {
            let table = &self.shared.settings.table;
            let message = format!("rows cannot be written to table `{table}`: an earlier write failed");
            return Err(Error::external("IO0123", message));
        }
        if self.copy.rows() == 0 {
            return Ok(());
        }
        let rows = self.copy.rows() as u64;
        let bytes = self.copy.finished();
        let sent = self
            .client
            .batch_execute("BEGIN")
            .and_then(|()| copy_in(&mut self.client, &self.copy_statement, bytes))
            .and_then(|_| self.client.batch_execute(&self.merge_statement))
            .and_then(|()| self.client.batch_execute("COMMIT"));
        self.bytes += bytes.len() as u64;
        self.copy.clear();
        if let Err(error) = sent {
            self.poisoned = true;
            let what = format!("rows cannot be written to table `{}`", self.shared.settings.table);
            return Err(self.server.error(&what, &error));
        }
        self.shared.rows.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }
}

/// The statement that takes rows over; `from` is a table and their order.
fn merge(table: &str, schema: &Schema, key: &[String], from: &str) -> String {
    let names = table::names(schema);
    let (columns, key_list) = (table::list(&names), table::list(key));
    let others = names.iter().filter(|name| !key.iter().any(|key| key == *name));
    let updates = others.map(|name| format!("{0} = EXCLUDED.{0}", quoted(name)));
    let updates = updates.collect::<Vec<_>>().join(", ");
    let action = if updates.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {updates}")
    };
    format!(
        "INSERT INTO {table} ({columns}) SELECT DISTINCT ON ({key_list}) {columns} FROM {from} \
         ON CONFLICT ({key_list}) DO {action}"
    )
}

/// The table must have a unique index over the key, and the user the right to replace rows.
pub(super) fn check(
    client: &mut Client,
    server: &Server,
    settings: &Settings,
    key: &[String],
    schema: &Schema,
) -> Result<()> {
    let table = table::name(&settings.table)?;
    let from = format!("{table} ORDER BY {}", table::list(key));
    let explain = format!("EXPLAIN {}", merge(&table, schema, key, &from));
    match client.simple_query(&explain) {
        Ok(_) => Ok(()),
        Err(error) if super::server::is(&error, &postgres::error::SqlState::INVALID_COLUMN_REFERENCE) => {
            let message = format!(
                "table `{}` has no primary key or unique index over exactly the key columns ({})",
                settings.table,
                key.join(", ")
            );
            Err(Error::user("CN0122", message))
        }
        Err(error) => Err(server.error(&format!("table `{}` cannot be written", settings.table), &error)),
    }
}

impl SinkWriter for Upsert {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        self.copy.append(rows, &self.types)?;
        if self.copy.rows() >= self.shared.settings.batch_rows || self.copy.len() >= BATCH_BYTES_MAX {
            self.send()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.send()
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.send()?;
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _: &[Committable]) -> Result<()> {
        self.copy.clear();
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
