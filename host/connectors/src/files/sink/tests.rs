//! The two-phase protocol on a real folder.

use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};

use super::*;
use crate::testing::{context, options};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("t", DataType::Utf8, true),
    ]))
}

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(range.clone().map(|n| format!("row-{n}"))));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(range)), texts]).unwrap()
}

fn sink(folder: &Path, more: &[(&str, &str)]) -> Result<FilesSink> {
    let mut pairs = vec![("path", folder.to_str().unwrap()), ("format", "csv")];
    pairs.extend(more);
    Settings::take(options(&pairs), &schema()).map(|settings| FilesSink::new(settings, schema()))
}

/// All files but the records of what was committed.
fn names(folder: &Path) -> Vec<String> {
    let mut names = all_names(folder);
    names.retain(|name| !name.ends_with(COMMITTED));
    names
}

fn all_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const NOW: Duration = Duration::ZERO;

#[test]
fn parts_are_hidden_until_committed() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("new/out");
    let sink = sink(&folder, &[("roll.rows", "10")]).unwrap();
    sink.check().unwrap();
    assert!(names(&folder).is_empty(), "the probe is gone");
    let mut writer = sink.open(&context(1, 2)).unwrap();
    writer.write(&rows(0..25), NOW).unwrap();
    writer.flush().unwrap();
    assert!(
        names(&folder).iter().all(|name| name.starts_with('.')),
        "{:?}",
        names(&folder)
    );
    let committables = writer.pre_commit().unwrap();
    assert_eq!(committables.len(), 3);
    assert!(names(&folder).iter().all(|name| name.starts_with('.')));
    writer.write(&rows(25..26), NOW).unwrap();
    writer.commit(&committables).unwrap();
    writer.commit(&committables).unwrap();
    let expected = [
        ".part-1-3.csv.inprogress",
        "part-1-0.csv",
        "part-1-1.csv",
        "part-1-2.csv",
    ];
    assert_eq!(names(&folder), expected);
    writer.abort(&[]).unwrap();
    assert_eq!(names(&folder), &expected[1..]);
    let last = std::fs::read_to_string(folder.join("part-1-2.csv")).unwrap();
    assert_eq!(last, "n,t\n20,row-20\n21,row-21\n22,row-22\n23,row-23\n24,row-24\n");
    assert_eq!(writer.summary(), [("files".to_owned(), "3".to_owned())]);
}

#[test]
fn what_was_prepared_can_be_aborted_by_its_writer_and_by_a_later_one() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("out");
    let sink = sink(&folder, &[("roll.rows", "2")]).unwrap();
    for same_writer in [true, false] {
        let mut writer = sink.open(&context(0, 1)).unwrap();
        writer.write(&rows(0..5), NOW).unwrap();
        let prepared = writer.pre_commit().unwrap();
        assert_eq!((prepared.len(), names(&folder).len()), (3, 3));
        if same_writer {
            writer.write(&rows(5..6), NOW).unwrap();
        } else {
            writer = sink.open(&context(0, 1)).unwrap();
        }
        writer.abort(&prepared).unwrap();
        writer.abort(&prepared).unwrap();
        assert!(names(&folder).is_empty(), "{:?}", names(&folder));
    }
}

#[test]
fn a_new_writer_commits_what_a_dead_one_prepared() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[]).unwrap();
    let mut dead = sink.open(&context(0, 1)).unwrap();
    dead.write(&rows(0..5), NOW).unwrap();
    let committables = dead.pre_commit().unwrap();
    dead.write(&rows(5..7), NOW).unwrap();
    drop(dead);
    let mut writer = sink.open(&context(0, 1)).unwrap();
    writer.commit(&committables).unwrap();
    writer.write(&rows(5..9), NOW).unwrap();
    let committables = writer.pre_commit().unwrap();
    assert_eq!(committables, [Committable(b"part-0-2.csv".to_vec())]);
    writer.commit(&committables).unwrap();
    assert_eq!(
        names(root.path()),
        [".part-0-1.csv.inprogress", "part-0-0.csv", "part-0-2.csv"]
    );
    let gone = writer.commit(&[Committable(b"part-0-9.csv".to_vec())]).unwrap_err();
    assert_eq!(gone.code(), "IO0110");
}

#[test]
fn what_was_committed_may_be_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[("roll.rows", "2")]).unwrap();
    let mut writer = sink.open(&context(3, 4)).unwrap();
    writer.write(&rows(0..5), NOW).unwrap();
    let committables = writer.pre_commit().unwrap();
    writer.commit(&committables).unwrap();
    for name in names(root.path()) {
        std::fs::remove_file(root.path().join(name)).unwrap();
    }
    assert_eq!(all_names(root.path()), [".part-3-2.committed"]);
    sink.recover(&committables).unwrap();
    // Numbers go on, and there is one record.
    let mut writer = sink.open(&context(3, 4)).unwrap();
    writer.write(&rows(5..6), NOW).unwrap();
    let next = writer.pre_commit().unwrap();
    assert_eq!(next, [Committable(b"part-3-3.csv".to_vec())]);
    let gone = || sink.recover(&[Committable(b"part-3-4.csv".to_vec())]).unwrap_err();
    assert_eq!(gone().code(), "IO0110");
    sink.recover(&next).unwrap();
    assert_eq!(all_names(root.path()), [".part-3-3.committed", "part-3-3.csv"]);
    assert_eq!(gone().code(), "IO0110");
    // A new run that writes there begins anew.
    std::fs::remove_file(root.path().join("part-3-3.csv")).unwrap();
    sink.check().unwrap();
    assert!(all_names(root.path()).is_empty());
}

#[test]
fn parts_roll_by_bytes() {
    for format in ["csv", "parquet"] {
        for compression in ["none", "gzip", "zstd"] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().to_str().unwrap();
            let pairs = [
                ("path", path),
                ("format", format),
                ("compression", compression),
                ("roll.bytes", "100000"),
            ];
            let sink = FilesSink::new(Settings::take(options(&pairs), &schema()).unwrap(), schema());
            let mut writer = sink.open(&context(0, 1)).unwrap();
            for block in 0..200 {
                writer.write(&rows(block * 1000..(block + 1) * 1000), NOW).unwrap();
            }
            let committables = writer.pre_commit().unwrap();
            assert!(committables.len() > 1, "{format} {compression}: {}", committables.len());
            assert!(writer.bytes_written() > 100_000);
        }
    }
}

#[test]
fn an_empty_sink_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[]).unwrap();
    let mut writer = sink.open(&context(0, 1)).unwrap();
    writer.write(&rows(0..0), NOW).unwrap();
    assert_eq!(writer.pre_commit().unwrap(), []);
    writer.commit(&[]).unwrap();
    assert!(names(root.path()).is_empty());
}

#[test]
fn parts_of_an_earlier_run_are_not_mixed_in() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    std::fs::write(folder.join("part-0-7.csv"), "old").unwrap();
    std::fs::write(folder.join("notes.csv"), "not ours").unwrap();
    let error = sink(folder, &[]).unwrap().check().unwrap_err();
    assert_eq!(error.code(), "CN0115");
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");

    let append = sink(folder, &[("append", "true")]).unwrap();
    append.check().unwrap();
    let mut writer = append.open(&context(0, 1)).unwrap();
    writer.write(&rows(0..1), NOW).unwrap();
    let committables = writer.pre_commit().unwrap();
    writer.commit(&committables).unwrap();
    assert_eq!(names(folder), ["notes.csv", "part-0-7.csv", "part-0-8.csv"]);

    sink(folder, &[("overwrite", "true")]).unwrap().check().unwrap();
    assert_eq!(names(folder), ["notes.csv"]);
    let error = sink(folder, &[("overwrite", "true"), ("append", "true")])
        .err()
        .unwrap();
    assert_eq!(error.code(), "CN0110");
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = sink(&file.join("out"), &[]).unwrap().check().unwrap_err();
    assert_eq!(error.code(), "IO0106");
    assert!(error.to_string().contains("file/out"), "{error}");
}

fn savepoint(id: &str) -> KeptFor {
    KeptFor {
        id: id.to_owned(),
        savepoint: format!("/savepoints/{id}"),
        is_written: false,
    }
}

fn prepare(sink: &FilesSink, subtask: u32, range: std::ops::Range<i64>) -> Vec<Committable> {
    let mut writer = sink.open(&context(subtask, 2)).unwrap();
    writer.write(&rows(range), NOW).unwrap();
    writer.pre_commit().unwrap()
}

/// As a job without checkpoints, or another attempt, starts over the same output.
fn start_anew(sink: &FilesSink) {
    sink.check().unwrap();
    sink.recover(&[]).unwrap();
}

#[test]
fn what_savepoints_hold_outlives_other_starts() {
    for existing in ["append", "overwrite"] {
        let root = tempfile::tempdir().unwrap();
        let sink = sink(root.path(), &[(existing, "true")]).unwrap();
        let first = prepare(&sink, 0, 0..2);
        sink.keep(&savepoint("one"), &first).unwrap();
        // The second savepoint holds what the first one does.
        let both = [first.clone(), prepare(&sink, 0, 2..4), prepare(&sink, 1, 4..6)].concat();
        sink.keep(&savepoint("two"), &both).unwrap();
        let _in_none = prepare(&sink, 1, 6..8);
        for _ in 0..2 {
            start_anew(&sink);
            let expected = [
                ".part-0-0.csv.inprogress",
                ".part-0-1.csv.inprogress",
                ".part-1-0.csv.inprogress",
                ".savepoint-one.kept",
                ".savepoint-two.kept",
            ];
            assert_eq!(all_names(root.path()), expected);
            assert_eq!(sink.kept().unwrap(), [savepoint("one"), savepoint("two")]);
        }
        // A job that goes on from the first, and one that begins anew.
        sink.recover(&first).unwrap();
        assert_eq!(sink.kept().unwrap(), [savepoint("two")]);
        start_anew(&sink);
        let numbers = prepare(&sink, 1, 8..9);
        assert_eq!(
            numbers,
            [Committable(b"part-1-1.csv".to_vec())],
            "no number comes again"
        );
        sink.recover(&both).unwrap();
        assert_eq!(sink.kept().unwrap(), []);
        assert!(!all_names(root.path()).iter().any(|name| name.ends_with(".kept")));
        let rows = std::fs::read_to_string(root.path().join("part-1-0.csv")).unwrap();
        assert_eq!(rows, "n,t\n4,row-4\n5,row-5\n");
    }
}

/// A kill in the middle of the commit of a savepoint, and then a job that begins anew.
#[test]
fn the_rest_of_a_savepoint_can_be_committed_whatever_became_of_some_of_it() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[("overwrite", "true")]).unwrap();
    let (early, late) = (prepare(&sink, 0, 0..2), prepare(&sink, 1, 2..4));
    let both = [early.clone(), late].concat();
    sink.keep(&savepoint("one"), &both).unwrap();
    let mut writer = sink.open(&context(0, 2)).unwrap();
    writer.commit(&early).unwrap();
    start_anew(&sink);
    let expected = [".part-0-0.committed", ".part-1-0.csv.inprogress", ".savepoint-one.kept"];
    assert_eq!(all_names(root.path()), expected);
    assert_eq!(prepare(&sink, 0, 4..5), [Committable(b"part-0-1.csv".to_vec())]);
    sink.recover(&both).unwrap();
    assert_eq!(names(root.path()), ["part-1-0.csv"]);
}

#[test]
fn a_savepoint_holds_nothing_behind_the_next_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[]).unwrap();
    let mut writer = sink.open(&context(0, 1)).unwrap();
    writer.write(&rows(0..2), NOW).unwrap();
    let prepared = writer.pre_commit().unwrap();
    sink.keep(&savepoint("one"), &prepared).unwrap();
    writer.commit(&prepared).unwrap();
    // The savepoint is written after that.
    let written = KeptFor {
        is_written: true,
        ..savepoint("one")
    };
    sink.keep(&written, &prepared).unwrap();
    assert_eq!(all_names(root.path()), [".part-0-0.committed", "part-0-0.csv"]);
}

#[test]
fn what_a_savepoint_holds_goes_when_it_is_released() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path(), &[]).unwrap();
    let first = prepare(&sink, 0, 0..2);
    sink.keep(&savepoint("one"), &first).unwrap();
    sink.keep(&savepoint("two"), &[first, prepare(&sink, 0, 2..4)].concat())
        .unwrap();
    for _ in 0..2 {
        sink.release("two").unwrap();
        start_anew(&sink);
        assert_eq!(names(root.path()), [".part-0-0.csv.inprogress", ".savepoint-one.kept"]);
    }
    // By hand, as documented.
    std::fs::remove_file(root.path().join(".savepoint-one.kept")).unwrap();
    start_anew(&sink);
    assert!(all_names(root.path()).is_empty());
}

/// Runs a test on a file system of 1 MiB; needs the right to mount one.
fn on_a_small_disk(test: impl FnOnce(&Path) + std::panic::UnwindSafe) {
    let root = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(root.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let outcome = std::panic::catch_unwind(|| test(root.path()));
    std::process::Command::new("umount").arg(root.path()).status().unwrap();
    outcome.unwrap();
}

#[test]
fn a_savepoint_for_which_nothing_can_be_noted_leaves_no_note() {
    on_a_small_disk(|folder| {
        let sink = sink(folder, &[]).unwrap();
        let prepared = prepare(&sink, 0, 0..2);
        let filler = folder.join("filler");
        let mut full = File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut full, &[0; 4096]).is_ok() {}
        let error = sink.keep(&savepoint("one"), &prepared).unwrap_err();
        assert_eq!(error.code(), "IO0106", "{error}");
        assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
        assert_eq!(all_names(folder), [".part-0-0.csv.inprogress", "filler"]);
        drop(full);
        std::fs::remove_file(filler).unwrap();
        sink.keep(&savepoint("one"), &prepared).unwrap();
        start_anew(&sink);
        assert_eq!(all_names(folder), [".part-0-0.csv.inprogress", ".savepoint-one.kept"]);
    });
}

#[test]
fn a_full_disk_names_the_file_and_shows_nothing() {
    on_a_small_disk(|folder| {
        let sink = sink(folder, &[("roll.rows", "20000")]).unwrap();
        sink.check().unwrap();
        let mut writer = sink.open(&context(0, 1)).unwrap();
        let mut blocks = (0..).map(|block| rows(block * 1000..(block + 1) * 1000));
        let error = loop {
            if let Err(error) = writer.write(&blocks.next().unwrap(), NOW) {
                break error;
            }
        };
        assert_eq!(
            (error.fault(), error.code()),
            (millrace_core::error::Fault::External, "IO0105")
        );
        assert!(error.to_string().contains(".part-0-"), "{error}");
        assert!(names(folder).iter().all(|name| name.starts_with('.')));
        assert_eq!(
            writer.pre_commit().unwrap_err().code(),
            "IO0105",
            "nothing doubtful is committed"
        );
        writer.abort(&[]).unwrap();
        assert!(names(folder).is_empty());
    });
}
