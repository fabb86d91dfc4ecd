//! Goal: rows of a table of a real server are found, by keys of every type or in the whole table, through a restart of the server; what
//! the table does not have is said before a job begins. Method: the table by itself, through the interface that the engine asks it by,
//! and jobs whose table changes under them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millrace_core::connector::{KeyedTable, Options, Poll, Rows, SubtaskContext, Waker};
use millrace_core::{Error, Fault, Result};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, parallel, task};
use millrace_tests::postgres::{Database, Server};

use crate::lookups::Live;
use crate::postgres::{all_types, make_sink, open};

fn table(database: &Database, schema: &SchemaRef, key: &[usize], more: &[(&str, &str)]) -> Result<Arc<dyn KeyedTable>> {
    let url = database.url();
    let mut pairs = vec![("url", url.as_str())];
    pairs.extend(more);
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let connector = millrace_connectors::connector("postgres").expect("it is built in");
    let table = connector
        .keyed_table(Options::new(owned)?, schema.clone(), key)?
        .expect("it has tables");
    table.check()?;
    Ok(table)
}

fn find(table: &Arc<dyn KeyedTable>, keys: Vec<(&str, ArrayRef)>) -> Result<Rows> {
    let keys = RecordBatch::try_from_iter(keys).expect("keys");
    table.open()?.find(&keys)
}

fn assert_refused(error: &Error, (code, fault): (&str, Fault), part: &str) {
    assert_eq!((error.code(), error.fault()), (code, fault), "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

fn is_nanoseconds(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
}

/// A table of the server with a column of each type.
fn of_every_type(name: &str) -> (Database, RecordBatch) {
    let database = Server::shared().database(name);
    let rows = all_types();
    let url = database.url();
    let pairs = [
        ("url", url.as_str()),
        ("table", "facts"),
        ("create", "true"),
        ("mode", "exactly-once"),
    ];
    let sink = make_sink("lookups", &rows.schema(), &pairs);
    sink.check().expect("a table");
    let mut writer = open(&sink, 0);
    writer.write(&rows, Duration::ZERO).expect("rows are written");
    let prepared = writer.pre_commit().expect("rows are prepared");
    writer.commit(&prepared).expect("rows are there");
    (database, rows)
}

#[test]
fn rows_are_found_by_every_type_of_key() {
    let (database, rows) = of_every_type("lookup_types");
    for (index, field) in rows.schema().fields().iter().enumerate() {
        let is_key = millrace_core::key::check_key_schema(&Schema::new(vec![field.as_ref().clone()])).is_ok();
        // PostgreSQL has microseconds.
        let is_key = is_key && !is_nanoseconds(field);
        if !is_key || field.data_type().is_nested() || rows.column(index).is_null(0) {
            continue;
        }
        let name = field.name();
        let table = table(&database, &rows.schema(), &[index], &[("table", "facts")]).expect("a table");
        let found = find(&table, vec![("key", rows.column(index).slice(0, 1))]);
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.rejected, [], "{name}");
        let columns = found
            .rows
            .columns()
            .iter()
            .zip(rows.columns())
            .zip(rows.schema_ref().fields());
        for ((found, stored), column) in columns {
            if !is_nanoseconds(column) {
                assert_eq!(found, &stored.slice(0, 1), "{name}: {column}");
            }
        }
    }
}

#[test]
fn keys_of_several_columns_and_what_a_table_does_not_have() {
    let server = Arc::new(Server::new(10));
    let database = server.database("lookups");
    database.execute(
        "CREATE TABLE products (id integer, region varchar(10), note json, cents bigint);
         INSERT INTO products SELECT n / 2, CASE n % 2 WHEN 0 THEN 'north' ELSE 'south' END, '{\"a\":\n[1]}', n
         FROM generate_series(0, 999) n",
    );
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let schema = Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("region", DataType::Utf8),
        field("note", DataType::Utf8),
        Field::new("missing", DataType::Utf8, true),
        field("cents", DataType::Int64),
    ]));
    let products = ("table", "products");
    let both = table(&database, &schema, &[1, 0], &[products]).expect("a table");
    let regions: ArrayRef = Arc::new(StringArray::from(vec!["north", "south", "north", "NORTH"]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![3, 499, i64::MAX, 4]));
    let cents = |rows: &Rows| -> Vec<String> {
        let cents = rows
            .rows
            .column(4)
            .as_any()
            .downcast_ref::<Int64Array>()
            .expect("numbers");
        let mut cents: Vec<String> = cents.iter().flatten().map(|cents| cents.to_string()).collect();
        cents.sort_unstable();
        cents
    };
    let keys = || vec![("region", regions.clone()), ("id", ids.clone())];
    assert_eq!(cents(&find(&both, keys()).expect("rows")), ["6", "999"]);
    let some = table(&database, &schema, &[1, 0], &[products, ("where", "cents < 100")]).expect("a table");
    assert_eq!(cents(&find(&some, keys()).expect("rows")), ["6"]);
    let check = |schema: &SchemaRef, more: &[(&str, &str)], code: &str, fault: Fault, part: &str| {
        let error = table(&database, schema, &[0], more).err().expect("an error");
        assert_refused(&error, (code, fault), part);
    };
    check(
        &schema,
        &[("table", "nothing")],
        "CN0122",
        Fault::User,
        "does not exist",
    );
    check(&schema, &[products, ("where", "odd")], "IO0123", Fault::External, "odd");
    let other = Arc::new(Schema::new(vec![field("number", DataType::Int64)]));
    check(&other, &[products], "CN0122", Fault::User, "has no column `number`");
    // A connection that is lost is an error of the outside, after which the engine asks on another one.
    let mut reader = both.open().expect("a connection");
    server.crash();
    server.start();
    let keys = RecordBatch::try_from_iter(keys()).expect("keys");
    let error = reader.find(&keys).expect_err("the connection is lost");
    assert_eq!((error.code(), error.fault()), ("IO0122", Fault::External), "{error}");
    let again = both.open().expect("a connection").find(&keys).expect("rows");
    assert_eq!(cents(&again), ["6", "999"]);
}

/// All rows of a table that is read whole, some at a time.
fn read_whole(database: &Database, schema: &SchemaRef, more: &[(&str, &str)], rows_max: usize) -> Result<Vec<Rows>> {
    let url = database.url();
    let pairs = [&[("url", url.as_str())], more].concat();
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let connector = millrace_connectors::connector("postgres").expect("it is built in");
    assert!(
        connector.source(Options::new([])?, schema.clone())?.is_none(),
        "it is no source of streams"
    );
    let table = connector
        .whole_table(Options::new(owned)?, schema.clone())?
        .expect("it has tables");
    let context = SubtaskContext {
        subtask: 0,
        parallelism: 1,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    let mut all = Vec::new();
    for split in table.splits(1)? {
        let mut reader = table.open(&split, &context)?;
        while let Poll::Rows(rows) = reader.poll(rows_max, Duration::ZERO)? {
            all.push(rows);
        }
    }
    Ok(all)
}

#[test]
fn a_whole_table_has_every_type() {
    let (database, rows) = of_every_type("lookup_whole_types");
    let read = read_whole(&database, &rows.schema(), &[("table", "facts")], 2).expect("rows");
    assert_eq!(read.iter().map(|rows| rows.rows.num_rows()).collect::<Vec<_>>(), [2, 1]);
    let schema = rows.schema();
    for (number, part) in read.iter().enumerate() {
        assert_eq!(part.rejected, []);
        let columns = part.rows.columns().iter().zip(rows.columns()).zip(schema.fields());
        for ((read, stored), column) in columns.filter(|(_, column)| !is_nanoseconds(column)) {
            assert_eq!(read, &stored.slice(number * 2, read.len()), "{column}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_whole_table_is_named() {
    let server = Arc::new(Server::new(10));
    let database = server.database("lookup_whole");
    database
        .execute("CREATE TABLE products (id integer, name text); INSERT INTO products VALUES (1, 'one'), (2, NULL)");
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let schema = Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("name", DataType::Utf8),
    ]));
    let products = ("table", "products");
    let read = read_whole(&database, &schema, &[products], 10).expect("rows");
    let (rows, rejected) = (read[0].rows.num_rows(), &read[0].rejected);
    assert_eq!((read.len(), rows, rejected.len()), (1, 1, 1), "{rejected:?}");
    assert_eq!(rejected[0].place, "table products");
    assert!(rejected[0].cause.contains("column `name`"), "{rejected:?}");
    assert!(rejected[0].raw.contains("\"id\":2"), "{rejected:?}");
    let check = |schema: &SchemaRef, more: &[(&str, &str)], code: &str, fault: Fault, part: &str| {
        let error = read_whole(&database, schema, more, 10).expect_err("an error");
        assert_refused(&error, (code, fault), part);
    };
    check(
        &schema,
        &[("table", "nothing")],
        "CN0122",
        Fault::User,
        "does not exist",
    );
    check(&schema, &[products, ("where", "odd")], "IO0123", Fault::External, "odd");
    check(
        &schema,
        &[products, ("where", "1 / (id - 2) < 0")],
        "RW0103",
        Fault::Pipeline,
        "division by zero",
    );
    let other = Arc::new(Schema::new(vec![field("number", DataType::Int64)]));
    check(&other, &[products], "CN0122", Fault::User, "has no column `number`");
}

/// Each refresh is the table of one moment: rows that are exchanged in a transaction are never met half.
#[test]
fn a_whole_table_that_changes_is_read_again() {
    let server = Arc::new(Server::new(10));
    let database = server.database("lookup_live");
    database.execute(
        "CREATE TABLE products (id bigint, name text, region text, cents bigint);
         INSERT INTO products VALUES (6, 'six', 'north', 1), (7, 'seven', 'south', 10), (7, 'no', 'west', 99)",
    );
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut live = Live::start_with("postgres", parallel(2), folder, &database.url());
    live.feed(Some(10));
    let reads = |live: &Live| task(live.job.tasks(), "priced lookup").total(|metrics| &metrics.lookup_reads);
    let change = |live: &mut Live, statement: &str, cents| {
        database.execute(statement);
        // One may be under way.
        live.wait_for_reads(reads(live) + 2);
        live.feed(cents);
    };
    change(
        &mut live,
        "UPDATE products SET cents = 20 WHERE region = 'south'",
        Some(20),
    );
    change(
        &mut live,
        "BEGIN; DELETE FROM products; INSERT INTO products VALUES (7, 'seven', 'south', 30); COMMIT",
        Some(30),
    );
    // What cannot be read changes nothing: rows that are none, a table that is gone, a server that does not answer.
    database.execute("UPDATE products SET name = NULL");
    live.wait_for_failure();
    live.feed(Some(30));
    database.execute("ALTER TABLE products RENAME TO gone");
    live.wait_for_failure();
    live.feed(Some(30));
    server.crash();
    live.wait_for_failure();
    live.feed(Some(30));
    server.start();
    database.execute("ALTER TABLE gone RENAME TO products; UPDATE products SET name = 'seven', cents = 40");
    live.wait_for_reads(reads(&live) + 2);
    live.feed(Some(40));
    database.execute("DELETE FROM products");
    live.wait_for_reads(reads(&live) + 2);
    live.feed(None);
    live.finish();
}

#[test]
fn a_job_does_not_begin_with_rows_that_cannot_be_read() {
    let database = Server::shared().database("lookup_bad_rows");
    database.execute(
        "CREATE TABLE products (id bigint, name text, region text, cents numeric);
         INSERT INTO products VALUES (7, 'seven', 'south', 1.5)",
    );
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(folder.path().join("in")).expect("a folder");
    let (input, output, url) = (folder.path().join("in"), folder.path().join("out"), database.url());
    let pairs = [
        ("kind", "live-lookup"),
        ("from", "postgres"),
        ("input", as_text(&input)),
        ("other", url.as_str()),
        ("output", as_text(&output)),
    ];
    let parts = ["`priced lookup`", "table products", "column `cents`", "1.5", "seven"];
    jobs::fail(Guest::Flows, parallel(1), &pairs, "RW0105", Fault::External, &parts);
}
