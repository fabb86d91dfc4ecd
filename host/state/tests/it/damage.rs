//! Files that are flipped, cut or gone: named, and the checkpoint before is taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_core::checkpoint::CheckpointId;
use millrace_state::{Checkpoints, Depth, Storage, codes};

use crate::tables::{Table, counts, info, replay, run};

/// Three checkpoints of one key: 1 and 2 are full, 3 lies on 2.
fn three(folder: &Path) -> (Storage, PathBuf) {
    let storage = Storage::open(folder.to_str().unwrap()).unwrap();
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    let mut table = Table::default();
    for id in 1..=3 {
        table.set(0, Some(id as i64));
        let snapshot = table.snapshot(id < 3);
        checkpoints
            .store(CheckpointId(id), &info(), counts([snapshot]))
            .unwrap();
    }
    let root = folder.join("a%20job%2F1").join(run(1).run);
    (storage, root)
}

/// What is found, and codes and messages of what is not.
fn found(storage: &Storage, depth: Depth) -> (Option<i64>, Vec<(u64, &'static str, String)>) {
    let latest = storage.open_latest("a job/1", depth).unwrap();
    let value = latest.found.map(|restored| {
        let mut entries = BTreeMap::new();
        let operator = restored.metadata().operator("count").unwrap();
        replay(&restored.restore_task(operator, 1, 0).unwrap().batches, &mut entries);
        entries[&0]
    });
    let skipped = latest.skipped.into_iter();
    let skipped = skipped.map(|skipped| (skipped.checkpoint.0, skipped.error.code(), skipped.error.to_string()));
    (value, skipped.collect())
}

fn check(file: &str, damage: fn(&Path), code: &'static str, value: Option<i64>, skipped: &[u64]) {
    let folder = tempfile::tempdir().unwrap();
    let (storage, root) = three(folder.path());
    let path = root.join(file);
    damage(&path);
    let (got, passed_over) = found(&storage, Depth::Contents);
    assert_eq!(got, value, "{file}: {passed_over:?}");
    let ids: Vec<u64> = passed_over.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, skipped, "{file}");
    for (_, got, message) in passed_over {
        assert_eq!(got, code, "{message}");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    // Nothing that a damaged checkpoint may need is collected.
    let before = fs::read_dir(root.join("shared")).unwrap().count();
    let (checkpoints, unreadable) = Checkpoints::open(&storage, "a job/1", &run(1).run).unwrap();
    assert_eq!(fs::read_dir(root.join("shared")).unwrap().count(), before);
    assert_eq!(checkpoints.last_id(), Some(CheckpointId(3)));
    assert_eq!(unreadable.len(), usize::from(code == codes::METADATA), "{file}");
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(path, content).unwrap();
}

fn cut(path: &Path) {
    let content = fs::read(path).unwrap();
    fs::write(path, &content[..content.len() / 2]).unwrap();
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn damaged_layers_are_named_and_passed_over() {
    let third = "shared/3-count-0.arrow";
    check(third, flip, codes::DAMAGED, Some(2), &[3]);
    for damage in [cut, empty, remove] {
        check(third, damage, codes::MISSING, Some(2), &[3]);
        // Two checkpoints need this one.
        check("shared/2-count-0.arrow", damage, codes::MISSING, Some(1), &[3, 2]);
        // No newer one needs this one.
        check("shared/1-count-0.arrow", damage, codes::MISSING, Some(3), &[]);
    }
}

#[test]
fn damaged_metadata_is_named_and_passed_over() {
    for damage in [flip, cut, empty] {
        check("chk-3/metadata.json", damage, codes::METADATA, Some(2), &[3]);
    }
}

#[test]
fn without_metadata_there_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, root) = three(folder.path());
    remove(&root.join("chk-3/metadata.json"));
    assert_eq!(found(&storage, Depth::Contents), (Some(2), vec![]));
    let error = storage
        .read_checkpoint("a job/1", &run(1).run, CheckpointId(3))
        .unwrap_err();
    assert_eq!((error.code(), error.fault().exit_code()), (codes::NOT_FOUND, 2));
    for other in ["none", "../x", ""] {
        assert_eq!(storage.read_run("a job/1", other).unwrap_err().code(), codes::NOT_FOUND);
    }
}

#[test]
fn without_reading_all_damage_shows_later() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, root) = three(folder.path());
    assert_eq!(found(&storage, Depth::Sizes), (Some(3), vec![]));
    flip(&root.join("shared/3-count-0.arrow"));
    let restored = storage.open_latest("a job/1", Depth::Sizes).unwrap().found.unwrap();
    let operator = restored.metadata().operator("count").unwrap();
    assert_eq!(
        restored.restore_task(operator, 1, 0).unwrap_err().code(),
        codes::DAMAGED
    );
}

#[test]
fn the_wrong_place_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, root) = three(folder.path());
    fs::copy(root.join("chk-1/metadata.json"), root.join("chk-3/metadata.json")).unwrap();
    let (value, skipped) = found(&storage, Depth::Contents);
    assert_eq!((value, skipped[0].1), (Some(2), codes::METADATA));
    fs::rename(&root, root.with_file_name("renamed")).unwrap();
    assert_eq!(
        storage.read_run("a job/1", "renamed").unwrap_err().code(),
        codes::METADATA
    );
}

#[test]
fn a_newer_checkpoint_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, root) = three(folder.path());
    let content = r#"{"format_version":99}"#;
    let checksum = xxhash_rust::xxh3::xxh3_128(content.as_bytes());
    let file = format!("{{\"checksum\":\"{checksum:032x}\",\"checkpoint\":{content}}}\n");
    fs::write(root.join("chk-3/metadata.json"), file).unwrap();
    let error = storage.open_latest("a job/1", Depth::Contents).unwrap_err();
    assert_eq!((error.code(), error.fault().exit_code()), (codes::NEWER, 2));
    assert!(error.to_string().contains("newer Millrace"), "{error}");
    let (_, unreadable) = Checkpoints::open(&storage, "a job/1", &run(1).run).unwrap();
    assert_eq!(unreadable.len(), 1);
}
