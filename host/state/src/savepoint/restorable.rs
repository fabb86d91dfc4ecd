//! What a job can begin with.

use millrace_core::Result;
use millrace_core::checkpoint::ChannelSnapshot;

use super::Savepoint;
use crate::RestoredCheckpoint;
use crate::format::{Metadata, Operator};
use crate::redistribute::TaskRestore;

/// A checkpoint or a savepoint, which to a job are the same.
#[derive(Debug)]
pub enum Restorable {
    /// Of the same job; later snapshots may be increments to it.
    Checkpoint(RestoredCheckpoint),
    /// Of any job.
    Savepoint(Savepoint),
}

impl Restorable {
    /// What it is. The operators of a savepoint have no layers.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Restorable::Checkpoint(checkpoint) => checkpoint.metadata(),
            Restorable::Savepoint(savepoint) => savepoint.metadata(),
        }
    }

    /// What subtask `subtask` of `parallelism` of a keyed operator begins with.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    ///
    /// # Panics
    /// See [`share`](crate::redistribute::share).
    pub fn restore_task(&self, operator: &Operator, parallelism: u32, subtask: u32) -> Result<TaskRestore> {
        match self {
            Restorable::Checkpoint(checkpoint) => checkpoint.restore_task(operator, parallelism, subtask),
            Restorable::Savepoint(savepoint) => savepoint.restore_task(operator, parallelism, subtask),
        }
    }

    /// The input channels of a subtask of as many as there were, with what was under way in them; a savepoint has
    /// none.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn channels(&self, operator: &Operator, subtask: u32) -> Result<Vec<ChannelSnapshot>> {
        match self {
            Restorable::Checkpoint(checkpoint) => checkpoint.channels(operator, subtask),
            Restorable::Savepoint(_) => Ok(Vec::new()),
        }
    }

    /// The checkpoint, if it is one.
    pub fn as_checkpoint(&self) -> Option<&RestoredCheckpoint> {
        match self {
            Restorable::Checkpoint(checkpoint) => Some(checkpoint),
            Restorable::Savepoint(_) => None,
        }
    }
}
