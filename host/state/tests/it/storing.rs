//! Storing, aborting, discarding and going on, by what is in the folder afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_core::checkpoint::{CheckpointId, SplitSnapshot, SubtaskSnapshot};
use millrace_core::connector::{Committable, Position};
use millrace_state::{Checkpoints, Depth, OperatorSnapshot, RestoredCheckpoint, Storage, redistribute};

use crate::tables::{Table, counts, info, replay, run};

fn open(folder: &Path) -> Storage {
    Storage::open(folder.to_str().unwrap()).unwrap()
}

fn latest(storage: &Storage) -> RestoredCheckpoint {
    let latest = storage.open_latest("a job/1", Depth::Contents).unwrap();
    assert!(latest.skipped.is_empty());
    latest.found.unwrap()
}

fn content(restored: &RestoredCheckpoint) -> BTreeMap<i64, i64> {
    let operator = restored.metadata().operator("count").unwrap();
    let mut entries = BTreeMap::new();
    for subtask in 0..operator.parallelism {
        let restore = restored.restore_task(operator, operator.parallelism, subtask).unwrap();
        assert_eq!(restore.watermark, Some(1_000));
        replay(&restore.batches, &mut entries);
    }
    entries
}

fn layers(folder: &Path) -> Vec<String> {
    let shared = folder.join("a%20job%2F1").join(run(1).run).join("shared");
    let entries = std::fs::read_dir(shared).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn all_that_a_subtask_hands_over_comes_back() {
    let storage = Storage::open("memory://all").unwrap();
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let split = |id: &str| SplitSnapshot {
        id: id.to_owned(),
        position: Position(vec![0, 1, 255]),
        max_time: Some(-5),
    };
    let subtask = |name: &str, finished| SubtaskSnapshot {
        watermark: None,
        splits: vec![split(name)],
        table: None,
        collections: Vec::new(),
        committables: vec![Committable(name.as_bytes().to_vec())],
        finished,
        channels: Vec::new(),
    };
    let operators = vec![OperatorSnapshot {
        id: "files".to_owned(),
        name: "Files".to_owned(),
        subtasks: vec![subtask("a", false), subtask("b", true)],
        ..OperatorSnapshot::default()
    }];
    let stored = checkpoints.store(CheckpointId(1), &info(), operators).unwrap();
    let restored = latest(&storage);
    assert_eq!(restored.metadata(), &stored);
    let files = stored.operator("files").unwrap();
    assert_eq!(redistribute::splits(files), [split("a"), split("b")]);
    let committables = ["a", "b"].map(|name| Committable(name.as_bytes().to_vec()));
    assert_eq!(redistribute::committables(files), committables);
    assert_eq!((files.subtasks[0].finished, files.subtasks[1].finished), (false, true));
    assert_eq!(storage.read_run("a job/1", &run(1).run).unwrap(), run(1));
}

#[test]
fn increments_lie_on_each_other_across_aborted_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let mut table = Table::default();
    (0..50).for_each(|key| table.set(key, Some(key)));
    checkpoints
        .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
        .unwrap();
    // What is aborted changed all the same, and the next increment does not repeat it.
    table.set(1, None);
    checkpoints
        .write_layers(CheckpointId(2), "count", 0, &table.snapshot(false))
        .unwrap();
    checkpoints.abort(CheckpointId(2)).unwrap();
    table.set(2, Some(-2));
    checkpoints
        .store(CheckpointId(3), &info(), counts([table.snapshot(false)]))
        .unwrap();
    assert_eq!(content(&latest(&storage)), table.entries);
    assert_eq!(
        layers(folder.path()),
        ["1-count-0.arrow", "2-count-0.arrow", "3-count-0.arrow"]
    );
    // Nothing changed: no layer.
    checkpoints
        .store(CheckpointId(4), &info(), counts([table.snapshot(false)]))
        .unwrap();
    assert_eq!(layers(folder.path()).len(), 3);
    assert_eq!(content(&latest(&storage)), table.entries);
    // A full one makes the others superfluous, once the checkpoints that need them are gone.
    checkpoints
        .store(CheckpointId(5), &info(), counts([table.snapshot(true)]))
        .unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
    checkpoints.discard(CheckpointId(4)).unwrap();
    assert_eq!(layers(folder.path()).len(), 4);
    checkpoints.discard(CheckpointId(3)).unwrap();
    assert_eq!(layers(folder.path()), ["5-count-0.arrow"]);
    assert_eq!(checkpoints.completed(), [CheckpointId(5)]);
    assert_eq!(content(&latest(&storage)), table.entries);
}

#[test]
fn a_reopened_run_collects_what_was_left_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut table = Table::default();
    table.set(1, Some(1));
    {
        let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
        checkpoints
            .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
            .unwrap();
        table.set(2, Some(2));
        checkpoints
            .write_layers(CheckpointId(2), "count", 0, &table.snapshot(false))
            .unwrap();
    }
    let run_folder = folder.path().join("a%20job%2F1").join(run(1).run);
    std::fs::create_dir(run_folder.join("chk-2")).unwrap();
    std::fs::write(run_folder.join("chk-2/.writing-metadata.json"), "{").unwrap();
    let restored = latest(&storage);
    let (checkpoints, skipped) = Checkpoints::open(&storage, "a job/1", &run(1).run).unwrap();
    assert!(skipped.is_empty());
    assert_eq!(layers(folder.path()), ["1-count-0.arrow"]);
    assert!(!run_folder.join("chk-2").exists());
    assert_eq!(checkpoints.last_id(), Some(CheckpointId(2)));
    assert!(checkpoints.stack("count", 0).is_none());
    checkpoints.resume(restored.metadata()).unwrap();
    assert_eq!(checkpoints.stack("count", 0).unwrap().layers, 1);
    // A thread of the earlier attempt that is late changes nothing.
    let late = checkpoints.write_layers(CheckpointId(2), "count", 0, &table.snapshot(true));
    assert_eq!(late.unwrap_err().code(), "IN0001");
    assert_eq!(
        checkpoints.complete(CheckpointId(2), &info(), &[]).unwrap_err().code(),
        "IN0001"
    );
    let mut table = Table {
        entries: content(&restored),
        ..Table::default()
    };
    table.set(3, Some(3));
    checkpoints
        .store(CheckpointId(3), &info(), counts([table.snapshot(false)]))
        .unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
    assert_eq!(content(&latest(&storage)), [(1, 1), (3, 3)].into());
    assert_eq!(layers(folder.path()), ["1-count-0.arrow", "3-count-0.arrow"]);
}

#[test]
fn after_rescaling_every_subtask_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let mut tables = [Table::default(), Table::default()];
    tables[0].set(1, Some(1));
    tables[1].set(2, Some(2));
    let full = tables.each_mut().map(|table| table.snapshot(true));
    checkpoints.store(CheckpointId(1), &info(), counts(full)).unwrap();
    checkpoints.forget();
    let error = checkpoints.write_layers(CheckpointId(2), "count", 0, &tables[0].snapshot(false));
    assert_eq!(error.unwrap_err().code(), "IN0001");
    tables[0].set(2, Some(2));
    checkpoints
        .store(CheckpointId(2), &info(), counts([tables[0].snapshot(true)]))
        .unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
    assert_eq!(layers(folder.path()), ["2-count-0.arrow"]);
}

#[test]
fn the_latest_is_that_of_the_latest_run() {
    let storage = Storage::open("memory://runs").unwrap();
    for (time, id) in [(2, 1), (1, 7)] {
        let run = millrace_state::Run::new("a job/1", "00ff", time, 0);
        let checkpoints = Checkpoints::create(&storage, run).unwrap();
        checkpoints
            .store(CheckpointId(id), &info(), counts([Table::default().snapshot(true)]))
            .unwrap();
    }
    assert_eq!(latest(&storage).metadata().checkpoint, CheckpointId(1));
    assert_eq!(storage.runs("a job/1").unwrap().len(), 2);
    assert!(storage.runs("other").unwrap().is_empty());
    assert!(storage.open_latest("other", Depth::Sizes).unwrap().found.is_none());
}

#[test]
fn a_checkpoint_of_another_run_is_no_base() {
    let storage = Storage::open("memory://foreign").unwrap();
    let first = Checkpoints::create(&storage, run(1)).unwrap();
    let metadata = first
        .store(CheckpointId(1), &info(), counts([Table::default().snapshot(true)]))
        .unwrap();
    let second = Checkpoints::create(&storage, run(2)).unwrap();
    assert_eq!(second.resume(&metadata).unwrap_err().code(), "IN0001");
    first.resume(&metadata).unwrap();
    assert_eq!(Checkpoints::create(&storage, run(1)).unwrap_err().code(), "IN0001");
}

/// No restart finds what a savepoint is made of, and checkpoints go on over it.
#[test]
fn what_is_held_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let mut table = Table::default();
    table.set(1, Some(1));
    checkpoints
        .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
        .unwrap();
    table.set(2, Some(2));
    checkpoints
        .write_layers(CheckpointId(2), "count", 0, &table.snapshot(false))
        .unwrap();
    let mut operators = counts([table.snapshot(false)]);
    operators[0].subtasks[0].table = None;
    let held = checkpoints.hold(CheckpointId(2), &info(), &operators).unwrap();
    assert_eq!(content(&held), table.entries);
    assert_eq!(latest(&storage).metadata().checkpoint, CheckpointId(1));
    // The next increment lies on the savepoint's, which may go when the checkpoint has gone too.
    let before = table.entries.clone();
    table.set(1, Some(3));
    checkpoints
        .store(CheckpointId(3), &info(), counts([table.snapshot(false)]))
        .unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
    assert_eq!(content(&held), before);
    checkpoints.discard(CheckpointId(2)).unwrap();
    assert_eq!(layers(folder.path()).len(), 3);
    assert_eq!(content(&latest(&storage)), table.entries);
}
