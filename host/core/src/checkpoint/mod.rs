//! Checkpoints: what each subtask hands over at a barrier, and who decides when.
//!
//! A checkpoint is a consistent cut through a running job (asynchronous barrier snapshots, Carbone et al.,
//! 2015, after Chandy and Lamport). Sources put a barrier between two rows; a subtask that has met the
//! barrier on all its inputs snapshots what it holds and passes the barrier on. Once every subtask of the job
//! has handed over its [`SubtaskSnapshot`] and all is stored, the checkpoint is complete: sinks commit
//! what they had prepared before the barrier, and a restart begins there.
//!
//! State is handed over as [`TableDelta`]s: Arrow rows, each the whole truth about one entry (a key, or a key
//! in a window), in place of what earlier layers said about it. A subtask's state is a stack of such
//! layers, the first of which is full; laid over each other from the oldest on they give the state. Identity
//! is the key, never a slot number, so that layers can be redistributed by key group over any number of
//! subtasks.
//!
//! State machines decide, without a clock or I/O: the [`Aligner`] of each subtask (where in its inputs a checkpoint
//! is), the job's [`Coordinator`] (when one begins, is complete, is discarded), and [`Restarts`] (whether a failed job
//! runs again). `tests/sim` runs them together under random failures. [`Quarantine`] decides what becomes of rows that
//! trap again and again.

mod action;
mod aligner;
mod config;
mod coordinator;
mod in_flight;
mod quarantine;
mod restart;

use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::block::Millis;
use crate::connector::{Committable, Position};
use crate::error::Result;
pub use action::{AbortReason, Action, CheckpointKind, DeclineReason, Participant, Refused};
pub use aligner::{Aligner, Alignment, CheckpointMode};
pub use config::CheckpointConfig;
pub use coordinator::{Coordinator, FINAL_RETRY};
pub use in_flight::{ChannelSnapshot, EdgeName};
pub use quarantine::{Quarantine, Trap, TrapDecision};
pub use restart::{Decision, RestartStrategy, Restarts};

/// Names a checkpoint of a job; later ones are greater, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl std::fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of the first column of every [`TableDelta`]: the row's key group, `uint32`, not null.
pub const GROUP_COLUMN: &str = "$group";

/// Name of the column, `boolean`, not null, that is true where an entry is there no more.
pub const DELETED_COLUMN: &str = "$deleted";

/// Names of the columns of a [`TableDelta`] behind [`DELETED_COLUMN`], beside those of states, which have the
/// states' names. The operators write them, and savepoints tell from them what a table is.
pub mod columns {
    /// A struct of the key's fields.
    pub const KEY: &str = "$key";
    /// When the states of a key expire that have a time to live: a struct with a member for each, under its name, in ms;
    /// absent where no state has one.
    pub const EXPIRES: &str = "$expires";
    /// Event-time timers of a key, a list of ms.
    pub const EVENT_TIMERS: &str = "$event_timers";
    /// Processing-time timers of a key, a list of ms.
    pub const PROCESSING_TIMERS: &str = "$processing_timers";
    /// What tells the entries of a large map or list apart: its key or index.
    pub const ENTRY: &str = "$entry";
    /// First ms of a slice of time.
    pub const SLICE: &str = "$slice";
    /// Open sessions of a key, a list of structs: the next two, and the accumulator.
    pub const SESSIONS: &str = "$sessions";
    /// Time of a session's first row.
    pub const SESSION_FIRST: &str = "$first";
    /// Time of a session's last row.
    pub const SESSION_LAST: &str = "$last";
}

/// What one subtask holds at a barrier.
#[derive(Debug, Clone, Default)]
pub struct SubtaskSnapshot {
    /// Watermark that the subtask had reached; `None`: none yet, or it has none.
    pub watermark: Option<Millis>,
    /// Splits that a source subtask reads.
    pub splits: Vec<SplitSnapshot>,
    /// Keyed state: also of a subtask that has finished, which may have ended with windows still open.
    pub table: Option<TableDelta>,
    /// Its large maps and lists, a table for each, in the order in which they are declared. Every one of them is there
    /// if `table` is.
    pub collections: Vec<TableDelta>,
    /// What a sink subtask pre-committed and does not know to be committed.
    pub committables: Vec<Committable>,
    /// Its input channels, if the checkpoint overtook what was in them.
    pub channels: Vec<ChannelSnapshot>,
    /// All inputs had ended and all that follows from that was done.
    pub finished: bool,
}

/// How far a source has read a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitSnapshot {
    /// Which split.
    pub id: String,
    /// Where reading continues.
    pub position: Position,
    /// Latest event time met in it, if watermarks are made per split.
    pub max_time: Option<Millis>,
}

/// The entries of a table that changed since the subtask's previous snapshot, or all of them.
///
/// All batches have one schema that begins with [`GROUP_COLUMN`]. Entries are those of one subtask: its key
/// groups and no others.
#[derive(Debug, Clone)]
pub struct TableDelta {
    /// All entries: earlier layers are no longer needed.
    pub full: bool,
    /// Rows before those of `batches`, to be read now: entries that are in the lower tier of a state backend.
    pub cold: Option<Arc<dyn RowSource>>,
    /// In order: a later row replaces an earlier one of the same entry.
    pub batches: Vec<RecordBatch>,
    /// Entries in the table at the barrier, whether they changed or not; about, where some are in a lower tier.
    pub live_rows: u64,
}

/// Rows too many to be held in memory, as they were at a barrier.
pub trait RowSource: std::fmt::Debug + Send + Sync {
    /// Goes through all rows. May be called again.
    fn read(&self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()>;
}
