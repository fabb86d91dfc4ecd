//! What outlives the process: checkpoint storage, and the system that sinks write to.

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::checkpoint::{CheckpointId, CheckpointKind};

use crate::attempt::Element;
use crate::job::{Row, Windows};

/// What one subtask handed over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) task: usize,
    /// Splits and how many rows of each were read.
    pub(crate) splits: Vec<(usize, usize)>,
    pub(crate) windows: Windows,
    /// Rows that come after must be later than this.
    pub(crate) watermark: i64,
    pub(crate) committables: Vec<Transaction>,
    /// Of each input its watermark, and what was under way; nothing where all checkpoints are aligned.
    pub(crate) channels: Vec<(i64, Vec<Element>)>,
}

/// A checkpoint whose metadata is durable.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) kind: CheckpointKind,
    /// Parallelism of each task.
    pub(crate) shape: Vec<u32>,
    pub(crate) parts: Vec<Part>,
}

impl Stored {
    /// Whether anything was under way.
    pub(crate) fn has_in_flight(&self) -> bool {
        let channels = self.parts.iter().flat_map(|part| &part.channels);
        channels.into_iter().any(|(_, elements)| !elements.is_empty())
    }
}

pub(crate) type Storage = BTreeMap<CheckpointId, Stored>;

/// Names what a sink has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transaction(pub(crate) u64);

/// Where rows end up. Each task that is a sink has a place of its own.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    prepared: BTreeMap<Transaction, (usize, Vec<Row>)>,
    committed: BTreeSet<Transaction>,
    visible: BTreeMap<usize, Vec<Row>>,
    next: u64,
}

impl Outside {
    pub(crate) fn prepare(&mut self, task: usize, rows: Vec<Row>) -> Transaction {
        self.next += 1;
        self.prepared.insert(Transaction(self.next), (task, rows));
        Transaction(self.next)
    }

    /// Idempotent.
    pub(crate) fn commit(&mut self, transaction: Transaction) {
        if self.committed.contains(&transaction) {
            return;
        }
        let prepared = self.prepared.remove(&transaction);
        let (task, rows) = prepared.unwrap_or_else(|| panic!("{transaction:?} is to be committed, but was aborted"));
        self.visible.entry(task).or_default().extend(rows);
        self.committed.insert(transaction);
    }

    /// Drops everything that a sink has prepared and not committed.
    pub(crate) fn abort(&mut self, task: usize) {
        self.prepared.retain(|_, (other, _)| *other != task);
    }

    pub(crate) fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// What a sink has committed, sorted.
    pub(crate) fn visible(&self, task: usize) -> Vec<Row> {
        let mut rows = self.visible.get(&task).cloned().unwrap_or_default();
        rows.sort_unstable();
        rows
    }
}
