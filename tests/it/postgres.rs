//! Goal: the `postgres` sink keeps its promises on a real server. Method: the sink by itself, through the interface
//! that the engine drives it by; `psql` says what is in the table.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::*;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millrace_core::connector::{Committable, Delivery, Options, Sink, SinkContext, SinkWriter, SubtaskContext, Waker};
use millrace_core::{Error, Fault};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{as_text, cli};
use millrace_tests::postgres::{Database, Server};

pub(crate) const NOW: Duration = Duration::ZERO;

pub(crate) fn make_sink(job: &str, schema: &SchemaRef, pairs: &[(&str, &str)]) -> Arc<dyn Sink> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options::new(owned).expect("distinct options");
    let context = SinkContext {
        job: job.to_owned(),
        operator: "out".to_owned(),
    };
    let connector = millrace_connectors::connector("postgres").expect("it is built in");
    let sink = connector.sink(options, schema.clone(), &context);
    sink.expect("sound options").expect("it has a sink")
}

fn sink(database: &Database, job: &str, schema: &SchemaRef, more: &[(&str, &str)]) -> Arc<dyn Sink> {
    let url = database.url();
    let mut pairs = vec![("url", url.as_str()), ("table", "facts")];
    pairs.extend(more);
    make_sink(job, schema, &pairs)
}

pub(crate) fn open(sink: &Arc<dyn Sink>, subtask: u32) -> Box<dyn SinkWriter> {
    let context = SubtaskContext {
        subtask,
        parallelism: 2,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    sink.open(&context).expect("the server is there")
}

pub(crate) fn pair_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("t", DataType::Utf8, true),
    ]))
}

fn pairs(rows: impl IntoIterator<Item = (i64, &'static str)>) -> RecordBatch {
    let (numbers, texts): (Vec<i64>, Vec<&str>) = rows.into_iter().unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
    RecordBatch::try_new(pair_schema(), columns).expect("rows of the schema")
}

pub(crate) fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    pairs(range.map(|number| (number, "x")))
}

pub(crate) fn stored(database: &Database) -> Vec<i64> {
    let rows = database.query("SELECT n FROM facts ORDER BY n");
    rows.iter().map(|row| row.parse().expect("a number")).collect()
}

pub(crate) fn prepared(database: &Database) -> Vec<String> {
    database.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid")
}

/// A field of each type with three values, one of them null.
pub(crate) fn all_types() -> RecordBatch {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a\"b"), None]);
    lists.append_null();
    lists.append_value([None::<&str>; 0]);
    let members = Fields::from(vec![
        Field::new("x", DataType::Int32, false),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            true,
        ),
    ]);
    let structs = StructArray::new(
        members,
        vec![
            Arc::new(Int32Array::from(vec![1, 0, 3])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, None]).with_timezone("UTC")),
        ],
        Some(vec![true, false, true].into()),
    );
    let zone = |array: TimestampMillisecondArray| array.with_timezone("UTC");
    let decimal = Decimal128Array::from(vec![Some(-1_234_567), None, Some(5)]).with_precision_and_scale(12, 3);
    let fixed =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1_u8; 16]), None, Some([255; 16])].into_iter(), 16);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "i8",
            Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)])),
        ),
        (
            "i16",
            Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)])),
        ),
        (
            "i32",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)])),
        ),
        (
            "i64",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        ),
        ("u8", Arc::new(UInt8Array::from(vec![Some(0), None, Some(u8::MAX)]))),
        ("u16", Arc::new(UInt16Array::from(vec![Some(0), None, Some(u16::MAX)]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(0), None, Some(u32::MAX)]))),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(10_000), None, Some(u64::MAX)])),
        ),
        (
            "f32",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::NEG_INFINITY)])),
        ),
        (
            "f64",
            Arc::new(Float64Array::from(vec![Some(-0.1), None, Some(f64::NAN)])),
        ),
        ("decimal", Arc::new(decimal.expect("a decimal type"))),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("ab \u{e9}\u{1f30d}"), None, Some("")])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b"")])),
        ),
        ("fixed", Arc::new(fixed.expect("16 bytes each"))),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(86_399_999_999)])),
        ),
        (
            "at_s",
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(1_700_000_000)])),
        ),
        (
            "at_ms",
            Arc::new(zone(vec![Some(-1), None, Some(1_700_000_000_123)].into())),
        ),
        (
            "at_us",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)])),
        ),
        (
            "at_ns",
            Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None, Some(1_999)])),
        ),
        ("list", Arc::new(lists.finish())),
        ("struct", Arc::new(structs)),
    ];
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).expect("rows of the schema")
}

const ALL_TYPES: [&str; 3] = [
    r#"t,-128,-32768,-2147483648,-9223372036854775808,0,0,0,10000,1.5,-0.1,-1234.567,ab é🌍,\x00ff,\x01010101010101010101010101010101,1969-12-31,00:00:00.000001,1969-12-31 23:59:59,1969-12-31 23:59:59.999+00,1969-12-31 23:59:59.999999,1969-12-31 23:59:59.999999,"[""a\""b"", null]","{""x"": 1, ""at"": ""1970-01-01T00:00:00Z""}""#,
    "~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~,~",
    r#"f,127,32767,2147483647,9223372036854775807,255,65535,4294967295,18446744073709551615,-Infinity,NaN,0.005,,\x,\xffffffffffffffffffffffffffffffff,2024-10-04,23:59:59.999999,2023-11-14 22:13:20,2023-11-14 22:13:20.123+00,1970-01-01 00:00:00.000001,1970-01-01 00:00:00.000001,[],"{""x"": 3}""#,
];

#[test]
fn every_type_arrives() {
    let database = Server::shared().database("every_type");
    let rows = all_types();
    let sink = sink(&database, "types", &rows.schema(), &[("create", "true")]);
    sink.check().expect("it makes the table");
    sink.check().expect("it finds the table");
    let mut writer = open(&sink, 0);
    writer.write(&rows, NOW).expect("rows");
    let prepared = writer.pre_commit().expect("prepared");
    writer.commit(&prepared).expect("committed");
    assert_eq!(database.query("SELECT * FROM facts"), ALL_TYPES);
    assert_eq!(sink.summary(), [("rows".to_owned(), "3".to_owned())]);
    assert!(writer.bytes_written() > 500);
}

#[test]
fn columns_may_be_wider_and_in_another_order() {
    let database = Server::shared().database("wider");
    database.execute(
        "CREATE DOMAIN cents AS numeric CHECK (VALUE >= 0); CREATE SCHEMA \"Odd\"; CREATE TABLE \"Odd\".\"A table\" (
         id bigserial, u uuid, j jsonb, big numeric(30, 2), cents cents, v varchar(20), f double precision,
         at timestamptz, due timestamp DEFAULT now(), twice bigint GENERATED ALWAYS AS (2) STORED)",
    );
    let fixed = FixedSizeBinaryArray::try_from_iter([[17_u8; 16]].into_iter()).expect("16 bytes");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("f", Arc::new(Float32Array::from(vec![0.5]))),
        ("cents", Arc::new(UInt8Array::from(vec![7]))),
        ("big", Arc::new(Int64Array::from(vec![i64::MIN]))),
        ("v", Arc::new(StringArray::from(vec!["short"]))),
        ("j", Arc::new(StringArray::from(vec!["{\"a\":  1}"]))),
        ("u", Arc::new(fixed)),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).expect("rows");
    let url = database.url();
    let pairs = [("url", url.as_str()), ("table", "\"Odd\".\"A table\"")];
    let sink = make_sink("wider", &rows.schema(), &pairs);
    sink.check().expect("the table will do");
    let mut writer = open(&sink, 0);
    writer.write(&rows, NOW).expect("rows");
    let prepared = writer.pre_commit().expect("prepared");
    writer.commit(&prepared).expect("committed");
    assert_eq!(
        database.query("SELECT id, u, j, big, cents, v, f, at, due IS NULL FROM \"Odd\".\"A table\""),
        [
            "1,11111111-1111-1111-1111-111111111111,\"{\"\"a\"\": 1}\",-9223372036854775808.00,7,short,0.5,\
          1970-01-01 00:00:00.001+00,f"
        ]
    );
}

#[test]
fn rows_are_seen_when_they_are_committed_and_once() {
    let database = Server::shared().database("two_phase");
    let sink = sink(
        &database,
        "job",
        &pair_schema(),
        &[("create", "true"), ("batch.rows", "10")],
    );
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    sink.check().expect("it makes the table");
    let (mut first, mut second) = (open(&sink, 0), open(&sink, 1));
    assert_eq!(first.pre_commit().expect("nothing to prepare"), []);
    first.write(&numbers(0..25), NOW).expect("rows");
    second.write(&numbers(25..30), NOW).expect("rows");
    let one = first.pre_commit().expect("prepared");
    let two = second.pre_commit().expect("prepared");
    assert_eq!((one.len(), two.len(), prepared(&database).len()), (1, 1, 2));
    assert!(stored(&database).is_empty());
    // The next transaction is under way when the last one is committed.
    first.write(&numbers(30..45), NOW).expect("rows");
    first.commit(&one).expect("committed");
    assert_eq!(stored(&database), (0..25).collect::<Vec<_>>());
    first.commit(&one).expect("it was");
    second.commit(&two).expect("committed");
    first.abort(&[]).expect("dropped");
    first.write(&numbers(45..50), NOW).expect("rows");
    let three = first.pre_commit().expect("prepared");
    first.abort(&three).expect("dropped");
    first.abort(&three).expect("it was");
    assert_eq!(stored(&database), (0..30).collect::<Vec<_>>());
    assert_eq!(prepared(&database), Vec::<String>::new());
}

#[test]
fn recovery_commits_what_is_listed_and_drops_what_is_its_own() {
    let database = Server::shared().database("recovery");
    let schema = pair_schema();
    let ours = sink(&database, "ours", &schema, &[("create", "true")]);
    let other = sink(&database, "other", &schema, &[]);
    let same_name = sink(&database, "ours", &schema, &[("id", "blue")]);
    ours.check().expect("it makes the table");
    let prepare = |sink: &Arc<dyn Sink>, subtask: u32, range: std::ops::Range<i64>| {
        let mut writer = open(sink, subtask);
        writer.write(&numbers(range), NOW).expect("rows");
        (writer.pre_commit().expect("prepared"), writer)
    };
    database.execute("BEGIN; INSERT INTO facts VALUES (1000, 'by hand'); PREPARE TRANSACTION 'by hand'");
    let (listed, mut zombie) = prepare(&ours, 0, 0..5);
    let (also_listed, _) = prepare(&ours, 1, 5..10);
    let (_unlisted, _) = prepare(&ours, 2, 10..15);
    let (of_other, mut other_writer) = prepare(&other, 0, 15..20);
    let (of_same_name, _) = prepare(&same_name, 0, 20..25);
    // Under way when the process is cut off.
    zombie.write(&numbers(25..30), NOW).expect("rows");
    let all = [listed.clone(), also_listed].concat();
    for _ in 0..2 {
        ours.recover(&all).expect("recovered");
        assert_eq!(stored(&database), (0..10).collect::<Vec<_>>());
        assert_eq!(prepared(&database).len(), 3, "{:?}", prepared(&database));
    }
    // Its connection was ended: it cannot prepare anything any more.
    assert!(zombie.pre_commit().is_err());
    assert_eq!(prepared(&database).len(), 3);
    other_writer.commit(&of_other).expect("untouched");
    same_name.recover(&of_same_name).expect("untouched");
    database.execute("ROLLBACK PREPARED 'by hand'");
    assert_eq!(stored(&database).len(), 20);
    // A new attempt does not meet the names of the old one.
    let (again, mut writer) = prepare(&ours, 0, 25..30);
    assert_ne!(again, listed);
    writer.commit(&again).expect("committed");
    assert_eq!(stored(&database), (0..10).chain(15..30).collect::<Vec<_>>());
}

#[test]
fn what_somebody_else_rolled_back_is_not_taken_for_committed() {
    let database = Server::shared().database("rolled_back");
    let sink = sink(&database, "job", &pair_schema(), &[("create", "true")]);
    sink.check().expect("it makes the table");
    let mut writer = open(&sink, 0);
    writer.write(&numbers(0..5), NOW).expect("rows");
    let committables = writer.pre_commit().expect("prepared");
    database.execute(&format!("ROLLBACK PREPARED '{}'", prepared(&database)[0]));
    let check = |error: Error| assert_eq!(error.code(), "IO0124", "{error}");
    check(writer.commit(&committables).expect_err("it is gone"));
    check(sink.recover(&committables).expect_err("it is gone"));
    // One that the server has never begun is not ours.
    let future = Committable(b"millrace/1/job/0/0/999999999999".to_vec());
    check(sink.recover(&[future]).expect_err("it is unknown"));
}

#[test]
fn a_server_that_dies_between_prepare_and_commit_loses_nothing() {
    let server = Arc::new(Server::new(10));
    let database = server.database("crashed");
    let sink = sink(&database, "job", &pair_schema(), &[("create", "true")]);
    sink.check().expect("it makes the table");
    let mut writer = open(&sink, 0);
    writer.write(&numbers(0..5), NOW).expect("rows");
    let committed = writer.pre_commit().expect("prepared");
    writer.commit(&committed).expect("committed");
    writer.write(&numbers(5..10), NOW).expect("rows");
    let listed = writer.pre_commit().expect("prepared");
    writer.write(&numbers(10..15), NOW).expect("rows");
    let _unlisted = writer.pre_commit().expect("prepared");
    writer.write(&numbers(15..20), NOW).expect("rows");
    server.crash();
    let error = writer.commit(&listed).expect_err("there is no server");
    assert_eq!(error.fault(), Fault::External, "{error}");
    assert!(writer.pre_commit().is_err());
    assert_eq!(sink.recover(&listed).expect_err("there is no server").code(), "IO0120");
    server.start();
    sink.recover(&listed).expect("recovered");
    sink.recover(&[committed, listed].concat()).expect("recovered");
    assert_eq!(stored(&database), (0..10).collect::<Vec<_>>());
    assert_eq!(prepared(&database), Vec::<String>::new());
}

#[test]
fn rows_with_the_same_key_replace_each_other() {
    let database = Server::shared().database("upsert");
    let sink = sink(
        &database,
        "job",
        &pair_schema(),
        &[("create", "true"), ("mode", "upsert"), ("key", "n")],
    );
    assert_eq!(sink.delivery(), Delivery::Idempotent);
    sink.check().expect("it makes the table");
    sink.recover(&[]).expect("nothing to do");
    let all = || database.query("SELECT n, t FROM facts ORDER BY n");
    let mut writer = open(&sink, 0);
    for _ in 0..2 {
        writer.write(&pairs([(1, "a"), (2, "b"), (1, "c")]), NOW).expect("rows");
        writer.write(&pairs([(3, "d"), (2, "e")]), NOW).expect("rows");
        assert_eq!(writer.pre_commit().expect("written"), []);
        assert_eq!(all(), ["1,c", "2,e", "3,d"]);
    }
    writer.write(&pairs([(4, "shown"), (1, "soon")]), NOW).expect("rows");
    writer.flush().expect("written");
    assert_eq!(all(), ["1,soon", "2,e", "3,d", "4,shown"]);
    // Two that write the same keys in opposite orders do not stop each other.
    let threads = [1, 2].map(|subtask| {
        let mut writer = open(&sink, subtask);
        std::thread::spawn(move || {
            for round in 0..50 {
                let keys = (0..200_i64).map(|key| if subtask == 1 { key } else { 199 - key });
                writer.write(&pairs(keys.map(|key| (key, "both"))), NOW)?;
                if round % 2 == 0 {
                    writer.flush()?;
                }
            }
            writer.pre_commit()
        })
    });
    for thread in threads {
        assert_eq!(thread.join().expect("no panic").expect("written"), []);
    }
    assert_eq!(all().len(), 200);
}

#[test]
fn a_row_that_the_table_refuses_is_the_pipelines_fault() {
    let database = Server::shared().database("refused");
    database.execute("CREATE TABLE facts (n bigint PRIMARY KEY CHECK (n < 100), t varchar(5))");
    for mode in [&[][..], &[("mode", "upsert"), ("key", "n")]] {
        let sink = sink(&database, "job", &pair_schema(), mode);
        sink.check().expect("the table will do");
        for (row, part) in [
            ((100, "x"), "facts_n_check"),
            ((1, "too long"), "character varying(5)"),
            ((1, "a\0b"), "0x00"),
        ] {
            let mut writer = open(&sink, 0);
            writer.write(&pairs([row]), NOW).expect("it is not sent yet");
            let error = writer.pre_commit().expect_err("the server refuses it");
            assert_eq!((error.code(), error.fault()), ("RW0103", Fault::Pipeline), "{error}");
            assert!(error.to_string().contains(part), "{error}");
            writer.write(&pairs([(1, "y")]), NOW).ok();
            assert!(writer.pre_commit().is_err(), "nothing doubtful is prepared");
            writer.abort(&[]).expect("dropped");
        }
    }
    assert!(stored(&database).is_empty());
}

pub(crate) fn check_refused(sink: &Arc<dyn Sink>, code: &str, parts: &[&str]) {
    let error = sink.check().expect_err("it is refused");
    assert_eq!(error.code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn what_is_wrong_with_the_server_is_named() {
    let server = Server::shared();
    let database = server.database("wrong_server");
    let schema = pair_schema();
    let at = |url: &str| make_sink("job", &schema, &[("url", url), ("table", "facts")]);
    let url = database.url();
    let place = format!("127.0.0.1:{}", server.port());
    check_refused(
        &at(&url.replace("secret", "wrong-secret")),
        "IO0121",
        &[&place, "password"],
    );
    check_refused(&at(&url.replace("wrong_server", "nothing")), "IO0121", &["nothing"]);
    check_refused(
        &at("postgres://postgres:secret@127.0.0.1:1/x"),
        "IO0120",
        &["127.0.0.1:1/x", "refused"],
    );
    check_refused(&at("<url>"), "CN0121", &["`url`"]);

    let without = Arc::new(Server::new(0));
    let database = without.database("without");
    check_refused(
        &sink(&database, "job", &schema, &[]),
        "CN0123",
        &["max_prepared_transactions", "restart"],
    );
    let upsert = [("create", "true"), ("mode", "upsert"), ("key", "n")];
    sink(&database, "job", &schema, &upsert).check().expect("it needs none");
}

#[test]
fn what_is_wrong_with_the_table_is_named() {
    let database = Server::shared().database("wrong_table");
    let schema = pair_schema();
    let checked = |more: &[(&str, &str)]| sink(&database, "job", &schema, more);
    check_refused(&checked(&[]), "CN0122", &["`facts` does not exist", "`create`"]);
    let remade =
        |columns: &str| database.execute(&format!("DROP TABLE IF EXISTS facts; CREATE TABLE facts ({columns})"));
    remade("n bigint, \"T\" text");
    check_refused(&checked(&[]), "CN0122", &["no column `t`", "`n`, `T`"]);
    remade("n integer, t text");
    check_refused(&checked(&[]), "CN0122", &["`n` of type integer", "bigint or numeric"]);
    remade("n bigint, t point");
    check_refused(&checked(&[]), "CN0122", &["`t` of type point", "text or json"]);
    remade("n bigint, t text, must date NOT NULL");
    check_refused(&checked(&[]), "CN0122", &["`must`"]);
    remade("n bigint GENERATED ALWAYS AS (1) STORED, t text");
    check_refused(&checked(&[]), "CN0122", &["computes column `n`"]);
    remade("n bigint, t text");
    checked(&[]).check().expect("it will do");
    let upsert = [("mode", "upsert"), ("key", "n")];
    check_refused(&checked(&upsert), "CN0122", &["unique index", "(n)"]);
    database.execute("CREATE UNIQUE INDEX ON facts (n)");
    checked(&upsert).check().expect("it will do");

    database.execute("CREATE USER reader PASSWORD 'secret'; GRANT SELECT ON facts TO reader");
    let url = database.url().replace("postgres:secret", "reader:secret");
    let reader = make_sink("job", &schema, &[("url", &url), ("table", "facts")]);
    check_refused(&reader, "CN0122", &["may not insert"]);
}

#[test]
fn inspect_says_what_each_sink_guarantees() {
    let path = as_text(Guest::Flows.path());
    for (more, connector, delivery) in [
        (&["--param=output=out"][..], "files", "exactly-once"),
        (&["--param=postgres=<url>"], "postgres", "exactly-once"),
        (
            &["--param=postgres=<url>", "--param=upsert=operator,key,at"],
            "postgres",
            "idempotent",
        ),
    ] {
        let arguments = [&["inspect", path, "--param=kind=durable"], more].concat();
        let output = cli(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let row = text
            .lines()
            .skip_while(|line| *line != "sinks")
            .nth(2)
            .unwrap_or_default();
        let words: Vec<&str> = row.split_whitespace().take(3).collect();
        assert_eq!(words, ["facts", connector, delivery], "{text}");
        let json = cli(&[arguments.as_slice(), &["--output=json"]].concat());
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(
            json["sinks"],
            serde_json::json!([{ "name": "facts", "delivery": delivery }])
        );
    }
}
