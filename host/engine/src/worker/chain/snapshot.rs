//! What a chain gives to checkpoints: its state, a piece at a time.

use millrace_core::Result;
use millrace_core::checkpoint::TableDelta;

use super::function::with_function;
use super::{ChainTask, HeadOperator, Tables};

impl ChainTask {
    /// Keeps track of what changes, for snapshots that are increments. Without it the first snapshot does so.
    pub(crate) fn track_changes(&mut self) {
        let Tables {
            states,
            max_parallelism,
            ..
        } = &self.tables;
        match &mut self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, .. } => operator.track_changes(states, *max_parallelism),
            HeadOperator::Window { operator, .. } => operator.track_changes(&states[0], *max_parallelism),
        }
        self.tables.tracked = true;
    }

    /// Keeps track of changes no more: no snapshots are taken for now.
    pub(crate) fn forget_changes(&mut self) {
        match &mut self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, .. } => operator.forget_changes(),
            HeadOperator::Window { operator, .. } => operator.forget_changes(),
        }
        self.tables.tracked = false;
    }

    /// Begins a snapshot; false: there is nothing to export.
    pub(crate) fn begin_snapshot(&mut self, full: bool) -> Result<bool> {
        if !self.tables.tracked {
            self.track_changes();
        }
        match &mut self.head {
            HeadOperator::Stateless => return Ok(false),
            HeadOperator::Keyed { operator, .. } => operator.begin_snapshot(full)?,
            HeadOperator::Window { operator, .. } => operator.begin_snapshot(full)?,
        }
        Ok(true)
    }

    /// Exports a piece of the snapshot begun; the whole of it after the last.
    pub(crate) fn export_some(&mut self, limit: usize) -> Result<Option<TableDelta>> {
        match &mut self.head {
            HeadOperator::Stateless => Ok(None),
            HeadOperator::Keyed { operator, pattern, .. } => {
                with_function(pattern, &mut self.guest, |function| {
                    operator.export_some(limit, function)
                })?;
                Ok(operator.finish_snapshot())
            }
            HeadOperator::Window { operator, .. } => {
                operator.export_some(limit, &mut self.guest)?;
                Ok(operator.finish_snapshot())
            }
        }
    }

    /// The part of the snapshot begun last that is of large states.
    pub(crate) fn take_collections(&mut self) -> Vec<TableDelta> {
        match &mut self.head {
            HeadOperator::Stateless | HeadOperator::Window { .. } => Vec::new(),
            HeadOperator::Keyed { operator, .. } => operator.take_collection_snapshots(),
        }
    }
}
