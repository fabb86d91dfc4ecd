//! What a job can begin with.

use arrow_schema::SchemaRef;
use millrace_core::checkpoint::{ChannelSnapshot, CheckpointId};
use millrace_core::upgrade::StoredOperator;
use millrace_core::{Error, Result};

use super::manifest::MANIFEST_FILE;
use super::{Layout, Savepoint};
use crate::checkpoints::Checkpoints;
use crate::format::{InFlightRows, Metadata, Operator, Subtask, read_metadata};
use crate::names::{METADATA_FILE, checkpoint_of_folder};
use crate::redistribute::TaskRestore;
use crate::{Depth, RestoredCheckpoint, Storage, codes};

/// A checkpoint or a savepoint, which to a job are the same.
#[derive(Debug)]
pub enum Restorable {
    /// Of the same job; later snapshots may be increments to it.
    Checkpoint(RestoredCheckpoint),
    /// Of any job.
    Savepoint(Savepoint),
}

impl Restorable {
    /// Opens what is at a URL: a savepoint, or a checkpoint in its storage (`<storage>/<job>/<run>/chk-<id>`).
    ///
    /// # Errors
    /// `CS0201` if there is neither; those of [`Savepoint::open`] and [`Storage::open_checkpoint`].
    pub fn open(url: &str, depth: Depth) -> Result<Restorable> {
        let folder = url.strip_suffix(METADATA_FILE).unwrap_or(url).trim_end_matches('/');
        let none = || {
            let message = format!(
                "there is neither a savepoint nor a checkpoint at `{url}`: it has no `{MANIFEST_FILE}` and no \
                 `{METADATA_FILE}`"
            );
            Error::user(codes::NO_SAVEPOINT, message)
        };
        let storage = Storage::open_present(folder)?.ok_or_else(none)?;
        if storage.read(MANIFEST_FILE)?.is_some() {
            return Savepoint::open(folder, depth).map(Restorable::Savepoint);
        }
        let content = storage.read(METADATA_FILE)?.ok_or_else(none)?;
        let metadata = read_metadata(&content, &storage.shown(METADATA_FILE))?;
        let (root, id) = storage_of(folder).ok_or_else(|| {
            let message = format!("`{url}` has a checkpoint's metadata, and is not `<storage>/<job>/<run>/chk-<id>`");
            Error::user(codes::NO_SAVEPOINT, message)
        })?;
        let storage = Storage::open(root)?;
        let checkpoint = storage.open_checkpoint(&metadata.job, &metadata.run, id, depth)?;
        Ok(Restorable::Checkpoint(checkpoint))
    }

    /// Deletes what is at a URL and needed by nobody else: a savepoint, or a checkpoint with the layers that no other
    /// checkpoint of its run refers to. What is not there is deleted already.
    ///
    /// # Errors
    /// If it cannot be read, or the storage refuses.
    pub fn delete(url: &str) -> Result<()> {
        match Restorable::open(url, Depth::Sizes) {
            Ok(Restorable::Savepoint(savepoint)) => savepoint.delete(),
            Ok(Restorable::Checkpoint(checkpoint)) => {
                let (storage, metadata) = (checkpoint.storage(), checkpoint.metadata());
                let (checkpoints, _) = Checkpoints::open(storage, &metadata.job, &metadata.run)?;
                checkpoints.discard(metadata.checkpoint)
            }
            Err(error) if error.code() == codes::NO_SAVEPOINT => Ok(()),
            Err(error) => Err(error),
        }
    }

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

    /// The same without what comes [`by_group`](Self::by_group).
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    ///
    /// # Panics
    /// See [`share`](crate::redistribute::share).
    pub fn restore_resident(&self, operator: &Operator, parallelism: u32, subtask: u32) -> Result<TaskRestore> {
        match self {
            Restorable::Checkpoint(checkpoint) => checkpoint.restore_resident(operator, parallelism, subtask),
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

    /// The columns of rows in flight, without event times and computed keys.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn in_flight_schema(&self, rows: &InFlightRows) -> Result<SchemaRef> {
        match self {
            Restorable::Checkpoint(checkpoint) => checkpoint.in_flight_schema(rows),
            Restorable::Savepoint(_) => Err(Error::internal("a savepoint has no rows in flight")),
        }
    }

    /// What it holds of each operator: what decides whether a pipeline can go on from it. `is_transaction`: whether what
    /// was pre-committed is lost without the operator.
    ///
    /// # Errors
    /// If the schema of a state is told by its rows alone, and they cannot be read.
    pub fn stored(&self, is_transaction: impl Fn(&[u8]) -> bool) -> Result<Vec<StoredOperator>> {
        let operators = &self.metadata().operators;
        let tells_connectors = operators.iter().any(|operator| operator.connector.is_some());
        let transactions = |subtask: &Subtask| {
            let committables = subtask.committables.iter();
            committables.filter(|blob| is_transaction(&blob.0)).count()
        };
        let describe = |operator: &Operator| {
            let subtasks = &operator.subtasks;
            // Watermarks keep the latest time that they have seen where sources keep splits. Nothing is lost without.
            let reads = operator.connector.is_some() || !tells_connectors;
            let splits = subtasks.iter().filter(|_| reads).map(|subtask| subtask.splits.len());
            let holds = |subtask: &Subtask| {
                let read = reads && !subtask.splits.is_empty();
                let collections = subtask.collections.iter().any(|large| !large.layers.is_empty());
                let kept = subtask.live_rows > 0 || !subtask.layers.is_empty() || collections;
                read || kept || transactions(subtask) > 0
            };
            let keyed = operator.keyed.as_ref().and_then(|saved| saved.schema());
            Ok(StoredOperator {
                id: operator.id.clone(),
                name: operator.name.clone(),
                parallelism: operator.parallelism,
                keyed: match keyed {
                    Some(keyed) => Some(keyed),
                    None => self.schema_of_rows(operator)?,
                },
                connector: operator.connector.clone(),
                splits: splits.sum(),
                transactions: subtasks.iter().map(transactions).sum(),
                holds_state: subtasks.iter().any(holds),
            })
        };
        operators.iter().map(describe).collect()
    }

    /// Checkpoints of old do not describe schemas beside their rows.
    fn schema_of_rows(&self, operator: &Operator) -> Result<Option<millrace_core::schema::KeyedSchema>> {
        let Restorable::Checkpoint(checkpoint) = self else {
            return Ok(None);
        };
        let Some(layer) = operator.subtasks.iter().find_map(|subtask| subtask.layers.last()) else {
            return Ok(None);
        };
        let rows = checkpoint.read_layer(layer)?;
        let layout = rows.first().and_then(|rows| Layout::of_rows(&rows.schema()));
        Ok(layout.map(|layout| layout.schema()))
    }

    /// The checkpoint, if it is one.
    pub fn as_checkpoint(&self) -> Option<&RestoredCheckpoint> {
        match self {
            Restorable::Checkpoint(checkpoint) => Some(checkpoint),
            Restorable::Savepoint(_) => None,
        }
    }
}

/// From the URL of a checkpoint that of its storage, and its id.
fn storage_of(folder: &str) -> Option<(&str, CheckpointId)> {
    let (run, checkpoint) = folder.rsplit_once('/')?;
    let (job, _) = run.rsplit_once('/')?;
    let (root, _) = job.rsplit_once('/')?;
    Some((root, checkpoint_of_folder(checkpoint)?))
}
