//! Mode `exactly-once`: entries of the write-ahead log, each in a transaction with its mark.
//!
//! ```text
//! WATCH marks                   if another process changes them meanwhile, EXEC does nothing
//! HGET marks log                this entry's number, or a later one? then it is there
//! TYPE key ...                  Redis does not undo the commands of a transaction if one of them fails
//! MULTI, commands, HSET marks log number, EXEC
//! ```
//!
//! The marks of a subtask are a hash under `millrace:sink:<job>:<hash of job, operator and option id>:<subtask>`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millrace_core::{Error, Result};
use redis::{Connection, RedisResult, Value, cmd, pipe};

use super::commands::Commands;
use super::server::{Failure, Server};
use super::sink::Shared;
use crate::write_ahead::{Applied, Mark, Target};

/// How often a transaction is tried again into which another came.
const TRIES: u32 = 100;

/// Marks of a subtask that are kept: one for each time that a writer was opened.
const MARKS_MAX: usize = 1_000;

/// Where the entries of a log go.
pub(super) struct Logged {
    shared: Arc<Shared>,
    server: Server,
    connection: Option<Connection>,
}

impl Logged {
    pub(super) fn new(shared: Arc<Shared>, server: Server, connection: Connection) -> Self {
        Logged {
            shared,
            server,
            connection: Some(connection),
        }
    }

    /// Does something on the connection; once more on a new one, if that of old is of no use any more.
    fn with_connection<T>(
        &mut self,
        mut step: impl FnMut(&Shared, &Server, &mut Connection) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        if let Some(mut connection) = self.connection.take() {
            match step(&self.shared, &self.server, &mut connection) {
                Ok(done) => {
                    self.connection = Some(connection);
                    return Ok(done);
                }
                Err(Failure::Lost(_)) => {}
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        let mut connection = self.server.connect()?;
        let done = step(&self.shared, &self.server, &mut connection)?;
        self.connection = Some(connection);
        Ok(done)
    }
}

impl Target for Logged {
    fn apply(&mut self, mark: Mark, rows: &RecordBatch) -> Result<Applied> {
        let commands = Commands::new(&self.shared.settings, rows)?;
        self.with_connection(|shared, server, connection| {
            for _ in 0..TRIES {
                if let Some(applied) = try_to_apply(shared, server, connection, mark, &commands)? {
                    return Ok(applied);
                }
            }
            let message = "rows cannot be written: another process writes the marks of this sink; is another job of this \
                name running?";
            Err(Failure::Final(Error::external("IO0143", message)))
        })
    }

    fn forget_others(&mut self, last: &[Mark]) -> Result<()> {
        let subtasks: BTreeSet<u32> = last.iter().map(|mark| mark.subtask).collect();
        self.with_connection(|shared, server, connection| {
            let failure = |error| server.failure("marks of earlier writers cannot be dropped", &error);
            for subtask in &subtasks {
                let marks = shared.marks(*subtask);
                let mut logs: Vec<String> = cmd("HKEYS").arg(&marks).query(connection).map_err(failure)?;
                if logs.len() <= MARKS_MAX {
                    continue;
                }
                logs.retain(|log| !last.iter().any(|mark| mark.subtask == *subtask && field(*mark) == *log));
                cmd("HDEL").arg(&marks).arg(&logs).exec(connection).map_err(failure)?;
            }
            Ok(())
        })
    }
}

/// A log in a hash of marks.
fn field(mark: Mark) -> String {
    format!("{:016x}", mark.log)
}

/// `None`: another transaction came between.
fn try_to_apply(
    shared: &Shared,
    server: &Server,
    connection: &mut Connection,
    mark: Mark,
    commands: &Commands,
) -> std::result::Result<Option<Applied>, Failure> {
    let failure = |error| server.failure("rows cannot be written", &error);
    let (marks, field) = (shared.marks(mark.subtask), field(mark));
    let read: RedisResult<(Value, Option<u64>)> = pipe()
        .cmd("WATCH")
        .arg(&marks)
        .cmd("HGET")
        .arg(&marks)
        .arg(&field)
        .query(connection);
    let (_, number) = read.map_err(failure)?;
    let applied = number.is_some_and(|number| number >= mark.number);
    let checked = match applied {
        true => Ok(()),
        false => check_types(shared, server, connection, commands),
    };
    if applied || checked.is_err() {
        cmd("UNWATCH").exec(connection).map_err(failure)?;
        return checked.map(|()| Some(Applied::Before));
    }
    let mut transaction = commands.pipeline.clone();
    transaction
        .atomic()
        .cmd("HSET")
        .arg(&marks)
        .arg(&field)
        .arg(mark.number);
    let answers: Option<Vec<Value>> = transaction.query(connection).map_err(failure)?;
    Ok(answers.map(|_| Applied::Now))
}

/// What the commands write to must be what they expect, or not be there.
fn check_types(
    shared: &Shared,
    server: &Server,
    connection: &mut Connection,
    commands: &Commands,
) -> std::result::Result<(), Failure> {
    let Some(expected) = shared.settings.structure.redis_type() else {
        return Ok(());
    };
    let mut question = pipe();
    for key in &commands.keys {
        question.cmd("TYPE").arg(key);
    }
    let types: RedisResult<Vec<String>> = question.query(connection);
    let types = types.map_err(|error| server.failure("the types of keys cannot be looked up", &error))?;
    let wrong = commands
        .keys
        .iter()
        .zip(&types)
        .find(|(_, found)| *found != expected && *found != "none");
    match wrong {
        None => Ok(()),
        Some((key, found)) => {
            let key = String::from_utf8_lossy(key);
            let message =
                format!("rows cannot be written: key `{key}` holds a {found}, and the sink writes a {expected}");
            Err(Failure::Final(Error::pipeline("RW0104", message)))
        }
    }
}
