//! Naive tables: keys with their groups, snapshots of them, and layers laid over each other again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use millrace_core::checkpoint::{DELETED_COLUMN, GROUP_COLUMN, SubtaskSnapshot, TableDelta};
use millrace_core::key::KeyGroup;
use millrace_state::{CheckpointInfo, Kind, OperatorSnapshot, Run};

/// Key groups in these tests.
pub(crate) const MAX_PARALLELISM: u32 = 16;

/// A table of a subtask, and what changed in it since its last snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: BTreeMap<i64, i64>,
    pub(crate) changed: BTreeMap<i64, Option<i64>>,
}

/// Some hash; keys that follow each other are in different groups.
pub(crate) fn group_of(key: i64) -> KeyGroup {
    KeyGroup::of_hash((key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15), MAX_PARALLELISM)
}

impl Table {
    pub(crate) fn set(&mut self, key: i64, value: Option<i64>) {
        match value {
            Some(value) => self.entries.insert(key, value),
            None => self.entries.remove(&key),
        };
        self.changed.insert(key, value);
    }

    /// What the subtask hands over at a barrier, in batches of a few rows.
    pub(crate) fn snapshot(&mut self, full: bool) -> TableDelta {
        let changed = std::mem::take(&mut self.changed);
        let rows: Vec<(i64, Option<i64>)> = match full {
            true => self.entries.iter().map(|(key, value)| (*key, Some(*value))).collect(),
            false => changed.into_iter().collect(),
        };
        TableDelta {
            full,
            cold: None,
            batches: rows.chunks(7).map(batch).collect(),
            live_rows: self.entries.len() as u64,
        }
    }
}

fn batch(rows: &[(i64, Option<i64>)]) -> RecordBatch {
    let groups: UInt32Array = rows.iter().map(|(key, _)| Some(group_of(*key).0)).collect();
    let deleted: BooleanArray = rows.iter().map(|(_, value)| Some(value.is_none())).collect();
    let keys: Int64Array = rows.iter().map(|(key, _)| Some(*key)).collect();
    let values: Int64Array = rows.iter().map(|(_, value)| *value).collect();
    let columns: [(&str, ArrayRef, bool); 4] = [
        (GROUP_COLUMN, Arc::new(groups), false),
        (DELETED_COLUMN, Arc::new(deleted), false),
        ("key", Arc::new(keys), false),
        ("value", Arc::new(values), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Lays batches over each other, the oldest first.
pub(crate) fn replay(batches: &[RecordBatch], entries: &mut BTreeMap<i64, i64>) {
    for batch in batches {
        let groups = batch.column(0).as_primitive::<UInt32Type>();
        let deleted = batch.column(1).as_boolean();
        let keys = batch.column(2).as_primitive::<Int64Type>();
        let values = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = keys.value(row);
            assert_eq!(groups.value(row), group_of(key).0);
            if deleted.value(row) {
                entries.remove(&key);
            } else {
                assert!(!values.is_null(row));
                entries.insert(key, values.value(row));
            }
        }
    }
}

pub(crate) fn run(random: u32) -> Run {
    Run::new("a job/1", "00ff", 1_700_000_000_000, random)
}

pub(crate) fn info() -> CheckpointInfo {
    CheckpointInfo {
        kind: Kind::Checkpoint,
        parameters: [("threshold".to_owned(), "5".to_owned())].into(),
        max_parallelism: MAX_PARALLELISM,
        started_ms: 1_700_000_001_000,
        completed_ms: 1_700_000_001_500,
    }
}

/// Operator `count` with these tables.
pub(crate) fn counts(tables: impl IntoIterator<Item = TableDelta>) -> Vec<OperatorSnapshot> {
    let subtasks = tables.into_iter().map(|table| SubtaskSnapshot {
        watermark: Some(1_000),
        table: Some(table),
        ..SubtaskSnapshot::default()
    });
    vec![OperatorSnapshot {
        id: "count".to_owned(),
        name: "Count by key".to_owned(),
        subtasks: subtasks.collect(),
        ..OperatorSnapshot::default()
    }]
}
