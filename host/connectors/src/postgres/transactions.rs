//! Prepared transactions: their names, and how they end.
//!
//! ```text
//! millrace/1/<job>/<hash of job, operator and option `id`>/<subtask>/<transaction>
//! ```
//!
//! The last part is the number that the server gave the transaction. It never comes twice in the life of a
//! server, so neither does a name, whatever subtask of whatever attempt it is of; and it answers the question that
//! would else need a table of what was committed. A prepared transaction that is not there any more was committed,
//! or rolled back by somebody: `txid_status` of its number tells which. The server remembers that for hundreds of
//! millions of transactions. About older ones it says nothing: these are taken for committed, for what belongs to a
//! completed checkpoint is committed within moments of it, and only a restart from a very old one asks again.

use std::time::Duration;

use millrace_core::connector::{Committable, SinkContext};
use millrace_core::{Error, Result};
use postgres::Client;
use postgres::error::SqlState;

use super::server::{Server, is};
use crate::identity::{self, is_plain};

const PREFIX: &str = "millrace/1/";

/// How often something is tried that another session is just about to end, and after how long again.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// What the names of a sink's transactions and connections have in common, and nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    transactions: String,
    connections: String,
}

impl Identity {
    pub(super) fn new(context: &SinkContext, id: &str) -> Self {
        let (job, hash) = (identity::job(context), identity::hash(context, id));
        Identity {
            transactions: format!("{PREFIX}{job}/{hash}/"),
            connections: format!("millrace/{hash}/"),
        }
    }

    /// What the names of its transactions begin with.
    pub(super) fn sink(&self) -> &str {
        &self.transactions
    }

    /// The name of a transaction.
    pub(super) fn transaction(&self, subtask: u32, number: i64) -> String {
        format!("{}{subtask}/{number}", self.transactions)
    }

    /// The name of a connection.
    pub(super) fn connection(&self, part: &str) -> String {
        format!("{}{part}", self.connections)
    }
}

/// The name in a committable, safe to put between quotes, and the server's number.
pub(super) fn name_of(committable: &Committable) -> Result<(&str, i64)> {
    let name = std::str::from_utf8(&committable.0).ok();
    let name = name.filter(|name| name.starts_with(PREFIX) && name.chars().all(|c| is_plain(c) || c == '/'));
    let number = name.and_then(|name| name.rsplit_once('/')?.1.parse().ok());
    name.zip(number)
        .ok_or_else(|| Error::internal("a committable of a postgres sink is not the name of a transaction"))
}

/// Commits a prepared transaction, or sees that it was.
pub(super) fn commit(client: &mut Client, server: &Server, committable: &Committable) -> Result<()> {
    let (name, number) = name_of(committable)?;
    let what = || format!("transaction `{name}` cannot be committed");
    for _ in 0..TRIES {
        match client.batch_execute(&format!("COMMIT PREPARED '{name}'")) {
            Ok(()) => return Ok(()),
            Err(error) if is(&error, &SqlState::UNDEFINED_OBJECT) => {}
            Err(error) if is_busy(&error) => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(error) => return Err(server.error(&what(), &error)),
        }
        let status = client.query_one("SELECT txid_status($1)", &[&number]);
        let status: Option<String> = match status {
            Ok(row) => row.get(0),
            Err(error) if is(&error, &SqlState::INVALID_PARAMETER_VALUE) => {
                let message = format!(
                    "{}: the server has never begun it; it is another server than when the checkpoint was taken, or \
                     one that was restored from an older backup",
                    what()
                );
                return Err(Error::external("IO0124", message));
            }
            Err(error) => return Err(server.error(&what(), &error)),
        };
        match status.as_deref() {
            Some("committed") | None => return Ok(()),
            // Another session is ending it.
            Some("in progress") => std::thread::sleep(PAUSE),
            Some(_) => {
                let message = format!(
                    "{}: it was rolled back, though not by this job; the rows that a completed checkpoint holds are lost",
                    what()
                );
                return Err(Error::external("IO0124", message));
            }
        }
    }
    Err(Error::external(
        "IO0123",
        format!("{}: another session holds it", what()),
    ))
}

/// Rolls a prepared transaction back; one that is gone is no error.
pub(super) fn roll_back(client: &mut Client, server: &Server, name: &str) -> Result<()> {
    let quoted = name.replace('\'', "''");
    for _ in 0..TRIES {
        match client.batch_execute(&format!("ROLLBACK PREPARED '{quoted}'")) {
            Ok(()) => return Ok(()),
            Err(error) if is(&error, &SqlState::UNDEFINED_OBJECT) => return Ok(()),
            Err(error) if is_busy(&error) => std::thread::sleep(PAUSE),
            Err(error) => return Err(server.error(&format!("transaction `{name}` cannot be rolled back"), &error)),
        }
    }
    let message = format!("transaction `{name}` cannot be rolled back: another session holds it");
    Err(Error::external("IO0123", message))
}

fn is_busy(error: &postgres::Error) -> bool {
    is(error, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// Ends connections that an earlier process of this sink has left behind: one that was killed or cut off may
/// still have a statement under way.
pub(super) fn end_others(client: &mut Client, server: &Server, identity: &Identity) -> Result<()> {
    const QUERY: &str = "
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE starts_with(application_name, $1) AND usename = current_user AND pid <> pg_backend_pid()";
    for _ in 0..TRIES {
        let ended = client.query_one(QUERY, &[&identity.connections]);
        let ended: i64 = ended
            .map_err(|error| server.error("connections of an earlier process cannot be ended", &error))?
            .get(0);
        if ended == 0 {
            return Ok(());
        }
        std::thread::sleep(PAUSE / 10);
    }
    let message = "connections of an earlier process of this sink do not end; is another job of this name running?";
    Err(Error::external("IO0123", message))
}

/// Names of all transactions of this sink that are prepared.
pub(super) fn prepared(client: &mut Client, server: &Server, identity: &Identity) -> Result<Vec<String>> {
    const QUERY: &str = "
        SELECT gid FROM pg_prepared_xacts
        WHERE starts_with(gid, $1) AND database = current_database() ORDER BY gid";
    let rows = client
        .query(QUERY, &[&identity.transactions])
        .map_err(|error| server.error("prepared transactions cannot be listed", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The server must be set up for prepared transactions; by default it is not.
pub(super) fn check_possible(client: &mut Client, server: &Server) -> Result<()> {
    let most = client.query_one("SELECT current_setting('max_prepared_transactions')::int", &[]);
    let most: i32 = most
        .map_err(|error| server.error("the server's settings cannot be read", &error))?
        .get(0);
    if most > 0 {
        return Ok(());
    }
    let message = "the PostgreSQL server does not allow prepared transactions, which mode `exactly-once` needs: set \
        `max_prepared_transactions` in its configuration, to at least three for each subtask of the sink (100, say), \
        and restart it; or use mode `upsert`";
    Err(Error::user("CN0123", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(job: &str, operator: &str, id: &str) -> Identity {
        let (job, operator) = (job.to_owned(), operator.to_owned());
        Identity::new(&SinkContext { job, operator }, id)
    }

    #[test]
    fn identities_differ_and_stay() {
        let one = identity("a job/1", "sink", "");
        assert_eq!(one, identity("a job/1", "sink", ""));
        // Part of what checkpoints hold: a change orphans the transactions of running jobs.
        assert_eq!(
            one.transaction(3, 17),
            "millrace/1/a-job-1/4bff3f6608ec7e08e6a54b40a67a865e/3/17"
        );
        for other in [
            identity("a job/2", "sink", ""),
            identity("a-job-1", "sink", ""),
            identity("a job/1", "sink2", ""),
            identity("a job/1", "sink", "blue"),
            identity("a job/1s", "ink", ""),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        let long = identity(&"j'\u{e9}".repeat(500), &"o".repeat(500), "");
        let name = long.transaction(u32::MAX, i64::MAX);
        assert!(name.len() < 200, "{}", name.len());
        let committable = Committable(name.clone().into_bytes());
        assert_eq!(name_of(&committable).unwrap(), (name.as_str(), i64::MAX));
        assert!(long.connection("4294967295").len() < 64);
        for wrong in ["", "millrace/1/j/h/0/x", "other/1/j/h/0/1", "millrace/1/'; --/0/1"] {
            let committable = Committable(wrong.as_bytes().to_vec());
            assert_eq!(name_of(&committable).unwrap_err().code(), "IN0001", "{wrong}");
        }
    }
}
