//! Goal: rows come out with what the table has of their key, through kills and at any parallelism; a table that changes is another
//! one from a moment on, and one that cannot be read again stays.
//! Method: tables that the test writes, at known moments, and what should come out of them, computed here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millrace_core::Fault;
use millrace_core::connector::{Options, SinkContext, SubtaskContext, Waker};
use millrace_engine::{Job, JobOptions, OnTrap, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, parallel, read_ndjson, task, wait_until};
use serde_json::{Value, json};

use crate::durable::{EXACTLY, Place, assert_same};
use crate::every_operator::{live, outputs};

const ROWS: i64 = 6_000;

/// A row of the table.
#[derive(Clone)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) region: &'static str,
    pub(crate) name: String,
    pub(crate) cents: Option<i64>,
}

/// Up to three rows of a key, of some keys none; one has no key that a row could have.
pub(crate) fn products() -> Vec<Product> {
    let mut all = Vec::new();
    for id in (0..45).chain([1_000]) {
        for (number, region) in [(0, "north"), (1, "south"), (2, "south")] {
            if (id + number) % 4 != 0 {
                all.push(Product {
                    id,
                    region,
                    name: format!("product {id}, {number}"),
                    cents: (id % 7 != 0).then_some(id * 10 + number),
                });
            }
        }
    }
    all
}

fn csv(products: &[Product]) -> String {
    let row = |product: &Product| {
        let Product {
            id,
            region,
            name,
            cents,
        } = product;
        let (name, cents) = (
            name.replace('"', "\"\""),
            cents.map_or_else(String::new, |cents| cents.to_string()),
        );
        format!("{id},\"{name}\",{region},{cents}\n")
    };
    let rows: String = products.iter().map(row).collect();
    format!("id,name,region,cents\n{rows}")
}

/// A database with the table.
fn database(path: &Path, products: &[Product]) {
    let ids = Int64Array::from_iter_values(products.iter().map(|product| product.id));
    let names = StringArray::from_iter_values(products.iter().map(|product| &product.name));
    let regions = StringArray::from_iter_values(products.iter().map(|product| product.region));
    let cents = Int64Array::from_iter(products.iter().map(|product| product.cents));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("name", Arc::new(names) as ArrayRef, false),
        ("region", Arc::new(regions) as ArrayRef, false),
        ("cents", Arc::new(cents) as ArrayRef, true),
    ]);
    let rows = rows.expect("rows");
    let pairs = [("path", as_text(path)), ("table", "products"), ("create", "true")];
    let options = Options::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let context = SinkContext {
        job: "tables".to_owned(),
        operator: "out".to_owned(),
    };
    let connector = millrace_connectors::connector("sqlite").expect("it is built in");
    let sink = connector.sink(options.expect("options"), rows.schema(), &context);
    let sink = sink.expect("sound options").expect("it has a sink");
    sink.check().expect("a database");
    let context = SubtaskContext {
        subtask: 0,
        parallelism: 1,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    let mut writer = sink.open(&context).expect("a writer");
    writer.write(&rows, Duration::ZERO).expect("rows are written");
    let prepared = writer.pre_commit().expect("rows are prepared");
    writer.commit(&prepared).expect("rows are there");
}

fn row(value: i64, found: Option<&Product>) -> Value {
    let (name, cents) = (
        found.map(|product| &product.name),
        found.and_then(|product| product.cents),
    );
    let mut row = json!({ "key": value % 50, "value": value, "time": value });
    if let Some(name) = name {
        row["name"] = json!(name);
    }
    if let Some(cents) = cents {
        row["cents"] = json!(cents);
    }
    row
}

/// Members that are null are not written.
fn expected() -> BTreeMap<String, Vec<String>> {
    let products = products();
    let region = |value: i64| ["north", "south"][value as usize % 2];
    let by_id = |value: i64| {
        products
            .iter()
            .filter(move |product| value % 50 > 0 && product.id == value % 50)
    };
    let by_both = |value: i64| {
        products
            .iter()
            .filter(move |product| product.id == value % 50 && product.region == region(value))
    };
    let inner = |found: &dyn Fn(i64) -> Vec<Product>| -> Vec<Value> {
        (0..ROWS)
            .flat_map(|value| found(value).into_iter().map(move |product| row(value, Some(&product))))
            .collect()
    };
    let left = |found: &dyn Fn(i64) -> Vec<Product>| -> Vec<Value> {
        let alone = (0..ROWS)
            .filter(|value| found(*value).is_empty())
            .map(|value| row(value, None));
        alone.chain(inner(found)).collect()
    };
    let (id, both) = (
        |value| by_id(value).cloned().collect(),
        |value| by_both(value).cloned().collect(),
    );
    let mut windows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for value in 0..ROWS {
        let count = by_id(value).count() as i64;
        if count > 0 {
            *windows.entry((value / 100, value % 50)).or_default() += count;
        }
    }
    let texts = |rows: Vec<Value>| {
        let mut texts: Vec<String> = rows.iter().map(Value::to_string).collect();
        texts.sort_unstable();
        texts
    };
    let window = |((start, key), count): ((i64, i64), i64)| json!({ "start": start, "key": key, "value": count });
    BTreeMap::from([
        ("full".to_owned(), texts(inner(&id))),
        ("left".to_owned(), texts(left(&both))),
        ("cached".to_owned(), texts(left(&id))),
        ("uncached".to_owned(), texts(inner(&both))),
        ("windows".to_owned(), texts(windows.into_iter().map(window).collect())),
    ])
}

/// What came out; of windows the number of each.
fn got(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut got = outputs(folder);
    let windows = got.get_mut("windows").expect("windows came out");
    for text in windows.iter_mut() {
        let window: Value = serde_json::from_str(text).expect("JSON");
        let (second, fraction) = window["start"]
            .as_str()
            .and_then(|start| start.strip_prefix("1970-01-01T00:00:")?.strip_suffix('Z'))
            .map(|start| start.split_once('.').unwrap_or((start, "0")))
            .expect("a time");
        let tenths: i64 = fraction[..1].parse().expect("a fraction");
        let start = second.parse::<i64>().expect("a second") * 10 + tenths;
        *text = json!({ "start": start, "key": window["key"], "value": window["value"] }).to_string();
    }
    windows.sort_unstable();
    got
}

fn assert_expected(folder: &Path) {
    let got = got(folder);
    for (name, rows) in expected() {
        eprintln!("{name}");
        assert_same(&got[&name], &rows);
    }
}

/// The tables of the pipeline `lookups`, and the parameters that say where they are.
pub(crate) fn tables(folder: &Path) -> (String, String) {
    let (file, base) = (folder.join("products.csv"), folder.join("products.db"));
    std::fs::write(&file, csv(&products())).expect("a file");
    database(&base, &products());
    (as_text(&file).to_owned(), as_text(&base).to_owned())
}

#[test]
fn rows_find_what_tables_have() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, base) = tables(folder.path());
    for (parallelism, capacity) in [(1, "100000"), (2, "20")] {
        let output = folder.path().join(format!("out-{parallelism}"));
        let (rows, output_text) = (ROWS.to_string(), as_text(&output));
        let pairs = [
            ("kind", "lookups"),
            ("rows", rows.as_str()),
            ("input", file.as_str()),
            ("other", base.as_str()),
            ("capacity", capacity),
            ("output", output_text),
        ];
        let options = JobOptions {
            block_rows: 100,
            ..parallel(parallelism)
        };
        let report = jobs::succeed(Guest::Flows, options, &pairs);
        assert_expected(&output);
        let cached = task(&report.tasks, "cached lookup");
        let misses = cached.total(|metrics| &metrics.lookup_misses);
        if parallelism == 1 {
            // Each key once, also those that the table does not have; a row of key 0 asks for nothing.
            assert_eq!(misses, 49);
            assert_eq!(
                task(&report.tasks, "full lookup").total(|metrics| &metrics.lookup_rows),
                products().len() as u64
            );
        } else {
            assert!(misses > 49, "{misses} keys were asked for");
        }
        let uncached = task(&report.tasks, "uncached lookup");
        assert_eq!(uncached.total(|metrics| &metrics.lookup_hits), 0);
    }
}

/// Kills a job twice, each time going on at another parallelism.
fn kill_twice(more: &[&str]) {
    let place = Place::new();
    let (file, base) = tables(place.0.path());
    let (file, base) = (format!("--param=input={file}"), format!("--param=other={base}"));
    let mut arguments = vec![file.as_str(), base.as_str()];
    arguments.extend(more);
    live(&place, "lookups", 1, &arguments, true);
    live(&place, "lookups", 3, &arguments, true);
    live(&place, "lookups", 2, &arguments, false);
    assert_expected(&place.output());
}

#[test]
fn lookups_go_on_at_another_parallelism() {
    kill_twice(&[]);
}

#[test]
fn lookups_go_on_from_unaligned_checkpoints() {
    kill_twice(&["--unaligned-checkpoints"]);
}

/// A job whose rows and table come as the test says.
pub(crate) struct Live {
    folder: tempfile::TempDir,
    pub(crate) job: Job,
    next: i64,
    expect: Vec<String>,
}

impl Live {
    fn start(from: &str, options: JobOptions, table: &str) -> Live {
        let folder = tempfile::tempdir().expect("temporary folder");
        replace(folder.path(), table);
        let other = folder.path().join("products.csv");
        Live::start_with(from, options, folder, as_text(&other))
    }

    /// With a table elsewhere.
    pub(crate) fn start_with(from: &str, options: JobOptions, folder: tempfile::TempDir, other: &str) -> Live {
        std::fs::create_dir(folder.path().join("in")).expect("a folder");
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let pairs = [
            ("kind", "live-lookup"),
            ("from", from),
            ("input", as_text(&input)),
            ("other", other),
            ("output", as_text(&output)),
        ];
        let job = jobs::start(Guest::Flows, options, &pairs);
        Live {
            folder,
            job,
            next: 0,
            expect: Vec::new(),
        }
    }

    /// So many rows, which find this price.
    pub(crate) fn feed(&mut self, cents: Option<i64>) {
        let mut lines = String::new();
        for value in self.next..self.next + 100 {
            lines += &format!("{}\n", json!({ "key": 7, "value": value, "time": value }));
            let mut row = json!({ "key": 7, "value": value, "time": value });
            if let Some(cents) = cents {
                row["name"] = json!("seven");
                row["cents"] = json!(cents);
            }
            self.expect.push(row.to_string());
        }
        self.next += 100;
        let (hidden, name) = (self.folder.path().join("in/.next"), format!("in/{}.ndjson", self.next));
        std::fs::write(&hidden, lines).expect("a file");
        std::fs::rename(hidden, self.folder.path().join(name)).expect("a file");
        let (metrics, rows) = (self.job.tasks(), self.next as u64);
        wait_until("rows to pass", || {
            task(metrics, "priced lookup").total(|metrics| &metrics.rows_out) >= rows
        });
    }

    pub(crate) fn wait_for_reads(&self, reads: u64) {
        let metrics = self.job.tasks();
        let read = || task(metrics, "priced lookup").total(|metrics| &metrics.lookup_reads);
        wait_until("the table to be read", || read() >= reads);
    }

    /// Until a read has failed that began after this.
    pub(crate) fn wait_for_failure(&self) {
        let failures = || task(self.job.tasks(), "priced lookup").total(|metrics| &metrics.lookup_failures);
        // One may be under way.
        let before = failures();
        wait_until("the table not to be read", || failures() >= before + 2);
    }

    pub(crate) fn finish(self) {
        self.job.stop();
        self.job.wait().expect("the job ends well");
        let rows = read_ndjson(&self.folder.path().join("out")).into_iter();
        let mut got: Vec<String> = rows.map(|row| row.to_string()).collect();
        let mut expect = self.expect;
        got.sort_unstable();
        expect.sort_unstable();
        assert_same(&got, &expect);
    }
}

/// The table has other rows, all at once.
fn replace(folder: &Path, text: &str) {
    let hidden = folder.join(".next.csv");
    std::fs::write(&hidden, text).expect("a file");
    std::fs::rename(hidden, folder.join("products.csv")).expect("a file");
}

fn seven(cents: i64) -> String {
    format!("id,name,region,cents\n6,six,north,1\n7,seven,south,{cents}\n")
}

#[test]
fn a_table_that_changes_is_read_again() {
    let mut live = Live::start("full", parallel(2), &seven(10));
    let folder = live.folder.path().to_owned();
    live.feed(Some(10));
    replace(&folder, &seven(20));
    live.wait_for_reads(2);
    live.feed(Some(20));
    // What cannot be read changes nothing: a row that is none, a table that is too large, one that is gone.
    replace(&folder, "id,name,region,cents\nsix,six,north,1\n");
    live.wait_for_failure();
    live.feed(Some(20));
    let large: String = (0..40_000).map(|id| format!("{id},name,region,{id}\n")).collect();
    replace(&folder, &format!("id,name,region,cents\n{large}"));
    live.wait_for_failure();
    live.feed(Some(20));
    std::fs::remove_file(folder.join("products.csv")).expect("a file");
    live.wait_for_failure();
    live.feed(Some(20));
    replace(&folder, "id,name,region,cents\n");
    live.wait_for_reads(3);
    live.feed(None);
    replace(&folder, &seven(30));
    live.wait_for_reads(4);
    live.feed(Some(30));
    // It has not changed, and is not read.
    std::thread::sleep(Duration::from_millis(50));
    let reads = task(live.job.tasks(), "priced lookup").total(|metrics| &metrics.lookup_reads);
    assert_eq!(reads, 4);
    live.finish();
}

#[test]
fn rows_of_a_table_that_cannot_be_read_are_skipped() {
    let bad = "eight,eight,north,1\n";
    let mut live = Live::start("skipping", parallel(1), &(seven(10) + bad));
    live.feed(Some(10));
    let rejected = task(live.job.tasks(), "priced lookup").total(|metrics| &metrics.lookup_rejected);
    assert_eq!(rejected, 1);
    live.finish();
}

#[test]
fn without_a_table_no_job_begins() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (input, output) = (folder.path().join("in.ndjson"), folder.path().join("out"));
    std::fs::write(&input, "{\"key\": 1, \"value\": 1, \"time\": 1}\n").expect("a file");
    let table = folder.path().join("products.csv");
    let check = |from: &str, code: &str, fault: Fault, parts: &[&str]| {
        let pairs = [
            ("kind", "live-lookup"),
            ("from", from),
            ("input", as_text(&input)),
            ("other", as_text(&table)),
            ("output", as_text(&output)),
        ];
        jobs::fail(Guest::Flows, parallel(1), &pairs, code, fault, parts);
    };
    let operator = "operator `priced lookup`";
    check("bounded", "IO0101", Fault::External, &[operator, "products.csv"]);
    check("followed", "LU0002", Fault::User, &[operator, "no end"]);
    check(
        "keyed",
        "LU0002",
        Fault::User,
        &[operator, "`files` cannot be asked by key"],
    );
    std::fs::write(&table, "id,name,region,cents\nx,y,z,1\n").expect("a file");
    check(
        "bounded",
        "RW0105",
        Fault::External,
        &[
            "operator `priced lookup` rejected a row: ",
            "products.csv:2",
            "column `id`",
            "`x`",
        ],
    );
    let large: String = (0..40_000).map(|id| format!("{id},name,region,{id}\n")).collect();
    std::fs::write(&table, format!("id,name,region,cents\n{large}")).expect("a file");
    check("bounded", "LU0001", Fault::User, &[operator, "1048576 bytes"]);
}

#[test]
fn rows_that_trap_behind_a_lookup_are_set_aside() {
    let place = Place::new();
    let folder = place.0.path();
    let (input, letters) = (folder.join("in.ndjson"), folder.join("letters.jsonl"));
    let line = |value: i64| format!("{}\n", json!({ "key": 7, "value": value, "time": value }));
    std::fs::write(&input, (0..5_000).map(line).collect::<String>()).expect("a file");
    replace(folder, &seven(10));
    let table = folder.join("products.csv");
    let options = JobOptions {
        on_trap: OnTrap::Quarantine {
            dead_letter: Some(as_text(&letters).to_owned()),
            rows_max: 5,
        },
        ..place.options(2, EXACTLY, Restore::Nothing)
    };
    let output = place.output();
    let pairs = [
        ("kind", "live-lookup"),
        ("from", "bounded"),
        ("trap", "3210"),
        ("input", as_text(&input)),
        ("other", as_text(&table)),
        ("output", as_text(&output)),
    ];
    jobs::succeed(Guest::Flows, options, &pairs);
    let rows = read_ndjson(&output).into_iter();
    let mut values: Vec<i64> = rows
        .map(|row| {
            assert_eq!(row["cents"], json!(10));
            row["value"].as_i64().expect("a number")
        })
        .collect();
    values.sort_unstable();
    let expect: Vec<i64> = (0..5_000).filter(|value| *value != 3_210).collect();
    assert_eq!(values, expect);
    let letters = std::fs::read_to_string(letters).expect("dead letters");
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(letters.contains("3210"), "{letters}");
}

#[test]
fn people_see_the_table() {
    let arguments = [
        "inspect",
        "--param=kind=lookups",
        "--param=input=products.csv",
        "--param=other=products.db",
    ];
    let guest = Guest::Flows.path();
    let output = jobs::cli(&[&arguments[..], &[as_text(guest)]].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "lookup in files table by id, read once",
        "left lookup in files table by region, id, read every 50ms",
        "left lookup in sqlite table by id, up to 20 rows cached",
        "lookup in sqlite table by id, region, uncached",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
