//! Tables that are written and read back; every row once through commits that are repeated.

use std::time::Duration;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, Time64MicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat_batches;
use millrace_core::connector::{Delivery, Poll, Rejected};

use super::*;
use crate::testing::{context, identity, options};

struct Place {
    _folder: tempfile::TempDir,
    path: String,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db").to_str().unwrap().to_owned();
        Place { _folder: folder, path }
    }

    fn run(&self, statements: &str) {
        Connection::open(&self.path).unwrap().execute_batch(statements).unwrap();
    }

    fn number(&self, query: &str) -> i64 {
        Connection::open(&self.path)
            .unwrap()
            .query_row(query, [], |row| row.get(0))
            .unwrap()
    }

    fn source(&self, schema: &SchemaRef, more: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
        let mut pairs = vec![("path", self.path.as_str()), ("table", "t")];
        pairs.extend(more);
        Ok(SqliteConnector.source(options(&pairs), schema.clone())?.unwrap())
    }

    fn sink(&self, schema: &SchemaRef, more: &[(&str, &str)]) -> Result<Arc<dyn Sink>> {
        let mut pairs = vec![("path", self.path.as_str()), ("table", "t")];
        pairs.extend(more);
        Ok(SqliteConnector
            .sink(options(&pairs), schema.clone(), &identity())?
            .unwrap())
    }

    fn write(&self, rows: &RecordBatch, more: &[(&str, &str)]) -> Result<()> {
        let sink = self.sink(&rows.schema(), more)?;
        sink.check()?;
        let mut writer = sink.open(&context(0, 1))?;
        writer.write(rows, Duration::ZERO)?;
        let prepared = writer.pre_commit()?;
        writer.commit(&prepared)
    }
}

/// All rows, with a new reader for each block, and those rejected.
fn read(source: &dyn Source, schema: &SchemaRef, parallelism: u32) -> (RecordBatch, Vec<Rejected>) {
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    for mut split in source.splits(parallelism).unwrap() {
        loop {
            let mut reader = source.open(&split, &context(0, 1)).unwrap();
            let Poll::Rows(got) = reader.poll(7, Duration::ZERO).unwrap() else {
                break;
            };
            rows.push(got.rows);
            rejected.extend(got.rejected);
            split.position = reader.position();
        }
    }
    (concat_batches(schema, &rows).unwrap(), rejected)
}

fn every_type() -> RecordBatch {
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    let at = TimestampMillisecondArray::from(vec![0, 1_700_000_000_123]).with_timezone("UTC");
    let price = Decimal128Array::from(vec![Some(-1_250), None]).with_precision_and_scale(10, 2);
    RecordBatch::try_from_iter_with_nullable([
        (
            "n",
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])) as ArrayRef,
            false,
        ),
        ("yes", Arc::new(BooleanArray::from(vec![Some(true), None])), true),
        (
            "float",
            Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY])),
            false,
        ),
        (
            "odd \"name\"",
            Arc::new(StringArray::from(vec![Some("a\"\n'ä"), None])),
            true,
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![b"\0\xff".as_slice(), b""])),
            false,
        ),
        ("price", Arc::new(price.unwrap()), true),
        ("day", Arc::new(Date32Array::from(vec![0, 20_000])), false),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![1, 86_399_999_999])),
            false,
        ),
        ("at", Arc::new(at), false),
        ("list", Arc::new(lists.finish()), true),
    ])
    .unwrap()
}

#[test]
fn every_type_comes_back() {
    let place = Place::new();
    let rows = every_type();
    place.write(&rows, &[("create", "true")]).unwrap();
    let source = place.source(&rows.schema(), &[]).unwrap();
    let (back, rejected) = read(source.as_ref(), &rows.schema(), 1);
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!(format!("{back:?}"), format!("{rows:?}"));
}

#[test]
fn ranges_of_rowids_give_every_row_once() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("none", DataType::Utf8, true),
    ]));
    for (rowids, expect) in [
        ("SELECT value, value FROM generate", (1..=100).collect::<Vec<i64>>()),
        ("SELECT value * 1000 - 50000, value FROM generate", (1..=100).collect()),
        ("SELECT value, value FROM generate WHERE value IN (3, 90)", vec![3, 90]),
        ("SELECT value, value FROM generate WHERE value = 5", vec![5]),
    ] {
        let place = Place::new();
        place.run(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, n); INSERT INTO t WITH RECURSIVE generate(value) AS
             (SELECT 1 UNION ALL SELECT value + 1 FROM generate WHERE value < 100) {rowids}"
        ));
        for parallelism in [1, 3, 200] {
            let source = place.source(&schema, &[]).unwrap();
            let (rows, _) = read(source.as_ref(), &schema, parallelism);
            let mut values = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            values.sort_unstable();
            assert_eq!(values, expect, "{rowids}, parallelism {parallelism}");
        }
    }
    let place = Place::new();
    place.run("CREATE TABLE t (n, none); INSERT INTO t VALUES (1, 'x'), ('two', NULL), (3, 4), (40, '')");
    let source = place.source(&schema, &[("where", "n < 10 OR n = 'two'")]).unwrap();
    let (rows, rejected) = read(source.as_ref(), &schema, 1);
    assert_eq!(rows.num_rows(), 1);
    let places: Vec<&str> = rejected
        .iter()
        .map(|row| row.place.rsplit_once(' ').unwrap().1)
        .collect();
    assert_eq!(places, ["2", "3"], "{rejected:?}");
    place.run("DELETE FROM t");
    assert!(source.splits(4).unwrap().is_empty());
}

/// Commits of several subtasks, repeated, and by a job that goes on after a crash.
#[test]
fn every_row_is_written_once() {
    let place = Place::new();
    let numbers = |range: std::ops::Range<i64>| {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    };
    let schema = numbers(0..1).schema();
    let pairs = [("create", "true"), ("batch.rows", "3")];
    let sink = place.sink(&schema, &pairs).unwrap();
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    sink.check().unwrap();
    let mut writers = [0, 1].map(|subtask| sink.open(&context(subtask, 2)).unwrap());
    let mut prepared = Vec::new();
    for (index, writer) in writers.iter_mut().enumerate() {
        writer
            .write(&numbers(index as i64 * 10..index as i64 * 10 + 10), Duration::ZERO)
            .unwrap();
        prepared.push(writer.pre_commit().unwrap());
    }
    // Written by threads at once.
    std::thread::scope(|scope| {
        for (writer, prepared) in writers.iter_mut().zip(&prepared) {
            scope.spawn(|| {
                writer.commit(&prepared[..2]).unwrap();
                writer.commit(prepared).unwrap();
            });
        }
    });
    assert_eq!(place.number("SELECT count(*) FROM t"), 20);
    for writer in &mut writers {
        writer.write(&numbers(20..25), Duration::ZERO).unwrap();
        prepared.push(writer.pre_commit().unwrap());
    }
    // Only the first of them came as far as to commit, in part.
    writers[0].commit(&prepared[2][..1]).unwrap();
    let all: Vec<_> = prepared.concat();
    let again = place.sink(&schema, &pairs).unwrap();
    again.recover(&all).unwrap();
    again.recover(&all).unwrap();
    assert_eq!(place.number("SELECT count(*) FROM t"), 30);
    assert_eq!(
        place.number("SELECT sum(n) FROM t"),
        (0..20).sum::<i64>() + 2 * (20..25).sum::<i64>()
    );
    let other = Place::new();
    other
        .write(&numbers(0..5), &[("create", "true"), ("key", "n")])
        .unwrap();
    other
        .write(&numbers(3..8), &[("create", "true"), ("key", "n")])
        .unwrap();
    assert_eq!(other.number("SELECT count(*) FROM t"), 8);
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::new();
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let fails = |result: Result<()>, code: &str, says: &str| {
        let error = result.unwrap_err();
        assert!(error.code() == code && error.to_string().contains(says), "{error}");
    };
    let check = |schema: &SchemaRef, more: &[(&str, &str)]| place.sink(schema, more).and_then(|sink| sink.check());
    fails(check(&schema, &[]), "IO0160", "cannot be opened");
    place.run("CREATE TABLE other (n); CREATE TABLE u (m INTEGER)");
    fails(check(&schema, &[]), "CN0160", "no table `t`");
    place.run("CREATE TABLE t (m INTEGER CHECK (m > 0), k INTEGER)");
    fails(check(&schema, &[]), "CN0160", "no column `n`; it has: m, k");
    fails(
        place.source(&schema, &[]).unwrap().splits(1).map(|_| ()),
        "CN0160",
        "no column `n`",
    );
    fails(check(&schema, &[("key", "k")]), "CN0160", "no column `k`");
    let m: SchemaRef = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, false)]));
    fails(check(&m, &[("key", "m")]), "CN0160", "ON CONFLICT");
    let wide: SchemaRef = Arc::new(Schema::new(vec![Field::new("m", DataType::UInt64, false)]));
    fails(check(&wide, &[]), "CN0160", "uint64");
    fails(check(&m, &[("batch.rows", "0")]), "CN0160", "batch.rows");
    let source = place.source(&m, &[("where", "m >")]).unwrap();
    fails(source.splits(1).map(|_| ()), "CN0160", "where");
    let column: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    let rows = RecordBatch::try_from_iter([("m", column)]).unwrap();
    fails(place.write(&rows, &[]), "RW0106", "CHECK");
    place.run("DROP TABLE t; CREATE TABLE t (m INTEGER PRIMARY KEY) WITHOUT ROWID");
    fails(place.source(&m, &[]).unwrap().splits(1).map(|_| ()), "CN0160", "rowid");
}

/// Pages that leave memory before the end of a transaction are synced one by one: it was some 16,000 times for these rows.
#[test]
fn many_rows_in_a_transaction_are_synced_together() {
    let place = Place::new();
    for start in 0..10 {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(start * 20_000..(start + 1) * 20_000));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        place.write(&rows, &[("create", "true")]).unwrap();
    }
    assert_eq!(place.number("SELECT count(*) FROM t"), 200_000);
}

/// Rows of a table with these keys, in order.
fn find(
    place: &Place,
    schema: &SchemaRef,
    key: &[usize],
    more: &[(&str, &str)],
    keys: &RecordBatch,
) -> Result<RecordBatch> {
    let mut pairs = vec![("path", place.path.as_str())];
    pairs.extend(more);
    if !more.iter().any(|(name, _)| *name == "table") {
        pairs.push(("table", "t"));
    }
    let table = SqliteConnector
        .keyed_table(options(&pairs), schema.clone(), key)?
        .unwrap();
    table.check()?;
    let found = table.open()?.find(keys)?;
    assert_eq!(found.rejected, []);
    Ok(found.rows)
}

fn keys(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn rows_are_found_by_every_type_of_key() {
    let place = Place::new();
    let rows = every_type();
    place.write(&rows, &[("create", "true")]).unwrap();
    for (index, field) in rows.schema().fields().iter().enumerate() {
        if matches!(field.data_type(), DataType::Float64 | DataType::List(_)) {
            continue;
        }
        let key = keys(vec![("key", rows.column(index).slice(0, 1))]);
        let found = find(&place, &rows.schema(), &[index], &[], &key).unwrap();
        assert_eq!(found, rows.slice(0, 1), "{field}");
    }
}

#[test]
fn keys_of_several_columns_and_of_many_rows() {
    let place = Place::new();
    place.run("CREATE TABLE t (a INTEGER, b TEXT, n INTEGER); CREATE VIEW v AS SELECT b, n + 1 AS n FROM t");
    let values: Vec<String> = (0..10_000).map(|n| format!("({}, 'b{}', {n})", n / 2, n % 2)).collect();
    place.run(&format!("INSERT INTO t VALUES {}, (NULL, 'b0', -1)", values.join(", ")));
    let field = |name: &str, data_type: &DataType| Field::new(name, data_type.clone(), false);
    let schema = Arc::new(Schema::new(vec![
        field("n", &DataType::Int64),
        field("b", &DataType::Utf8),
    ]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["b1", "b2", "B0"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
    let two = keys(vec![("b", texts), ("n", numbers)]);
    let count = |rows: RecordBatch| rows.num_rows();
    assert_eq!(count(find(&place, &schema, &[1, 0], &[], &two).unwrap()), 1);
    assert_eq!(
        count(find(&place, &schema, &[1, 0], &[("where", "n > 7")], &two).unwrap()),
        0
    );
    assert_eq!(
        count(find(&place, &schema, &[1, 0], &[("table", "v")], &two).unwrap()),
        0
    );
    // More than one statement takes.
    let many = keys(vec![(
        "n",
        Arc::new(Int64Array::from_iter_values(-50..9_000)) as ArrayRef,
    )]);
    assert_eq!(count(find(&place, &schema, &[0], &[], &many).unwrap()), 9_001);
    let error = find(&place, &schema, &[0], &[("where", "nonsense")], &many).unwrap_err();
    assert_eq!(error.code(), "CN0160", "{error}");
    let error = find(&place, &schema, &[0], &[("table", "missing")], &many).unwrap_err();
    assert_eq!(error.code(), "CN0160", "{error}");
}
