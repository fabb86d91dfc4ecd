//! `millrace::testing` against the engine: the same pipeline, the same rows, the same results.
//!
//! The pipelines are those of `tests/guests/flows`, here compiled natively.

#[path = "../guests/flows/src/lib.rs"]
#[allow(unreachable_pub, reason = "elsewhere it is a library")]
mod pipelines;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, all_files, as_text, blocks_of, read_ndjson};
use millrace_tests::random::Random;
use serde_json::Value;

use self::pipelines::{Params, flows};

/// What most sources give.
#[derive(Record, Clone, Debug)]
struct Event {
    key: i64,
    value: i64,
    time: i64,
}

/// A row of the second input.
#[derive(Record, Clone, Debug)]
struct Other {
    name: String,
    key: i64,
    amount: i64,
    time: i64,
}

/// Sorted rows of each sink that got any.
type Outputs = BTreeMap<String, Vec<String>>;

fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort_unstable();
    rows
}

/// What the engine has written, by sink.
fn engine(folder: &Path) -> Outputs {
    let text = |(name, value): (&String, &Value)| format!("{name}={}", normal(value));
    let row = |row: &Value| {
        let fields = row.as_object().expect("a row is an object").iter();
        sorted(fields.map(text)).join(" ")
    };
    let names = all_files(folder).into_iter();
    let rows = names.map(|name| (sorted(read_ndjson(&folder.join(&name)).iter().map(row)), name));
    rows.filter(|(rows, _)| !rows.is_empty())
        .map(|(rows, name)| (name, rows))
        .collect()
}

/// A value without what only formats differ in.
fn bare(text: &str) -> String {
    text.replace(['"', ' '], "")
}

/// Times as numbers.
fn normal(value: &Value) -> String {
    let Some(text) = value.as_str() else {
        return bare(&value.to_string());
    };
    let (day, rest) = match text.get(..11) {
        Some("1970-01-01T") => (0, &text[11..]),
        Some("1969-12-31T") => (-86_400_000, &text[11..]),
        // As far as a date goes: the global window.
        Some("0001-01-01T") => return "-62135596800000".to_owned(),
        Some("9999-12-31T") => return "253402300799999".to_owned(),
        _ => return bare(text),
    };
    let number = |part: &str| part.parse::<i64>().expect("part of a time");
    let (hours, minutes) = (number(&rest[..2]), number(&rest[3..5]));
    let seconds: f64 = rest[6..].trim_end_matches('Z').parse().expect("seconds");
    (day + hours * 3_600_000 + minutes * 60_000 + (seconds * 1_000.0).round() as i64).to_string()
}

/// What a test's job has written, by sink.
fn job(job: &mut Job) -> Outputs {
    let row = |row: Vec<(String, String)>| {
        // JSON lines leave out what is null.
        let there = row.iter().filter(|(_, value)| value != "null");
        sorted(there.map(|(name, value)| format!("{name}={}", bare(value)))).join(" ")
    };
    let sinks = job.sinks().into_iter();
    let rows = sinks.map(|sink| (sorted(job.texts(&sink).into_iter().map(row)), sink));
    rows.filter(|(rows, _)| !rows.is_empty())
        .map(|(rows, sink)| (sink, rows))
        .collect()
}

fn assert_same(got: &Outputs, expected: &Outputs, told: &str) {
    for (name, expected) in expected {
        let got = got.get(name).map_or(&[][..], Vec::as_slice);
        let missing: Vec<&String> = expected.iter().filter(|row| !got.contains(row)).take(5).collect();
        let extra: Vec<&String> = got.iter().filter(|row| !expected.contains(row)).take(5).collect();
        let counts = (got.len(), expected.len());
        assert!(
            got == expected,
            "`{name}` of {told}: {counts:?} rows, missing {missing:?}, too many {extra:?}"
        );
    }
    let (got, expected): (Vec<&String>, Vec<&String>) = (got.keys().collect(), expected.keys().collect());
    assert_eq!(got, expected, "sinks of {told}");
}

fn started(options: Options, pairs: &[(&str, &str)]) -> Job {
    let pairs: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    options.start(move |flow| {
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        flows(flow, testing::parameters::<Params>(&pairs))
    })
}

/// The generator's `mix`.
fn mix(mut x: u64) -> i64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) & 0x7fff_ffff_ffff_ffff) as i64
}

/// As the generator of the pipelines makes it.
fn generated(index: u64) -> Event {
    Event {
        key: mix(index) % 50,
        value: index as i64,
        time: index as i64,
    }
}

/// Ways to run a job whose results do not depend on them.
fn ways() -> Vec<(Options, Option<u64>, String)> {
    let mut ways = vec![(Options::new(), None, "in order".to_owned())];
    for seed in 1..=4 {
        let parallelism = 1 + seed as u32 % 3;
        let options = Options::new().parallelism(parallelism).seed(seed);
        ways.push((
            options,
            Some(seed * 150),
            format!("seed {seed}, parallelism {parallelism}, with a restart"),
        ));
    }
    ways
}

/// Every operator of the SDK, whatever the order in which channels are read, and with a restart in the middle.
#[test]
fn every_operator_does_what_the_engine_has_it_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [
        ("kind", "operators"),
        ("rows", "900"),
        ("output", as_text(folder.path())),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(1), &pairs);
    let expected = engine(folder.path());
    assert!(expected.len() > 30, "{:?}", expected.keys());
    for (options, restart, told) in ways() {
        let mut tested = started(options, &pairs);
        for first in (0..900).step_by(50) {
            tested.push_all("events", (first..first + 50).map(generated));
            if Some(first) == restart {
                tested.restart();
            }
        }
        tested.finish();
        assert_same(&job(&mut tested), &expected, &told);
    }
}

/// Every operator of two inputs.
#[test]
fn operators_of_two_inputs_do_what_the_engine_has_them_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [
        ("kind", "two-inputs"),
        ("rows", "600"),
        ("disorder", "1h"),
        ("output", as_text(folder.path())),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(1), &pairs);
    let expected = engine(folder.path());
    assert!(expected.len() > 10, "{:?}", expected.keys());
    for (options, restart, told) in ways() {
        let mut tested = started(options, &pairs);
        for first in (0..600).step_by(50) {
            let rows = first..first + 50;
            tested.push_all("events", rows.clone().map(generated));
            let other = |index: u64| Other {
                name: format!("other {index}"),
                key: mix(index) / 64 % 50,
                amount: index as i64,
                time: index as i64,
            };
            tested.push_all("others", rows.map(other));
            if Some(first) == restart {
                tested.restart();
            }
        }
        tested.finish();
        assert_same(&job(&mut tested), &expected, &told);
    }
}

/// A row of the tables of `lookups`.
#[derive(Record, Clone, Debug)]
struct Product {
    id: i64,
    region: String,
    name: String,
    cents: Option<i64>,
}

/// Rows that are looked up in tables of every kind.
#[test]
fn lookups_do_what_the_engine_has_them_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, base) = crate::lookups::tables(folder.path());
    let output = folder.path().join("out");
    let pairs = [
        ("kind", "lookups"),
        ("rows", "600"),
        ("input", file.as_str()),
        ("other", base.as_str()),
        ("output", as_text(&output)),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(1), &pairs);
    let expected = engine(&output);
    assert_eq!(expected.len(), 5, "{:?}", expected.keys());
    let products = crate::lookups::products().into_iter().map(|product| Product {
        id: product.id,
        region: product.region.to_owned(),
        name: product.name,
        cents: product.cents,
    });
    let products: Vec<Product> = products.collect();
    for (options, restart, told) in ways() {
        let mut tested = started(options, &pairs);
        for name in ["full", "left", "cached", "uncached"] {
            tested.table(name, products.clone());
        }
        for first in (0..600).step_by(50) {
            let event = |index: u64| Event {
                key: index as i64 % 50,
                ..generated(index)
            };
            tested.push_all("events", (first..first + 50).map(event));
            if Some(first) == restart {
                tested.restart();
            }
        }
        tested.finish();
        assert_same(&job(&mut tested), &expected, &told);
    }
}

/// Times that advance by half a ms a row, most within 20 ms of that, some far behind.
fn disorderly(seed: u64, count: i64) -> Vec<Event> {
    let mut random = Random::new(seed);
    let event = |index: i64| {
        let most = if random.below(20) == 0 { 150 } else { 20 };
        let behind = random.below(most);
        Event {
            key: random.below(5),
            value: random.below(1_000) - 500,
            time: index / 2 - behind,
        }
    };
    (0..count).map(event).collect()
}

/// Patterns of every kind, whatever the order in which channels are read, and with a restart in the middle.
#[test]
fn patterns_find_what_they_find_in_the_engine() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [
        ("kind", "patterns"),
        ("rows", "3000"),
        ("output", as_text(folder.path())),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(1), &pairs);
    let expected = engine(folder.path());
    assert!(
        expected.len() > 5 && expected["steps"].len() > 50,
        "{:?}",
        expected.keys()
    );
    for (options, restart, told) in ways() {
        let mut tested = started(options, &pairs);
        for first in (0..3_000).step_by(50) {
            let event = |index: u64| Event {
                key: mix(index) % 97,
                value: index as i64,
                time: index as i64 / 2,
            };
            tested.push_all("events", (first..first + 50).map(event));
            if Some(first) == restart {
                tested.restart();
            }
        }
        tested.finish();
        assert_same(&job(&mut tested), &expected, &told);
    }
}

/// Random rows, some of them late, and many of equal times.
#[test]
fn patterns_of_random_rows_find_what_they_find_in_the_engine() {
    // Which rows are late is up to blocks, and a slow machine cuts a block in two: there blocks are rows.
    for (seed, (disorder, block_rows)) in (1..).zip([("0ms", 1), ("30ms", 1), ("1s", 7), ("1s", 256)]) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let input = folder.path().join("events.ndjson");
        let events = disorderly(seed, 1_500);
        fs::write(&input, ndjson(&events)).expect("temporary file");
        let output = folder.path().join("out");
        let pairs = [
            ("kind", "patterns"),
            ("input", as_text(&input)),
            ("output", as_text(&output)),
            ("disorder", disorder),
        ];
        jobs::succeed(Guest::Flows, blocks_of(block_rows), &pairs);
        let expected = engine(&output);
        let counts: Vec<usize> = expected.values().map(Vec::len).collect();
        assert!(counts.iter().sum::<usize>() > 300 && counts.len() > 5, "{counts:?}");
        for restart in [20, 400] {
            let mut tested = started(Options::new(), &pairs);
            for (number, block) in events.chunks(block_rows).enumerate() {
                tested.push_all("events", block.to_vec());
                if number == restart {
                    tested.restart();
                }
            }
            tested.finish();
            let told = format!("seed {seed}, disorder {disorder}, blocks of {block_rows}, restart {restart}");
            assert_same(&job(&mut tested), &expected, &told);
        }
    }
}

fn ndjson(events: &[Event]) -> String {
    let line = |event: &Event| {
        let Event { key, value, time } = event;
        format!("{{\"key\":{key},\"value\":{value},\"time\":{time}}}\n")
    };
    events.iter().map(line).collect()
}

/// Windows block by block: what is late, and every firing, not only the last one of a window.
#[test]
fn windows_fire_as_in_the_engine_row_by_row() {
    for (seed, (kind, slide)) in (1..).zip([
        ("tumbling", "20ms"),
        ("sliding", "7ms"),
        ("sliding", "33ms"),
        ("session", "3ms"),
        ("session-computed", "3ms"),
        ("session-collected", "3ms"),
        ("guest-tumbling", "20ms"),
        ("guest-sliding", "7ms"),
        ("guest-sliding", "33ms"),
        ("guest-session", "3ms"),
    ]) {
        // A slow machine cuts a block in two, and within the allowed lateness each part fires: there blocks are rows.
        for (lateness, disorder, block_rows) in [
            ("0ms", "0ms", 1),
            ("0ms", "20ms", 7),
            ("15ms", "0ms", 1),
            ("60ms", "10ms", 1),
        ] {
            let folder = tempfile::tempdir().expect("temporary folder");
            let input = folder.path().join("events.ndjson");
            let events = disorderly(seed, 600);
            fs::write(&input, ndjson(&events)).expect("temporary file");
            let output = folder.path().join("out");
            let size = if kind.contains("session") { "3ms" } else { "20ms" };
            let pairs = [
                ("kind", kind),
                ("input", as_text(&input)),
                ("output", as_text(&output)),
                ("size", size),
                ("slide", slide),
                ("offset", "2ms"),
                ("disorder", disorder),
                ("lateness", lateness),
            ];
            jobs::succeed(Guest::Flows, blocks_of(block_rows), &pairs);
            let expected = engine(&output);
            let mut tested = started(Options::new(), &pairs);
            for (number, block) in events.chunks(block_rows).enumerate() {
                tested.push_all("events", block.to_vec());
                if number == 50 {
                    tested.restart();
                }
            }
            tested.finish();
            let told = format!("{kind} by {slide}, lateness {lateness}, disorder {disorder}, blocks of {block_rows}");
            assert_same(&job(&mut tested), &expected, &told);
        }
    }
}
