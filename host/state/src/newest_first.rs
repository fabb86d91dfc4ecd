//! The entries of a task from the newest layer on, decoded by a thread ahead of who takes them.
//!
//! Of each entry the row that comes first is the one that counts: what comes later says what was there before. So a task can
//! go on with rows of an entry as soon as it has come, while older layers are still being read; what changed last
//! changes again soonest.
//!
//! Once as much has come as may be resident, what is left is for a lower tier and comes from the oldest layer on: then
//! nothing has to be looked up below, for of what has not come yet the row that comes last counts.
//!
//! ```text
//!   oldest layer                                  newest layer
//!   |------- older, then --->|<------ newest, first ----------|
//! ```

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
use crate::redistribute::{CollectionRestore, Piece, share};
use crate::savepoint::Restorable;

/// Batches that are decoded ahead.
const AHEAD: usize = 4;

/// A batch of entries, which has rows.
#[derive(Debug)]
pub enum Restored {
    /// To be resident. Of each entry the row that comes first counts, and in a batch the last.
    Newest(RecordBatch),
    /// For a lower tier, behind all of the former. What an entry that has come is said to be was earlier; of the others the
    /// row that comes last counts.
    Older(RecordBatch),
}

/// The end is said, so that a thread that was lost is not taken for it.
type Message = Result<Option<Restored>>;

/// See the [module](self).
#[derive(Debug)]
pub struct NewestFirst {
    messages: Receiver<Message>,
    /// Taken out of `messages` to look at it.
    first: Option<Restored>,
    ended: bool,
    watermark: Option<Millis>,
    broadcast: Vec<CollectionRestore>,
    /// Rows of all layers, with those of other tasks in the same files.
    rows: u64,
    live_rows: u64,
    resident_bytes: u64,
}

/// A layer, and whether all of its rows are of the task.
type OwnPiece = (Layer, bool);

impl Restorable {
    /// What subtask `subtask` of `parallelism` of a keyed operator begins with, from the newest layer on as long as it has
    /// less than `resident_bytes` in memory, but for its large states ([`by_group`](Self::by_group)); `None`: it is no
    /// checkpoint but a savepoint, which has one row for each key. Then [`restore_task`](Self::restore_task) reads it.
    ///
    /// # Errors
    /// If there can be no thread, or broadcast state cannot be read or is damaged.
    ///
    /// # Panics
    /// See [`share`].
    pub fn newest_first(
        self: &Arc<Self>,
        operator: &Operator,
        parallelism: u32,
        subtask: u32,
        resident_bytes: u64,
    ) -> Result<Option<NewestFirst>> {
        let Restorable::Checkpoint(checkpoint) = self.as_ref() else {
            return Ok(None);
        };
        let share = share(operator, checkpoint.metadata().max_parallelism, parallelism, subtask);
        let broadcast = checkpoint.read_broadcast(operator, &share)?;
        let own = |piece: &Piece<'_>| (piece.layer.clone(), piece.whole);
        let pieces = share.pieces.iter().map(own).collect::<Vec<_>>();
        let (sender, messages) = sync_channel(AHEAD);
        let (restorable, groups) = (self.clone(), share.groups);
        let rows = pieces.iter().map(|(layer, _)| layer.rows).sum();
        let read = move || {
            if let Restorable::Checkpoint(checkpoint) = restorable.as_ref() {
                Reading {
                    checkpoint,
                    pieces: &pieces,
                    groups: &groups,
                    sender: &sender,
                }
                .read(resident_bytes);
            }
        };
        let spawned = std::thread::Builder::new().name("restore".to_owned()).spawn(read);
        spawned.map_err(|error| Error::internal(format!("no thread can be started: {error}")))?;
        Ok(Some(NewestFirst {
            messages,
            first: None,
            ended: false,
            watermark: share.watermark,
            broadcast,
            rows,
            live_rows: share.live_rows,
            resident_bytes,
        }))
    }
}

impl NewestFirst {
    /// See [`TaskRestore::watermark`](crate::redistribute::TaskRestore::watermark).
    pub fn watermark(&self) -> Option<Millis> {
        self.watermark
    }

    /// Broadcast state, which has to be there before the first row.
    pub fn take_broadcast(&mut self) -> Vec<CollectionRestore> {
        std::mem::take(&mut self.broadcast)
    }

    /// Entries that are about to be resident, at most but for those that are gone.
    ///
    /// # Errors
    /// If the first batch, by which their size is judged, cannot be read.
    pub fn resident_count(&mut self) -> Result<u64> {
        self.first = self.next_rows()?;
        let (Some(Restored::Newest(first)), rows) = (&self.first, self.rows.min(self.live_rows)) else {
            return Ok(0);
        };
        let row_bytes = (first.get_array_memory_size() / first.num_rows()).max(1);
        Ok(rows.min(self.resident_bytes / row_bytes as u64))
    }

    /// The next batch; waits for it. `None`: that was all.
    ///
    /// # Errors
    /// If a layer cannot be read or is damaged.
    pub fn next_rows(&mut self) -> Result<Option<Restored>> {
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

/// What the thread reads, and who takes it.
struct Reading<'a> {
    checkpoint: &'a RestoredCheckpoint,
    /// From the oldest on.
    pieces: &'a [OwnPiece],
    groups: &'a Range<u32>,
    sender: &'a SyncSender<Message>,
}

impl Reading<'_> {
    fn read(&self, resident_bytes: u64) {
        let message = match self.send_all(resident_bytes) {
            Ok(true) => Ok(None),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        // Whoever takes no more needs neither an end nor an error.
        let _ = self.sender.send(message);
    }

    /// False: nobody takes them any more.
    fn send_all(&self, resident_bytes: u64) -> Result<bool> {
        let mut bytes = 0;
        for (number, (layer, _)) in self.pieces.iter().enumerate().rev() {
            let mut reader = self.checkpoint.open_layer(layer)?;
            for batch in (0..reader.batch_count()).rev() {
                if bytes >= resident_bytes {
                    return self.send_older(number, batch + 1);
                }
                let rows = self.own(number, reader.read(batch)?)?;
                bytes += rows.get_array_memory_size() as u64;
                if !self.send(rows, Restored::Newest) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Sends the first batches of a piece, and what is in those before it.
    fn send_older(&self, last: usize, batches: usize) -> Result<bool> {
        for (number, (layer, _)) in self.pieces[..=last].iter().enumerate() {
            let mut reader = self.checkpoint.open_layer(layer)?;
            let end = if number == last { batches } else { reader.batch_count() };
            for batch in 0..end {
                let rows = self.own(number, reader.read(batch)?)?;
                if !self.send(rows, Restored::Older) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Those rows of a piece that are of the task.
    fn own(&self, piece: usize, batch: RecordBatch) -> Result<RecordBatch> {
        match self.pieces[piece].1 {
            true => Ok(batch),
            false => of_groups(&batch, GROUP_COLUMN, self.groups),
        }
    }

    fn send(&self, rows: RecordBatch, restored: impl FnOnce(RecordBatch) -> Restored) -> bool {
        rows.num_rows() == 0 || self.sender.send(Ok(Some(restored(rows)))).is_ok()
    }
}
