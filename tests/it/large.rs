//! Large maps and lists: what a job tells of them is the same wherever they are and whatever happens to it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millrace_engine::{Beginning, JobOptions, Limits, OnTrap, Report, Restore, StateBackend};
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::{self, JobMetrics, as_text, cli, parallel};
use serde_json::Value;

use crate::durable::{EXACTLY, Place, assert_same, sorted};

const ROWS: &str = "40000";

/// Rows a second where something is to happen meanwhile: two seconds.
const RATE: (&str, &str) = ("rate", "20000");

/// Without watermarks, for which the rest of the state would have to come first.
const UNTIMED: (&str, &str) = ("version", "2");

fn pairs<'a>(output: &'a Path, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let given = |name: &str| more.iter().any(|(other, _)| *other == name);
    let mut pairs = vec![
        ("kind", "large"),
        ("keys", "7"),
        ("rows", ROWS),
        ("output", as_text(output)),
    ];
    pairs.retain(|(name, _)| !given(name));
    pairs.extend(more);
    pairs
}

fn run(place: &Place, options: JobOptions, more: &[(&str, &str)]) -> Report {
    jobs::succeed(Guest::Flows, options, &pairs(&place.output(), more))
}

/// What the job tells if nothing happens to it.
fn expected(more: &[(&str, &str)]) -> Vec<String> {
    let place = Place::new();
    run(&place, parallel(1), more);
    let rows = sorted(&place.output());
    for what in ["some", "asked", "last", "tenth", "all", "timer"] {
        let told = rows.iter().filter(|row| row.starts_with(what));
        assert!(
            told.count() >= 20 || (what == "timer" && more.contains(&UNTIMED)),
            "{what}"
        );
    }
    rows
}

fn on_disk(place: &Place) -> StateBackend {
    StateBackend::RocksDb {
        folder: place.0.path().join("state"),
        cache_bytes: 1 << 20,
    }
}

fn options(place: &Place, parallelism: u32, disk: bool, restore: Restore) -> JobOptions {
    JobOptions {
        backend: if disk { on_disk(place) } else { StateBackend::Memory },
        block_rows: 500,
        ..place.options(parallelism, EXACTLY, restore)
    }
}

#[test]
fn they_are_the_same_on_disk_at_any_parallelism_and_after_traps() {
    let expected = expected(&[]);
    for (parallelism, disk) in [(1, false), (1, true), (3, false), (2, true)] {
        let place = Place::new();
        let options = options(&place, parallelism, disk, Restore::Nothing);
        let report = run(&place, options, &[RATE, ("trap", "23456")]);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
        assert!(report.checkpoints.completed > 3, "{:?}", report.checkpoints);
    }
}

/// Some 90 MB in one key, while the instance may have 40.
#[test]
fn one_key_has_more_than_the_instance_may_hold() {
    let more = [
        ("keys", "1"),
        ("spread", "100000"),
        ("bytes", "2200"),
        ("rows", "60000"),
    ];
    let expected = expected(&more);
    let limits = Limits {
        memory_bytes: 40 << 20,
        ..Limits::default()
    };
    for disk in [false, true] {
        let place = Place::new();
        let backend = if disk { on_disk(&place) } else { StateBackend::Memory };
        let options = JobOptions {
            limits: limits.clone(),
            backend,
            ..parallel(1)
        };
        let report = run(&place, options, &more);
        assert_same(&sorted(&place.output()), &expected);
        assert!(report.guest_memory_bytes < 40 << 20);
    }
}

/// At another parallelism and with another backend each time.
#[test]
fn a_stopped_job_goes_on_elsewhere() {
    let expected = expected(&[]);
    let place = Place::new();
    let output = place.output();
    for (parallelism, disk) in [(2, true), (1, false), (3, true), (4, false)] {
        let options = options(&place, parallelism, disk, Restore::Latest);
        let job = jobs::start(Guest::Flows, options, &pairs(&output, &[RATE]));
        job.wait_timeout(Duration::from_millis(350));
        job.stop();
        job.wait().expect("a stop is no failure");
    }
    run(&place, options(&place, 2, false, Restore::Latest), &[]);
    assert_same(&sorted(&output), &expected);
}

#[test]
fn a_job_that_is_killed_again_and_again_loses_no_entry() {
    kill_again_and_again(&[], |life| 200 + life * 41 % 150);
}

/// Some 40 MB of state.
const MUCH_STATE: [(&str, &str); 5] = [
    UNTIMED,
    ("keys", "29"),
    ("spread", "1500"),
    ("bytes", "900"),
    ("rows", "60000"),
];

/// Much state and short lives: it is killed in the middle of restoring, and goes on from checkpoints that it took right
/// behind that.
#[test]
fn a_job_that_is_killed_while_it_restores_loses_no_entry() {
    kill_again_and_again(
        &MUCH_STATE,
        |life| if life == 0 { 1_500 } else { 120 + life * 67 % 240 },
    );
}

/// The trap comes again while state is still being restored.
#[test]
fn a_trap_in_the_middle_of_restoring_loses_no_entry() {
    let expected = expected(&MUCH_STATE);
    for (parallelism, disk) in [(1, false), (2, true)] {
        let place = Place::new();
        let options = options(&place, parallelism, disk, Restore::Nothing);
        let more = [&MUCH_STATE[..], &[RATE, ("trap", "43210")]].concat();
        let report = run(&place, options, &more);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
    }
}

/// Kills it so many ms after each of its starts.
fn kill_again_and_again(more: &[(&str, &str)], life_ms: impl Fn(u64) -> u64) {
    let expected = expected(more);
    for (parallelism, backend) in [(2, "memory"), (1, "rocksdb")] {
        let place = Place::new();
        let spawn = |rate: &str| {
            let mut command = Command::new(jobctl());
            command
                .args(["run", as_text(Guest::Flows.path()), "--quiet", "--restore=latest"])
                .args(["--checkpoint-interval=30ms", "--block-rows=500", "--state-cache=1"])
                .arg(format!("--checkpoint-dir={}", place.storage()))
                .arg(format!("--parallelism={parallelism}"))
                .arg(format!("--state-backend={backend}"))
                .arg(format!("--state-dir={}", as_text(&place.0.path().join("state"))))
                .env("MILLRACE_CACHE", code_cache().join("cli"))
                .env("MILLRACE_DATA", place.0.path().join("data"))
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let more = [more, &[("rate", rate)]].concat();
            for (name, value) in pairs(&place.output(), &more) {
                command.arg("--param").arg(format!("{name}={value}"));
            }
            command.spawn().expect("jobctl starts")
        };
        let mut kills = 0;
        for life in 0..6_u64 {
            let mut child = spawn(RATE.1);
            std::thread::sleep(Duration::from_millis(life_ms(life)));
            if child.try_wait().expect("a child").is_none() {
                child.kill().expect("a child of ours");
                kills += 1;
            }
            child.wait().expect("a child");
        }
        let output = spawn("0").wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(kills > 2, "{kills} kills");
        assert_same(&sorted(&place.output()), &expected);
    }
}

/// The row that traps has written before, which must not be seen.
#[test]
fn a_row_that_is_set_aside_has_written_nothing() {
    let expected = {
        let place = Place::new();
        // The same rows but for one, which every key's order lets one leave out.
        let options = quarantine(&place, 1);
        run(&place, options, &[("trap", "23456"), ("bad", "for-ever")]);
        sorted(&place.output())
    };
    for parallelism in [2, 3] {
        let place = Place::new();
        let options = quarantine(&place, parallelism);
        let report = run(&place, options, &[RATE, ("trap", "23456"), ("bad", "for-ever")]);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.quarantined, 1);
    }
    // Of what is told some is as if the row had never been.
    let whole = self::expected(&[]);
    let row_of = |row: &String| row.split(',').nth(2).and_then(|row| row.parse::<i64>().ok());
    let before = |rows: &[String]| {
        let rows = rows.iter().filter(|row| row_of(row).is_some_and(|row| row < 23_456));
        rows.cloned().collect::<Vec<_>>()
    };
    assert_same(&before(&expected), &before(&whole));
    assert_ne!(expected, whole);
}

fn quarantine(place: &Place, parallelism: u32) -> JobOptions {
    let letters = place.0.path().join("letters");
    JobOptions {
        on_trap: OnTrap::Quarantine {
            dead_letter: Some(as_text(&letters).to_owned()),
            rows_max: 10,
        },
        ..options(place, parallelism, false, Restore::Nothing)
    }
}

fn json(arguments: &[&str]) -> Value {
    let output = cli(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on demand")
}

/// Out of a savepoint and into another one, table by table.
fn copied(place: &Place, savepoint: &str) -> String {
    let pipeline = as_text(Guest::Flows.path());
    let folder = place.0.path().join("tables");
    let tables = ["entries", "log"].map(|state| {
        let file = folder.join(format!("{state}.parquet"));
        let arguments = [
            "state",
            "export",
            savepoint,
            "ledger",
            state,
            "--format=parquet",
            "--to",
            as_text(&file),
        ];
        std::fs::create_dir_all(&folder).expect("a folder");
        let output = cli(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("{state}={}", as_text(&file))
    });
    let copy = as_text(&place.0.path().join("copy")).to_owned();
    let from = format!("--from={savepoint}");
    let to = format!("--to={copy}");
    let mut arguments = vec![
        "state", "import", pipeline, "ledger", &tables[0], &tables[1], &from, &to,
    ];
    arguments.extend(["--param=kind=large", "--param=keys=7", "--output=json"]);
    json(&arguments);
    copy
}

/// A savepoint is of tables, can be read and changed, and is gone on from.
#[test]
fn savepoints_have_a_row_for_each_entry() {
    let expected = expected(&[]);
    let place = Place::new();
    let output = place.output();
    let job = jobs::start(
        Guest::Flows,
        options(&place, 2, true, Restore::Nothing),
        &pairs(&output, &[RATE]),
    );
    jobs::wait_until("rows are read", || JobMetrics(job.tasks()).rows_in("process") > 9_000);
    job.stop();
    job.wait().expect("a stop is no failure");
    let savepoint = as_text(&place.0.path().join("savepoint")).to_owned();
    let storage = place.storage();
    json(&[
        "savepoint",
        "large",
        "--checkpoint-dir",
        &storage,
        "--to",
        &savepoint,
        "--output=json",
    ]);
    let told = json(&["state", "ls", &savepoint, "--output=json"]);
    let operators = told["operators"].as_array().expect("operators");
    let ledger = operators
        .iter()
        .find(|operator| operator["id"] == "ledger")
        .expect("it");
    let states = ledger["states"].as_array().expect("states");
    let rows = |name: &str| {
        let state = states.iter().find(|state| state["name"] == name);
        state.and_then(|state| state["rows"].as_u64()).expect("a state")
    };
    assert_eq!(rows("rows"), 7);
    assert!(rows("entries") > 3_000 && rows("log") > 3_000, "{states:?}");
    let held = json(&["state", "get", &savepoint, "ledger", "3", "--output=json"]);
    let entries = held["entries"].as_array().expect("a row for each entry");
    let log = held["log"].as_array().expect("a row for each item");
    assert!(entries.len() > 300 && log.len() > 300);
    assert!(
        entries[0]["entry_key"].is_i64() && entries[0]["entries"]["sum"].is_i64(),
        "{}",
        entries[0]
    );
    assert!((0..).zip(log).all(|(index, item)| item["index"] == index));
    let pipeline = as_text(Guest::Flows.path());
    let copy = copied(&place, &savepoint);
    assert_eq!(json(&["state", "get", &copy, "ledger", "3", "--output=json"]), held);
    let checked = json(&[
        "check",
        pipeline,
        "--from",
        &copy,
        "--param=kind=large",
        "--output=json",
    ]);
    assert!(checked.to_string().contains("\"kept\""), "{checked}");
    let goes_on = JobOptions {
        from: Some(Beginning {
            url: copy,
            allow_non_restored_state: false,
            claim: false,
        }),
        ..options(&place, 3, false, Restore::Nothing)
    };
    run(&place, goes_on, &[]);
    assert_same(&sorted(&output), &expected);
}
