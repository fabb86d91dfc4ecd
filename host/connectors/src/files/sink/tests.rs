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
    sink.recover(&committables, &[]).unwrap();
    // Numbers go on, and there is one record.
    let mut writer = sink.open(&context(3, 4)).unwrap();
    writer.write(&rows(5..6), NOW).unwrap();
    let next = writer.pre_commit().unwrap();
    assert_eq!(next, [Committable(b"part-3-3.csv".to_vec())]);
    let gone = || sink.recover(&[Committable(b"part-3-4.csv".to_vec())], &[]).unwrap_err();
    assert_eq!(gone().code(), "IO0110");
    sink.recover(&next, &[]).unwrap();
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

/// A full disk, on a file system of 1 MiB; needs the right to mount one.
#[test]
fn a_full_disk_names_the_file_and_shows_nothing() {
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
    let outcome = std::panic::catch_unwind(|| {
        let sink = sink(root.path(), &[("roll.rows", "20000")]).unwrap();
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
        assert!(names(root.path()).iter().all(|name| name.starts_with('.')));
        assert_eq!(
            writer.pre_commit().unwrap_err().code(),
            "IO0105",
            "nothing doubtful is committed"
        );
        writer.abort(&[]).unwrap();
        assert!(names(root.path()).is_empty());
    });
    std::process::Command::new("umount").arg(root.path()).status().unwrap();
    outcome.unwrap();
}
