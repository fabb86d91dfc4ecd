//! State that expires: never seen too late, never gone too early, whatever happens to the job.
//!
//! The guest checks at each row and timer, by the time of the call, that its states are there exactly as long as they
//! are to be; its findings are read here.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::{Beginning, JobOptions, OnTrap, Report, Restore, StateBackend};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, cli, read_csv, task};

use crate::durable::{EXACTLY, Place, RATE, kill_after};

const ROWS: &str = "30000";

/// More than are ever read, so that a job that is to be stopped never comes to its end before, however busy the machine is.
const ROWS_FOR_EVER: &str = "30000000";

/// Few enough for keys to be met again while their state lives, and long after.
const KEYS: (&str, &str) = ("keys", "3000");

const SHORT: (&str, &str) = ("size", "150ms");
const LONG: (&str, &str) = ("size", "60s");

fn on_disk(place: &Place) -> StateBackend {
    StateBackend::RocksDb {
        folder: place.0.path().join("state"),
        cache_bytes: 1 << 20,
    }
}

fn options(place: &Place, parallelism: u32, backend: StateBackend, restore: Restore) -> JobOptions {
    JobOptions {
        backend,
        block_rows: 200,
        ..place.options(parallelism, EXACTLY, restore)
    }
}

fn pairs<'p>(output: &'p str, more: &[(&'p str, &'p str)]) -> Vec<(&'p str, &'p str)> {
    let mut pairs = vec![("kind", "lifetimes"), KEYS, ("output", output)];
    if more.iter().all(|(name, _)| *name != "rows") {
        pairs.push(("rows", ROWS));
    }
    pairs.extend(more);
    pairs
}

fn run(place: &Place, options: JobOptions, more: &[(&str, &str)]) -> Report {
    let output = place.output();
    jobs::succeed(Guest::Flows, options, &pairs(as_text(&output), more))
}

/// Runs for a while, in which rows are read, and stops.
fn run_and_stop(place: &Place, options: JobOptions, more: &[(&str, &str)]) {
    let output = place.output();
    let paced = [("rate", RATE), ("rows", ROWS_FOR_EVER)];
    let more: Vec<(&str, &str)> = more.iter().copied().chain(paced).collect();
    let job = jobs::start(Guest::Flows, options, &pairs(as_text(&output), &more));
    jobs::wait_until("rows are read", || {
        jobs::JobMetrics(job.tasks()).rows_in("passing") > 3_000
    });
    job.stop();
    job.wait().expect("a stop is no failure");
}

/// How often the guest found what; nothing that must not be.
fn findings(place: &Place) -> BTreeMap<String, usize> {
    let mut findings = BTreeMap::new();
    for row in read_csv(&place.output()) {
        let what = row.split(',').next().expect("a column").to_owned();
        assert!(!what.contains("wrong"), "{row}");
        *findings.entry(what).or_default() += 1;
    }
    findings
}

fn count(findings: &BTreeMap<String, usize>, what: &str) -> usize {
    findings.get(what).copied().unwrap_or(0)
}

fn assert_all_kinds(findings: &BTreeMap<String, usize>) {
    for what in [
        "row new",
        "row written",
        "row expired",
        "row used",
        "row unused",
        "row entry",
        "row entry expired",
        "row kept",
        "row not kept",
        "row items",
        "row no items",
        "timer written",
        "timer expired",
    ] {
        let least = if what == "timer expired" { 0 } else { 50 };
        assert!(count(findings, what) >= least, "{what}: {findings:?}");
    }
}

#[test]
fn state_expires_in_time_and_keys_that_never_come_again_go() {
    for (parallelism, disk) in [(1, false), (2, true)] {
        let place = Place::new();
        let backend = if disk { on_disk(&place) } else { StateBackend::Memory };
        let options = options(&place, parallelism, backend, Restore::Nothing);
        let report = run(&place, options, &[SHORT, ("rate", RATE)]);
        assert_all_kinds(&findings(&place));
        assert!(report.checkpoints.completed > 1, "{:?}", report.checkpoints);
        // What is below is counted only about.
        let left = task(&report.tasks, "passing").total(|metrics| match disk {
            true => &metrics.state_resident,
            false => &metrics.state_slots,
        });
        assert!(left < 2_500, "{left} of 3000 keys are left");
    }
}

#[test]
fn a_job_that_is_killed_again_and_again_forgets_in_time() {
    for (parallelism, backend) in [(1, "memory"), (2, "rocksdb")] {
        let place = Place::new();
        let state = place.0.path().join("state");
        let arguments = [
            format!("--state-backend={backend}"),
            "--state-cache=1".to_owned(),
            format!("--state-dir={}", as_text(&state)),
            "--block-rows=200".to_owned(),
        ];
        kill_after(
            100,
            &place,
            parallelism,
            &arguments,
            &[("kind", "lifetimes"), KEYS, SHORT],
            &[],
        );
        // How much expires between lives follows from how busy the machine is.
        let findings = findings(&place);
        for what in ["row new", "row written", "row used"] {
            assert!(count(&findings, what) > 50, "{what}: {findings:?}");
        }
    }
}

/// From disk to memory and back, with other numbers of subtasks, and pauses in which all of it expires.
#[test]
fn what_expires_while_a_job_is_stopped_is_not_there_when_it_goes_on() {
    let place = Place::new();
    for (parallelism, disk) in [(2, true), (1, false), (3, true)] {
        let backend = if disk { on_disk(&place) } else { StateBackend::Memory };
        run_and_stop(&place, options(&place, parallelism, backend, Restore::Latest), &[SHORT]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let before = findings(&place);
    run_and_stop(
        &place,
        options(&place, 2, StateBackend::Memory, Restore::Latest),
        &[SHORT],
    );
    let after = findings(&place);
    assert!(count(&after, "row expired") > count(&before, "row expired"));
}

fn save(place: &Place) -> String {
    let savepoint = as_text(&place.0.path().join("savepoint")).to_owned();
    let storage = place.storage();
    succeed(&[
        "savepoint",
        "lifetimes",
        "--checkpoint-dir",
        &storage,
        "--to",
        &savepoint,
    ]);
    savepoint
}

fn succeed(arguments: &[&str]) -> String {
    let output = cli(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A time to live that comes, goes, and comes too late.
#[test]
fn a_time_to_live_may_come_and_go() {
    let check = |place: &Place, version: &str, outcome: &str, text: &str| {
        let output = place.output();
        let pairs = pairs(as_text(&output), &[LONG, ("version", version)]);
        let prepared = jobs::prepare(Guest::Flows, jobs::options(), &pairs).expect("it is sound");
        let beginning = Beginning {
            url: save(place),
            allow_non_restored_state: false,
            claim: false,
        };
        let check = prepared.check(&beginning).expect("it can be read");
        assert!(check.refusal.is_none(), "{:?}", check.refusal);
        let upgrade = check.upgrade.operator("watch").expect("it is there");
        let state = &upgrade.states[0];
        assert_eq!((state.name.as_str(), state.outcome.name()), ("written", outcome));
        assert!(state.changes[0].what.contains(text), "{:?}", state.changes);
        let state = &upgrade.states[2];
        assert_eq!((state.outcome.name(), state.changes.len()), ("kept", 0));
    };
    // (time to live and version before; pause; those after; what a check says; whether what was written is there)
    for ((before, first), pause, (after, second), outcome, text, kept) in [
        ((LONG, "2"), 0, (LONG, "1"), "converted", "begins at the start", true),
        (
            (LONG, "1"),
            0,
            (LONG, "2"),
            "converted",
            "no time to live any more",
            true,
        ),
        (
            (SHORT, "1"),
            200,
            (LONG, "2"),
            "converted",
            "no time to live any more",
            false,
        ),
        (
            (SHORT, "1"),
            200,
            (LONG, "1"),
            "kept",
            "60000 ms from writes on, and was 150 ms",
            false,
        ),
    ] {
        let place = Place::new();
        let options = |restore| options(&place, 2, StateBackend::Memory, restore);
        run_and_stop(&place, options(Restore::Nothing), &[before, ("version", first)]);
        check(&place, second, outcome, text);
        std::thread::sleep(Duration::from_millis(pause));
        run_and_stop(&place, options(Restore::Latest), &[after, ("version", second)]);
        // By the states without a time to live what expired before is missed.
        let rows = read_csv(&place.output());
        let early = rows
            .iter()
            .filter(|row| row.contains("written has gone too early"))
            .count();
        assert_eq!(early == 0, kept, "{early} of {}", rows.len());
        let late = rows.iter().filter(|row| row.contains("still")).count();
        assert_eq!(late, 0);
    }
}

#[test]
fn a_savepoint_says_when_state_expires() {
    let place = Place::new();
    let options = options(&place, 2, StateBackend::Memory, Restore::Nothing);
    run_and_stop(&place, options, &[LONG]);
    let savepoint = save(&place);
    let rows = succeed(&["state", "export", &savepoint, "watch", "written", "--format=ndjson"]);
    let mut seen = 0;
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
        let (written, expires) = (row["written"].as_i64(), row["expires_ms"].as_i64());
        assert_eq!(expires, written.map(|written| written + 60_000));
        seen += 1;
        if seen == 1 {
            let key = row["key"].to_string();
            let found = succeed(&["state", "get", &savepoint, "watch", &key, "--output=json"]);
            let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
            assert_eq!(found["written"]["expires_ms"].as_i64(), expires);
            assert!(found["written-at"].is_i64());
        }
    }
    assert!(seen > 100, "{seen}");
    // A job that begins with the savepoint, and with tables of it, goes on with the same times.
    let table = as_text(&place.0.path().join("written.parquet")).to_owned();
    succeed(&[
        "state",
        "export",
        &savepoint,
        "watch",
        "written",
        "--format=parquet",
        "--to",
        &table,
    ]);
    let imported = as_text(&place.0.path().join("imported")).to_owned();
    let wasm = place.0.path().join("flows.wasm");
    std::fs::write(&wasm, Guest::Flows.bytes()).expect("a temporary folder");
    let output = place.output();
    let mut arguments = vec!["state".to_owned(), "import".to_owned(), as_text(&wasm).to_owned()];
    arguments.extend([
        "watch".to_owned(),
        format!("written={table}"),
        "--to".to_owned(),
        imported.clone(),
    ]);
    arguments.extend(["--from".to_owned(), savepoint]);
    for (name, value) in pairs(as_text(&output), &[LONG]) {
        arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
    }
    succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let again = succeed(&["state", "export", &imported, "watch", "written", "--format=ndjson"]);
    assert_eq!(again, rows);
}

/// In careful mode too, where an entry is a call and the instance another one after a trap.
#[test]
fn state_expires_in_careful_mode() {
    for disk in [false, true] {
        let place = Place::new();
        let backend = if disk { on_disk(&place) } else { StateBackend::Memory };
        let letters = as_text(&place.0.path().join("letters.jsonl")).to_owned();
        let options = JobOptions {
            on_trap: OnTrap::Quarantine {
                dead_letter: Some(letters.clone()),
                rows_max: 20,
            },
            ..options(&place, 2, backend, Restore::Nothing)
        };
        run(&place, options, &[SHORT, ("rate", RATE), ("trap", "12345")]);
        assert_all_kinds(&findings(&place));
        let letters = std::fs::read_to_string(letters).expect("dead letters");
        assert_eq!(letters.lines().count(), 1, "{letters}");
    }
}
