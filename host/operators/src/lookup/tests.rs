//! Goal: rows come out with exactly the rows of the table that have their key, in order, whatever is remembered for how long.
//! Method: random tables and blocks, and a model that goes through all rows of the table; of caches a model that remembers in a
//! map.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Fields};
use millrace_core::graph::{ConnectorConfig, RejectPolicy};

use super::*;
use crate::testing::Random;

/// A row of the table: a key and what is of it.
type Row = (Option<i64>, i64);

fn table_fields() -> Fields {
    Fields::from(vec![
        Field::new("value", DataType::Int64, false),
        Field::new("key", DataType::Int64, true),
        Field::new("text", DataType::Utf8, false),
    ])
}

fn declared(access: TableAccess, outer: bool) -> LookupDecl {
    let found = Field::new("1", DataType::Struct(table_fields()), outer);
    LookupDecl {
        connector: ConnectorConfig {
            kind: "test".into(),
            options: Vec::new(),
        },
        table: Arc::new(Schema::new(table_fields())),
        table_hints: Vec::new(),
        key: vec![1],
        access,
        outer,
        on_reject: RejectPolicy::Fail,
        schema: Arc::new(Schema::new(vec![Field::new("0", DataType::Int64, false), found])),
        hints: Vec::new(),
    }
}

fn full(bytes_max: u64) -> TableAccess {
    TableAccess::Full {
        refresh_ms: None,
        bytes_max,
    }
}

fn table_rows(rows: &[Row]) -> RecordBatch {
    let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let keys = Int64Array::from_iter(rows.iter().map(|row| row.0));
    let texts = StringArray::from_iter_values(rows.iter().map(|row| format!("text {}", row.1)));
    let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(keys), Arc::new(texts)];
    RecordBatch::try_new(Arc::new(Schema::new(table_fields())), columns).unwrap()
}

/// Rows numbered from `first` on, with these keys and times.
fn block(first: i64, keys: &[Option<i64>]) -> Block {
    let numbers = Int64Array::from_iter_values(first..first + keys.len() as i64);
    let schema = Schema::new(vec![
        Field::new("0", DataType::Int64, false),
        Field::new("1", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(Int64Array::from_iter(keys.iter().copied()))];
    Block {
        rows: RecordBatch::try_new(Arc::new(schema), columns).unwrap(),
        times: Some(
            (first..first + keys.len() as i64)
                .map(|number| number * 10)
                .collect::<Vec<_>>()
                .into(),
        ),
        keys: None,
    }
}

/// What comes out: the number of each row, and the value that was found.
fn outputs(operator: &mut LookupOperator) -> Vec<(i64, Option<i64>)> {
    let mut all = Vec::new();
    while let Some(block) = operator.poll_output().unwrap() {
        assert!((1..=2048).contains(&block.row_count()));
        let numbers = block.rows.column(0).as_primitive::<Int64Type>();
        let found: &StructArray = block.rows.column(1).as_struct();
        let values = found.column(0).as_primitive::<Int64Type>();
        let texts = found.column(2).as_string::<i32>();
        let times = block.times.as_ref().unwrap();
        for row in 0..block.row_count() {
            assert_eq!(times[row], numbers.value(row) * 10);
            let value = found.is_valid(row).then(|| values.value(row));
            if let Some(value) = value {
                assert_eq!(texts.value(row), format!("text {value}"));
            }
            all.push((numbers.value(row), value));
        }
    }
    assert!(operator.is_idle());
    all
}

fn matches(key: Option<i64>, table: &[Row]) -> Vec<i64> {
    let same = table.iter().filter(|row| key.is_some() && row.0 == key);
    same.map(|row| row.1).collect()
}

/// What should come out of rows that find these.
fn joined(first: i64, found: &[Vec<i64>], outer: bool) -> Vec<(i64, Option<i64>)> {
    let mut all = Vec::new();
    for (number, found) in (first..).zip(found) {
        if found.is_empty() && outer {
            all.push((number, None));
        }
        all.extend(found.iter().map(|value| (number, Some(*value))));
    }
    all
}

fn some_key(random: &mut Random, keys: u64) -> Option<i64> {
    let key = random.below(keys + 1) as i64;
    (key > 0).then_some(key)
}

fn some_rows(random: &mut Random, keys: u64) -> Vec<Row> {
    let count = random.below(60) as i64;
    (0..count).map(|value| (some_key(random, keys), value)).collect()
}

#[test]
fn whole_tables() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let keys = 1 + random.below(40);
        let rows = some_rows(&mut random, keys);
        let outer = random.below(2) == 0;
        let declared = declared(full(u64::MAX), outer);
        let mut builder = TableBuilder::new(&declared);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at(1 + random.below(rest.len() as u64) as usize);
            builder.push(table_rows(some)).unwrap();
            rest = others;
        }
        let table = Arc::new(builder.finish().unwrap());
        assert_eq!(table.row_count(), rows.len());
        let mut operator = LookupOperator::new(&declared).unwrap();
        let mut first = 0;
        for _ in 0..3 {
            let asked: Vec<Option<i64>> = (0..random.below(50)).map(|_| some_key(&mut random, keys)).collect();
            operator.join(block(first, &asked), &table).unwrap();
            let found: Vec<Vec<i64>> = asked.iter().map(|key| matches(*key, &rows)).collect();
            assert_eq!(outputs(&mut operator), joined(first, &found, outer), "seed {seed}");
            first += asked.len() as i64;
        }
    }
}

#[test]
fn large_tables_have_chunks_and_one_row_finds_many() {
    let declared = declared(full(u64::MAX), false);
    let rows: Vec<Row> = (0..200_000).map(|value| (Some(value % 20), value)).collect();
    let mut builder = TableBuilder::new(&declared);
    for rows in rows.chunks(7_001) {
        builder.push(table_rows(rows)).unwrap();
    }
    let table = Arc::new(builder.finish().unwrap());
    assert!(table.chunks.len() > 2);
    let mut operator = LookupOperator::new(&declared).unwrap();
    operator.join(block(0, &[Some(3), Some(20), Some(19)]), &table).unwrap();
    let found = [matches(Some(3), &rows), Vec::new(), matches(Some(19), &rows)];
    assert_eq!(outputs(&mut operator), joined(0, &found, false));
}

#[test]
fn tables_have_limits() {
    let check = |bytes_max: u64| {
        let mut builder = TableBuilder::new(&declared(full(bytes_max), false));
        let rows: Vec<Row> = (0..10_000).map(|value| (Some(value), value)).collect();
        builder.push(table_rows(&rows)).and_then(|()| builder.finish())
    };
    let table = check(4 << 20).unwrap();
    assert!(
        (400_000..2_000_000).contains(&table.byte_count()),
        "{}",
        table.byte_count()
    );
    let error = check(400_000).unwrap_err();
    assert_eq!(error.code(), "LU0001");
    assert!(error.to_string().contains("400000 bytes"), "{error}");
}

/// Asks for keys as an engine does; also which keys the table was asked for.
fn ask(
    operator: &mut LookupOperator,
    (first, keys): (i64, &[Option<i64>]),
    table: &[Row],
    now: Millis,
) -> (Vec<i64>, Vec<(i64, Option<i64>)>) {
    let Some(asked) = operator.ask(block(first, keys), now).unwrap() else {
        return (Vec::new(), outputs(operator));
    };
    assert!(!operator.is_idle() && !operator.has_output());
    let asked: Vec<i64> = asked.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut rows: Vec<Row> = table.to_vec();
    rows.retain(|row| row.0.is_some_and(|key| asked.contains(&key)));
    // Some database thinks that more is the same.
    rows.push((Some(-1), -1));
    operator.handle_answer(&table_rows(&rows)).unwrap();
    (asked, outputs(operator))
}

#[test]
fn nothing_is_remembered_where_there_is_no_cache() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let keys = 1 + random.below(20);
        let outer = random.below(2) == 0;
        let mut operator = LookupOperator::new(&declared(TableAccess::Uncached, outer)).unwrap();
        let mut first = 0;
        for now in 0..5 {
            let rows = some_rows(&mut random, keys);
            let wanted: Vec<Option<i64>> = (0..random.below(50)).map(|_| some_key(&mut random, keys)).collect();
            let (asked, got) = ask(&mut operator, (first, &wanted), &rows, now);
            let found: Vec<Vec<i64>> = wanted.iter().map(|key| matches(*key, &rows)).collect();
            assert_eq!(got, joined(first, &found, outer), "seed {seed}");
            let mut distinct: Vec<i64> = wanted.iter().flatten().copied().collect();
            distinct.sort_unstable();
            distinct.dedup();
            let mut asked = asked;
            asked.sort_unstable();
            assert_eq!(asked, distinct, "each key is asked for once, and null never");
            first += wanted.len() as i64;
        }
    }
}

#[test]
fn what_is_remembered_is_not_asked_for() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let keys = 1 + random.below(30);
        let expire_after_ms = (random.below(2) == 0).then(|| 1 + random.below(40));
        let remembers_missing = random.below(2) == 0;
        let access = TableAccess::Cached {
            rows_max: 1 << 40,
            expire_after_ms,
            remembers_missing,
        };
        let mut operator = LookupOperator::new(&declared(access, true)).unwrap();
        // By key: when it was asked for, and what was found.
        let mut model: BTreeMap<i64, (i64, Vec<i64>)> = BTreeMap::new();
        let (mut first, mut now) = (0, 0);
        for _ in 0..20 {
            now += random.below(20) as i64;
            // The table is another each time.
            let rows = some_rows(&mut random, keys);
            let wanted: Vec<Option<i64>> = (0..random.below(30)).map(|_| some_key(&mut random, keys)).collect();
            let is_known = |entry: &(i64, Vec<i64>)| {
                expire_after_ms.is_none_or(|after| now < entry.0 + after as i64)
                    && (remembers_missing || !entry.1.is_empty())
            };
            let mut expect_asked = Vec::new();
            for key in wanted.iter().flatten() {
                if !model.get(key).is_some_and(is_known) && !expect_asked.contains(key) {
                    expect_asked.push(*key);
                }
            }
            for key in &expect_asked {
                model.insert(*key, (now, matches(Some(*key), &rows)));
            }
            let of_model = |key: &Option<i64>| key.map_or_else(Vec::new, |key| model[&key].1.clone());
            let found: Vec<Vec<i64>> = wanted.iter().map(of_model).collect();
            let (asked, got) = ask(&mut operator, (first, &wanted), &rows, now);
            assert_eq!(asked, expect_asked, "seed {seed}");
            assert_eq!(got, joined(first, &found, true), "seed {seed}");
            first += wanted.len() as i64;
        }
    }
}

#[test]
fn caches_have_limits_and_keep_what_is_asked_for_often() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let rows_max = 2 + random.below(60);
        let access = TableAccess::Cached {
            rows_max,
            expire_after_ms: None,
            remembers_missing: true,
        };
        let mut operator = LookupOperator::new(&declared(access, true)).unwrap();
        let rows: Vec<Row> = (0..2_000).map(|value| (Some(value % 1_000), value)).collect();
        let mut often = 0;
        for step in 0..200 {
            // Key 7 each time, others hardly twice.
            let wanted = [Some(7), Some(random.below(1_000) as i64), None];
            let (asked, got) = ask(&mut operator, (step * 3, &wanted), &rows, step);
            let found: Vec<Vec<i64>> = wanted.iter().map(|key| matches(*key, &rows)).collect();
            assert_eq!(got, joined(step * 3, &found, true), "seed {seed}");
            often += u64::from(asked.contains(&7));
            assert!(operator.cached_rows() <= rows_max + 1, "{}", operator.cached_rows());
        }
        assert!(rows_max < 12 || often == 1, "key 7 was asked for {often} times");
        let counts = operator.counts();
        assert!((390..=400).contains(&(counts.hits + counts.misses)), "{counts:?}");
        // A block with more keys than there is room for.
        let all: Vec<Option<i64>> = (0..1_000).map(Some).collect();
        let (_, got) = ask(&mut operator, (600, &all), &rows, 200);
        assert_eq!(got.len(), 2_000);
        assert!(operator.cached_rows() <= rows_max + 1);
    }
}
