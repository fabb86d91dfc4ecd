//! `jobctl state get` asks a running job for the state of a key, and is told what a savepoint of that moment holds.

use std::fmt::Write as _;

use millrace_tests::jobs::wait_until;
use millrace_tests::random::Random;
use millrace_tests::running::Place;
use serde_json::{Value, json};

const ROWS: i64 = 60_000;
const KEYS: i64 = 20_000;

/// Rows of a file: three a key, but of key 0, which has many more.
fn rows() -> Vec<(i64, i64, i64)> {
    let mut random = Random::new(7);
    let row = |value| {
        let key = if value % 100 == 0 { 0 } else { random.below(KEYS) };
        (key, value, value / 10)
    };
    (0..ROWS).map(row).collect()
}

/// Starts the job, and waits until it has taken all rows.
fn start(
    place: &Place,
    arguments: &[&str],
    more: &[(&str, &str)],
    rows: &[(i64, i64, i64)],
) -> millrace_tests::running::Running {
    let mut text = String::new();
    for (key, value, time) in rows {
        writeln!(text, r#"{{"key": {key}, "value": {value}, "time": {time}}}"#).expect("text");
    }
    std::fs::write(place.path("rows.ndjson"), text).expect("a file");
    let mut all = place.checkpoints("200ms");
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    all.push("--parallelism=2".to_owned());
    let input = place.text("rows.ndjson");
    let running = place.start("queried", &all, &[&[("input", input.as_str())], more].concat());
    place.wait_for("running");
    for operator in ["counts", "kinds", "kept", "tumbling", "sliding", "sessions"] {
        // The last rows are of many keys; behind them nothing comes.
        wait_until(operator, || {
            let last = |row: &(i64, i64, i64)| {
                let held = get(place, "queried", operator, row.0);
                held.to_string().contains(&expect_of(rows, operator, row.0))
            };
            match operator {
                "kept" => total(place, "queried") == rows.len() as i64,
                _ => rows[rows.len() - 50..].iter().step_by(10).all(last),
            }
        });
    }
    running
}

/// Something that is in what an operator holds for a key, once all rows have come.
fn expect_of(rows: &[(i64, i64, i64)], operator: &str, key: i64) -> String {
    let own = || rows.iter().filter(|row| row.0 == key);
    let last = own().map(|row| row.1).max().unwrap_or_default();
    match operator {
        "counts" => own().count().to_string(),
        "kinds" => format!("\"sum\":{}", own().map(|row| row.1).sum::<i64>()),
        "sessions" => last.to_string(),
        // Its last slice.
        "tumbling" => (last / 10 / 1_000 * 1_000).to_string(),
        _ => (last / 10 / 500 * 500).to_string(),
    }
}

fn get(place: &Place, from: &str, operator: &str, key: i64) -> Value {
    let mut held = place.tell(&["state", "get", from, operator, &key.to_string()]);
    // A savepoint has the entries of a map in the order of bytes, a job in that of their keys.
    if let Some(entries) = held.get_mut("large").and_then(Value::as_array_mut) {
        entries.sort_by_key(|entry| entry["entry_key"].as_i64());
    }
    held
}

/// Items that came without a key.
fn total(place: &Place, from: &str) -> i64 {
    let lists = (0..2).map(|subtask| get(place, from, "kept", subtask));
    let lengths = lists.map(|held| held["values"].as_array().map_or(0, Vec::len) as i64);
    lengths.sum()
}

const OPERATORS: [&str; 5] = ["kinds", "tumbling", "sliding", "sessions", "counts"];

fn is_told_what_a_savepoint_holds(arguments: &[&str], more: &[(&str, &str)]) {
    let (place, rows) = (Place::new(), rows());
    let running = start(&place, arguments, more, &rows);
    let mut random = Random::new(11);
    let keys: Vec<i64> = (0..12)
        .map(|_| random.below(KEYS))
        .chain([rows[5].0, KEYS + 1])
        .collect();
    let ask = |from: &str| {
        let of = |operator: &&str| {
            keys.iter()
                .map(|key| get(&place, from, operator, *key))
                .collect::<Vec<_>>()
        };
        OPERATORS.iter().map(of).collect::<Vec<_>>()
    };
    let told = ask("queried");
    // Asking changes nothing.
    assert_eq!(ask("queried"), told);
    for (key, held) in keys.iter().zip(&told[0]) {
        let own: Vec<i64> = rows.iter().filter(|row| row.0 == *key).map(|row| row.1).collect();
        if own.is_empty() {
            assert_eq!(*held, json!({}));
            continue;
        }
        assert_eq!(held["sum"], json!(own.iter().sum::<i64>()), "{held}");
        assert_eq!(held["last"], json!(own[own.len().saturating_sub(3)..]), "{held}");
        assert_eq!(held["fresh"]["fresh"], json!(own.last()), "{held}");
        assert_eq!(held["items"].as_array().map(Vec::len), Some(own.len()), "{held}");
        assert_eq!(held["large"].as_array().map(Vec::len), Some(own.len()), "{held}");
        assert!(
            held["timers"].as_array().is_some_and(|timers| timers.len() > 1),
            "{held}"
        );
    }
    // The key of many rows: a part of its entries.
    let limited = ["state", "get", "queried", "kinds", "0", "--limit=7", "--output=json"];
    let output = place.cli(&limited);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("`items` has more entries") && stderr.contains("`large`"),
        "{stderr}"
    );
    let held: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(held["items"].as_array().map(Vec::len), Some(7), "{held}");
    let by_run = place.list()[0]["run"].as_str().expect("a run").to_owned();
    assert_eq!(get(&place, &by_run, "counts", 0), get(&place, "queried", "counts", 0));

    let savepoint = place.text("savepoint");
    place.tell(&["stop", "queried", "--savepoint", &savepoint]);
    running.succeed();
    assert_eq!(ask(&savepoint), told);
    assert_eq!(total(&place, &savepoint), ROWS);
}

#[test]
fn a_running_job_is_asked_with_state_in_memory() {
    is_told_what_a_savepoint_holds(&[], &[]);
}

#[test]
fn a_running_job_is_asked_with_state_on_disk() {
    is_told_what_a_savepoint_holds(&["--state-backend=rocksdb", "--state-cache=1"], &[]);
}

/// No slot that is asked has the number of the subtask that knows.
#[test]
fn a_running_job_is_asked_in_slots_of_many_groups() {
    let groups = "counts:a:3,kinds:b,sessions:c:2,kept:a";
    is_told_what_a_savepoint_holds(&[], &[("groups", groups)]);
}

#[test]
fn what_is_not_there_is_named() {
    let (place, rows) = (Place::new(), rows());
    let running = start(&place, &[], &[], &rows[..2_000]);
    let refuse = |arguments: &[&str], parts: &[&str]| {
        let arguments = [&["state", "get"], arguments].concat();
        place.refuse(&arguments, 2, parts);
    };
    refuse(&["other", "counts", "5"], &["CL0031", "`other`"]);
    refuse(
        &["queried", "total", "5"],
        &["AP0010", "`kinds`", "`kept`", "`sessions`"],
    );
    refuse(&["queried", "counts", "five"], &["CS0205", "Int64"]);
    refuse(&["queried", "counts", "5", "6"], &["CS0205", "{key: int64}"]);
    refuse(&["queried", "kept", "2"], &["CS0205", "0 to 1"]);
    refuse(&["./queried", "counts", "5"], &["CS0201"]);
    let table = place.cli(&["state", "get", "queried", "counts", &rows[1].0.to_string()]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("state") && table.contains("count"), "{table}");
    running.signal("INT");
    running.succeed();
    refuse(&["queried", "counts", "5"], &["CL0031"]);
}
