//! Lookup joins natively: what is found is what a table has, at the moment when a row passes.

use millrace::prelude::*;
use millrace::testing::{Job, Options};

use crate::{Event, event};

#[derive(Record, Debug, Clone, PartialEq)]
struct Name {
    key: i64,
    parity: i64,
    name: String,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Named {
    value: i64,
    name: Option<String>,
}

fn name(key: i64, name: &str) -> Name {
    let parity = name.len() as i64 % 2;
    let name = name.to_owned();
    Name { key, parity, name }
}

fn named(value: i64, name: Option<&str>) -> Named {
    let name = name.map(str::to_owned);
    Named { value, name }
}

fn pipeline(flow: &Flow) {
    let names = || Files::csv::<Name>("names.csv");
    let events = flow.source("events", Stdin::ndjson::<Event>());
    let found = |row: Event, name: Name| Named {
        value: row.value,
        name: Some(name.name),
    };
    let maybe = |row: Event, name: Option<Name>| Named {
        value: row.value,
        name: name.map(|name| name.name),
    };
    let table = LookupTable::full(names(), Name::FIELDS.key);
    let inner = events.clone().lookup_join(table, |row| row.key, found).name("inner");
    inner.sink("inner", Discard::new());
    let table = LookupTable::uncached(Sqlite::table::<Name>("names.db", "names"), Name::FIELDS.key);
    let optional = |row: &Event| (row.key != 9).then_some(row.key);
    let left = events.clone().left_lookup_join(table, optional, maybe).name("left");
    left.sink("left", Discard::new());
    let table = LookupTable::cached(
        Postgres::table::<Name>("postgres://localhost/x", "names"),
        (Name::FIELDS.key, Name::FIELDS.parity),
        10,
    );
    let pair = events
        .lookup_join(table, |row| (row.key, row.value % 2), found)
        .name("pair");
    pair.sink("pair", Discard::new());
}

fn set(job: &mut Job, names: &[Name]) {
    for operator in ["inner", "left", "pair"] {
        job.table(operator, names.to_vec());
    }
}

#[test]
fn rows_find_what_the_table_has_when_they_pass() {
    for parallelism in [1, 3] {
        let mut job = Options::new().parallelism(parallelism).start(pipeline);
        set(&mut job, &[name(1, "a"), name(1, "bb"), name(9, "c")]);
        job.push_all("events", [event(1, 10), event(2, 11), event(9, 12)]);
        set(&mut job, &[name(2, "d")]);
        job.push_all("events", [event(1, 13), event(2, 15)]);
        job.restart();
        job.push_all("events", [event(2, 17)]);
        let rows = |job: &mut Job, sink: &str| {
            let mut rows = job.rows::<Named>(sink);
            rows.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
            rows
        };
        let of_table = [
            named(10, Some("a")),
            named(10, Some("bb")),
            named(12, Some("c")),
            named(15, Some("d")),
            named(17, Some("d")),
        ];
        assert_eq!(rows(&mut job, "inner"), of_table);
        let left = [
            named(10, Some("a")),
            named(10, Some("bb")),
            named(11, None),
            named(12, None),
            named(13, None),
            named(15, Some("d")),
            named(17, Some("d")),
        ];
        assert_eq!(rows(&mut job, "left"), left);
        assert_eq!(
            rows(&mut job, "pair"),
            [named(10, Some("bb")), named(15, Some("d")), named(17, Some("d"))]
        );
    }
}

#[test]
#[should_panic(expected = "say what is in it with `testing::Job::table`")]
fn a_table_has_to_be_said() {
    Job::new(pipeline).push("events", event(1, 1));
}

#[test]
#[should_panic(expected = "the key of a table is a field of its rows")]
fn keys_of_tables_are_fields() {
    Job::new(|flow| {
        let table = LookupTable::full(Files::csv::<Name>("names.csv"), |name: &Name| name.key + 1);
        let events = flow.source("events", Stdin::ndjson::<Event>());
        let joined = events.lookup_join(table, |row| row.key, |row, _| row);
        joined.sink("out", Discard::new());
    });
}
