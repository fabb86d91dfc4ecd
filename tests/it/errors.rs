//! Pipelines that go wrong: each error has its code and names operator and row.
//!
//! `hostile` fails on row 1234 of 5,000, in the second of three operators where there are three.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_core::Fault;
use millrace_engine::{JobOptions, Limits, Loaded, LogLevel};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, check_error, number, options};

const ROW: &str = "row {id: 1234, key: 4, time: 1234}";

/// Small limits, so that what breaks them does so soon.
fn limited() -> JobOptions {
    let limits = Limits {
        memory_bytes: 64 << 20,
        staged_bytes: 4 << 20,
        ..Limits::default()
    };
    JobOptions { limits, ..options() }
}

fn pipeline_error(kind: &str, code: &str, parts: &[&str]) {
    let pairs = [("kind", kind)];
    jobs::fail(Guest::Hostile, limited(), &pairs, code, Fault::Pipeline, parts);
}

/// What never returns, with a deadline that is worth waiting for.
fn endless(kind: &str, parts: &[&str]) {
    let mut options = limited();
    options.limits.call_deadline = Duration::from_millis(500);
    let pairs = [("kind", kind)];
    jobs::fail(Guest::Hostile, options, &pairs, "PL0003", Fault::Pipeline, parts);
}

fn user_error(kind: &str, code: &str, parts: &[&str]) {
    jobs::fail(Guest::Hostile, limited(), &[("kind", kind)], code, Fault::User, parts);
}

#[test]
fn what_does_not_fail_gives_the_right_result() {
    for kind in ["fine", "keyed-fine"] {
        let report = jobs::succeed(Guest::Hostile, limited(), &[("kind", kind)]);
        assert_eq!(number(&report, "out", "rows"), 5_000, "{kind}");
        assert_eq!(number(&report, "out", "sum"), 4_999 * 5_000 / 2, "{kind}");
    }
}

#[test]
fn panics_name_message_operator_and_row() {
    let middle = "operator `middle`, ";
    for (kind, message) in [
        ("panic", "panicked: the answer is not 1234 (at src/stateless.rs:"),
        ("expect", "panicked: a number was promised: ParseIntError"),
        ("overflow", "panicked: attempt to add with overflow"),
        ("divide", "panicked: attempt to divide by zero"),
        (
            "index",
            "panicked: index out of bounds: the len is 3 but the index is 1234",
        ),
    ] {
        pipeline_error(kind, "PL0001", &[&format!("{middle}{ROW}: {message}")]);
    }
}

#[test]
fn panics_in_keyed_functions_and_windows_name_row_or_key() {
    for (kind, parts) in [
        ("process", vec!["operator `watch`, ", ROW, "row 1234 is not welcome"]),
        (
            "timer",
            vec!["operator `watch`, key {key: 4}, timer 1970-01-01T00:00:01.284Z: panicked: the timer of key 4"],
        ),
        ("add", vec!["operator `sums`, ", ROW, "row 1234 does not add up"]),
        (
            "finish",
            vec![
                "operator `sums`, key {key: ",
                "window 1970-01-01T00:00:01.200Z to 1970-01-01T00:00:01.300Z: panicked: no end for the window at 1200",
            ],
        ),
        (
            "sum-overflow",
            vec!["operator `sum`, row {", "the sum of field `id` does not fit its type"],
        ),
        ("computed-key", vec!["operator `before`, ", ROW, "no key for 1234"]),
        ("computed-time", vec!["operator `before`, ", ROW, "no time for 1234"]),
    ] {
        pipeline_error(kind, "PL0001", &parts);
    }
}

#[test]
fn failures_name_the_row_whatever_the_block_size() {
    for block_rows in [1, 7, 1_000] {
        for kind in ["panic", "process", "add"] {
            let options = JobOptions {
                block_rows,
                ..limited()
            };
            jobs::fail(
                Guest::Hostile,
                options,
                &[("kind", kind)],
                "PL0001",
                Fault::Pipeline,
                &[ROW],
            );
        }
    }
}

#[test]
fn failures_before_the_first_row() {
    pipeline_error(
        "open",
        "PL0001",
        &["operator `watch`: panicked: subtask 0 does not open"],
    );
    pipeline_error(
        "state-in-open",
        "PL0001",
        &["operator `watch`: panicked: state belongs to a key"],
    );
    user_error(
        "build-panic",
        "GR0016",
        &["building the dataflow: panicked: no pipeline today"],
    );
    endless("build-loop", &["building the dataflow: did not return within 0.5 s"]);
    user_error(
        "build-error",
        "GR0002",
        &["building the dataflow: the moon is in the wrong phase"],
    );
}

#[test]
fn endless_loops_end_at_the_deadline() {
    let parts = ["operator `middle`, ", ROW, "did not return within 0.5 s", "endless"];
    endless("loop", &parts);
}

#[test]
fn recursion_is_a_stack_overflow() {
    for kind in ["recursion", "flat-recursion"] {
        pipeline_error(
            kind,
            "PL0005",
            &["operator `middle`, ", ROW, "overflowed ", " stack", "recurse"],
        );
    }
}

#[test]
fn memory_is_limited_and_its_end_names_operator_and_row() {
    pipeline_error(
        "bomb",
        "PL0004",
        &["operator `middle`, ", ROW, "over its limit of 64 MiB"],
    );
    let pairs = [("kind", "hoard"), ("rows", "1000000")];
    let parts = [
        "operator `watch`, row {id: ",
        "over its limit of 64 MiB",
        "--parallelism",
    ];
    jobs::fail(Guest::Hostile, limited(), &pairs, "PL0004", Fault::Pipeline, &parts);
}

/// With the default limit, which is all that can be addressed; the memory is not touched, so that this is quick.
#[test]
fn the_end_of_the_address_space_is_a_limit_too() {
    let parts = ["operator `middle`, ", ROW, "needs 4098 MiB, over its limit of 4096 MiB"];
    let pairs = [("kind", "reserve")];
    jobs::fail(Guest::Hostile, options(), &pairs, "PL0004", Fault::Pipeline, &parts);
}

/// `cargo test --release --package millrace-tests -- --ignored`; takes seconds.
#[test]
#[ignore = "fills 4.3 GiB of memory, which not every machine has to spare"]
fn an_instance_full_of_state_names_operator_and_row() {
    let parts = [
        "operator `watch`, row {id: ",
        "over its limit of 4096 MiB",
        "--parallelism",
    ];
    let pairs = [("kind", "hoard"), ("rows", "2000000")];
    jobs::fail(Guest::Hostile, options(), &pairs, "PL0004", Fault::Pipeline, &parts);
}

#[test]
fn a_million_rows_for_one_come_out() {
    let report = jobs::succeed(Guest::Hostile, options(), &[("kind", "million")]);
    assert_eq!(number(&report, "out", "rows"), 1_000_000 + 4_999);
    assert_eq!(number(&report, "out", "sum"), 1_000_000 + 4_999);
}

#[test]
fn more_output_than_a_call_may_stage_is_refused() {
    pipeline_error(
        "flood",
        "PL0006",
        &["operator `many`, ", ROW, "one call put out more than 4 MiB"],
    );
}

#[test]
fn graphs_that_cannot_run() {
    user_error("uids", "GR0005", &["both have the uid `totals`"]);
    user_error("nothing", "GR0004", &["the pipeline has no source"]);
    user_error(
        "window-without-time",
        "GR0010",
        &["operator `late`", "assign it with `watermarks`"],
    );
    user_error("parallelism", "GR0012", &["operator `wide` has parallelism 1000000"]);
    user_error("instances", "GR0012", &["one process holds 160 instances at most"]);
    user_error(
        "unknown-connector",
        "CN0101",
        &["source `items`", "`carrier-pigeon`", "known are: discard"],
    );
    user_error(
        "unknown-option",
        "CN0004",
        &["sink `out`", "there is no option `colour`"],
    );
    user_error(
        "unknown-column",
        "CN0107",
        &["sink `out`", "there is no column `weight`", "id, key, time"],
    );
    user_error("sink-as-source", "CN0102", &["source `items`", "cannot be read"]);
    user_error("no-such-kind", "GR0002", &["there is no kind `no-such-kind`"]);
}

/// Random numbers differ from instance to instance, so a graph made of them does too.
#[test]
fn random_numbers_in_build_are_the_jobs() {
    let name = |seed: u64| {
        let options = JobOptions {
            parallelism: 2,
            seed,
            ..options()
        };
        let report = jobs::succeed(Guest::Hostile, options, &[("kind", "unstable")]);
        assert_eq!(number(&report, "out", "rows"), 5_000);
        let mut names = report.tasks.into_iter().map(|task| task.name);
        names.find(|name| name.starts_with("number ")).expect("the operator")
    };
    // Each instance builds again, and would be refused if it built another graph.
    assert_eq!(name(7), name(7));
    assert_ne!(name(7), name(8));
}

#[test]
fn parameters_that_are_unknown_missing_twice_or_wrong() {
    for (pairs, code, part) in [
        (
            vec![("kind", "fine"), ("colour", "red")],
            "PM0001",
            "there is no parameter `colour`",
        ),
        (
            vec![("row", "7")],
            "PM0002",
            "parameter `kind` (What goes wrong) is required",
        ),
        (
            vec![("kind", "fine"), ("rows", "many")],
            "PM0003",
            "parameter `rows` is `many`",
        ),
        (
            vec![("kind", "fine"), ("kind", "fine")],
            "PM0004",
            "parameter `kind` is given twice",
        ),
    ] {
        jobs::fail(Guest::Hostile, limited(), &pairs, code, Fault::User, &[part]);
    }
}

#[test]
fn files_that_are_missing_unreadable_or_unwritable() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "value\n1\ntwo\n3\n").expect("temporary file");
    let below = file.join("below");
    let (file, below) = (jobs::as_text(&file), jobs::as_text(&below));
    let check = |kind: &str, path: &str, code: &str, fault: Fault, parts: &[&str]| {
        let pairs = [("kind", kind), ("path", path)];
        jobs::fail(Guest::Hostile, limited(), &pairs, code, fault, parts);
    };
    let gone = folder.path().join("no/such*.csv");
    let gone = jobs::as_text(&gone);
    check("read", gone, "IO0101", Fault::External, &["source `items`", gone]);
    check("write", below, "IO0106", Fault::External, &["sink `out`", below]);
    check(
        "dead-letter",
        below,
        "IO0111",
        Fault::External,
        &["operator `careful`", below],
    );
    let row = format!("{file}:3");
    check("read", file, "RW0105", Fault::External, &["`items`", &row, "two"]);
}

#[test]
fn timers_without_number_all_fire() {
    // 20 rows of 10 keys, a thousand timers each; every one fires, in calls of one timer per key at most.
    for rows in ["20", "1000"] {
        let pairs = [("kind", "timers"), ("rows", rows)];
        let report = jobs::succeed(Guest::Hostile, options(), &pairs);
        let rows: i128 = rows.parse().expect("a number");
        assert_eq!(number(&report, "out", "sum"), rows * 1_000);
    }
}

/// All timers are due at the end of the input, and so are those that they set.
#[test]
fn timers_that_set_the_next_for_ever_end_in_an_error() {
    pipeline_error(
        "periodic",
        "KO0003",
        &["task `watch", "timers set timers that are due at once"],
    );
}

#[test]
fn metrics_are_counted_and_limited() {
    let report = jobs::succeed(Guest::Hostile, options(), &[("kind", "some-metrics")]);
    assert_eq!(report.user_metrics.len(), 100);
    assert!(report.user_metrics.iter().all(|metric| metric.value == 5_000.0));
    pipeline_error(
        "metrics",
        "PL0002",
        &["operator `meters`", "failed: more than 1000 metrics are declared"],
    );
}

/// Before each line stands which task and subtask wrote it.
const TALKER: &str = "inspect[0]";

#[test]
fn a_flood_of_log_lines_is_cut_and_says_so() {
    let lines: Arc<Mutex<Vec<(LogLevel, String)>>> = Arc::default();
    let sink = lines.clone();
    let options = JobOptions {
        log: Arc::new(move |level, line| sink.lock().expect("no test panics here").push((level, line.to_owned()))),
        block_rows: 1_000,
        ..options()
    };
    jobs::succeed(Guest::Hostile, options, &[("kind", "log-flood")]);
    let lines = lines.lock().expect("no test panics here");
    let told: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(told[0], format!("{TALKER}: row 0 line 0"));
    let warnings = lines.iter().filter(|(level, _)| *level == LogLevel::Warn);
    let dropped: usize = warnings
        .map(|(_, line)| {
            line.strip_prefix(TALKER)
                .and_then(|line| line.split(' ').nth(1))
                .and_then(|count| count.parse::<usize>().ok())
        })
        .map(|count| count.expect("a warning begins with a number"))
        .sum();
    let shown = told
        .iter()
        .filter(|line| line[TALKER.len()..].starts_with(": row "))
        .count();
    assert!(dropped > 0, "nothing was cut");
    assert_eq!(shown + dropped, 50_000);
}

#[test]
fn a_quiet_job_takes_only_warnings_of_user_code() {
    let lines: Arc<Mutex<Vec<LogLevel>>> = Arc::default();
    let sink = lines.clone();
    let options = JobOptions {
        log: Arc::new(move |level, _| sink.lock().expect("no test panics here").push(level)),
        quiet: true,
        ..options()
    };
    jobs::succeed(Guest::Hostile, options, &[("kind", "log-flood")]);
    let lines = lines.lock().expect("no test panics here");
    assert!(lines.iter().all(|level| *level == LogLevel::Warn), "{lines:?}");
}

#[test]
fn files_that_are_no_pipelines() {
    let check = |bytes: &[u8], code: &str, parts: &[&str]| match Loaded::new(bytes, options()) {
        Ok(_) => panic!("{parts:?} was loaded"),
        Err(error) => check_error(&error, code, Fault::User, parts),
    };
    let raw = Guest::Raw.bytes();
    check(b"", "WM0001", &["the file is empty"]);
    check(b"#!/bin/sh\n", "WM0001", &["not a wasm component"]);
    check(b"\0asm\x01\0\0\0", "WM0001", &["core wasm module", "jobctl build"]);
    check(b"\0asm\x0e\0\x07\0", "WM0001", &["unknown version"]);
    check(&raw[..raw.len() / 2], "WM0001", &["not a valid component"]);
    check(
        &renamed("@0.1.0", "@0.7.0"),
        "WM0003",
        &["millrace:pipeline/dataflow@0.7.0", "@0.1.0"],
    );
    check(
        &renamed("millrace:pipeline/", "sawmills:pipeline/"),
        "WM0002",
        &["does not export `millrace:pipeline"],
    );
    check(
        &renamed("drop-state", "drop-stone"),
        "WM0003",
        &["does not fit", "drop-sta"],
    );
    let clock = "wasi:clocks/monotonic-clocker@0.2.0";
    check(
        &renamed("millrace:pipeline/environment@0.1.0", clock),
        "WM0004",
        &[clock, "no WASI"],
    );
}

/// The raw guest with names changed to others of the same length, which leaves it a valid component.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = Guest::Raw.bytes().to_vec();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from.as_bytes()).then_some(at))
        .collect();
    assert!(!places.is_empty(), "{from} is not in the guest");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Bytes changed anywhere in a component never bring the host down.
#[test]
fn damaged_components_are_refused_or_run() {
    let raw = Guest::Raw.bytes();
    let mut random = millrace_tests::random::Random::new(7);
    for _ in 0..40 {
        let mut bytes = raw.to_vec();
        for _ in 0..3 {
            let at = random.below(bytes.len() as i64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        let options = JobOptions {
            cache: None,
            ..limited()
        };
        let loaded = Loaded::new(&bytes, options).and_then(|loaded| loaded.prepare(&[]));
        if let Ok(prepared) = loaded {
            // Whatever it does, it does it within its limits.
            drop(prepared.start().map(millrace_engine::Job::wait));
        }
    }
}
