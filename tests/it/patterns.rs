//! Patterns of events: killed halfway, on every backend, and what is refused.

use std::fs;

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, options, read_ndjson, task};
use millrace_tests::random::Random;

use crate::every_operator::{kill_twice, outputs};

const SINKS: usize = 8;

#[test]
fn patterns_go_on_at_another_parallelism() {
    kill_twice("patterns", SINKS, &[]);
}

#[test]
fn patterns_go_on_from_unaligned_checkpoints() {
    kill_twice("patterns", SINKS, &["--unaligned-checkpoints"]);
}

#[test]
fn patterns_go_on_with_state_on_disk() {
    kill_twice("patterns", SINKS, &["--state-backend=rocksdb", "--state-cache=1"]);
}

/// What is found does not depend on how rows come, in blocks or one by one.
#[test]
fn blocks_make_no_difference() {
    let run = |block_rows: usize| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let options = jobs::blocks_of(block_rows);
        let pairs = [
            ("kind", "patterns"),
            ("rows", "3000"),
            ("output", as_text(folder.path())),
        ];
        jobs::succeed(Guest::Flows, options, &pairs);
        outputs(folder.path())
    };
    let expected = run(4_096);
    assert!(expected["steps"].len() > 50, "{}", expected["steps"].len());
    assert_eq!(run(1), expected);
    assert_eq!(run(37), expected);
}

/// The newest partial matches of a key are left, and the report counts the others.
#[test]
fn partial_matches_are_bounded_and_counted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [
        ("kind", "pattern-bound"),
        ("rows", "1000"),
        ("keys", "1"),
        ("output", as_text(folder.path())),
    ];
    let report = jobs::succeed(Guest::Flows, options(), &pairs);
    let dropped = task(&report.tasks, "pattern.select").total(|metrics| &metrics.dropped_matches);
    assert_eq!(dropped, 990);
    let found = read_ndjson(folder.path());
    let mut rows = found
        .iter()
        .map(|row| row["rows"].as_str().expect("text"))
        .collect::<Vec<_>>();
    rows.sort_unstable();
    let expected = (989..999).map(|first| format!("a{first} b999"));
    assert!(rows.iter().eq(&expected.collect::<Vec<_>>()), "{rows:?}");
}

/// Rows of a key and of equal time follow each other in the order that the pattern gives them, against sorted rows; whatever the
/// order in which they come.
#[test]
fn rows_of_equal_time_are_in_the_order_of_the_pattern() {
    let mut random = Random::new(7);
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut events: Vec<(i64, i64, i64)> = (0..2_000)
        .map(|value| (random.below(20), value, random.below(60)))
        .collect();
    let mut expected = Vec::new();
    for key in 0..20 {
        let mut own: Vec<_> = events.iter().filter(|event| event.0 == key).collect();
        own.sort_by_key(|(_, value, time)| (*time, -(value * 7919 % 13), *value));
        expected.extend(
            own.windows(2)
                .map(|pair| format!("{key} a{} b{}", pair[0].1, pair[1].1)),
        );
    }
    expected.sort_unstable();
    for (number, options) in [options(), jobs::parallel(2), jobs::blocks_of(1)]
        .into_iter()
        .enumerate()
    {
        let input = folder.path().join(format!("events-{number}.ndjson"));
        let line =
            |(key, value, time): &(i64, i64, i64)| format!("{{\"key\":{key},\"value\":{value},\"time\":{time}}}\n");
        fs::write(&input, events.iter().map(line).collect::<String>()).expect("temporary file");
        let output = folder.path().join(format!("out-{number}"));
        let pairs = [
            ("kind", "pattern-order"),
            ("input", as_text(&input)),
            ("output", as_text(&output)),
            ("disorder", "1s"),
        ];
        jobs::succeed(Guest::Flows, options, &pairs);
        let row = |row: &serde_json::Value| format!("{} {}", row["key"], row["rows"].as_str().expect("text"));
        let mut found: Vec<String> = read_ndjson(&output).iter().map(row).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "run {number}");
        events.reverse();
    }
}

/// Without event time rows are matched as they come, and the clock ends what takes too long.
#[test]
fn the_clock_ends_matches_without_event_time() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [
        ("kind", "pattern-clock"),
        ("rows", "600"),
        ("rate", "500"),
        ("output", as_text(folder.path())),
    ];
    jobs::succeed(Guest::Flows, options(), &pairs);
    let rows = |name: &str| {
        let rows = read_ndjson(&folder.path().join(name));
        let text = rows.iter().map(|row| row["rows"].as_str().expect("text").to_owned());
        text.collect::<Vec<_>>()
    };
    let (found, over) = (rows("found"), rows("over"));
    // What is complete ends with a row that may end it; how many there are is up to the clock.
    assert!(!found.is_empty() && !over.is_empty(), "{found:?} {over:?}");
    let mut begun = std::collections::BTreeSet::new();
    for row in found.iter().chain(&over) {
        let values = row.split(' ').map(|step| step[1..].parse::<i64>().expect("a number"));
        let values = values.collect::<Vec<_>>();
        assert!(
            values[0] % 3 == 0 && values.get(1).is_none_or(|second| *second == values[0] + 1),
            "{row}"
        );
        assert!(begun.insert(values[0]), "{row} is there twice");
    }
    assert!(found.iter().all(|row| row.split(' ').count() == 3), "{found:?}");
    assert!(begun.len() <= 200 && begun.len() > 100, "{}", begun.len());
}
