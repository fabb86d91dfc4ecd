//! Rows that functions and formats refuse: fail, skip, dead letter.

use std::fs;
use std::sync::{Arc, Mutex};

use millrace_core::Fault;
use millrace_engine::{JobOptions, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, number, options, parallel, task};
use serde_json::Value;

use crate::durable::{EXACTLY, Place};

/// Ids from 0 to 4,999; bad are 1234, 2234, 3234, 4234.
const ALL: i128 = 4_999 * 5_000 / 2;
const BAD: i128 = 1_234 + 2_234 + 3_234 + 4_234;

#[test]
fn a_refused_row_fails_the_job_by_default() {
    let parts = [
        "operator `careful` rejected a row: 1234 is a bad number",
        "{id: 1234, key: 4, time: 1234}",
    ];
    jobs::fail(
        Guest::Hostile,
        options(),
        &[("kind", "try-fail")],
        "PL0010",
        Fault::Pipeline,
        &parts,
    );
}

#[test]
fn refused_rows_are_skipped_and_counted() {
    for parallelism in [1, 3] {
        let report = jobs::succeed(Guest::Hostile, parallel(parallelism), &[("kind", "try-skip")]);
        assert_eq!(number(&report, "out", "rows"), 4_996);
        assert_eq!(number(&report, "out", "sum"), ALL - BAD);
        assert_eq!(task(&report.tasks, "careful").total(|metrics| &metrics.rejected), 4);
    }
}

#[test]
fn refused_rows_leave_nothing_behind() {
    let report = jobs::succeed(Guest::Hostile, options(), &[("kind", "try-undo")]);
    // Each row becomes four, a refused one none: neither what came before the error nor what came after.
    assert_eq!(number(&report, "out", "rows"), 4 * 4_996);
    assert_eq!(number(&report, "out", "sum"), 4 * (ALL - BAD));
    // A block that consists of one refused row puts out nothing at all.
    let report = jobs::succeed(Guest::Hostile, jobs::blocks_of(1), &[("kind", "try-undo")]);
    assert_eq!(number(&report, "out", "sum"), 4 * (ALL - BAD));
}

#[test]
fn refused_rows_are_written_down() {
    for parallelism in [1, 2] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("deep/letters.jsonl");
        let pairs = [("kind", "try-dead-letter"), ("path", as_text(&path))];
        let report = jobs::succeed(Guest::Hostile, parallel(parallelism), &pairs);
        assert_eq!(number(&report, "out", "sum"), ALL - BAD);
        let text = fs::read_to_string(&path).expect("the dead-letter file");
        let mut letters: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        letters.sort_by_key(|letter| letter["cause"].to_string());
        assert_eq!(letters.len(), 4);
        assert_eq!(letters[0]["source"], "careful");
        assert_eq!(letters[0]["cause"], "1234 is a bad number");
        assert_eq!(letters[0]["place"], "operator `careful`");
        assert_eq!(letters[0]["raw"], r#"{"id":1234,"key":4,"time":1234}"#);
    }
}

#[test]
fn times_of_refused_rows_are_written_down_and_shown() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("letters.jsonl");
    jobs::succeed(
        Guest::Hostile,
        options(),
        &[("kind", "try-times"), ("path", as_text(&path))],
    );
    let text = fs::read_to_string(&path).expect("the dead-letter file");
    let letter: Value = serde_json::from_str(text.trim()).expect("a line of JSON");
    assert_eq!(letter["raw"], r#"{"id":1234,"at":"1970-01-01T00:00:01.234Z"}"#);
    let parts = ["too late", "row {id: 1234, at: 1970-01-01T00:00:01.234Z}"];
    jobs::fail(
        Guest::Hostile,
        options(),
        &[("kind", "try-times")],
        "PL0001",
        Fault::Pipeline,
        &parts,
    );
}

#[test]
fn timers_that_no_watermark_makes_due_are_warned_about() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = lines.clone();
    let options = JobOptions {
        log: Arc::new(move |_, line| log.lock().expect("no panic").push(line.to_owned())),
        ..options()
    };
    let report = jobs::succeed(Guest::Hostile, options, &[("kind", "later")]);
    assert_eq!(number(&report, "out", "rows"), 1);
    let warning = "it sets event-time timers, but its input has no watermarks: they fire at the end of the input";
    assert_eq!(
        *lines.lock().expect("no panic"),
        [format!("watch → after[0]: {warning}")]
    );
}

#[test]
fn rows_that_do_not_parse_follow_the_policy_of_their_source() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("numbers.csv");
    fs::write(&path, "value\n1\ntwo\n3\n4,4\n5\n").expect("temporary file");
    let path = as_text(&path);

    let report = jobs::succeed(Guest::Hostile, options(), &[("kind", "read-skip"), ("path", path)]);
    assert_eq!(number(&report, "out", "rows"), 3);
    assert_eq!(number(&report, "out", "sum"), 9);
    assert_eq!(task(&report.tasks, "items").total(|metrics| &metrics.rejected), 2);

    jobs::succeed(
        Guest::Hostile,
        options(),
        &[("kind", "read-dead-letter"), ("path", path)],
    );
    let text = fs::read_to_string(format!("{path}.rejected")).expect("the dead-letter file");
    let letters: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["source"], "items");
    assert_eq!(letters[0]["place"], format!("{path}:3"));
    assert_eq!(letters[0]["raw"], "two");
    assert_eq!(letters[1]["place"], format!("{path}:5"));

    // As part of the last checkpoint, appended to what is there.
    let place = Place::new();
    let options = place.options(1, EXACTLY, Restore::Nothing);
    jobs::succeed(Guest::Hostile, options, &[("kind", "read-dead-letter"), ("path", path)]);
    let again = fs::read_to_string(format!("{path}.rejected")).expect("the dead-letter file");
    assert_eq!(again, format!("{text}{text}"));
}
