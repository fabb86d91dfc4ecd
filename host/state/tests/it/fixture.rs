//! Checkpoints of each version as they were once written: every later Millrace reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use millrace_core::block::{Block, Element, WATERMARK_MIN};
use millrace_core::checkpoint::{ChannelSnapshot, CheckpointId, EdgeName, SplitSnapshot, SubtaskSnapshot};
use millrace_core::connector::{Committable, Position};
use millrace_state::{Checkpoints, Depth, Kind, OperatorSnapshot, Run, Storage, redistribute};

use crate::tables::{Table, counts, info, replay};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1")
}

fn folder_2() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-2")
}

/// Two channels of an edge, of which one has rows and a watermark under way.
fn channels() -> Vec<ChannelSnapshot> {
    let edge = EdgeName {
        from: "files".to_owned(),
        port: 0,
        input: 0,
        number: 0,
    };
    let block = |values: Vec<i64>| {
        let times = values.iter().map(|value| value * 10).collect::<Vec<i64>>();
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        let rows = RecordBatch::try_from_iter_with_nullable([("key", column, false)]).unwrap();
        Element::Block(Block {
            times: Some(times.into()),
            ..Block::new(rows)
        })
    };
    let channel = |sender, watermark, idle, elements| ChannelSnapshot {
        edge: edge.clone(),
        sender,
        watermark,
        idle,
        elements,
    };
    let under_way = vec![block(vec![1, 2]), Element::Watermark(15), block(vec![3]), Element::Idle];
    vec![
        channel(0, 7, false, under_way),
        channel(1, WATERMARK_MIN, true, Vec::new()),
    ]
}

/// How the fixture of version 2 was made.
#[test]
#[ignore = "writes the fixture"]
fn write_2() {
    let storage = Storage::open(folder_2().to_str().unwrap()).unwrap();
    let run = Run::new("fixture job", "00ff", 1_700_000_000_000, 0xC0FFEE);
    let checkpoints = Checkpoints::create(&storage, run).unwrap();
    let mut table = Table::default();
    (0..10).for_each(|key| table.set(key, Some(key * 10)));
    let mut operators = counts([table.snapshot(true)]);
    operators[0].subtasks[0].channels = channels();
    checkpoints.store(CheckpointId(1), &info(), operators).unwrap();
}

#[test]
fn version_2_is_read() {
    let storage = Storage::open(folder_2().to_str().unwrap()).unwrap();
    let latest = storage.open_latest("fixture job", Depth::Contents).unwrap();
    assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
    let restored = latest.found.unwrap();
    let metadata = restored.metadata();
    assert_eq!((metadata.format_version, metadata.in_flight().rows), (2, 3));
    let read = restored.channels(metadata.operator("count").unwrap(), 0).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", channels()));
}

/// They go with their checkpoint, whether it completes or not, and damage to them is noticed.
#[test]
fn files_of_rows_in_flight_are_of_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
    let run = Run::new("job", "00ff", 1_700_000_000_000, 1);
    let checkpoints = Checkpoints::create(&storage, run.clone()).unwrap();
    let shared = folder.path().join("job").join(&run.run).join("shared");
    let files = || {
        let names = std::fs::read_dir(&shared)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let store = |id: u64| {
        let mut table = Table::default();
        table.set(1, Some(1));
        let mut operators = counts([table.snapshot(true)]);
        operators[0].subtasks[0].channels = channels();
        checkpoints.store(CheckpointId(id), &info(), operators).unwrap();
    };
    store(1);
    store(2);
    assert_eq!(
        files(),
        [
            "1-count-0-rows0.arrow",
            "1-count-0.arrow",
            "2-count-0-rows0.arrow",
            "2-count-0.arrow"
        ]
    );
    checkpoints.discard(CheckpointId(1)).unwrap();
    checkpoints
        .write_channels(CheckpointId(3), "count", 0, &channels())
        .unwrap();
    assert_eq!(
        files(),
        ["2-count-0-rows0.arrow", "2-count-0.arrow", "3-count-0-rows0.arrow"]
    );
    checkpoints.abort(CheckpointId(3)).unwrap();
    checkpoints
        .write_channels(CheckpointId(4), "count", 0, &channels())
        .unwrap();
    drop(checkpoints);
    // What a crash has left behind goes, what a checkpoint needs stays.
    let (checkpoints, _) = Checkpoints::open(&storage, "job", &run.run).unwrap();
    assert_eq!(files(), ["2-count-0-rows0.arrow", "2-count-0.arrow"]);
    checkpoints
        .write_channels(CheckpointId(5), "count", 0, &channels())
        .unwrap();
    checkpoints.forget();
    assert_eq!(files(), ["2-count-0-rows0.arrow", "2-count-0.arrow"]);
    assert!(
        checkpoints
            .write_channels(CheckpointId(5), "count", 0, &channels())
            .is_err(),
        "it came too late"
    );
    let file = shared.join("2-count-0-rows0.arrow");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let latest = storage.open_latest("job", Depth::Contents).unwrap();
    assert!(latest.found.is_none());
    let error = latest.skipped[0].error.to_string();
    assert!(error.contains("2-count-0-rows0.arrow"), "{error}");
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
