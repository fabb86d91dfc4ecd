//! Which prepared transactions savepoints hold: rows of a table beside the sink's.
//!
//! ```text
//! millrace_savepoints    sink | id | savepoint | written | transaction
//! ```
//!
//! The table is made with the first savepoint that holds something. The names of transactions never come twice, so a row
//! whose transaction is not prepared any more says nothing; such rows go when the sink looks at the table the next time.
//! A row that is deleted by hand gives its transaction up. In a table that the user may not read is nothing of his.

use millrace_core::connector::{Committable, KeptFor};
use millrace_core::{Error, Result};
use postgres::error::SqlState;
use postgres::{Client, Transaction};

use super::server::{Server, is};
use super::settings::Settings;
use super::{table, transactions};

const NAME: &str = "millrace_savepoints";

/// Any number that nobody else is likely to lock: two that make a table at a time would fail.
const LOCK: i64 = 0x6d69_6c6c_7361_7665;

/// The rows of a sink.
pub(super) struct Kept {
    /// The table as statements have it.
    table: String,
    /// Which sink of which job.
    sink: String,
    server: Server,
}

impl Kept {
    pub(super) fn new(settings: &Settings, sink: &str, server: &Server) -> Result<Self> {
        Ok(Kept {
            table: table::beside(&settings.table, NAME)?,
            sink: sink.to_owned(),
            server: server.clone(),
        })
    }

    fn error(&self, error: &postgres::Error) -> Error {
        let what = format!("what savepoints hold cannot be noted in table {}", self.table);
        self.server.error(&what, error)
    }

    fn exists(&self, client: &mut Transaction<'_>) -> std::result::Result<bool, postgres::Error> {
        let found = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.table])?;
        Ok(found.get(0))
    }

    fn create(&self, client: &mut Client) -> Result<()> {
        let mut made = || {
            let mut transaction = client.transaction()?;
            if self.exists(&mut transaction)? {
                return Ok(());
            }
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
            transaction.batch_execute(&self.definition())?;
            transaction.commit()
        };
        made().map_err(|error: postgres::Error| {
            if !is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) {
                return self.error(&error);
            }
            let message = format!(
                "the user may not make the table in which a savepoint notes what it holds; have somebody make it who may, \
                 and grant SELECT, INSERT and DELETE: {}",
                self.definition()
            );
            Error::external("IO0123", message)
        })
    }

    fn definition(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (sink text NOT NULL, id text NOT NULL, savepoint text NOT NULL, \
             written boolean NOT NULL, transaction text NOT NULL, PRIMARY KEY (sink, id, transaction))",
            self.table
        )
    }

    /// Drops the rows that say nothing any more.
    fn tidy(&self, client: &mut Transaction<'_>) -> std::result::Result<(), postgres::Error> {
        let statement = format!(
            "DELETE FROM {} WHERE sink = $1 AND transaction NOT IN (SELECT gid FROM pg_prepared_xacts)",
            self.table
        );
        client.execute(&statement, &[&self.sink]).map(drop)
    }

    /// See [`Sink::keep`](millrace_core::connector::Sink::keep).
    pub(super) fn keep(&self, client: &mut Client, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let names = prepared
            .iter()
            .map(|committable| Ok(transactions::name_of(committable)?.0));
        let names: Vec<&str> = names.collect::<Result<_>>()?;
        self.create(client)?;
        let KeptFor {
            id,
            savepoint,
            is_written,
        } = savepoint;
        let mut kept = || {
            let mut transaction = client.transaction()?;
            self.forget(&mut transaction, id)?;
            let insert = format!("INSERT INTO {} VALUES ($1, $2, $3, $4, $5)", self.table);
            for name in &names {
                transaction.execute(&insert, &[&self.sink, id, savepoint, is_written, name])?;
            }
            self.tidy(&mut transaction)?;
            transaction.commit()
        };
        kept().map_err(|error: postgres::Error| self.error(&error))
    }

    fn forget(&self, client: &mut Transaction<'_>, id: &str) -> std::result::Result<(), postgres::Error> {
        let statement = format!("DELETE FROM {} WHERE sink = $1 AND id = $2", self.table);
        client.execute(&statement, &[&self.sink, &id]).map(drop)
    }

    /// See [`Sink::release`](millrace_core::connector::Sink::release).
    pub(super) fn release(&self, client: &mut Client, id: &str) -> Result<()> {
        let mut released = || {
            let mut transaction = client.transaction()?;
            if self.exists(&mut transaction)? {
                self.forget(&mut transaction, id)?;
            }
            transaction.commit()
        };
        match released() {
            Err(error) if is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
            released => released.map_err(|error: postgres::Error| self.error(&error)),
        }
    }

    /// The transactions that are prepared and held, and for whom, in the order of ids.
    pub(super) fn read(&self, client: &mut Client) -> Result<Vec<(KeptFor, String)>> {
        let mut read = || {
            let mut transaction = client.transaction()?;
            if !self.exists(&mut transaction)? {
                return Ok(Vec::new());
            }
            self.tidy(&mut transaction)?;
            let query = format!(
                "SELECT id, savepoint, written, transaction FROM {} WHERE sink = $1 ORDER BY id, transaction",
                self.table
            );
            let rows = transaction.query(&query, &[&self.sink])?;
            transaction.commit()?;
            let row = |row: &postgres::Row| {
                let savepoint = KeptFor {
                    id: row.get(0),
                    savepoint: row.get(1),
                    is_written: row.get(2),
                };
                (savepoint, row.get(3))
            };
            Ok(rows.iter().map(row).collect())
        };
        match read() {
            Err(error) if is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) => Ok(Vec::new()),
            read => read.map_err(|error: postgres::Error| self.error(&error)),
        }
    }
}
