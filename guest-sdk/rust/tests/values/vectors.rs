//! Goal: this SDK and the contract mean the same bytes. Method: every case of `wit/vectors` is read and
//! compared with its rows, and unless it is `read-only` its rows are written and compared with its bytes.
//! A vector file without a test here fails [`no_file_is_forgotten`].

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use millrace::block::Block;
use millrace::schema::flatten;
use millrace::value::Builder;
use millrace::values::{
    Bytes, Date, Decimal, LocalTimestamp, LocalTimestampMicros, LocalTimestampNanos, LocalTimestampSeconds, Time,
    Timestamp, TimestampMicros, TimestampNanos, TimestampSeconds,
};
use millrace::{Record, Value};
use serde_json::{Value as Json, json};

use crate::vectors_json::{AsJson, field_json, hex, json_record, unhex};

fn folder() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../wit/vectors")
}

fn load(file: &str) -> Json {
    let path = folder().join(format!("{file}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json[name]
        .as_array()
        .unwrap_or_else(|| panic!("`{name}` is not an array"))
}

fn block(case: &Json, rows: usize) -> Block {
    let ends = list(case, "ends")
        .iter()
        .map(|end| u32::try_from(end.as_u64().expect("a number")).expect("a u32"));
    Block::new(rows as u32, unhex(case["data"].as_str().expect("hex")), ends.collect())
}

/// Checks all cases of a file.
fn check<R: Record + AsJson>(file: &str) {
    let vectors = load(file);
    let fields = R::fields();
    let schema: Vec<Json> = flatten(&fields).iter().map(field_json).collect();
    assert_eq!(list(&vectors, "schema"), schema, "{file}");
    for case in list(&vectors, "cases") {
        let name = format!("{file}: {}", case["name"]);
        let rows = list(case, "rows");
        let times: Option<Vec<i64>> = case["times"]
            .as_array()
            .map(|times| times.iter().map(AsJson::from_json).collect());
        read_case::<R>(&name, &block(case, rows.len()), rows, times.as_deref());
        if case["read-only"] != json!(true) {
            write_case::<R>(&name, case, rows, times.as_deref());
        }
    }
}

fn read_case<R: Record + AsJson>(name: &str, block: &Block, rows: &[Json], times: Option<&[i64]>) {
    let mut buffers = block.buffers();
    let column = R::column(&mut buffers, block.rows());
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(&R::get(&column, index).to_json(), row, "{name}, row {index}");
    }
    if let Some(times) = times {
        assert_eq!(buffers.slice::<i64>(block.rows()), times, "{name}");
    }
    assert!(buffers.is_empty(), "{name}");
}

fn write_case<R: Record + AsJson>(name: &str, case: &Json, rows: &[Json], times: Option<&[i64]>) {
    let mut builder = R::Builder::default();
    for row in rows {
        R::push(&mut builder, R::from_json(row));
    }
    let mut writer = millrace::block::BlockWriter::default();
    builder.finish(&mut writer);
    if let Some(times) = times {
        writer.slice(times);
    }
    let (_, data, ends) = writer.finish(rows.len()).into_parts();
    assert_eq!(json!(ends), case["ends"], "{name}");
    assert_eq!(json!(hex(&data)), case["data"], "{name}");
}

/// A record of one type, not nullable and nullable, and the test of its file.
macro_rules! pairs {
    ($($test:ident, $record:ident, $type:ty, $file:literal;)*) => {
        $(
            #[derive(Record)]
            struct $record { value: $type, maybe: Option<$type> }
            json_record! { $record { value, maybe } }

            #[test]
            fn $test() {
                check::<$record>($file);
            }
        )*
        const PAIRS: &[&str] = &[$($file),*];
    };
}
pairs! {
    booleans, Booleans, bool, "boolean";
    int8, Int8, i8, "int8";
    int16, Int16, i16, "int16";
    int32, Int32, i32, "int32";
    int64, Int64, i64, "int64";
    uint8, UInt8, u8, "uint8";
    uint16, UInt16, u16, "uint16";
    uint32, UInt32, u32, "uint32";
    uint64, UInt64, u64, "uint64";
    float32, Float32, f32, "float32";
    float64, Float64, f64, "float64";
    decimals, Decimals, Decimal<38, 4>, "decimal128";
    texts, Texts, String, "utf8";
    binaries, Binaries, Bytes, "binary";
    fixed, Fixed, [u8; 3], "fixed-size-binary";
    dates, Dates, Date, "date32";
    times, Times, Time, "time64";
    structs, Structs, Person, "struct-of";
    sums, Sums, Happening, "sum-type";
}

#[derive(Record)]
struct Person {
    name: String,
    age: Option<u8>,
    at: Option<Point>,
}

#[derive(Record)]
struct Point {
    x: f64,
    y: Option<f64>,
}

#[derive(Record)]
enum Happening {
    Nothing,
    Click { x: i32, label: Option<String> },
    Search(String),
    MoveTo(i32, i32),
}

impl AsJson for Happening {
    fn from_json(json: &Json) -> Self {
        match json["tag"].as_i64() {
            Some(0) => Happening::Nothing,
            Some(1) => Happening::Click {
                x: AsJson::from_json(&json["click"]["x"]),
                label: AsJson::from_json(&json["click"]["label"]),
            },
            Some(2) => Happening::Search(AsJson::from_json(&json["search"])),
            Some(3) => {
                let (x, y) = AsJson::from_json(&json["move_to"]);
                Happening::MoveTo(x, y)
            }
            tag => panic!("no variant {tag:?}"),
        }
    }

    fn to_json(&self) -> Json {
        let mut json = json!({ "tag": 0, "click": null, "search": null, "move_to": null });
        let (tag, member) = match self {
            Happening::Nothing => return json,
            Happening::Click { x, label } => (1, ("click", json!({ "x": x, "label": label.to_json() }))),
            Happening::Search(text) => (2, ("search", json!(text))),
            Happening::MoveTo(x, y) => (3, ("move_to", (*x, *y).to_json())),
        };
        json["tag"] = json!(tag);
        json[member.0] = member.1;
        json
    }
}

#[derive(Record)]
struct Timestamps {
    second: Option<TimestampSeconds>,
    local_second: LocalTimestampSeconds,
    millisecond: Option<Timestamp>,
    local_millisecond: LocalTimestamp,
    microsecond: Option<TimestampMicros>,
    local_microsecond: LocalTimestampMicros,
    nanosecond: Option<TimestampNanos>,
    local_nanosecond: LocalTimestampNanos,
}

#[derive(Record)]
struct Lists {
    numbers: Vec<i16>,
    maybe: Option<Vec<Option<String>>>,
    nested: Vec<Vec<bool>>,
}

#[derive(Record)]
struct Maps {
    counts: BTreeMap<String, i64>,
    maybe: Option<BTreeMap<i32, Option<String>>>,
}

#[derive(Record)]
struct Place {
    lat: f32,
    day: Option<Date>,
}

#[derive(Record)]
struct Mixed {
    id: u64,
    ok: Option<bool>,
    name: String,
    price: Option<Decimal<10, 2>>,
    tags: Vec<String>,
    place: Option<Place>,
    counts: BTreeMap<String, i64>,
    hash: [u8; 2],
    at: Timestamp,
}

json_record! {
    Person { name, age, at }
    Point { x, y }
    Timestamps {
        second, local_second, millisecond, local_millisecond, microsecond, local_microsecond, nanosecond,
        local_nanosecond
    }
    Lists { numbers, maybe, nested }
    Maps { counts, maybe }
    Place { lat, day }
    Mixed { id, ok, name, price, tags, place, counts, hash, at }
}

#[test]
fn timestamps() {
    check::<Timestamps>("timestamp");
}

#[test]
fn lists() {
    check::<Lists>("list-of");
}

#[test]
fn maps() {
    check::<Maps>("map-of");
}

#[test]
fn mixed() {
    check::<Mixed>("mixed");
}

#[test]
fn no_file_is_forgotten() {
    let mut tested = [PAIRS, &["timestamp", "list-of", "map-of", "mixed", "malformed"]].concat();
    tested.sort_unstable();
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the vectors are there")
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .map(|name| name.strip_suffix(".json").expect("vectors are JSON").to_owned())
        .collect();
    files.sort_unstable();
    assert_eq!(files, tested);
}

/// What the host checks is not checked again here, but no number of buffers or length that does not fit is
/// read as rows.
#[test]
fn wrong_lengths_are_noticed() {
    fn noticed<V: Value>(block: &Block) -> bool {
        let read = || {
            let mut buffers = block.buffers();
            let column = V::column(&mut buffers, block.rows());
            (0..block.rows()).for_each(|row| drop(V::get(&column, row)));
            assert!(buffers.is_empty());
        };
        catch_unwind(AssertUnwindSafe(read)).is_err()
    }
    let mut checked = 0;
    for case in list(&load("malformed"), "cases") {
        if case["found-by"] != json!("lengths") {
            continue;
        }
        let block = block(case, case["row-count"].as_u64().expect("a number") as usize);
        let schema = &case["schema"][0];
        let noticed = match (schema["type"].as_str(), schema["nullable"].as_bool()) {
            (Some("int64"), Some(false)) => noticed::<i64>(&block),
            (Some("int64"), Some(true)) => noticed::<Option<i64>>(&block),
            (Some("boolean"), Some(false)) => noticed::<bool>(&block),
            (Some("utf8"), Some(false)) => noticed::<String>(&block),
            (Some("list-of"), Some(false)) => noticed::<Vec<i16>>(&block),
            other => panic!("{}: no reader for {other:?}", case["name"]),
        };
        assert!(noticed, "{}", case["name"]);
        checked += 1;
    }
    assert!(checked >= 10);
}
