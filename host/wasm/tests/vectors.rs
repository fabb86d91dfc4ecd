//! Goal: the host reads and writes the blocks of the contract. Method: every case of `wit/vectors` is decoded,
//! and unless it is `read-only`, encoding what was decoded gives its bytes again; every malformed block is
//! refused. That the rows are right is what the SDK's tests of the same vectors say.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use millrace_wasm::codec::{Wire, decode, encode};
use serde_json::{Value as Json, json};

const BYTES_MAX: usize = 1 << 20;

fn files() -> Vec<(String, Json)> {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../wit/vectors");
    let entries = std::fs::read_dir(folder).expect("the vectors are there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let load = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        (
            path.display().to_string(),
            serde_json::from_str(&text).expect("it is JSON"),
        )
    };
    paths.map(load).collect()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("an array")
}

fn number(json: &Json) -> u32 {
    u32::try_from(json.as_u64().expect("a number")).expect("a u32")
}

fn schema(json: &Json) -> Arc<Schema> {
    let mut nodes = list(json).iter();
    let mut fields = Vec::new();
    while nodes.len() > 0 {
        fields.push(field(&mut nodes));
    }
    Arc::new(Schema::new(fields))
}

fn field<'a>(nodes: &mut impl Iterator<Item = &'a Json>) -> Field {
    let node = nodes.next().expect("a node per child");
    let children: Fields = (0..number(&node["children"])).map(|_| field(nodes)).collect();
    let data_type = data_type(&node["type"], children);
    Field::new(
        node["name"].as_str().expect("a name"),
        data_type,
        node["nullable"] == json!(true),
    )
}

fn data_type(json: &Json, children: Fields) -> DataType {
    if let Some(decimal) = json.get("decimal128") {
        return DataType::Decimal128(number(&decimal["precision"]) as u8, number(&decimal["scale"]) as i8);
    }
    if let Some(bytes) = json.get("fixed-size-binary") {
        return DataType::FixedSizeBinary(number(bytes) as i32);
    }
    if let Some(timestamp) = json.get("timestamp") {
        let unit = match timestamp["unit"].as_str() {
            Some("second") => TimeUnit::Second,
            Some("millisecond") => TimeUnit::Millisecond,
            Some("microsecond") => TimeUnit::Microsecond,
            Some("nanosecond") => TimeUnit::Nanosecond,
            other => panic!("unit {other:?}"),
        };
        return DataType::Timestamp(unit, timestamp["zone"].as_str().map(Arc::from));
    }
    match json.as_str().expect("the name of a type") {
        "boolean" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "utf8" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date32" => DataType::Date32,
        "time64" => DataType::Time64(TimeUnit::Microsecond),
        "list-of" => DataType::List(children[0].clone()),
        "struct-of" => DataType::Struct(children),
        "map-of" => DataType::Map(children[0].clone(), false),
        other => panic!("type {other}"),
    }
}

fn wire(case: &Json, rows: u32) -> Wire {
    let hex = case["data"].as_str().expect("hex");
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
    Wire {
        rows,
        data: (0..hex.len() / 2).map(byte).collect(),
        ends: list(&case["ends"]).iter().map(number).collect(),
    }
}

#[test]
fn blocks_are_read_and_written() {
    let mut cases = 0;
    for (file, vectors) in files().iter().filter(|(file, _)| !file.ends_with("malformed.json")) {
        let schema = schema(&vectors["schema"]);
        for case in list(&vectors["cases"]) {
            let name = format!("{file}: {}", case["name"]);
            let with_time = !case["times"].is_null();
            let given = wire(case, list(&case["rows"]).len() as u32);
            let block = decode(given.clone(), &schema, with_time, None, BYTES_MAX)
                .unwrap_or_else(|malformed| panic!("{name}: {malformed}"));
            assert_eq!(block.row_count(), given.rows as usize, "{name}");
            if case["read-only"] != json!(true) {
                let mut written = Wire {
                    rows: 0,
                    data: Vec::new(),
                    ends: Vec::new(),
                };
                encode(&block, with_time, &mut written);
                assert_eq!((written.rows, written.ends), (given.rows, given.ends), "{name}");
                assert_eq!(written.data, given.data, "{name}");
            }
            cases += 1;
        }
    }
    assert!(cases > 80);
}

#[test]
fn malformed_blocks_are_refused() {
    let files = files();
    let (_, vectors) = files
        .iter()
        .find(|(file, _)| file.ends_with("malformed.json"))
        .expect("it is there");
    for case in list(&vectors["cases"]) {
        let result = decode(
            wire(case, number(&case["row-count"])),
            &schema(&case["schema"]),
            false,
            None,
            BYTES_MAX,
        );
        assert!(result.is_err(), "{}", case["name"]);
    }
}
