//! Goal: rows of a table of a real server are found by keys of every type, through a restart of the server; what the table does not
//! have is said before a job begins. Method: the table by itself, through the interface that the engine asks it by.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millrace_core::connector::{KeyedTable, Options, Rows};
use millrace_core::{Fault, Result};
use millrace_tests::postgres::{Database, Server};

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

fn is_nanoseconds(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
}

#[test]
fn rows_are_found_by_every_type_of_key() {
    let database = Server::shared().database("lookup_types");
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
    writer
        .write(&rows, std::time::Duration::ZERO)
        .expect("rows are written");
    let prepared = writer.pre_commit().expect("rows are prepared");
    writer.commit(&prepared).expect("rows are there");
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
        assert_eq!((error.code(), error.fault()), (code, fault), "{error}");
        assert!(error.to_string().contains(part), "{error}");
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
