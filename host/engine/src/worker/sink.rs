//! The sink task: writes blocks, pre-commits at barriers and at the end, commits when that is durable.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::Block;
use millrace_core::checkpoint::CheckpointId;
use millrace_core::connector::{Committable, SinkWriter};

use super::shared::Outcome;
use crate::metrics::SubtaskMetrics;

/// One subtask of a sink.
pub(crate) struct SinkTask {
    writer: Box<dyn SinkWriter>,
    /// Pre-committed, by the checkpoint that it is part of.
    prepared: BTreeMap<CheckpointId, Vec<Committable>>,
    /// Pre-committed at the end, part of no checkpoint yet.
    last: Vec<Committable>,
    unflushed: bool,
}

impl SinkTask {
    pub(crate) fn new(writer: Box<dyn SinkWriter>) -> Self {
        SinkTask {
            writer,
            prepared: BTreeMap::new(),
            last: Vec::new(),
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

    /// A barrier: everything before it durable, nothing visible yet. Returns all that waits for its commit, what
    /// was prepared for earlier checkpoints included: these may never complete.
    pub(crate) fn prepare(&mut self, id: CheckpointId, finished: bool) -> Result<Vec<Committable>> {
        let mut prepared = std::mem::take(&mut self.last);
        if !finished {
            prepared.extend(self.writer.pre_commit()?);
        }
        self.prepared.insert(id, prepared);
        Ok(self.prepared.values().flatten().cloned().collect())
    }

    /// This checkpoint is durable, and so is all that was prepared up to it.
    pub(crate) fn commit(&mut self, id: CheckpointId) -> Result<()> {
        let later = self.prepared.split_off(&CheckpointId(id.0 + 1));
        let prepared = std::mem::replace(&mut self.prepared, later);
        let prepared = prepared.into_values().flatten().collect::<Vec<_>>();
        if prepared.is_empty() {
            return Ok(());
        }
        self.writer.commit(&prepared)
    }

    /// The last row has come.
    pub(crate) fn handle_end(&mut self) -> Result<()> {
        self.last = self.writer.pre_commit()?;
        Ok(())
    }

    /// Carries out what was decided at the end of the attempt.
    pub(crate) fn finish(&mut self, outcome: Outcome) -> Result<()> {
        let prepared = std::mem::take(&mut self.prepared).into_values().flatten();
        let prepared = prepared.chain(std::mem::take(&mut self.last)).collect::<Vec<_>>();
        match outcome {
            Outcome::Commit => self.writer.commit(&prepared),
            Outcome::Abort => self.writer.abort(&prepared),
            // What was prepared may be part of a checkpoint: whoever restores decides.
            Outcome::Leave => self.writer.abort(&[]),
        }
    }
}
