//! Goal: whatever moment a process is killed at, every checkpoint that it reported is there and sound, and nothing
//! else is seen. Method: this test starts itself as a process that stores checkpoint after checkpoint and says so
//! on standard output, kills it after some milliseconds, looks, and starts it again on the same run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millrace_core::checkpoint::CheckpointId;
use millrace_state::{Checkpoints, Depth, RestoredCheckpoint, Storage};

use crate::tables::{Table, counts, info, replay, run};
use crate::testing::Random;

const FOLDER: &str = "MILLRACE_TEST_CRASH_FOLDER";
const KILLS: u64 = 60;
const KEYS: i64 = 3_000;
const KEPT: usize = 2;

/// What happens between two checkpoints; the state is a function of the id alone.
fn step(table: &mut Table, id: u64) {
    for change in 0..300 {
        let key = (id as i64 * 7 + change * 13) % KEYS;
        table.set(key, (change % 5 > 0).then_some(id as i64));
    }
}

fn expected(id: u64) -> BTreeMap<i64, i64> {
    let mut table = Table::default();
    (1..=id).for_each(|id| step(&mut table, id));
    table.entries
}

fn latest(storage: &Storage) -> Option<RestoredCheckpoint> {
    let latest = storage.open_latest(&run(1).job, Depth::Contents).unwrap();
    assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
    latest.found
}

fn content(restored: &RestoredCheckpoint) -> BTreeMap<i64, i64> {
    let mut entries = BTreeMap::new();
    let operator = restored.metadata().operator("count").unwrap();
    replay(&restored.restore_task(operator, 1, 0).unwrap().batches, &mut entries);
    entries
}

/// The process that is killed.
#[test]
#[ignore = "started by `killed_at_any_moment`"]
fn stores_for_ever() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let storage = Storage::open(&folder).unwrap();
    let checkpoints = match storage.runs(&run(1).job).unwrap().as_slice() {
        [] => Checkpoints::create(&storage, run(1)).unwrap(),
        [run] => match Checkpoints::open(&storage, "a job/1", run) {
            Ok((checkpoints, skipped)) => {
                assert!(skipped.is_empty());
                checkpoints
            }
            // Killed before the run was described.
            Err(error) if error.code() == millrace_state::codes::NOT_FOUND => {
                Checkpoints::create(&storage, crate::tables::run(1)).unwrap()
            }
            Err(error) => panic!("{error}"),
        },
        runs => panic!("{runs:?}"),
    };
    let (mut table, mut at) = (Table::default(), 0);
    let restored = latest(&storage);
    if let Some(restored) = &restored {
        at = restored.metadata().checkpoint.0;
        table.entries = content(restored);
        checkpoints.resume(restored.metadata()).unwrap();
    }
    let mut output = std::io::stdout();
    loop {
        let next = checkpoints.last_id().map_or(0, |id| id.0) + 1;
        (at + 1..=next).for_each(|id| step(&mut table, id));
        at = next;
        let full = checkpoints.stack("count", 0).is_none_or(|stack| stack.layers > 5);
        let operators = counts([table.snapshot(full)]);
        checkpoints.store(CheckpointId(next), &info(), operators).unwrap();
        output.write_all(format!("stored {next}\n").as_bytes()).unwrap();
        output.flush().unwrap();
        let completed = checkpoints.completed();
        for id in &completed[..completed.len().saturating_sub(KEPT)] {
            checkpoints.discard(*id).unwrap();
        }
    }
}

/// Runs the process for a while; what it reported last.
fn run_and_kill(folder: &Path, after: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::stores_for_ever", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    // What the test harness says comes before, on a line that ours may continue.
    let lines = output.lines().map(Result::unwrap);
    let stored = lines.filter_map(|line| line.rsplit_once("stored ").and_then(|(_, id)| id.parse().ok()));
    let last = stored.last();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "it is killed and does not end by itself");
    last
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(1);
    let (mut last, mut reports, mut more) = (0, 0, 0);
    for kill in 0..KILLS {
        let reported = run_and_kill(folder.path(), Duration::from_micros(random.below(80_000)));
        reports += u64::from(reported.is_some());
        last = reported.unwrap_or(last).max(last);
        let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
        let Some(restored) = latest(&storage) else {
            assert_eq!(last, 0, "kill {kill}");
            continue;
        };
        let found = restored.metadata().checkpoint.0;
        assert!(found >= last, "kill {kill}: {last} was reported, {found} is found");
        more += u64::from(found > last);
        last = found;
        // All that are kept are sound, not only the latest.
        for (run, id) in storage.checkpoints(&run(1).job).unwrap() {
            let restored = storage.open_checkpoint("a job/1", &run, id, Depth::Contents).unwrap();
            assert_eq!(content(&restored), expected(id.0), "kill {kill}: checkpoint {id}");
        }
    }
    assert!(
        reports > KILLS / 4,
        "of {KILLS} processes only {reports} came as far as to store"
    );
    println!("{last} checkpoints; {more} times one more was stored than reported");
    // What the kills left over is collected.
    let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
    let (checkpoints, _) = Checkpoints::open(&storage, "a job/1", &run(1).run).unwrap();
    let needed: std::collections::BTreeSet<String> = checkpoints
        .completed()
        .into_iter()
        .flat_map(|id| {
            let metadata = storage.read_checkpoint("a job/1", &run(1).run, id).unwrap();
            metadata.layers().map(|layer| layer.file.clone()).collect::<Vec<_>>()
        })
        .collect();
    let root = folder.path().join("a%20job%2F1").join(run(1).run);
    let names = |folder: &str| -> std::collections::BTreeSet<String> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(names("shared"), needed);
    let folders = names("").into_iter().filter(|name| name.starts_with("chk-")).count();
    assert_eq!(folders, checkpoints.completed().len());
}
