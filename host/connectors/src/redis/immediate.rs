//! Mode `immediate`: rows are written as they come.

use std::sync::Arc;

use arrow_array::RecordBatch;
use millrace_core::Result;
use redis::{Connection, RedisError};

use super::commands::Commands;
use super::server::Server;
use super::sink::Shared;
use crate::immediate::Outside;

/// Writes for one subtask.
pub(super) struct Immediate {
    shared: Arc<Shared>,
    server: Server,
    connection: Connection,
}

impl Immediate {
    pub(super) fn new(shared: Arc<Shared>, server: Server, connection: Connection) -> Self {
        Immediate {
            shared,
            server,
            connection,
        }
    }
}

impl Outside for Immediate {
    fn write(&mut self, rows: &RecordBatch) -> Result<u64> {
        let commands = Commands::new(&self.shared.settings, rows)?;
        let written = commands.pipeline.exec(&mut self.connection);
        written.map_err(|error: RedisError| self.server.failure("rows cannot be written", &error))?;
        Ok(commands.bytes)
    }
}
