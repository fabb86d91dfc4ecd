//! Who gets what of an operator that starts again, maybe with another parallelism.
//!
//! Keyed state goes by key groups, which are ranges on both sides: a new subtask takes from each old one whose
//! range overlaps its own, and of the files only those rows that it owns. Splits and committables belong to
//! nobody; they are handed out whole, and sources and sinks deal them out anew. Broadcast state is everybody's: each subtask
//! begins with a copy of it. Lists of rows without a key are dealt out by item, by whoever knows them: each subtask gets all.
//!
//! ```text
//!   old   |------ 0 ------|------ 1 ------|
//!   new   |--- 0 ---|--- 1 ---|--- 2 -----|      1 reads files of both and drops what is not its own
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use arrow_array::RecordBatch;
use millrace_core::block::Millis;
use millrace_core::checkpoint::SplitSnapshot;
use millrace_core::connector::Committable;
use millrace_core::key::KeyGroups;

use crate::format::{Layer, Operator};

/// What a new subtask of a keyed operator begins with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskRestore {
    /// The least watermark of the old subtasks that had its keys; `None` if one of them had none.
    pub watermark: Option<Millis>,
    /// Its entries: rows in place of earlier rows of the same entry, deletions among them.
    pub batches: Vec<RecordBatch>,
    /// Its large states, likewise.
    pub collections: Vec<CollectionRestore>,
}

/// What a new subtask begins with of a large state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectionRestore {
    /// Name of the state.
    pub state: String,
    /// Its entries, as those of a [`TaskRestore`].
    pub batches: Vec<RecordBatch>,
}

/// Which files a new subtask reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share<'a> {
    /// Key groups of the new subtask.
    pub groups: Range<u32>,
    /// See [`TaskRestore::watermark`].
    pub watermark: Option<Millis>,
    /// Entries in the tables of the old subtasks that had its keys.
    pub live_rows: u64,
    /// Files in the order in which they are to be laid over each other.
    pub pieces: Vec<Piece<'a>>,
    /// The same of large states, by their names.
    pub collections: BTreeMap<&'a str, Vec<Piece<'a>>>,
}

/// A file of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The file.
    pub layer: &'a Layer,
    /// All of its rows are of the subtask; otherwise only those in its groups.
    pub whole: bool,
}

/// The share of new subtask `subtask` of `parallelism`.
///
/// # Panics
/// If either parallelism is 0 or over `max_parallelism`, or if there is no such subtask: the planner refuses
/// such a job, and a checkpoint of a keyed operator is checked when it is read.
pub fn share(operator: &Operator, max_parallelism: u32, parallelism: u32, subtask: u32) -> Share<'_> {
    assert!(subtask < parallelism, "subtask {subtask} of {parallelism}");
    let groups = match operator.is_unkeyed() {
        true => 0..max_parallelism,
        false => KeyGroups::new(parallelism, max_parallelism).groups_of(subtask),
    };
    let before = KeyGroups::new(operator.parallelism, max_parallelism);
    let overlap = |range: &Range<u32>| range.start < groups.end && groups.start < range.end;
    let contributing = operator.subtasks.iter().zip(0..);
    let contributing = contributing.filter(|(_, number)| overlap(&before.groups_of(*number)));
    let mut watermark = Some(Millis::MAX);
    let mut live_rows = 0;
    let mut pieces = Vec::new();
    let mut collections = BTreeMap::<_, Vec<_>>::new();
    let piece = |layer| piece(layer, &groups);
    for (old, _) in contributing {
        // `None` is less than any watermark.
        watermark = watermark.min(old.watermark);
        live_rows += old.live_rows;
        pieces.extend(old.layers.iter().filter_map(piece));
        for large in old
            .collections
            .iter()
            .filter(|large| !operator.is_broadcast(&large.state))
        {
            let pieces = large.layers.iter().filter_map(piece);
            collections.entry(large.state.as_str()).or_default().extend(pieces);
        }
    }
    // All have the same, but for what was under way to them: that is given back to as many subtasks only.
    let same = operator.parallelism == parallelism;
    let whole = |layer| Piece { layer, whole: true };
    for large in &operator.subtasks[if same { subtask as usize } else { 0 }].collections {
        if operator.is_broadcast(&large.state) {
            collections.insert(large.state.as_str(), large.layers.iter().map(whole).collect());
        }
    }
    Share {
        watermark,
        live_rows,
        pieces,
        collections,
        groups,
    }
}

/// What of a file is of these key groups, if there is something.
fn piece<'a>(layer: &'a Layer, groups: &Range<u32>) -> Option<Piece<'a>> {
    let [first, last] = layer.groups;
    let whole = groups.start <= first && last < groups.end;
    (first < groups.end && groups.start <= last).then_some(Piece { layer, whole })
}

/// All splits that the subtasks of a source read, in an order in which dealing them out in turn to as many subtasks
/// as before gives each what it had.
pub fn splits(operator: &Operator) -> Vec<SplitSnapshot> {
    let longest = operator.subtasks.iter().map(|subtask| subtask.splits.len()).max();
    let turns = 0..longest.unwrap_or(0);
    let in_turn = turns.flat_map(|turn| {
        let subtasks = operator.subtasks.iter();
        subtasks.filter_map(move |subtask| subtask.splits.get(turn))
    });
    in_turn.cloned().map(Into::into).collect()
}

/// All that the subtasks of a sink had pre-committed, in their order.
pub fn committables(operator: &Operator) -> Vec<Committable> {
    let committables = operator.subtasks.iter().flat_map(|subtask| &subtask.committables);
    committables.map(|blob| Committable(blob.0.clone())).collect()
}

#[cfg(test)]
mod tests;
