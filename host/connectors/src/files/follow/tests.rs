//! Files that grow, are renamed, cut and removed under the reader.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Source, Split};

use super::super::source::FilesSource;
use super::*;
use crate::testing::{context, options};

struct Tail {
    source: FilesSource,
    split: Split,
    reader: Box<dyn SplitReader>,
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

impl Tail {
    fn new(path: &Path, format: &str) -> Tail {
        let pattern = format!("{}/*", path.parent().unwrap().display());
        let pairs = [("path", pattern.as_str()), ("format", format), ("mode", "follow")];
        let schema = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, false)]));
        let source = FilesSource::new(options(&pairs), schema).unwrap();
        assert!(source.splits(1).unwrap().is_empty());
        let enumerator = source.enumerator(&[], 1).unwrap().unwrap();
        let split = enumerator.poll(0, Duration::ZERO).unwrap().splits.remove(0);
        let reader = source.open(&split, &context(0, 1)).unwrap();
        Tail { source, split, reader }
    }

    /// Rows and causes of rejection until there are no more, and whether the split has ended.
    fn read(&mut self, second: u64) -> (Vec<String>, bool) {
        let mut words = Vec::new();
        loop {
            match self.reader.poll(3, Duration::from_secs(second)).unwrap() {
                Poll::Pending { wake_after } => {
                    assert_eq!(wake_after, Some(Duration::from_secs(1)));
                    return (words, false);
                }
                Poll::End => return (words, true),
                Poll::Rows(rows) => {
                    let column = rows.rows.column(0).as_string::<i32>();
                    words.extend(column.iter().map(|word| word.unwrap().to_owned()));
                    words.extend(rows.rejected.into_iter().map(|row| row.cause));
                }
            }
        }
    }

    /// As after a restart.
    fn reopen(&mut self) {
        self.split.position = self.reader.position();
        self.reader = self.source.open(&self.split, &context(0, 1)).unwrap();
    }
}

#[test]
fn only_whole_records_are_given_wherever_it_is_opened_again() {
    for reopens in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        append(&path, "n,wo");
        let mut tail = Tail::new(&path, "csv");
        for (second, (more, expect)) in [
            ("", vec![]),
            ("rd\n1,a\n2,b\n3,\"c\n", vec!["a", "b"]),
            ("", vec![]),
            ("c\"\n4,d", vec!["c\nc"]),
            ("\n5,e\n6,f\n7,g\n8,h\n", vec!["d", "e", "f", "g", "h"]),
        ]
        .into_iter()
        .enumerate()
        {
            append(&path, more);
            if reopens {
                tail.reopen();
            }
            // Long enough for the file to be closed between any two.
            assert_eq!(tail.read(second as u64 * 40).0, expect, "{more:?}, reopens: {reopens}");
            tail.read(second as u64 * 40 + 31);
        }
    }
}

#[test]
fn a_file_that_is_renamed_or_removed_is_read_to_its_end() {
    for removed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        append(&path, "a\n");
        let mut tail = Tail::new(&path, "text");
        assert_eq!(tail.read(0), (vec!["a".to_owned()], false));
        append(&path, "b\nc");
        match removed {
            true => std::fs::remove_file(&path).unwrap(),
            false => std::fs::rename(&path, folder.path().join(".old")).unwrap(),
        }
        append(&path, "another file\n");
        assert_eq!(tail.read(1), (vec!["b".to_owned()], false));
        assert_eq!(tail.read(5), (vec![], false));
        assert_eq!(tail.read(7), (vec!["c".to_owned()], true));
        tail.reopen();
        assert_eq!(tail.read(8), (vec![], true));
    }
}

#[test]
fn a_file_that_is_renamed_while_nobody_reads_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    append(&path, "a\n");
    let mut tail = Tail::new(&path, "text");
    assert_eq!(tail.read(0), (vec!["a".to_owned()], false));
    append(&path, "b\n");
    std::fs::rename(&path, folder.path().join("a.txt.1")).unwrap();
    append(&path, "another file\n");
    tail.reopen();
    assert_eq!(tail.read(1), (vec!["b".to_owned()], false));
}

#[test]
fn what_is_lost_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    append(&path, "one\ntwo\n");
    let mut tail = Tail::new(&path, "text");
    assert_eq!(tail.read(0).0, ["one", "two"]);
    std::fs::write(&path, "x\n").unwrap();
    let mut later = Tail::new(&path, "text");
    later.split.position = position::encode([8, 2, 1]);
    later.reader = later.source.open(&later.split, &context(0, 1)).unwrap();
    for cut in [&mut tail, &mut later] {
        let words = cut.read(1).0;
        assert!(words[0].contains("cut to 2 bytes when 8 had been read"), "{words:?}");
        assert_eq!(words[1..], ["x"]);
    }
    // What was read whole may go; what was not is missed.
    append(&path, "partial");
    for (ends, expect) in [(true, 0), (false, 1)] {
        let mut gone = Tail::new(&path, "text");
        gone.split.position = position::encode([2, 1, u64::from(ends)]);
        std::fs::rename(&path, folder.path().join(".away")).unwrap();
        gone.reader = gone.source.open(&gone.split, &context(0, 1)).unwrap();
        let (words, ended) = gone.read(1);
        assert!(words.len() == expect && ended, "{words:?}");
        std::fs::rename(folder.path().join(".away"), &path).unwrap();
    }
}
