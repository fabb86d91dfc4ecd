//! Operators of two inputs against naive models, and killed halfway.
//!
//! The models have all rows at once: rows are out of order, but none is late, so results depend on nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millrace_engine::JobOptions;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, JobMetrics, as_text, blocks_of, parallel, read_ndjson};
use millrace_tests::random::Random;
use serde_json::{Value, json};

use crate::durable::{Place, assert_same};
use crate::every_operator::{kill_twice, outputs};
use crate::savepoint::{from, from_nothing, save_job};

const SINKS: usize = 24;

#[test]
fn two_inputs_go_on_at_another_parallelism() {
    kill_twice("two-inputs", SINKS, &[]);
}

#[test]
fn two_inputs_go_on_from_unaligned_checkpoints() {
    kill_twice("two-inputs", SINKS, &["--unaligned-checkpoints"]);
}

/// Checkpoints go on while sources wait for each other, and so does a restart.
#[test]
fn two_inputs_that_wait_for_each_other_go_on() {
    kill_twice("two-inputs", SINKS, &["--param=drift=20ms"]);
}

/// Of broadcast state a savepoint has one copy, which all subtasks get.
#[test]
fn two_inputs_go_on_from_a_savepoint() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = |output, rate| {
        let disorder = ("disorder", "4s");
        [
            ("kind", "two-inputs"),
            ("rows", "6000"),
            disorder,
            ("rate", rate),
            ("output", output),
        ]
    };
    jobs::succeed(Guest::Flows, parallel(1), &pairs(as_text(folder.path()), "0"));
    let expected = outputs(folder.path());
    let place = Place::new();
    let output = place.output();
    for (parallelism, rate) in [(2, "3000"), (3, "0")] {
        let options = match rate {
            "0" => from(&place, &save_job(&place, "two-inputs", "savepoint"), parallelism, false),
            _ => from_nothing(&place, parallelism),
        };
        let job = jobs::start(Guest::Flows, options, &pairs(as_text(&output), rate));
        if rate != "0" {
            jobs::wait_until("rows are read", || {
                JobMetrics(job.tasks()).rows_in("broadcast_process") > 3_000
            });
            job.stop();
        }
        job.wait().expect("a stop is no failure");
    }
    let got = outputs(&output);
    assert!(got.keys().eq(expected.keys()), "{:?}", got.keys());
    for (name, rows) in &got {
        eprintln!("{name}");
        assert_same(rows, &expected[name]);
    }
}

#[test]
fn two_inputs_go_on_with_state_on_disk() {
    kill_twice("two-inputs", SINKS, &["--state-backend=rocksdb", "--state-cache=1"]);
}

/// A row of either input.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: i64,
    value: i64,
    time: i64,
}

const DISORDER_MS: i64 = 20;

/// Times that advance by half a ms a row, within the allowed disorder of that. Values differ.
fn rows(seed: u64, count: i64) -> Vec<Row> {
    let mut random = Random::new(seed);
    let row = |index: i64| Row {
        key: random.below(5),
        value: index,
        time: index / 2 + random.below(DISORDER_MS),
    };
    (0..count).map(row).collect()
}

/// The name of a row of the second input.
fn name(other: &Row) -> String {
    "x".repeat(other.value as usize % 40)
}

struct Inputs {
    folder: tempfile::TempDir,
    events: Vec<Row>,
    others: Vec<Row>,
}

impl Inputs {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let inputs = Inputs {
            folder,
            events: rows(seed, 300),
            others: rows(seed + 1_000, 200),
        };
        let line = |row: &Row| format!("{}\n", json!({ "key": row.key, "value": row.value, "time": row.time }));
        write(&inputs.path("events"), inputs.events.iter().map(line));
        let line = |row: &Row| {
            let Row { key, value, time } = row;
            let name = name(row);
            format!(
                "{}\n",
                json!({ "name": name, "key": key, "amount": value, "time": time })
            )
        };
        write(&inputs.path("others"), inputs.others.iter().map(line));
        inputs
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the pipeline, and returns the sorted rows of each sink.
    fn run(&self, options: JobOptions, more: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let output = self.path("output");
        let _ = fs::remove_dir_all(&output);
        let (events, others) = (self.path("events"), self.path("others"));
        let mut pairs = vec![
            ("kind", "two-inputs"),
            ("input", as_text(&events)),
            ("other", as_text(&others)),
            ("output", as_text(&output)),
            ("disorder", "20ms"),
        ];
        pairs.extend(more);
        jobs::succeed(Guest::Flows, options, &pairs);
        outputs(&output)
    }
}

fn write(path: &Path, lines: impl Iterator<Item = String>) {
    fs::write(path, lines.collect::<String>()).expect("temporary file");
}

/// A result as the pipeline writes it.
fn result(key: i64, time: i64, value: i64, amount: i64) -> String {
    json!({ "key": key, "time": time, "value": value, "amount": amount }).to_string()
}

fn paired(event: Option<&Row>, other: Option<&Row>) -> String {
    let key = event.or(other).expect("one at least").key;
    let amount = other.map_or(-1, |other| other.value);
    let length = if amount < 0 { -1 } else { amount % 40 };
    result(key, length, event.map_or(-1, |event| event.value), amount)
}

/// The rows of a key and window from both sides.
type Group<'r> = ((i64, i64), [Vec<&'r Row>; 2]);

/// All groups by what windows a row is in.
fn groups<'r>(inputs: &'r Inputs, windows: impl Fn(&Row) -> Vec<i64>) -> Vec<Group<'r>> {
    let mut groups: BTreeMap<(i64, i64), [Vec<&Row>; 2]> = BTreeMap::new();
    for (side, rows) in [&inputs.events, &inputs.others].into_iter().enumerate() {
        for row in rows {
            for start in windows(row) {
                groups.entry((row.key, start)).or_default()[side].push(row);
            }
        }
    }
    groups.into_iter().collect()
}

/// Starts of the windows of a row.
fn sliding(size: i64, slide: i64, offset: i64) -> impl Fn(&Row) -> Vec<i64> {
    move |row| {
        let last = (row.time - offset).div_euclid(slide) * slide + offset;
        let starts = (0..).map(|step| last - step * slide);
        starts.take_while(|start| start + size > row.time).collect()
    }
}

/// Start of the session of a row.
fn sessions(inputs: &Inputs, gap: i64) -> impl Fn(&Row) -> Vec<i64> {
    let mut times: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in inputs.events.iter().chain(&inputs.others) {
        times.entry(row.key).or_default().push(row.time);
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    move |row| {
        let times = &times[&row.key];
        let upto = times.partition_point(|time| *time <= row.time);
        let mut start = row.time;
        for &time in times[..upto].iter().rev() {
            if start - time > gap {
                break;
            }
            start = time;
        }
        vec![start]
    }
}

/// Start of the window of a row, of a size for even keys, of twice that for others.
fn by_key(size: i64) -> impl Fn(&Row) -> Vec<i64> {
    move |row| {
        let size = size * (1 + row.key % 2);
        vec![row.time.div_euclid(size) * size]
    }
}

/// So many values have a key of their own.
const FINE: i64 = 8;

fn fine(row: &Row) -> Vec<i64> {
    vec![row.value / FINE]
}

/// Groups with the rows that are less than that older than the latest of either side.
fn recent(mut groups: Vec<Group<'_>>, age: i64) -> Vec<Group<'_>> {
    for (_, sides) in &mut groups {
        let latest = sides.iter().flatten().map(|row| row.time).max();
        let recent = |row: &&Row| Some(row.time + age) > latest;
        sides.iter_mut().for_each(|rows| rows.retain(recent));
    }
    groups
}

/// Start of the session of a row, where rows say how long after them the next may come.
fn dynamic_sessions(inputs: &Inputs) -> impl Fn(&Row) -> Vec<i64> {
    // Of each key starts and ends.
    let mut sessions: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let events = inputs.events.iter().map(|row| (row, 1 + row.value % 4));
    let mut rows: Vec<(&Row, i64)> = events.chain(inputs.others.iter().map(|row| (row, 2))).collect();
    rows.sort_by_key(|(row, _)| row.time);
    for (row, gap) in rows {
        let sessions = sessions.entry(row.key).or_default();
        match sessions.last_mut() {
            Some((_, end)) if row.time <= *end => *end = (*end).max(row.time + gap),
            Some(_) | None => sessions.push((row.time, row.time + gap)),
        }
    }
    move |row| {
        let sessions = &sessions[&row.key];
        let after = sessions.partition_point(|(start, _)| *start <= row.time);
        vec![sessions[after - 1].0]
    }
}

/// Sums of each fine key that has rows of the second input.
fn in_the_end(inputs: &Inputs) -> Vec<String> {
    let groups = groups(inputs, fine);
    let fires = |group: &Group<'_>| !group.1[1].is_empty();
    sums(&groups.into_iter().filter(fires).collect::<Vec<_>>())
}

/// All pairs of each group; with rows alone as the sides say.
fn pairs(groups: &[Group<'_>], events_alone: bool, others_alone: bool) -> Vec<String> {
    let mut pairs = Vec::new();
    for (_, [events, others]) in groups {
        for event in events {
            pairs.extend(others.iter().map(|other| paired(Some(event), Some(other))));
            if others.is_empty() && events_alone {
                pairs.push(paired(Some(event), None));
            }
        }
        if events.is_empty() && others_alone {
            pairs.extend(others.iter().map(|other| paired(None, Some(other))));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// Pairs whose second row is so much later than the first.
fn within(inputs: &Inputs, lower: i64, upper: i64, events_alone: bool, others_alone: bool) -> Vec<String> {
    let mut pairs = Vec::new();
    let partners =
        |event: &Row, other: &Row| event.key == other.key && (lower..=upper).contains(&(other.time - event.time));
    for event in &inputs.events {
        let others = inputs.others.iter().filter(|other| partners(event, other));
        let before = pairs.len();
        pairs.extend(others.map(|other| paired(Some(event), Some(other))));
        if pairs.len() == before && events_alone {
            pairs.push(paired(Some(event), None));
        }
    }
    for other in &inputs.others {
        if others_alone && !inputs.events.iter().any(|event| partners(event, other)) {
            pairs.push(paired(None, Some(other)));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// Each event with the last of the others that is not later.
fn versioned(inputs: &Inputs, events_alone: bool) -> Vec<String> {
    let mut pairs = Vec::new();
    for event in &inputs.events {
        let valid = |other: &&Row| other.key == event.key && other.time <= event.time;
        // Of two of the same time the one that came last, which has the greater value.
        let version = inputs
            .others
            .iter()
            .filter(valid)
            .max_by_key(|other| (other.time, other.value));
        if version.is_some() || events_alone {
            pairs.push(paired(Some(event), version));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// Sums of a key and 50 ms, with the last rule for the key's kind.
fn ruled(inputs: &Inputs) -> Vec<String> {
    let mut buckets: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for event in &inputs.events {
        *buckets
            .entry((event.key, event.time.div_euclid(50) * 50 + 49))
            .or_default() += event.value;
    }
    let bucket = |((key, end), sum): (&(i64, i64), &i64)| result(*key, *end, *sum, rule(inputs, *key, *end));
    let mut ruled: Vec<String> = buckets.iter().map(bucket).collect();
    ruled.sort_unstable();
    ruled
}

/// What the last rule for the key's kind says at a time.
fn rule(inputs: &Inputs, key: i64, time: i64) -> i64 {
    let rules = inputs.others.iter();
    let rules = rules.filter(|other| other.value % 10 == 0 && other.value % 3 != 1);
    let in_force = rules.filter(|rule| rule.key % 5 == key % 5 && rule.time <= time);
    let last = in_force.max_by_key(|rule| (rule.time, rule.value));
    last.map_or(-1, |rule| rule.value * 2)
}

/// Rows without a key, with the last rule of all.
fn ruled_in_the_end(inputs: &Inputs) -> Vec<String> {
    let events = inputs.events.iter();
    let ruled = events.map(|event| {
        let rule = rule(inputs, event.key, event.time);
        result(event.key, event.time, event.value, rule)
    });
    let mut ruled: Vec<String> = ruled.collect();
    ruled.sort_unstable();
    ruled
}

/// Every row of both inputs, alone.
fn alone(inputs: &Inputs) -> Vec<String> {
    let events = inputs.events.iter().map(|event| paired(Some(event), None));
    let others = inputs.others.iter().map(|other| paired(None, Some(other)));
    let mut alone: Vec<String> = events.chain(others).collect();
    alone.sort_unstable();
    alone
}

fn sums(groups: &[Group<'_>]) -> Vec<String> {
    let sum = |rows: &[&Row]| rows.iter().map(|row| row.value).sum();
    let group = |((key, start), [events, others]): &Group<'_>| result(*key, *start, sum(events), sum(others));
    let mut sums: Vec<String> = groups.iter().map(group).collect();
    sums.sort_unstable();
    sums
}

/// Rows of both inputs, in one shape.
fn either(inputs: &Inputs) -> Vec<String> {
    let row = |row: &Row, name: String| json!({ "0": row.key, "1": row.value, "2": name }).to_string();
    let events = inputs.events.iter().map(|event| row(event, String::new()));
    let others = inputs.others.iter().map(|other| row(other, name(other)));
    let mut rows: Vec<String> = events.chain(others).collect();
    rows.sort_unstable();
    rows
}

/// Events whose value three divides, and each of the others as often as what is left.
fn some_of_either(inputs: &Inputs) -> Vec<String> {
    let row = |row: &Row, time: i64| json!({ "key": row.key, "value": row.value, "time": time }).to_string();
    let events = inputs.events.iter().filter(|event| event.value % 3 == 0);
    let events = events.map(|event| row(event, event.time));
    let others = inputs.others.iter();
    let others = others.flat_map(|other| (0..other.value % 3).map(move |time| row(other, time)));
    let mut rows: Vec<String> = events.chain(others).collect();
    rows.sort_unstable();
    rows
}

/// Sums of both inputs, of each key and 50 ms.
fn sums_of_buckets(inputs: &Inputs) -> Vec<String> {
    let buckets = groups(inputs, |row| vec![row.time.div_euclid(50) * 50 + 49]);
    sums(&buckets)
}

#[test]
fn joins_are_those_of_the_model() {
    for (seed, (size, slide, offset)) in (1..).zip([(20, 5, 0), (30, 10, 3), (7, 7, 2), (50, 4, 0)]) {
        let inputs = Inputs::new(seed);
        let plain = groups(&inputs, sliding(size, size, 0));
        let tumbling = groups(&inputs, sliding(size, size, offset));
        let sliding = groups(&inputs, sliding(size, slide, offset));
        let sessions = groups(&inputs, sessions(&inputs, slide));
        let expected = [
            ("inner", pairs(&tumbling, false, false)),
            ("left", pairs(&sliding, true, false)),
            ("right", pairs(&sessions, false, true)),
            ("full", pairs(&tumbling, true, true)),
            ("interval-inner", within(&inputs, -slide, size - 1, false, false)),
            ("interval-left", within(&inputs, offset, size, true, false)),
            ("interval-right", within(&inputs, 1 - size, -offset, false, true)),
            ("interval-full", within(&inputs, -slide, slide, true, true)),
            ("temporal", versioned(&inputs, false)),
            ("left-temporal", versioned(&inputs, true)),
            ("broadcast", ruled(&inputs)),
            ("broadcast-unkeyed", ruled_in_the_end(&inputs)),
            ("co_process-unkeyed", alone(&inputs)),
            ("left-own", pairs(&groups(&inputs, by_key(size)), true, false)),
            ("full-evicted", pairs(&recent(plain, slide), true, true)),
            ("co_group-dynamic", sums(&groups(&inputs, dynamic_sessions(&inputs)))),
            ("right-live", pairs(&groups(&inputs, fine), false, true)),
            ("co_group-global", in_the_end(&inputs)),
            ("co_group", sums(&sliding)),
            ("co_group-session", sums(&sessions)),
            ("co_map", either(&inputs)),
            ("co_flat_map", some_of_either(&inputs)),
            ("co_process", sums_of_buckets(&inputs)),
        ];
        let lengths = [size, slide, offset].map(|ms| format!("{ms}ms"));
        let [size, slide, offset] = lengths.each_ref().map(String::as_str);
        let more = [("size", size), ("slide", slide), ("offset", offset)];
        for options in [blocks_of(1), blocks_of(7), blocks_of(1_000), parallel(3)] {
            let got = inputs.run(options, &more);
            for (name, rows) in &expected {
                assert_eq!(&got[*name], rows, "{name}, seed {seed}");
            }
            // No result is late for what comes behind it.
            let counted = read_ndjson(&inputs.path("output").join("interval-counted"));
            let counted = counted.iter().filter_map(|row| row["value"].as_u64()).sum::<u64>();
            assert_eq!(counted, got["interval-full"].len() as u64, "seed {seed}");
        }
    }
}

/// Which rows are late is up to chance, but each is joined or late, and joined with a version that is valid. Of the last
/// version nobody knows whether it was there.
fn check_late_rows_without_version(inputs: &Inputs, joined: &[Value], late: &[Value]) {
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a number");
    assert!(!joined.is_empty() && !late.is_empty());
    let mut values: Vec<i64> = joined.iter().chain(late).map(|row| number(row, "value")).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..inputs.events.len() as i64), "each once");
    for row in late {
        let event = inputs.events[number(row, "value") as usize];
        assert_eq!((number(row, "key"), number(row, "time")), (event.key, event.time));
    }
    for row in joined {
        let event = inputs.events[number(row, "value") as usize];
        let amount = number(row, "amount");
        if amount >= 0 {
            let version = inputs.others[amount as usize];
            assert!(version.key == event.key && version.time <= event.time, "{row}");
        }
    }
}

#[test]
fn rows_that_are_too_late_for_a_join_are_put_out() {
    let inputs = Inputs::new(77);
    let output = inputs.path("output");
    for parallelism in [1, 2] {
        let options = JobOptions {
            parallelism,
            ..blocks_of(5)
        };
        inputs.run(options, &[("lateness", "10ms")]);
        let of = |name: &str| read_ndjson(&output.join(name));
        let total = |field: &str| of("in-time").iter().filter_map(|row| row[field].as_i64()).sum::<i64>();
        let (late_events, late_others) = (of("late-events"), of("late-others"));
        assert!(!late_events.is_empty() && !late_others.is_empty());
        assert_eq!(total("value") + late_events.len() as i64, inputs.events.len() as i64);
        assert_eq!(total("amount") + late_others.len() as i64, inputs.others.len() as i64);
        assert!(late_others.iter().all(|row| row["name"] != Value::Null));
        check_late_rows_without_version(&inputs, &of("temporal-in-time"), &of("temporal-late"));
    }
}
