//! A full disk: said so, earlier checkpoints are intact, and with room again the job goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use millrace_core::checkpoint::CheckpointId;
use millrace_core::error::Fault;
use millrace_state::{Checkpoints, Depth, Storage, codes};

use crate::tables::{Table, counts, info, replay, run};
use crate::testing::Random;

/// On a file system of 2 MiB; needs the right to mount one.
#[test]
fn a_full_disk_is_named_and_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(root.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let outcome = std::panic::catch_unwind(|| check(root.path()));
    Command::new("umount").arg(root.path()).status().unwrap();
    outcome.unwrap();
}

fn content(storage: &Storage) -> BTreeMap<i64, i64> {
    let latest = storage.open_latest("a job/1", Depth::Contents).unwrap();
    assert!(latest.skipped.is_empty());
    let restored = latest.found.unwrap();
    let mut entries = BTreeMap::new();
    let operator = restored.metadata().operator("count").unwrap();
    replay(&restored.restore_task(operator, 1, 0).unwrap().batches, &mut entries);
    entries
}

fn check(root: &Path) {
    let storage = Storage::open(root.to_str().unwrap()).unwrap();
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let mut table = Table::default();
    table.set(1, Some(1));
    checkpoints
        .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
        .unwrap();
    let first = table.entries.clone();

    fs::write(root.join("ballast"), vec![1; 1_700_000]).unwrap();
    let mut random = Random::new(1);
    (0..60_000).for_each(|key| table.set(key, Some(random.next() as i64)));
    let delta = table.snapshot(false);
    for _ in 0..2 {
        let error = checkpoints
            .write_layers(CheckpointId(2), "count", 0, &delta)
            .unwrap_err();
        assert_eq!((error.fault(), error.code()), (Fault::External, codes::FULL), "{error}");
        assert!(error.to_string().contains("shared/2-count-0.arrow"), "{error}");
        assert!(checkpoints.stack("count", 0).is_none());
    }
    checkpoints.abort(CheckpointId(2)).unwrap();
    assert_eq!(content(&storage), first);
    let shared = root.join("a%20job%2F1").join(run(1).run).join("shared");
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1, "nothing half written stays");
    // An increment to what is lost would be wrong.
    table.set(2, None);
    let increment = table.snapshot(false);
    let error = checkpoints
        .write_layers(CheckpointId(3), "count", 0, &increment)
        .unwrap_err();
    assert_eq!(error.code(), codes::LOST, "{error}");

    fs::remove_file(root.join("ballast")).unwrap();
    // What was lost may come again, late, or all may come.
    checkpoints.write_layers(CheckpointId(2), "count", 0, &delta).unwrap();
    checkpoints
        .store(CheckpointId(3), &info(), counts([increment]))
        .unwrap();
    assert_eq!(content(&storage), table.entries);
    checkpoints
        .store(CheckpointId(4), &info(), counts([table.snapshot(true)]))
        .unwrap();
    assert_eq!(content(&storage), table.entries);
}
