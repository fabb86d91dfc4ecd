//! The same results at any parallelism, over every kind of edge.

use std::collections::BTreeMap;

use millrace_core::Fault;
use millrace_engine::JobOptions;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, number, parallel, read_ndjson, task, text};
use millrace_tests::random::mix;

const PARALLELISM: [u32; 4] = [1, 2, 3, 4];

/// Runs a workload of the benchmarks and gives rows and sum.
fn bench(workload: &str, parallelism: u32, rows: u64, keys: u64) -> (i128, i128) {
    let (rows, keys) = (rows.to_string(), keys.to_string());
    let pairs = [
        ("workload", workload),
        ("rows", &rows),
        ("keys", &keys),
        ("per_ms", "1"),
    ];
    let report = jobs::succeed(Guest::Bench, parallel(parallelism), &pairs);
    (number(&report, "out", "rows"), number(&report, "out", "sum"))
}

fn check(workload: &str, rows: u64, keys: u64, expect: (i128, i128)) {
    for parallelism in PARALLELISM {
        let got = bench(workload, parallelism, rows, keys);
        assert_eq!(got, expect, "{workload} at parallelism {parallelism}");
    }
}

/// Key, value and time in ms of event i, at one event per ms.
fn events(rows: u64, keys: u64) -> impl Iterator<Item = (u64, i128, i128)> {
    (0..rows).map(move |index| (mix(index) % keys, i128::from(index % 1_000), i128::from(index)))
}

/// Number of windows and sum over all of them, for windows of that size and slide.
fn windows(rows: u64, keys: u64, size: i128, slide: i128) -> (i128, i128) {
    let mut sums = BTreeMap::<(u64, i128), i128>::new();
    for (key, value, time) in events(rows, keys) {
        let mut start = time.div_euclid(slide) * slide;
        while start > time - size {
            *sums.entry((key, start)).or_default() += value;
            start -= slide;
        }
    }
    (sums.len() as i128, sums.values().sum())
}

#[test]
fn stateless() {
    let mapped = events(30_000, 10).map(|(_, value, _)| value * 31 + 7);
    let kept: Vec<i128> = mapped.filter(|value| value % 3 != 0).collect();
    check("stateless", 30_000, 10, (kept.len() as i128, kept.iter().sum()));
}

#[test]
fn tumbling_windows() {
    check("tumbling", 50_000, 97, windows(50_000, 97, 10_000, 10_000));
}

#[test]
fn sliding_windows() {
    check("sliding", 50_000, 97, windows(50_000, 97, 60_000, 5_000));
}

#[test]
fn sessions() {
    let mut last = BTreeMap::<u64, i128>::new();
    let (mut sessions, mut sum) = (0, 0);
    for (key, value, time) in events(50_000, 997) {
        let gap = last.insert(key, time).is_none_or(|before| time - before > 1_000);
        sessions += i128::from(gap);
        sum += value;
    }
    check("session", 50_000, 997, (sessions, sum));
}

#[test]
fn timers_count_every_event_once() {
    for parallelism in PARALLELISM {
        let (firings, sum) = bench("timer", parallelism, 50_000, 97);
        assert_eq!(sum, 50_000, "at parallelism {parallelism}");
        // Every 10 s, and as much later as watermarks come in big steps.
        assert!(
            firings >= 97 * 2,
            "{firings} firings in 50 s at parallelism {parallelism}"
        );
    }
}

#[test]
fn keyed_puts_out_a_row_for_each() {
    let mut sums = BTreeMap::<u64, i128>::new();
    let running = events(30_000, 97).map(|(key, value, _)| {
        let sum = sums.entry(key).or_default();
        *sum += value;
        *sum
    });
    let running: i128 = running.sum();
    assert_eq!(bench("keyed", 1, 30_000, 97), (30_000, running));
    // Between subtasks the order of a key's rows is open, and so are all but its last sum.
    // 128 is the widest that the default max parallelism allows.
    for parallelism in [2, 3, 4, 128] {
        assert_eq!(bench("keyed", parallelism, 30_000, 97).0, 30_000);
    }
}

#[test]
fn the_last_sum_of_each_key_is_its_total() {
    let mut expect = BTreeMap::<i64, (usize, i64)>::new();
    for index in 0..3_000u64 {
        let total = expect.entry((mix(index) % 50) as i64).or_default();
        *total = (total.0 + 1, total.1 + (index % 1_000) as i64);
    }
    for parallelism in PARALLELISM {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pairs = [
            ("kind", "running"),
            ("rows", "3000"),
            ("output", as_text(folder.path())),
        ];
        jobs::succeed(Guest::Flows, parallel(parallelism), &pairs);
        let mut got = BTreeMap::<i64, (usize, i64)>::new();
        for row in read_ndjson(&folder.path().join("sums")) {
            let key = row["key"].as_i64().expect("a key");
            let total = got.entry(key).or_default();
            *total = (total.0 + 1, total.1.max(row["value"].as_i64().expect("a sum")));
        }
        assert_eq!(got, expect, "at parallelism {parallelism}");
    }
}

/// Rows, sum and checksum over all columns, which does not depend on the order.
fn edges(kind: &str, parallelism: u32) -> (i128, i128, String) {
    let report = jobs::succeed(Guest::Flows, parallel(parallelism), &[("kind", kind), ("rows", "5000")]);
    (
        number(&report, "out", "rows"),
        number(&report, "out", "sum"),
        text(&report, "out", "checksum"),
    )
}

#[test]
fn edges_of_all_kinds_lose_and_repeat_nothing() {
    let values: i128 = (0..5_000).map(|index| index % 1_000).sum();
    let once = ["forward", "widths", "global", "rescale", "shuffle", "custom", "chains"].map(|kind| (kind, 1));
    for (kind, times) in once.into_iter().chain([("broadcast", 3)]) {
        let first = edges(kind, 1);
        assert_eq!((first.0, first.1), (5_000 * times, values * times), "{kind}");
        for parallelism in [2, 3, 4] {
            assert_eq!(edges(kind, parallelism), first, "{kind} at {parallelism}");
        }
    }
}

#[test]
fn keys_of_all_kinds_bring_rows_of_a_key_together() {
    // A count per row that depends on no order: each key's counts are 1, 2, 3 and so on.
    let counted = |keys: Vec<u64>| {
        let mut counts = BTreeMap::<u64, i128>::new();
        keys.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
        counts.values().map(|count| count * (count + 1) / 2).sum::<i128>()
    };
    let keys: Vec<u64> = (0..5_000).map(|index| mix(index) % 50).collect();
    let computed = keys.iter().map(|key| key % 7 * 3 + key % 3).collect();
    let labels = keys.iter().map(|key| key % 7).collect();
    let twice = keys.iter().chain(&keys).copied().collect();
    for (kind, rows, sum) in [
        ("computed", 5_000, counted(computed)),
        ("fields", 5_000, counted(labels)),
        ("diamond", 10_000, counted(twice)),
    ] {
        let first = edges(kind, 1);
        assert_eq!((first.0, first.1), (rows, sum), "{kind}");
        for parallelism in [2, 3, 4] {
            assert_eq!(edges(kind, parallelism), first, "{kind} at {parallelism}");
        }
    }
}

#[test]
fn global_rows_all_meet_in_the_first_subtask() {
    let report = jobs::succeed(Guest::Flows, parallel(3), &[("kind", "global"), ("rows", "5000")]);
    let rows: Vec<u64> = task(&report.tasks, "alone")
        .subtasks
        .iter()
        .map(|subtask| subtask.rows_in.get())
        .collect();
    assert_eq!(rows, [5_000, 0, 0]);
}

/// Rows in of each subtask of a task, at parallelism 3 unless it says otherwise.
fn shares(kind: &str, name: &str) -> Vec<u64> {
    let options = JobOptions {
        parallelism: 3,
        ..jobs::blocks_of(50)
    };
    let report = jobs::succeed(Guest::Flows, options, &[("kind", kind), ("rows", "5000")]);
    let subtasks = &task(&report.tasks, name).subtasks;
    subtasks.iter().map(|subtask| subtask.rows_in.get()).collect()
}

#[test]
fn rows_go_to_the_subtask_that_is_said_or_drawn() {
    // Numbers 1 and 5 are those of the second and third of three.
    assert_eq!(shares("custom", "told"), [0, 3_000, 2_000]);
    let mixed = shares("shuffle", "mixed");
    assert!(mixed.iter().all(|share| (1_500..1_850).contains(share)), "{mixed:?}");
    let (more, fewer) = (shares("rescale", "more"), shares("rescale", "fewer"));
    assert_eq!((more.len(), fewer.len()), (4, 2));
    assert!(more.iter().all(|share| *share > 0), "{more:?}");
}

/// With as many subtasks on both sides; else the job is refused.
#[test]
fn rows_stay_in_their_subtask_or_not_at_all() {
    let options = JobOptions {
        parallelism: 2,
        ..jobs::blocks_of(50)
    };
    let report = jobs::succeed(Guest::Flows, options, &[("kind", "staying"), ("rows", "5030")]);
    let rows = |name: &str| {
        let subtasks = task(&report.tasks, name).subtasks.iter();
        subtasks.map(|subtask| subtask.rows_in.get()).collect::<Vec<_>>()
    };
    assert_eq!(rows("two").iter().sum::<u64>(), 5_030);
    assert_eq!(rows("two"), rows("as many"));
    assert!(rows("two").iter().all(|rows| *rows > 0));
    let parts = ["`two`, of parallelism 2", "`as many`, of parallelism 3", "`forward`"];
    jobs::fail(
        Guest::Flows,
        parallel(3),
        &[("kind", "staying")],
        "GR0023",
        Fault::User,
        &parts,
    );
}

#[test]
fn chains_begin_where_they_are_told_to() {
    let report = jobs::succeed(Guest::Flows, parallel(2), &[("kind", "chains"), ("rows", "5000")]);
    let names: Vec<&str> = report.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["events", "first", "second → third", "fourth", "fifth", "out"]);
}

#[test]
fn every_subtask_of_a_keyed_operator_has_its_share() {
    let report = jobs::succeed(Guest::Flows, parallel(2), &[("kind", "computed"), ("rows", "5000")]);
    let count = task(&report.tasks, "count");
    assert_eq!(count.subtasks.len(), 3, "it asks for three");
    assert!(count.subtasks.iter().all(|subtask| subtask.rows_in.get() > 0));
}

/// Tiny blocks between many threads: every sleep and wake-up that there can be.
#[test]
fn nobody_waits_for_ever() {
    for round in 0..30 {
        for kind in ["diamond", "widths", "computed"] {
            let options = JobOptions {
                parallelism: 2 + round % 3,
                ..jobs::blocks_of(1)
            };
            let report = jobs::succeed(Guest::Flows, options, &[("kind", kind), ("rows", "200")]);
            let rows = if kind == "diamond" { 400 } else { 200 };
            assert_eq!(number(&report, "out", "rows"), rows, "{kind}");
        }
    }
}

/// Keys whose state was cleared and whose timers have fired take no slot.
#[test]
fn nothing_is_kept_when_all_has_fired() {
    for workload in ["timer", "tumbling", "sliding", "session"] {
        let pairs = [
            ("workload", workload),
            ("rows", "20000"),
            ("keys", "97"),
            ("per_ms", "1"),
        ];
        let report = jobs::succeed(Guest::Bench, parallel(2), &pairs);
        for task in &report.tasks {
            assert_eq!(
                task.total(|metrics| &metrics.state_slots),
                0,
                "{workload}: {}",
                task.name
            );
        }
    }
}
