//! What is handed in with a checkpoint, and what is told of a stack.

use std::collections::BTreeMap;

use millrace_core::block::Millis;
use millrace_core::checkpoint::SubtaskSnapshot;
use millrace_core::schema::KeyedSchema;

use crate::format::Kind;

/// What a checkpoint is about, beside what the subtasks hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// What it was taken for.
    pub kind: Kind,
    /// Parameters of the job.
    pub parameters: BTreeMap<String, String>,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// When it was triggered.
    pub started_ms: Millis,
    /// Now.
    pub completed_ms: Millis,
}

/// What all subtasks of an operator handed over.
#[derive(Debug, Clone, Default)]
pub struct OperatorSnapshot {
    /// Its uid, or what stands for it.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Kind of its connector, if it is a source or sink.
    pub connector: Option<String>,
    /// What it keeps by key.
    pub keyed: Option<KeyedSchema>,
    /// By subtask.
    pub subtasks: Vec<SubtaskSnapshot>,
}

/// How large the stack of a subtask's layers is: what says whether a full snapshot would pay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackSize {
    /// Number of files.
    pub layers: usize,
    /// Rows in all of them; an entry that changed is in several.
    pub rows: u64,
    /// Bytes in storage.
    pub bytes: u64,
}
