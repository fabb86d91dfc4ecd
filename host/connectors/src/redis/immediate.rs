//! Mode `immediate`: rows are written as they come. Nothing is left to commit, so nothing is in the checkpoint, and
//! what was written after it is written again after a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use millrace_core::Result;
use millrace_core::connector::{Committable, Elapsed, SinkWriter};
use redis::{Connection, RedisError};

use super::commands::Commands;
use super::server::Server;
use super::sink::Shared;

/// Writes for one subtask.
pub(super) struct Immediate {
    shared: Arc<Shared>,
    server: Server,
    connection: Connection,
    bytes: u64,
}

impl Immediate {
    pub(super) fn new(shared: Arc<Shared>, server: Server, connection: Connection) -> Self {
        Immediate {
            shared,
            server,
            connection,
            bytes: 0,
        }
    }
}

impl SinkWriter for Immediate {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        let at_a_time = self.shared.settings.limits.rows_per_entry;
        for start in (0..rows.num_rows()).step_by(at_a_time) {
            let rows = rows.slice(start, at_a_time.min(rows.num_rows() - start));
            let commands = Commands::new(&self.shared.settings, &rows)?;
            let written = commands.pipeline.exec(&mut self.connection);
            written.map_err(|error: RedisError| self.server.failure("rows cannot be written", &error))?;
            self.bytes += commands.bytes;
            self.shared.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
