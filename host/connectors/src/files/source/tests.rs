//! Splits, ranges and positions of real files.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Poll, Rejected};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::testing::{context, options};

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(n, t, nullable)| Field::new(*n, t.clone(), *nullable))
        .collect();
    Arc::new(Schema::new(fields))
}

fn source(path: &Path, format: &str, schema: &SchemaRef) -> FilesSource {
    let pairs = [("path", path.to_str().unwrap()), ("format", format)];
    FilesSource::new(options(&pairs), schema.clone()).unwrap()
}

/// Reads a split to its end; `reopen`: through a new reader for every block.
fn read(source: &FilesSource, split: &Split, rows_max: usize, reopen: bool) -> (Vec<RecordBatch>, Vec<Rejected>) {
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    let mut split = split.clone();
    let mut reader = source.open(&split, &context(0, 1)).unwrap();
    loop {
        match reader.poll(rows_max, Duration::ZERO).unwrap() {
            Poll::Rows(got) => {
                assert!(got.rows.num_rows() + got.rejected.len() <= rows_max);
                rows.push(got.rows);
                rejected.extend(got.rejected);
            }
            Poll::End => return (rows, rejected),
            Poll::Pending { .. } => panic!("files do not wait"),
        }
        if reopen {
            split.position = reader.position();
            reader = source.open(&split, &context(0, 1)).unwrap();
        }
    }
}

fn column(batches: &[RecordBatch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

#[test]
fn byte_ranges_give_every_line_once() {
    let root = tempfile::tempdir().unwrap();
    let schema = schema(&[("n", DataType::Int64, false)]);
    for (format, line_end, header) in [
        ("csv", "\n", "n,pad\n"),
        ("csv", "\r\n", "n,pad\r\n"),
        ("ndjson", "\n", ""),
    ] {
        let path = root.path().join(format);
        let mut text = header.to_owned();
        for n in 0..500 {
            let pad = "x".repeat(n % 37);
            let bad = if n % 100 == 50 { "?" } else { "" };
            match format {
                "csv" => text += &format!("{n}{bad},{pad}{line_end}"),
                _ => text += &format!("{{\"n\":{n}{bad},\"pad\":\"{pad}\"}}{line_end}"),
            }
        }
        text.truncate(text.trim_end().len());
        std::fs::write(&path, &text).unwrap();
        let good: Vec<i64> = (0..500).filter(|n| n % 100 != 50).collect();
        let lines_before = header.lines().count();
        for parallelism in [1, 2, 3, 7, 50, 1000] {
            let source = source(&path, format, &schema).with_split_bytes_min(1);
            let splits = source.splits(parallelism).unwrap();
            assert_eq!(splits.len(), parallelism as usize);
            let (mut rows, mut places) = (Vec::new(), Vec::new());
            for split in &splits {
                let (batches, rejected) = read(&source, split, 3, parallelism % 2 == 1);
                rows.extend(column(&batches));
                places.extend(rejected.into_iter().map(|rejected| rejected.place));
            }
            assert_eq!(rows, good, "{format} by {parallelism}");
            let line = |n: usize| format!("{}:{}", path.display(), n + 1 + lines_before);
            assert_eq!(places, [line(50), line(150), line(250), line(350), line(450)]);
        }
    }
}

#[test]
fn csv_with_quotes_and_compressed_files_stay_whole() {
    let root = tempfile::tempdir().unwrap();
    let schema = schema(&[("n", DataType::Int64, false)]);
    let path = root.path().join("quoted.csv");
    std::fs::write(&path, "n,t\n1,\"a\nb\"\n2,c\n").unwrap();
    let quoted = source(&path, "csv", &schema).with_split_bytes_min(1);
    assert_eq!(quoted.splits(4).unwrap().len(), 1);
    let path = root.path().join("lines.csv.gz");
    let file = std::fs::File::create(&path).unwrap();
    // Two members, as `cat a.gz b.gz` makes.
    let mut first = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    first.write_all(b"n\n1\n2\n").unwrap();
    let mut second = flate2::write::GzEncoder::new(first.finish().unwrap(), flate2::Compression::fast());
    second.write_all(b"3\n4\n").unwrap();
    second.finish().unwrap();
    let zipped = source(&path, "csv", &schema).with_split_bytes_min(1);
    let splits = zipped.splits(4).unwrap();
    assert_eq!(splits.len(), 1);
    for reopen in [false, true] {
        assert_eq!(column(&read(&zipped, &splits[0], 1, reopen).0), [1, 2, 3, 4]);
    }
}

#[test]
fn damaged_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let schema = schema(&[("n", DataType::Utf8, false)]);
    for (name, bytes) in [("a.gz", &b"\x1f\x8b\x08 no gzip"[..]), ("a.zst", b"no zstd")] {
        let path = root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let source = source(&path, "text", &schema);
        let mut reader = source.open(&source.splits(1).unwrap()[0], &context(0, 1)).unwrap();
        let error = reader.poll(10, Duration::ZERO).unwrap_err();
        assert_eq!(error.code(), "IO0103");
        assert!(error.to_string().contains(name), "{error}");
    }
    let path = root.path().join("a.parquet");
    std::fs::write(&path, "PAR1 no parquet").unwrap();
    let error = source(&path, "parquet", &schema).splits(1).unwrap_err();
    assert_eq!(error.code(), "IO0104");
    let empty = root.path().join("empty.gz");
    std::fs::write(&empty, "").unwrap();
    let source = source(&empty, "text", &schema);
    assert!(read(&source, &source.splits(1).unwrap()[0], 10, false).0.is_empty());
}

/// A file of `n` int32 0..1000 in row groups of 100, and `t` with a null in row 5.
fn parquet(path: &Path) {
    let file_schema = schema(&[("t", DataType::Utf8, true), ("n", DataType::Int32, false)]);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, file_schema.clone(), Some(properties)).unwrap();
    let texts: StringArray = (0..1000).map(|n| (n != 5).then(|| format!("row-{n}"))).collect();
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
    writer
        .write(&RecordBatch::try_new(file_schema, vec![Arc::new(texts), numbers]).unwrap())
        .unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_by_name_by_row_group_and_by_position() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    parquet(&path);
    let wanted = schema(&[
        ("n", DataType::Int64, false),
        ("more", DataType::Utf8, true),
        ("t", DataType::Utf8, false),
    ]);
    for parallelism in [1, 3, 10, 20] {
        let source = source(&path, "parquet", &wanted);
        let splits = source.splits(parallelism).unwrap();
        assert_eq!(splits.len(), parallelism.min(10) as usize);
        for (rows_max, reopen) in [(1000, false), (64, true), (7, true)] {
            let (mut numbers, mut rejected) = (Vec::new(), Vec::new());
            for split in &splits {
                let (batches, bad) = read(&source, split, rows_max, reopen);
                assert!(batches.iter().all(|batch| batch.schema() == wanted));
                numbers.extend(column(&batches));
                rejected.extend(bad);
            }
            assert_eq!(numbers, (0..1000).filter(|n| *n != 5).collect::<Vec<_>>());
            assert_eq!(rejected.len(), 1);
            assert_eq!(rejected[0].place, format!("{} row 6", path.display()));
            assert_eq!(rejected[0].cause, "column `t` is null, but utf8 is required");
            assert!(rejected[0].raw.contains("\"n\":5"), "{}", rejected[0].raw);
        }
    }
}

#[test]
fn parquet_blocks_may_shrink() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    parquet(&path);
    let source = source(&path, "parquet", &schema(&[("n", DataType::Int64, false)]));
    let mut reader = source.open(&source.splits(1).unwrap()[0], &context(0, 1)).unwrap();
    let mut numbers = Vec::new();
    for rows_max in [300, 7, 1, 400, 1000, 1000, 1000] {
        let Poll::Rows(got) = reader.poll(rows_max, Duration::ZERO).unwrap() else {
            break;
        };
        assert!(got.rows.num_rows() <= rows_max && got.bytes > 0);
        numbers.extend(column(&[got.rows]));
    }
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

#[test]
fn parquet_columns_must_fit() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    parquet(&path);
    for (column, data_type, code, says) in [
        (
            "n",
            DataType::Int16,
            "CN0114",
            "column `n` is int32 in the file and declared as int16",
        ),
        (
            "t",
            DataType::Int64,
            "CN0114",
            "column `t` is utf8 in the file and declared as int64",
        ),
        (
            "x",
            DataType::Int64,
            "CN0112",
            "column `x` is not in the file, which has: t, n",
        ),
    ] {
        let error = source(&path, "parquet", &schema(&[(column, data_type, false)]))
            .splits(1)
            .unwrap_err();
        assert_eq!(error.code(), code);
        assert!(
            error.to_string().contains(says) && error.to_string().contains("a.parquet"),
            "{error}"
        );
    }
    let pairs = [("path", "x"), ("format", "parquet"), ("compression", "gzip")];
    let error = FilesSource::new(options(&pairs), schema(&[])).err().unwrap();
    assert_eq!(error.code(), "CN0110");
}

/// Files that are taken as a whole when they stay the same, each once, also if the reader is opened again.
#[test]
fn files_that_come_are_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema(&[("n", DataType::Int64, false)]);
    let path = folder.path().to_str().unwrap();
    let pairs = [("path", path), ("format", "csv"), ("mode", "watch"), ("scan.ms", "10")];
    let source = FilesSource::new(options(&pairs), schema).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let enumerator = source.enumerator(&[], 1).unwrap().unwrap();
    let mut gzip = Compression::Gzip
        .writer(File::create(folder.path().join("a.csv.gz")).unwrap())
        .unwrap();
    gzip.write_all(b"n\n1\n2\n3").unwrap();
    gzip.finish().unwrap();
    assert!(enumerator.poll(0, Duration::ZERO).unwrap().splits.is_empty());
    let found = enumerator.poll(0, Duration::from_millis(10)).unwrap();
    assert_eq!(found.next, Some(Duration::from_millis(10)));
    let mut split = found.splits[0].clone();
    let (rows, _) = read(&source, &split, 2, true);
    assert_eq!(column(&rows), [1, 2, 3]);

    // One that is gone.
    split.position = crate::position::encode([4, 2]);
    std::fs::remove_file(folder.path().join("a.csv.gz")).unwrap();
    let (_, rejected) = read(&source, &split, 2, false);
    assert!(
        rejected[0].place.ends_with("a.csv.gz") && rejected[0].cause.contains("is gone"),
        "{rejected:?}"
    );

    for (name, value, code) in [
        ("mode", "tail", "CN0108"),
        ("scan.ms", "0", "CN0003"),
        ("files.max", "x", "CN0003"),
    ] {
        let mut pairs = pairs.to_vec();
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, value));
        let error = FilesSource::new(options(&pairs), source.schema.clone()).err().unwrap();
        assert_eq!(error.code(), code, "{name}");
    }
}

/// More files than a process may have open are read one after another.
#[test]
fn many_files_are_not_open_at_once() {
    const FILES: usize = 600;
    for mode in ["watch", "follow"] {
        let folder = tempfile::tempdir().unwrap();
        for file in 0..FILES {
            std::fs::write(folder.path().join(format!("{file}.csv")), format!("n\n{file}\n")).unwrap();
        }
        let pairs = [
            ("path", folder.path().to_str().unwrap()),
            ("format", "csv"),
            ("mode", mode),
        ];
        let source = FilesSource::new(options(&pairs), schema(&[("n", DataType::Int64, false)])).unwrap();
        let enumerator = source.enumerator(&[], 1).unwrap().unwrap();
        let mut splits = enumerator.poll(0, Duration::ZERO).unwrap().splits;
        splits.extend(enumerator.poll(0, Duration::from_secs(1)).unwrap().splits);
        assert_eq!(splits.len(), FILES);
        let open = |split| source.open(split, &context(0, 1)).unwrap();
        let mut readers: Vec<_> = splits.iter().map(open).collect();
        let mut seen = Vec::new();
        for second in 0..20 {
            for reader in &mut readers {
                if let Poll::Rows(rows) = reader.poll(10, Duration::from_secs(second)).unwrap() {
                    seen.extend(column(&[rows.rows]));
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..FILES as i64).collect::<Vec<_>>(), "{mode}");
    }
}
