//! A checkpoint of version 1 as it was once written: every later Millrace reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_core::checkpoint::{CheckpointId, SplitSnapshot, SubtaskSnapshot};
use millrace_core::connector::{Committable, Position};
use millrace_state::{Checkpoints, Depth, Kind, OperatorSnapshot, Run, Storage, redistribute};

use crate::tables::{Table, counts, info, replay};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1")
}

fn split() -> SplitSnapshot {
    SplitSnapshot {
        id: "a.csv".to_owned(),
        position: Position(vec![0, 1, 254, 255]),
        max_time: Some(1_699_999_999_999),
    }
}

/// How the fixture was made. To make that of a next version: a new folder, and run this with `--ignored`.
#[test]
#[ignore = "writes the fixture"]
fn write() {
    let storage = Storage::open(folder().to_str().unwrap()).unwrap();
    let run = Run::new("fixture job", "00ff", 1_700_000_000_000, 0xC0FFEE);
    let checkpoints = Checkpoints::create(&storage, run).unwrap();
    let mut table = Table::default();
    (0..10).for_each(|key| table.set(key, Some(key * 10)));
    checkpoints
        .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
        .unwrap();
    table.set(3, None);
    table.set(10, Some(-1));
    let mut operators = counts([table.snapshot(false)]);
    operators.push(OperatorSnapshot {
        id: "files".to_owned(),
        name: "Files".to_owned(),
        subtasks: vec![SubtaskSnapshot {
            splits: vec![split()],
            committables: vec![Committable(b"part-0".to_vec())],
            finished: true,
            ..SubtaskSnapshot::default()
        }],
        ..OperatorSnapshot::default()
    });
    checkpoints.store(CheckpointId(2), &info(), operators).unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
}

#[test]
fn version_1_is_read() {
    let storage = Storage::open(folder().to_str().unwrap()).unwrap();
    let latest = storage.open_latest("fixture job", Depth::Contents).unwrap();
    assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
    let restored = latest.found.unwrap();
    let metadata = restored.metadata();
    assert_eq!((metadata.format_version, metadata.checkpoint), (1, CheckpointId(2)));
    assert_eq!((metadata.kind, metadata.max_parallelism), (Kind::Checkpoint, 16));
    assert_eq!(metadata.run, "20231114T221320.000Z-00c0ffee");
    assert_eq!(
        (metadata.started_ms, metadata.completed_ms),
        (1_700_000_001_000, 1_700_000_001_500)
    );
    assert_eq!(metadata.pipeline, "00ff");
    assert_eq!(metadata.parameters, [("threshold".to_owned(), "5".to_owned())].into());
    let files = metadata.operator("files").unwrap();
    assert_eq!(redistribute::splits(files), [split()]);
    assert_eq!(redistribute::committables(files), [Committable(b"part-0".to_vec())]);
    assert!(files.subtasks[0].finished && files.subtasks[0].watermark.is_none());
    let count = metadata.operator("count").unwrap();
    let subtask = &count.subtasks[0];
    assert_eq!(
        (count.name.as_str(), subtask.layers.len(), subtask.live_rows),
        ("Count by key", 2, 10)
    );
    let mut entries = BTreeMap::new();
    for subtask in 0..3 {
        let restore = restored.restore_task(count, 3, subtask).unwrap();
        assert_eq!(restore.watermark, Some(1_000));
        replay(&restore.batches, &mut entries);
    }
    let mut expect: BTreeMap<i64, i64> = (0..10).map(|key| (key, key * 10)).collect();
    expect.remove(&3);
    expect.insert(10, -1);
    assert_eq!(entries, expect);
    let run = storage.read_run("fixture job", &metadata.run).unwrap();
    assert_eq!((run.job.as_str(), run.started_ms), ("fixture job", 1_700_000_000_000));
}
