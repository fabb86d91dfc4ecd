//! Event time over several inputs: each has its watermark, the least of them counts, idle ones do not.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_engine::JobOptions;
use millrace_engine::metrics::TaskMetrics;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, number, parallel, read_ndjson, start, task, wait_until};
use millrace_tests::random::Random;

/// Rows of one file: times ascend from `first` by up to `step` ms.
fn ascending(seed: u64, count: usize, first: i64, step: i64) -> Vec<(i64, i64)> {
    let mut random = Random::new(seed);
    let mut time = first;
    let row = |_| {
        time += random.below(step + 1);
        (random.below(4), time)
    };
    (0..count).map(row).collect()
}

fn write(path: &Path, rows: &[(i64, i64)]) {
    fs::write(path, lines(rows)).expect("temporary file");
}

fn append(path: &Path, rows: &[(i64, i64)]) {
    let mut file = fs::File::options().append(true).open(path).expect("a file");
    file.write_all(lines(rows).as_bytes()).expect("temporary file");
}

fn lines(rows: &[(i64, i64)]) -> String {
    let line = |(key, time): &(i64, i64)| format!("{{\"key\":{key},\"value\":1,\"time\":{time}}}\n");
    rows.iter().map(line).collect()
}

/// Rows per key and tumbling window of 10 ms.
fn counts<'r>(rows: impl IntoIterator<Item = &'r (i64, i64)>) -> BTreeMap<(i64, i64), i64> {
    let mut counts = BTreeMap::new();
    for (key, time) in rows {
        *counts.entry((*key, time.div_euclid(10) * 10)).or_default() += 1;
    }
    counts
}

fn results(output: &Path) -> BTreeMap<(i64, i64), i64> {
    let rows = read_ndjson(&output.join("results"));
    let number = |row: &serde_json::Value, name: &str| row[name].as_i64().expect("a number");
    let results: BTreeMap<_, _> = rows
        .iter()
        .map(|row| ((number(row, "key"), number(row, "start")), number(row, "count")))
        .collect();
    assert_eq!(results.len(), rows.len(), "each window fires once");
    results
}

/// Two sorted inputs, one of which is far behind the other: nothing is late, for the slower one counts.
#[test]
fn the_slowest_of_two_inputs_counts() {
    let (ahead, behind) = (ascending(1, 600, 50_000, 5), ascending(2, 900, 0, 3));
    let folder = tempfile::tempdir().expect("temporary folder");
    let (first, second) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    write(&first, &ahead);
    write(&second, &behind);
    for (parallelism, block_rows) in [(1, 1), (1, 7), (2, 7), (3, 1_000)] {
        let output = folder.path().join(format!("out-{parallelism}-{block_rows}"));
        let options = JobOptions {
            parallelism,
            ..jobs::blocks_of(block_rows)
        };
        let pairs = [
            ("kind", "union"),
            ("input", as_text(&first)),
            ("other", as_text(&second)),
            ("output", as_text(&output)),
        ];
        let report = jobs::succeed(Guest::Flows, options, &pairs);
        assert_eq!(results(&output), counts(ahead.iter().chain(&behind)));
        assert_eq!(task(&report.tasks, "windows").total(|metrics| &metrics.late), 0);
    }
}

/// Files are splits, each with its own watermark: files that are sorted each for itself make no late rows,
/// though one begins where the other ends, however many subtasks share them.
#[test]
fn every_split_has_its_own_watermark() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let input = folder.path().join("in");
    fs::create_dir(&input).expect("temporary folder");
    let files: Vec<Vec<(i64, i64)>> = (0..5)
        .map(|file| ascending(file as u64 + 10, 300, file * 1_000, 6))
        .collect();
    for (index, rows) in files.iter().enumerate() {
        write(&input.join(format!("{index}.ndjson")), rows);
    }
    for parallelism in [1, 2, 3] {
        for block_rows in [1, 50] {
            let output = folder.path().join(format!("out-{parallelism}-{block_rows}"));
            let options = JobOptions {
                parallelism,
                ..jobs::blocks_of(block_rows)
            };
            let pairs = [
                ("kind", "tumbling"),
                ("input", as_text(&input)),
                ("output", as_text(&output)),
            ];
            let report = jobs::succeed(Guest::Flows, options, &pairs);
            assert_eq!(task(&report.tasks, "windows").total(|metrics| &metrics.late), 0);
            assert_eq!(results(&output), counts(files.iter().flatten()));
        }
    }
}

/// Rows out of order within the bound are never late, at any parallelism.
#[test]
fn disorder_within_the_bound_is_no_lateness() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut random = Random::new(99);
    let rows: Vec<(i64, i64)> = (0..2_000)
        .map(|index| (random.below(4), index - random.below(50)))
        .collect();
    let input = folder.path().join("rows.ndjson");
    write(&input, &rows);
    for parallelism in [1, 2, 4] {
        let output = folder.path().join(format!("out-{parallelism}"));
        let options = JobOptions {
            block_rows: 13,
            ..parallel(parallelism)
        };
        let pairs = [
            ("kind", "tumbling"),
            ("input", as_text(&input)),
            ("output", as_text(&output)),
            ("disorder", "50ms"),
        ];
        jobs::succeed(Guest::Flows, options, &pairs);
        assert_eq!(results(&output), counts(&rows));
    }
}

/// An input that stands still holds up the other one until it counts as idle.
#[test]
fn an_idle_input_holds_up_nobody() {
    for parallelism in [1, 2] {
        let pairs = [("kind", "sleepy"), ("idle", "20ms")];
        let job = start(Guest::Flows, parallel(parallelism), &pairs);
        wait_until("windows fire", || {
            task(job.tasks(), "out").total(|metrics| &metrics.rows_in) > 10
        });
        job.stop();
        job.wait().expect("a stopped job succeeds");
    }
    let job = start(Guest::Flows, parallel(1), &[("kind", "sleepy")]);
    wait_until("both inputs gave rows", || {
        task(job.tasks(), "windows").total(|metrics| &metrics.rows_in) > 300
            && task(job.tasks(), "seldom").total(|metrics| &metrics.rows_in) > 0
    });
    job.stop();
    let report = job.wait().expect("a stopped job succeeds");
    assert_eq!(
        number(&report, "out", "rows"),
        0,
        "the sleepy input holds up all windows"
    );
}

/// A split that gives nothing holds up nobody either, though another of its subtask always has rows.
#[test]
fn an_idle_split_beside_a_busy_one_holds_up_nobody() {
    const ROWS: usize = 400_000;
    let folder = tempfile::tempdir().expect("temporary folder");
    write(&folder.path().join("busy.ndjson"), &ascending(31, ROWS, 1_000, 5));
    write(&folder.path().join("quiet.ndjson"), &[(0, 0)]);
    let pairs = [("kind", "live"), ("input", as_text(folder.path())), ("idle", "20ms")];
    let options = JobOptions {
        parallelism: 1,
        ..jobs::blocks_of(1)
    };
    let job = start(Guest::Flows, options, &pairs);
    wait_until("windows fire", || {
        task(job.tasks(), "out").total(|metrics| &metrics.rows_in) > 0
    });
    let read = task(job.tasks(), "windows").total(|metrics| &metrics.rows_in);
    assert!(read < ROWS as u64, "not before the busy one was read");
    job.stop();
    job.wait().expect("a stopped job succeeds");
}

/// Splits whose times follow each other, which turn up together: no subtask is ahead of those that another is about to get.
#[test]
fn splits_that_turn_up_together_are_not_late() {
    const FILES: usize = 7;
    let rows = ascending(33, FILES * 3_000, 0, 3);
    let pieces: Vec<&[(i64, i64)]> = rows.chunks(3_000).collect();
    for parallelism in [2, 3] {
        let options = |block_rows| JobOptions {
            parallelism,
            ..jobs::blocks_of(block_rows)
        };
        let late = |tasks: &[TaskMetrics]| task(tasks, "windows").total(|metrics| &metrics.late);
        // All files of the second source are there as soon as the first has ended.
        let folder = tempfile::tempdir().expect("temporary folder");
        let (first, then) = (folder.path().join("first.ndjson"), folder.path().join("then"));
        fs::create_dir(&then).expect("a folder");
        write(&first, pieces[0]);
        for (number, piece) in pieces.iter().enumerate().skip(1) {
            write(&then.join(format!("{number}.ndjson")), piece);
        }
        let pairs = [
            ("kind", "unfolding"),
            ("version", "hybrid"),
            ("input", as_text(&first)),
            ("other", as_text(&then)),
        ];
        let report = jobs::succeed(Guest::Flows, options(50), &pairs);
        assert_eq!(late(&report.tasks), 0, "hybrid, {parallelism}");
        assert_eq!(number(&report, "out", "rows"), counts(&rows).len() as i128);
        // Files that come into a folder at once.
        let (folder, outside) = (folder.path().join("watched"), folder.path().join("outside"));
        fs::create_dir(&outside).expect("a folder");
        for (number, piece) in pieces.iter().enumerate() {
            write(&outside.join(format!("{number}.ndjson")), piece);
        }
        fs::create_dir(&folder).expect("a folder");
        let pairs = [("kind", "unfolding"), ("input", as_text(&folder))];
        let job = start(Guest::Flows, options(50), &pairs);
        for number in 0..FILES {
            let name = format!("{number}.ndjson");
            fs::rename(outside.join(&name), folder.join(&name)).expect("a file");
        }
        wait_until("all is read", || {
            task(job.tasks(), "windows").total(|metrics| &metrics.rows_in) == rows.len() as u64
        });
        assert_eq!(late(job.tasks()), 0, "watched, {parallelism}");
        job.stop();
        job.wait().expect("a stopped job succeeds");
    }
}

/// Windows end as the clock says, though nothing comes any more; what comes behind it is late.
#[test]
fn event_time_goes_on_behind_the_clock() {
    for parallelism in [1, 2] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let input = folder.path().join("rows.ndjson");
        let old = (9, 0);
        write(&input, &[old]);
        let pairs = [("kind", "live"), ("input", as_text(&input)), ("disorder", "3s")];
        let job = start(Guest::Flows, parallel(parallelism), &pairs);
        let windows = || task(job.tasks(), "windows");
        wait_until("the job reads", || windows().total(|metrics| &metrics.rows_in) == 1);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        let rows = ascending(32, 300, since_1970.as_millis() as i64, 9);
        append(&input, &rows);
        let fired = counts(rows.iter().chain([&old])).len() as u64;
        wait_until("all windows fire", || {
            task(job.tasks(), "out").total(|metrics| &metrics.rows_in) == fired
        });
        append(&input, &[old]);
        wait_until("a row is late", || windows().total(|metrics| &metrics.late) == 1);
        job.stop();
        let report = job.wait().expect("a stopped job succeeds");
        assert_eq!(number(&report, "out", "rows"), i128::from(fired));
    }
}

/// Timers of the clock on the wall fire while rows come, never early (the guest checks that).
#[test]
fn processing_time_timers_fire() {
    for parallelism in [1, 2] {
        let job = start(Guest::Flows, parallel(parallelism), &[("kind", "alarms")]);
        wait_until("timers fire", || {
            task(job.tasks(), "out").total(|metrics| &metrics.rows_in) > 20
        });
        job.stop();
        let report = job.wait().expect("a stopped job succeeds");
        let rows = task(&report.tasks, "alarms").total(|metrics| &metrics.rows_in);
        assert!(
            number(&report, "out", "rows") <= i128::from(rows),
            "at most one firing for a row"
        );
    }
}

/// Sources in one group, one of which is far ahead: it waits until the other has ended, and the result is the same. Nobody
/// waits for ever, whoever reads first.
#[test]
fn sources_that_wait_for_each_other_come_to_the_end() {
    let (ahead, behind) = (ascending(21, 600, 50_000, 5), ascending(22, 900, 0, 3));
    let folder = tempfile::tempdir().expect("temporary folder");
    let (first, second) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    write(&first, &ahead);
    write(&second, &behind);
    for (parallelism, block_rows, drift) in [(1, 1, "1ms"), (1, 7, "100ms"), (2, 7, "1s"), (3, 50, "1ms")] {
        let output = folder.path().join(format!("aligned-{parallelism}-{block_rows}"));
        let options = JobOptions {
            parallelism,
            ..jobs::blocks_of(block_rows)
        };
        let pairs = [
            ("kind", "union"),
            ("input", as_text(&first)),
            ("other", as_text(&second)),
            ("output", as_text(&output)),
            ("drift", drift),
        ];
        let report = jobs::succeed(Guest::Flows, options, &pairs);
        assert_eq!(results(&output), counts(ahead.iter().chain(&behind)));
        assert_eq!(task(&report.tasks, "windows").total(|metrics| &metrics.late), 0);
    }
}

/// A fast source is never further ahead of a slow one than it may be, but for the block in which it comes there; and it
/// makes use of that.
#[test]
fn a_source_that_is_ahead_waits() {
    let pairs = [
        ("kind", "aligned"),
        ("rows", "1000000"),
        ("rate", "500"),
        ("drift", "100ms"),
    ];
    let job = start(Guest::Flows, jobs::blocks_of(10), &pairs);
    let read = |name: &str| task(job.tasks(), name).total(|metrics| &metrics.rows_in);
    wait_until("the slow source has come some way", || {
        let fast = read("fast");
        let slow = read("slow");
        assert!(fast <= slow + 100 + 10, "{fast} and {slow} rows");
        slow > 300
    });
    wait_until("the fast source is ahead", || read("fast") > read("slow") + 50);
    job.stop();
    job.wait().expect("a stop is no failure");
}

/// Rows that say how far event time has come: a window fires when one says so, and rows behind it are late.
#[test]
fn rows_say_the_watermark() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let input = folder.path().join("rows.ndjson");
    // Of key 1 in time, of key 2 behind the mark that ends its window; the largest time alone says nothing.
    let rows = [
        (1, 5, None),
        (1, 95, None),
        (1, 7, Some(9)),
        (2, 8, None),
        (2, 12, None),
        (1, 11, Some(3)),
    ];
    let line = |(key, time, mark): &(i64, i64, Option<i64>)| {
        let mark = mark.map_or("null".to_owned(), |mark| mark.to_string());
        format!("{{\"key\":{key},\"value\":1,\"time\":{time},\"mark\":{mark}}}\n")
    };
    fs::write(&input, rows.iter().map(line).collect::<String>()).expect("temporary file");
    for kind in ["punctuated", "punctuated-computed", "punctuated-both"] {
        let output = folder.path().join(kind);
        let pairs = [("kind", kind), ("input", as_text(&input)), ("output", as_text(&output))];
        jobs::succeed(Guest::Flows, jobs::blocks_of(1), &pairs);
        let expected = BTreeMap::from([((1, 0), 2), ((1, 10), 1), ((1, 90), 1), ((2, 10), 1)]);
        assert_eq!(results(&output), expected, "{kind}");
        let late = read_ndjson(&output.join("late"));
        let late: Vec<Option<i64>> = late.iter().map(|row| row["time"].as_i64()).collect();
        assert_eq!(late, [Some(8)], "{kind}");
    }
}

/// A row of key, time and what it says of the watermark.
type Marked = (i64, i64, Option<i64>);

/// Times that advance by some ms a row, out of order by up to fifty; every fourth says a watermark.
fn marked(seed: u64, count: i64) -> Vec<Marked> {
    let mut random = Random::new(seed);
    let row = |index: i64| {
        let time = index * 2 - random.below(50);
        let mark = (random.below(4) == 0).then(|| index * 2 - random.below(60));
        (random.below(4), time, mark)
    };
    (0..count).map(row).collect()
}

/// What a generator says of the last of these rows: behind the latest of them by as much as the last ones were out of order,
/// nothing each third time.
fn lagging(rows: &[Marked]) -> Option<i64> {
    let (mut latest, mut behind) = (i64::MIN, 0);
    for (_, time, _) in rows {
        latest = latest.max(*time);
        behind = (latest - time).max(behind - 2);
    }
    (!rows.len().is_multiple_of(3)).then_some(latest - behind)
}

/// Rows in time and late ones, row by row.
fn in_time(rows: &[Marked], is_generated: bool) -> (Vec<(i64, i64)>, Vec<i64>) {
    let (mut taken, mut late, mut watermark) = (Vec::new(), Vec::new(), i64::MIN);
    for (index, &(key, time, mark)) in rows.iter().enumerate() {
        match time.div_euclid(10) * 10 + 9 <= watermark {
            true => late.push(time),
            false => taken.push((key, time)),
        }
        let said = if is_generated { lagging(&rows[..=index]) } else { mark };
        watermark = said.map_or(watermark, |said| said.max(watermark));
    }
    late.sort_unstable();
    (taken, late)
}

/// Watermarks that random rows say, against a model that looks at one row after the other.
#[test]
fn random_rows_say_the_watermark() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for seed in 31..34 {
        let rows = marked(seed, 600);
        let input = folder.path().join(format!("rows-{seed}.ndjson"));
        let line = |(key, time, mark): &Marked| {
            let mark = mark.map_or("null".to_owned(), |mark| mark.to_string());
            format!("{{\"key\":{key},\"value\":1,\"time\":{time},\"mark\":{mark}}}\n")
        };
        fs::write(&input, rows.iter().map(line).collect::<String>()).expect("temporary file");
        for kind in [
            "punctuated",
            "punctuated-computed",
            "punctuated-both",
            "punctuated-generator",
        ] {
            let (taken, late) = in_time(&rows, kind == "punctuated-generator");
            assert!(late.len() > 10 && taken.len() > 100, "{} late rows", late.len());
            let output = folder.path().join(format!("{kind}-{seed}"));
            let pairs = [("kind", kind), ("input", as_text(&input)), ("output", as_text(&output))];
            jobs::succeed(Guest::Flows, jobs::blocks_of(1), &pairs);
            assert_eq!(results(&output), counts(&taken), "{kind}, seed {seed}");
            let got = read_ndjson(&output.join("late"));
            let mut got: Vec<i64> = got.iter().filter_map(|row| row["time"].as_i64()).collect();
            got.sort_unstable();
            assert_eq!(got, late, "late rows of {kind}, seed {seed}");
        }
    }
}

/// One timer of a key for each multiple, whatever rows ask for it.
#[test]
fn coalesced_timers_fire_once_for_many_rows() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut random = Random::new(41);
    let rows: Vec<(i64, i64)> = (0..2_000)
        .map(|index| (random.below(4), index - random.below(50)))
        .collect();
    let input = folder.path().join("rows.ndjson");
    write(&input, &rows);
    for (each, parallelism, block_rows) in [(1, 1, 13), (10, 2, 1), (64, 3, 7), (1_000, 1, 1_000)] {
        let output = folder.path().join(format!("coalesced-{each}"));
        let options = JobOptions {
            parallelism,
            ..jobs::blocks_of(block_rows)
        };
        let size = format!("{each}ms");
        let pairs = [
            ("kind", "coalesced"),
            ("input", as_text(&input)),
            ("output", as_text(&output)),
            ("disorder", "50ms"),
            ("size", size.as_str()),
        ];
        jobs::succeed(Guest::Flows, options, &pairs);
        let multiple = |time: i64| (time..).find(|time| time.rem_euclid(each) == 0).expect("one of them");
        let expected: BTreeMap<(i64, i64), i64> =
            rows.iter().map(|(key, time)| ((*key, multiple(time + 5)), 1)).collect();
        assert_eq!(results(&output), expected, "each {each} ms");
    }
}

/// No row is late by the time at which it was read, at any parallelism.
#[test]
fn rows_have_the_time_at_which_they_are_read() {
    let rows = ascending(23, 2_000, 0, 3);
    let folder = tempfile::tempdir().expect("temporary folder");
    let input = folder.path().join("rows.ndjson");
    write(&input, &rows);
    for parallelism in [1, 3] {
        let output = folder.path().join(format!("ingested-{parallelism}"));
        let pairs = [
            ("kind", "ingestion"),
            ("input", as_text(&input)),
            ("output", as_text(&output)),
        ];
        let report = jobs::succeed(Guest::Flows, parallel(parallelism), &pairs);
        let counted: Vec<_> = results(&output)
            .into_iter()
            .map(|((key, _), count)| (key, count))
            .collect();
        let expected = (0..4).map(|key| (key, rows.iter().filter(|row| row.0 == key).count() as i64));
        assert_eq!(counted, expected.collect::<Vec<_>>());
        assert_eq!(task(&report.tasks, "windows").total(|metrics| &metrics.late), 0);
    }
}
