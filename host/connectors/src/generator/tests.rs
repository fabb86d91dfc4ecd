//! The generator as the engine sees it: splits, positions, rates.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};

use super::*;
use crate::testing::{context, options};

fn source(pairs: &[(&str, &str)], columns: &[(&str, DataType)]) -> Result<Generator> {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), false)).collect();
    Generator::new(options(pairs), Arc::new(Schema::new(fields)))
}

fn integers(rows: &RecordBatch, column: usize) -> Vec<i64> {
    rows.column(column).as_primitive::<Int64Type>().values().to_vec()
}

fn poll(reader: &mut dyn SplitReader, rows_max: usize, now_ms: u64) -> Option<RecordBatch> {
    match reader.poll(rows_max, Duration::from_millis(now_ms)).unwrap() {
        Poll::Rows(rows) => Some(rows.rows),
        Poll::End => None,
        Poll::Pending { wake_after } => panic!("pending for {wake_after:?}"),
    }
}

#[test]
fn splits_share_the_rows_and_positions_resume() {
    let source = source(&[("rows", "10"), ("column.a", "index")], &[("a", DataType::Int64)]).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Bounded);
    let splits = source.splits(3).unwrap();
    let mut seen = Vec::new();
    for split in splits {
        let mut split = split;
        loop {
            let mut reader = source.open(&split, &context(0, 3)).unwrap();
            let Some(rows) = poll(reader.as_mut(), 2, 0) else { break };
            seen.extend(integers(&rows, 0));
            split.position = reader.position();
        }
    }
    assert_eq!(seen, [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]);
}

#[test]
fn a_rate_gives_what_is_due() {
    let source = source(
        &[("rate", "1000"), ("column.a", "index"), ("column.t", "now")],
        &[("a", DataType::Int64), ("t", DataType::Int64)],
    )
    .unwrap();
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let split = &source.splits(2).unwrap()[1];
    let mut reader = source.open(split, &context(1, 2)).unwrap();
    let wait = reader.poll(100, Duration::ZERO).unwrap();
    assert!(matches!(wait, Poll::Pending { wake_after: Some(wait) } if wait == Duration::from_millis(1)));
    let rows = poll(reader.as_mut(), 100, 10).unwrap();
    assert_eq!(integers(&rows, 0), [1, 3, 5, 7, 9]);
    assert_eq!(
        integers(&rows, 1),
        [1_000_000, 3_000_000, 5_000_000, 7_000_000, 9_000_000]
    );
    let wait = reader.poll(100, Duration::from_millis(10)).unwrap();
    assert!(matches!(wait, Poll::Pending { wake_after: Some(wait) } if wait == Duration::from_millis(1)));
    assert_eq!(integers(&poll(reader.as_mut(), 2, 1000).unwrap(), 0), [11, 13]);

    // A new run's clock starts again: the next row is due at once, and the pace is kept.
    let split = Split {
        id: split.id.clone(),
        position: reader.position(),
    };
    let mut reader = source.open(&split, &context(1, 2)).unwrap();
    let rows = poll(reader.as_mut(), 100, 5).unwrap();
    assert_eq!((integers(&rows, 0), integers(&rows, 1)), (vec![15], vec![5_000_000]));
    assert_eq!(integers(&poll(reader.as_mut(), 100, 9).unwrap(), 0), [17, 19]);
}

#[test]
fn every_rate_counts_exactly() {
    for rate in [1u64, 3, 7, 999, 1_000_000_007] {
        let rate_text = rate.to_string();
        let source = source(
            &[("rate", &rate_text), ("column.a", "index")],
            &[("a", DataType::Int64)],
        )
        .unwrap();
        for now_ns in [0u64, 1, 333_333_333, 333_333_334, 1_000_000_000] {
            let mut reader = source.open(&source.splits(1).unwrap()[0], &context(0, 1)).unwrap();
            let now = Duration::from_nanos(now_ns);
            let Poll::Rows(rows) = reader.poll(5_000_000, now).unwrap() else {
                panic!("row 0 is due at once")
            };
            let last = rows.rows.num_rows() as u64 - 1;
            if last + 1 < 5_000_000 {
                assert!(Reader::due_after(last, rate) <= u128::from(now_ns), "{rate} {now_ns}");
                assert!(
                    Reader::due_after(last + 1, rate) > u128::from(now_ns),
                    "{rate} {now_ns}"
                );
            }
        }
    }
}

#[test]
fn columns_and_expressions_must_agree() {
    let error = source(&[], &[("a", DataType::Int64)]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "column `a` has no expression: give option `column.a`"
    );
    let both = [("column.a", "index"), ("column.b", "index")];
    let error = source(&both, &[("a", DataType::Int64)]).err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().contains("it has: a")),
        ("CN0106", true)
    );
    let error = source(&[("colum.a", "index")], &[("a", DataType::Int64)])
        .err()
        .unwrap();
    assert_eq!(error.code(), "CN0004");
    let error = source(&[("column.a", "index"), ("rate", "0")], &[("a", DataType::Int64)])
        .err()
        .unwrap();
    assert_eq!(error.code(), "CN0003");
}
