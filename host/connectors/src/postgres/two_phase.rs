//! Mode `exactly-once`: a transaction per subtask and checkpoint.
//!
//! ```text
//! write       BEGIN, COPY, COPY ...              as soon as there are rows
//! pre_commit  COPY, PREPARE TRANSACTION 'name'   durable, not visible; the name goes into the checkpoint
//! commit      COMMIT PREPARED 'name'             on a connection of its own, for the next transaction is under way
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use millrace_core::connector::{Committable, Elapsed, SinkWriter};
use millrace_core::{Error, Result};
use postgres::{Client, SimpleQueryMessage};

use super::encode::Copy;
use super::server::Server;
use super::settings::BATCH_BYTES_MAX;
use super::sink::Shared;
use super::table::{self, SqlType};
use super::transactions;

/// Writes for one subtask.
pub(super) struct TwoPhase {
    shared: Arc<Shared>,
    subtask: u32,
    server: Server,
    types: Vec<SqlType>,
    statement: String,
    /// Where the transaction is.
    client: Client,
    /// The transaction that is open: its name, and the rows sent.
    open: Option<(String, u64)>,
    copy: Copy,
    /// For everything about prepared transactions.
    control: Option<Client>,
    /// Rows of each transaction that is prepared.
    prepared: BTreeMap<String, u64>,
    bytes: u64,
    /// Something failed: what is in the transaction is not known, and it may not be prepared.
    poisoned: bool,
}

impl TwoPhase {
    pub(super) fn new(
        shared: Arc<Shared>,
        subtask: u32,
        server: Server,
        client: Client,
        types: Vec<SqlType>,
    ) -> Result<Self> {
        let table = table::name(&shared.settings.table)?;
        let columns = table::list(&table::names(&shared.schema));
        Ok(TwoPhase {
            statement: format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)"),
            shared,
            subtask,
            server,
            types,
            client,
            open: None,
            copy: Copy::new(false),
            control: None,
            prepared: BTreeMap::new(),
            bytes: 0,
            poisoned: false,
        })
    }

    fn error(&self, error: &postgres::Error) -> Error {
        let what = format!("rows cannot be written to table `{}`", self.shared.settings.table);
        self.server.error(&what, error)
    }

    fn begin(&mut self) -> Result<()> {
        if self.client.is_closed() {
            // Nothing was lost with it: there was no transaction.
            let name = self.shared.identity.connection(&self.subtask.to_string());
            self.client = self.server.connect(&name)?;
        }
        let answers = self.client.simple_query("BEGIN; SELECT txid_current()");
        let answers = answers.map_err(|error| self.error(&error))?;
        let number = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        let number = number.ok_or_else(|| Error::internal("the server gave the transaction no number"))?;
        self.open = Some((self.shared.identity.transaction(self.subtask, number), 0));
        Ok(())
    }

    /// Sends the rows that wait.
    fn send(&mut self) -> Result<()> {
        if self.copy.rows() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            self.begin()?;
        }
        let bytes = self.copy.finished();
        let sent = copy_in(&mut self.client, &self.statement, bytes);
        self.bytes += bytes.len() as u64;
        let rows = sent.map_err(|error| self.error(&error))?;
        if let Some((_, sent)) = &mut self.open {
            *sent += rows;
        }
        self.copy.clear();
        Ok(())
    }

    fn prepare(&mut self) -> Result<Vec<Committable>> {
        self.send()?;
        let Some((name, rows)) = self.open.take() else {
            return Ok(Vec::new());
        };
        let prepared = self.client.batch_execute(&format!("PREPARE TRANSACTION '{name}'"));
        prepared.map_err(|error| self.error(&error))?;
        self.prepared.insert(name.clone(), rows);
        Ok(vec![Committable(name.into_bytes())])
    }

    /// Runs a step that writes, unless one has failed before.
    fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.poisoned {
            let table = &self.shared.settings.table;
            let message = format!("rows cannot be written to table `{table}`: an earlier write failed");
            return Err(Error::external("IO0123", message));
        }
        let result = step(self);
        self.poisoned = result.is_err();
        result
    }

    fn control(&mut self) -> Result<&mut Client> {
        let client = match self.control.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let name = self.shared.identity.connection(&format!("{}c", self.subtask));
                self.server.connect(&name)?
            }
        };
        Ok(self.control.insert(client))
    }
}

/// Sends rows; what the server says is the error, not that sending stopped because of it.
pub(super) fn copy_in(client: &mut Client, statement: &str, bytes: &[u8]) -> std::result::Result<u64, postgres::Error> {
    let mut writer = client.copy_in(statement)?;
    match writer.write_all(bytes) {
        Ok(()) => writer.finish(),
        Err(error) => match error.into_inner().map(|inner| inner.downcast::<postgres::Error>()) {
            Some(Ok(error)) => Err(*error),
            _ => writer.finish(),
        },
    }
}

impl SinkWriter for TwoPhase {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        self.guarded(|writer| {
            writer.copy.append(rows, &writer.types)?;
            if writer.copy.rows() >= writer.shared.settings.batch_rows || writer.copy.len() >= BATCH_BYTES_MAX {
                writer.send()?;
            }
            Ok(())
        })
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.guarded(Self::prepare)
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        let server = self.server.clone();
        for committable in committables {
            transactions::commit(self.control()?, &server, committable)?;
            let (name, _) = transactions::name_of(committable)?;
            let rows = self.prepared.remove(name).unwrap_or(0);
            self.shared.rows.fetch_add(rows, Ordering::Relaxed);
        }
        Ok(())
    }

    fn abort(&mut self, prepared: &[Committable]) -> Result<()> {
        self.copy.clear();
        // If the connection is gone, the transaction is too.
        if self.open.take().is_some() && self.client.batch_execute("ROLLBACK").is_err() {
            self.poisoned = true;
        }
        let server = self.server.clone();
        for committable in prepared {
            let (name, _) = transactions::name_of(committable)?;
            transactions::roll_back(self.control()?, &server, name)?;
            self.prepared.remove(name);
        }
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
