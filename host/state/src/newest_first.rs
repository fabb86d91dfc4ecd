//! The entries of a task from the newest layer on, decoded by a thread ahead of who takes them.
//!
//! Of each key the row that comes first is the one that counts: what comes later says what was there before. So a task can
//! go on with rows of a key as soon as that key has come, while older layers are still being read; what changed last
//! changes again soonest.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow_array::RecordBatch;
use millrace_core::block::Millis;
use millrace_core::checkpoint::GROUP_COLUMN;
use millrace_core::{Error, Result};

use crate::RestoredCheckpoint;
use crate::format::layer::of_groups;
use crate::format::{Layer, Operator};
use crate::redistribute::{Piece, share};
use crate::savepoint::Restorable;

/// Batches that are decoded ahead.
const AHEAD: usize = 4;

/// The end is said, so that a thread that was lost is not taken for it.
type Message = Result<Option<RecordBatch>>;

/// See the [module](self).
#[derive(Debug)]
pub struct NewestFirst {
    messages: Receiver<Message>,
    /// Taken out of `messages` to look at it.
    first: Option<RecordBatch>,
    ended: bool,
    watermark: Option<Millis>,
    /// Rows of all layers, with those of other tasks in the same files.
    rows: u64,
    live_rows: u64,
}

/// A layer, and whether all of its rows are of the task.
type OwnPiece = (Layer, bool);

impl Restorable {
    /// What subtask `subtask` of `parallelism` of a keyed operator begins with, from the newest layer on; `None`: it has
    /// large states, or it is no checkpoint but a savepoint, which has one row for each key. Then
    /// [`restore_task`](Self::restore_task) reads it.
    ///
    /// # Errors
    /// If there can be no thread.
    ///
    /// # Panics
    /// See [`share`].
    pub fn newest_first(
        self: &Arc<Self>,
        operator: &Operator,
        parallelism: u32,
        subtask: u32,
    ) -> Result<Option<NewestFirst>> {
        let Restorable::Checkpoint(checkpoint) = self.as_ref() else {
            return Ok(None);
        };
        let share = share(operator, checkpoint.metadata().max_parallelism, parallelism, subtask);
        if !share.collections.is_empty() {
            return Ok(None);
        }
        let own = |piece: &Piece<'_>| (piece.layer.clone(), piece.whole);
        let pieces = share.pieces.iter().map(own).collect::<Vec<_>>();
        let (sender, messages) = sync_channel(AHEAD);
        let (restorable, groups) = (self.clone(), share.groups);
        let rows = pieces.iter().map(|(layer, _)| layer.rows).sum();
        let read = move || {
            if let Restorable::Checkpoint(checkpoint) = restorable.as_ref() {
                read(checkpoint, &pieces, &groups, &sender);
            }
        };
        let spawned = std::thread::Builder::new().name("restore".to_owned()).spawn(read);
        spawned.map_err(|error| Error::internal(format!("no thread can be started: {error}")))?;
        Ok(Some(NewestFirst {
            messages,
            first: None,
            ended: false,
            watermark: share.watermark,
            rows,
            live_rows: share.live_rows,
        }))
    }
}

impl NewestFirst {
    /// See [`TaskRestore::watermark`](crate::redistribute::TaskRestore::watermark).
    pub fn watermark(&self) -> Option<Millis> {
        self.watermark
    }

    /// Entries that are about to come, at most but for those that are gone.
    pub fn entry_count(&self) -> u64 {
        self.rows.min(self.live_rows)
    }

    /// Bytes that all of it would take in memory, by the measure of the batch that comes first.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn byte_count(&mut self) -> Result<u64> {
        self.first = self.next_batch()?;
        let first = self.first.as_ref();
        Ok(first.map_or(0, |first| {
            first.get_array_memory_size() as u64 * self.rows / first.num_rows() as u64
        }))
    }

    /// The next batch, which has rows; waits for it. `None`: that was all.
    ///
    /// # Errors
    /// If a layer cannot be read or is damaged.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.ended {
            return Ok(None);
        }
        let lost = |_| Error::internal("the thread that reads layers is gone");
        let batch = self.messages.recv().map_err(lost)??;
        self.ended = batch.is_none();
        Ok(batch)
    }
}

/// Sends what is in these layers, given from the oldest on.
fn read(checkpoint: &RestoredCheckpoint, pieces: &[OwnPiece], groups: &Range<u32>, sender: &SyncSender<Message>) {
    for piece in pieces.iter().rev() {
        match read_piece(checkpoint, piece, groups, sender) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Whoever takes no more needs no error.
                let _ = sender.send(Err(error));
                return;
            }
        }
    }
    let _ = sender.send(Ok(None));
}

/// False: nobody takes them any more.
fn read_piece(
    checkpoint: &RestoredCheckpoint,
    (layer, whole): &OwnPiece,
    groups: &Range<u32>,
    sender: &SyncSender<Message>,
) -> Result<bool> {
    let mut reader = checkpoint.open_layer(layer)?;
    for number in (0..reader.batch_count()).rev() {
        let mut batch = reader.read(number)?;
        if !whole {
            batch = of_groups(&batch, GROUP_COLUMN, groups)?;
        }
        if batch.num_rows() > 0 && sender.send(Ok(Some(batch))).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
