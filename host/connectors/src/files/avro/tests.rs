//! Files that are written and read back, in pieces, from every position, and files that are damaged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int8Array,
    Int64Array, StringArray, StructArray, Time64MicrosecondArray, TimestampMillisecondArray, TimestampSecondArray,
    UInt32Array,
};
use millrace_core::connector::{Rejected, Sink as _};

use super::super::part::Part;
use super::super::sink::{FilesSink, Settings};
use super::*;
use crate::format::Format;
use crate::testing::{context, options};

fn lists() -> ArrayRef {
    let mut lists = ListBuilder::new(Int64Builder::new()).with_field(Field::new("item", DataType::Int64, false));
    lists.append_value([Some(1), Some(-2)]);
    lists.append_value([]);
    lists.append_null();
    Arc::new(lists.finish())
}

fn maps() -> ArrayRef {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(7);
    for _ in 0..3 {
        maps.append(true).unwrap();
    }
    Arc::new(maps.finish())
}

/// A column of every type that Avro holds.
fn every_type() -> RecordBatch {
    let inner: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            Arc::new(Field::new("x", DataType::Int64, false)),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
        ),
        (
            Arc::new(Field::new("y", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None, Some("b"), None])),
        ),
    ];
    let decimals = Decimal128Array::from(vec![Some(-12_345), None, Some(0)]);
    let zone = TimestampMillisecondArray::from(vec![0, -1, 1_700_000_000_000]).with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        (
            "n",
            Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])) as ArrayRef,
            false,
        ),
        (
            "small",
            Arc::new(Int8Array::from(vec![Some(-128), None, Some(127)])),
            true,
        ),
        ("wide", Arc::new(UInt32Array::from(vec![0, 1, u32::MAX])), false),
        ("yes", Arc::new(BooleanArray::from(vec![true, false, true])), false),
        (
            "float",
            Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, -0.5])),
            false,
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("ä"), Some(""), None])),
            true,
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![b"\0\xff".as_slice(), b"", b"x"])),
            false,
        ),
        (
            "four",
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8; 4], [2; 4], [3; 4]].iter()).unwrap()),
            false,
        ),
        (
            "price",
            Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()),
            true,
        ),
        ("day", Arc::new(Date32Array::from(vec![-1, 0, 20_000])), false),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![0, 1, 86_399_999_999])),
            false,
        ),
        ("at", Arc::new(zone), false),
        (
            "local",
            Arc::new(TimestampSecondArray::from(vec![Some(5), None, Some(-5)])),
            true,
        ),
        ("list", lists(), true),
        ("map", maps(), false),
        ("inner", Arc::new(StructArray::from(inner)), false),
    ])
    .unwrap()
}

fn write(folder: &Path, codec: AvroCodec, batches: &[RecordBatch]) -> String {
    let path = folder.join("a.avro");
    let _ = std::fs::remove_file(&path);
    let format = Format::Avro(codec);
    let compression = super::super::compression::Compression::None;
    let mut part = Part::create(path.clone(), &format, compression, &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| part.write(batch).unwrap());
    assert_eq!(part.finish().unwrap(), path.metadata().unwrap().len());
    path.to_str().unwrap().to_owned()
}

/// All rows of a piece, from this many on; `reopen`: through a new reader for every block.
fn read(path: &str, piece: Piece, schema: &SchemaRef, given: u64, reopen: bool) -> (RecordBatch, Vec<Rejected>) {
    let open = |position: &Position| AvroReader::open(path, piece, schema, position).unwrap();
    let mut reader = open(&position::encode([given]));
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    while let Poll::Rows(got) = reader.poll(100, Duration::ZERO).unwrap() {
        assert!(got.rows.num_rows() <= 100);
        rows.push(got.rows);
        rejected.extend(got.rejected);
        if reopen {
            reader = open(&reader.position());
        }
    }
    (concat_batches(schema, &rows).unwrap(), rejected)
}

#[test]
fn every_type_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let rows = every_type();
    for codec in [AvroCodec::None, AvroCodec::Deflate, AvroCodec::Snappy, AvroCodec::Zstd] {
        let path = write(folder.path(), codec, &[rows.slice(0, 1), rows.slice(1, 2)]);
        assert_eq!(check(&path, &rows.schema()).unwrap(), 1);
        let (back, rejected) = read(&path, Piece::Whole, &rows.schema(), 0, false);
        assert!(rejected.is_empty(), "{rejected:?}");
        assert_eq!(format!("{back:?}"), format!("{rows:?}"), "{codec:?}");
    }
}

#[test]
fn pieces_and_positions_give_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = |range: std::ops::Range<i64>| -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..10).map(|at| numbers(at * 1500..(at + 1) * 1500)).collect();
    let path = write(folder.path(), AvroCodec::Deflate, &batches);
    let schema = batches[0].schema();
    let values = |rows: &RecordBatch| rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    let blocks = check(&path, &schema).unwrap();
    assert_eq!(blocks, 4);
    for given in [0, 1, 4499, 4500, 4501, 14_999, 15_000] {
        let (rows, _) = read(&path, Piece::Whole, &schema, given, given == 4499);
        assert_eq!(values(&rows), (given as i64..15_000).collect::<Vec<_>>(), "{given}");
    }
    let mut all = Vec::new();
    for (start, end) in [(0, 1), (1, 1), (1, 3), (3, 4)] {
        all.extend(values(&read(&path, Piece::Groups(start, end), &schema, 0, true).0));
    }
    assert_eq!(all, (0..15_000).collect::<Vec<_>>());
    // Rows without any column of the file keep their number.
    let other = Arc::new(Schema::new(vec![Field::new("other", DataType::Utf8, true)]));
    assert_eq!(read(&path, Piece::Whole, &other, 14_990, false).0.num_rows(), 10);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, -1]));
    let path = write(
        folder.path(),
        AvroCodec::None,
        &[RecordBatch::try_from_iter([("n", column)]).unwrap()],
    );
    let schema = |name: &str, data_type| Arc::new(Schema::new(vec![Field::new(name, data_type, false)]));
    for (declared, code, says) in [
        (schema("n", DataType::Utf8), "CN0114", "column `n` is int64"),
        (
            schema("m", DataType::Int64),
            "CN0112",
            "column `m` is not in the file, which has: n",
        ),
    ] {
        let error = check(&path, &declared).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(says), "{error}");
    }
    let (rows, rejected) = read(&path, Piece::Whole, &schema("n", DataType::UInt32), 0, false);
    assert_eq!(rows.num_rows(), 1);
    assert!(rejected[0].place.ends_with("a.avro row 2"), "{rejected:?}");
    for (name, data_type, says) in [
        ("0", DataType::Int64, "`0` is no name in Avro"),
        ("n", DataType::UInt64, "Avro has no uint64"),
    ] {
        let pairs = [("path", "out"), ("format", "avro")];
        let error = Settings::take(options(&pairs), &schema(name, data_type)).unwrap_err();
        assert!(error.code() == "CN0109" && error.to_string().contains(says), "{error}");
    }
    for (option, value, code) in [("avro.codec", "lzma", "CN0108"), ("compression", "zstd", "CN0110")] {
        let pairs = [("path", "out"), ("format", "avro"), (option, value)];
        let error = Settings::take(options(&pairs), &schema("n", DataType::Int64)).unwrap_err();
        assert_eq!(error.code(), code);
    }
}

/// Cut anywhere, or with any byte changed: never a panic, and never more rows than there were.
#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let rows = every_type();
    for codec in [AvroCodec::None, AvroCodec::Snappy] {
        let path = write(folder.path(), codec, std::slice::from_ref(&rows));
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).unwrap();
            let cut = Container::open(&path);
            let is_header = cut.as_ref().is_ok_and(|container| container.header.len() == at);
            assert!(is_header || cut.unwrap_err().code() == "IO0112", "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            std::fs::write(&path, &changed).unwrap();
            let Ok(mut reader) = AvroReader::open(&path, Piece::Whole, &rows.schema(), &Position::START) else {
                continue;
            };
            for _ in 0..10 {
                match reader.poll(10, Duration::ZERO) {
                    Ok(Poll::Rows(_)) => {}
                    Ok(_) | Err(_) => break,
                }
            }
        }
    }
}

#[test]
fn parts_roll_and_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let pairs = [
        ("path", path.to_str().unwrap()),
        ("format", "avro"),
        ("avro.codec", "zstd"),
        ("roll.rows", "4000"),
    ];
    let settings = Settings::take(options(&pairs), &rows.schema()).unwrap();
    let sink = FilesSink::new(settings, rows.schema());
    sink.check().unwrap();
    let mut writer = sink.open(&context(0, 1)).unwrap();
    writer.write(&rows, Duration::ZERO).unwrap();
    let prepared = writer.pre_commit().unwrap();
    writer.commit(&prepared).unwrap();
    let counts: Vec<usize> = (0..3)
        .map(|number| {
            let part = path.join(format!("part-0-{number}.avro"));
            read(part.to_str().unwrap(), Piece::Whole, &rows.schema(), 0, false)
                .0
                .num_rows()
        })
        .collect();
    assert_eq!(counts, [4000, 4000, 2000]);
}
