//! The source as the engine sees it, and what the tables say of each other.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_select::concat::concat_batches;

use super::*;
use crate::testing::{context, options};

fn source(pairs: &[(&str, &str)], columns: &[(&str, DataType)]) -> Result<Nexmark> {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), false)).collect();
    Nexmark::new(options(pairs), Arc::new(Schema::new(fields)))
}

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// All columns of a table.
fn all(table: &str, events: &str) -> Nexmark {
    let (number, text) = (DataType::Int64, DataType::Utf8);
    let columns = match table {
        "person" => vec![
            ("id", number),
            ("name", text.clone()),
            ("email_address", text.clone()),
            ("credit_card", text.clone()),
            ("city", text.clone()),
            ("state", text.clone()),
            ("date_time", TIME),
            ("extra", text),
        ],
        "auction" => vec![
            ("id", number.clone()),
            ("item_name", text.clone()),
            ("description", text.clone()),
            ("initial_bid", number.clone()),
            ("reserve", number.clone()),
            ("date_time", TIME),
            ("expires", TIME),
            ("seller", number.clone()),
            ("category", number),
            ("extra", text),
        ],
        _ => vec![
            ("auction", number.clone()),
            ("bidder", number.clone()),
            ("price", number),
            ("channel", text.clone()),
            ("url", text.clone()),
            ("date_time", TIME),
            ("extra", text),
        ],
    };
    source(&[("table", table), ("events", events)], &columns).unwrap()
}

/// The rows of one split after the other, read in pieces, each by a new reader.
fn read(source: &Nexmark, parallelism: u32) -> RecordBatch {
    let mut batches = Vec::new();
    for mut split in source.splits(parallelism).unwrap() {
        loop {
            let mut reader = source.open(&split, &context(0, parallelism)).unwrap();
            match reader.poll(777, Duration::ZERO).unwrap() {
                Poll::Rows(rows) => batches.push(rows.rows),
                Poll::End => break,
                Poll::Pending { .. } => panic!("rows are always there"),
            }
            split.position = reader.position();
        }
    }
    concat_batches(&source.schema, &batches).unwrap()
}

fn numbers<'r>(rows: &'r RecordBatch, column: &str) -> &'r [i64] {
    rows.column_by_name(column)
        .unwrap()
        .as_primitive::<Int64Type>()
        .values()
}

fn times<'r>(rows: &'r RecordBatch, column: &str) -> &'r [i64] {
    let column = rows.column_by_name(column).unwrap();
    column.as_primitive::<TimestampMillisecondType>().values()
}

#[test]
fn splits_share_the_rows() {
    for table in ["person", "auction", "bid"] {
        let source = all(table, "5000");
        let rows = |parallelism| {
            let batch = read(&source, parallelism);
            let rows = (0..batch.num_rows()).map(|row| format!("{:?}", batch.slice(row, 1).columns()));
            rows.collect::<BTreeSet<_>>()
        };
        let one = rows(1);
        assert_eq!(one.len() as u64, source.table.rows_of(5000), "{table}");
        assert_eq!(rows(3), one, "{table}");
    }
}

#[test]
fn tables_belong_together() {
    let (persons, auctions, bids) = (
        read(&all("person", "100000"), 1),
        read(&all("auction", "100000"), 1),
        read(&all("bid", "100000"), 1),
    );
    assert!(numbers(&persons, "id").iter().copied().eq(1000..3000));
    assert!(numbers(&auctions, "id").iter().copied().eq(1000..7000));
    // But for those who are still to come.
    let known = |ids: &[i64], most: i64| ids.iter().filter(|id| (1000..most).contains(id)).count();
    assert!(known(numbers(&auctions, "seller"), 3000) > 5_990);
    assert!(known(numbers(&bids, "bidder"), 3000) > 91_990);
    assert!(known(numbers(&bids, "auction"), 7000) > 91_990);
    // Half of all bids go to an auction that is the first of a hundred.
    let hot = numbers(&bids, "auction").iter().filter(|id| **id % 100 == 0).count();
    assert!((46_000..47_500).contains(&hot), "{hot}");
    let hot = numbers(&bids, "bidder").iter().filter(|id| **id % 100 == 1).count();
    assert!((69_000..70_500).contains(&hot), "{hot}");
    let prices = numbers(&bids, "price");
    assert!(prices.iter().all(|price| (100..=100_000_000).contains(price)));
    let cheap = prices.iter().filter(|price| **price < 100_000).count();
    assert!(
        (45_000..47_000).contains(&cheap),
        "half are below the middle of the scale: {cheap}"
    );
    for (initial, reserve) in numbers(&auctions, "initial_bid")
        .iter()
        .zip(numbers(&auctions, "reserve"))
    {
        assert!(reserve > initial);
    }
    let lengths = times(&auctions, "date_time").iter().zip(times(&auctions, "expires"));
    let lengths = lengths.map(|(begin, end)| end - begin).collect::<Vec<_>>();
    assert!(lengths.iter().all(|length| (1..=334).contains(length)), "{lengths:?}");
    // Ten events a ms.
    assert_eq!(times(&bids, "date_time").last(), Some(&9999));
}

#[test]
fn rows_have_the_size_that_is_said() {
    for (table, bytes) in [("person", 200), ("auction", 500), ("bid", 100)] {
        let rows = read(&all(table, "100000"), 1);
        let mut sum = 0;
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            // Channels and addresses come on top.
            if !["channel", "url"].contains(&field.name().as_str()) {
                let texts = column.as_string_opt::<i32>();
                sum += texts.map_or(8 * column.len(), |texts| texts.value_data().len());
            }
        }
        let average = sum / rows.num_rows();
        assert!(
            (bytes * 9 / 10..bytes * 11 / 10).contains(&average),
            "{table}: {average}"
        );
    }
}

#[test]
fn a_channel_has_one_address() {
    let rows = read(&all("bid", "20000"), 1);
    let text = |column: &str| rows.column_by_name(column).unwrap().as_string::<i32>().clone();
    let pairs = text("channel");
    let pairs = pairs
        .iter()
        .zip(&text("url"))
        .map(|(a, b)| format!("{a:?} {b:?}"))
        .collect::<BTreeSet<_>>();
    let names = text("channel")
        .iter()
        .map(|name| name.map(str::to_owned))
        .collect::<BTreeSet<_>>();
    assert_eq!(pairs.len(), names.len());
    assert!(names.len() > 5_000, "{}", names.len());
    assert!(
        text("url")
            .iter()
            .flatten()
            .all(|url| url.starts_with("https://www.nexmark.com/"))
    );
}

#[test]
fn a_column_does_not_depend_on_others() {
    let whole = read(&all("auction", "1000"), 1);
    let some = [("seller", DataType::Int64), ("expires", TIME)];
    let some = read(&source(&[("table", "auction"), ("events", "1000")], &some).unwrap(), 1);
    assert_eq!(numbers(&some, "seller"), numbers(&whole, "seller"));
    assert_eq!(times(&some, "expires"), times(&whole, "expires"));
}

#[test]
fn times_have_zones() {
    let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let rows = read(
        &source(&[("table", "bid"), ("events", "1000")], &[("date_time", zoned)]).unwrap(),
        1,
    );
    assert_eq!(
        times(&rows, "date_time"),
        times(&read(&all("bid", "1000"), 1), "date_time")
    );
}

#[test]
fn tables_keep_step() {
    let source = all("auction", "100000");
    let mut reader = source.open(&source.splits(1).unwrap()[0], &context(0, 1)).unwrap();
    let Poll::Rows(auctions) = reader.poll(460, Duration::ZERO).unwrap() else {
        panic!("rows are always there");
    };
    assert_eq!(auctions.rows.num_rows(), 30, "as many as there are beside 460 bids");
}

#[test]
fn columns_that_nobody_reads_change_nothing() {
    let price = [("price", DataType::Int64)];
    let options = [("table", "bid"), ("events", "1000")];
    let alone = read(&source(&options, &price).unwrap(), 1);
    let options = [options[0], options[1], ("all-columns", "true")];
    let beside = source(&options, &price).unwrap();
    assert_eq!(beside.unread.len(), 6);
    assert_eq!(read(&beside, 1), alone);
}

#[test]
fn what_is_wrong_is_named() {
    let bid = [("table", "bid")];
    let check = |pairs: &[(&str, &str)], column: (&str, DataType), code: &str, part: &str| {
        let error = source(pairs, &[column]).err().unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(&bid, ("seller", DataType::Int64), "CN0150", "auction, bidder, price");
    check(&bid, ("price", DataType::Utf8), "CN0150", "int64");
    check(&bid, ("url", DataType::Int64), "CN0150", "utf8");
    check(&bid, ("date_time", DataType::Date32), "CN0150", "timestamp");
    check(&[], ("price", DataType::Int64), "CN0002", "table");
    check(&[("table", "bids")], ("price", DataType::Int64), "CN0003", "bids");
    let slow = [("table", "bid"), ("event-rate", "0")];
    check(&slow, ("price", DataType::Int64), "CN0003", "event-rate");
}
