//! The sink task: writes blocks, pre-commits at the end, commits when all sinks of the job have.

use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::Block;
use millrace_core::connector::{Committable, SinkWriter};

use super::shared::Outcome;
use crate::metrics::SubtaskMetrics;

/// One subtask of a sink.
pub(crate) struct SinkTask {
    writer: Box<dyn SinkWriter>,
    prepared: Vec<Committable>,
    unflushed: bool,
}

impl SinkTask {
    pub(crate) fn new(writer: Box<dyn SinkWriter>) -> Self {
        SinkTask {
            writer,
            prepared: Vec::new(),
            unflushed: false,
        }
    }

    pub(crate) fn handle_block(&mut self, block: &Block, now: Duration, metrics: &SubtaskMetrics) -> Result<()> {
        self.writer.write(&block.rows, now)?;
        self.unflushed = true;
        metrics.rows_out.add(block.row_count() as u64);
        metrics.bytes_out.set(self.writer.bytes_written());
        Ok(())
    }

    /// Shows what was written; called when the slot has nothing else to do.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.unflushed) {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// The last row has come: everything durable, nothing visible yet.
    pub(crate) fn handle_end(&mut self) -> Result<()> {
        self.prepared = self.writer.pre_commit()?;
        Ok(())
    }

    /// Carries out what all slots decided.
    pub(crate) fn finish(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Commit => self.writer.commit(&self.prepared),
            Outcome::Abort => self.writer.abort(&self.prepared),
        }
    }
}
