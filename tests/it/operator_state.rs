//! Lists of subtasks (operator state): whole where they are to be whole, and every item somewhere, once.

use millrace_core::Fault;
use millrace_core::checkpoint::RestartStrategy;
use millrace_engine::{JobOptions, OnTrap};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, JobMetrics, as_text, cli, read_ndjson};
use serde_json::Value;

use crate::durable::Place;
use crate::savepoint::{from, from_nothing};

const ROWS: i64 = 6_000;

/// Slow enough that a job does not come to its end.
const SLOWLY: &str = "3000";

fn tell(arguments: &[&str]) -> Value {
    let output = cli(&[arguments, &["--output=json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON on demand")
}

/// Makes a savepoint of the job's newest checkpoint.
fn save(place: &Place, name: &str) -> String {
    let savepoint = as_text(&place.0.path().join(name)).to_owned();
    let storage = place.storage();
    tell(&[
        "savepoint",
        "operator-state",
        "--checkpoint-dir",
        &storage,
        "--to",
        &savepoint,
    ]);
    savepoint
}

fn pairs<'p>(version: &'p str, output: &'p str, rate: &'p str) -> Vec<(&'p str, &'p str)> {
    vec![
        ("kind", "operator-state"),
        ("version", version),
        ("rows", "6000"),
        ("rate", rate),
        ("output", output),
    ]
}

/// Runs until some rows are read, and stops.
fn leave(place: &Place, options: JobOptions) {
    let output = as_text(&place.output()).to_owned();
    let job = jobs::start(Guest::Flows, options, &pairs("1", &output, SLOWLY));
    jobs::wait_until("rows are read", || {
        JobMetrics(job.tasks()).rows_in("stateful_process") > 2_000
    });
    job.stop();
    job.wait().expect("a stop is no failure");
}

/// What the subtasks hold in the end, in their order.
fn held(place: &Place) -> Vec<Value> {
    let mut held = read_ndjson(&place.output().join("held"));
    held.sort_by_key(|row| row["subtask"].as_i64());
    held
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("{name} in {row}"))
}

fn total(held: &[Value], name: &str) -> i64 {
    held.iter().map(|row| number(row, name)).sum()
}

/// The list of each subtask in a savepoint.
fn stored(savepoint: &str, parallelism: u32) -> Vec<Vec<i64>> {
    let list = |subtask: u32| {
        let found = tell(&["state", "get", savepoint, "count", &subtask.to_string()]);
        let items = found["seen"].as_array().expect("a list").clone();
        items.iter().map(|item| item.as_i64().expect("a number")).collect()
    };
    (0..parallelism).map(list).collect()
}

#[test]
fn items_are_dealt_out_and_all_are_told_of_all() {
    for (before, after) in [(2, 3), (3, 1), (2, 2), (1, 4)] {
        let place = Place::new();
        leave(&place, from_nothing(&place, before));
        let savepoint = save(&place, "savepoint");
        let lists = stored(&savepoint, before);
        assert!(lists.iter().all(|list| list.len() > 300), "{before}");
        let (items, sum) = (lists.concat().len() as i64, lists.concat().iter().sum::<i64>());
        // Once more, so that what was dealt out is dealt out again.
        std::fs::remove_dir_all(place.storage()).expect("checkpoints");
        let output = as_text(&place.output()).to_owned();
        let job = jobs::start(
            Guest::Flows,
            from(&place, &savepoint, after, false),
            &pairs("1", &output, "0"),
        );
        job.wait().expect("to the end");
        let held = held(&place);
        assert_eq!(held.len(), after as usize, "{held:?}");
        for row in &held {
            assert_eq!(
                (number(row, "restored"), number(row, "restored_sum")),
                (items, sum),
                "{row}"
            );
        }
        assert_eq!(total(&held, "own"), ROWS, "{held:?}");
        assert_eq!(total(&held, "own_sum"), ROWS * (ROWS - 1) / 2, "{held:?}");
    }
}

/// Nine million numbers of eight bytes are more than one value may have: at the last checkpoint the list is named.
#[test]
fn a_list_that_is_too_large_is_named() {
    let place = Place::new();
    let mut options = from_nothing(&place, 1);
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.config.interval = None;
        checkpoints.restart = RestartStrategy::None;
    }
    let output = as_text(&place.output()).to_owned();
    let mut pairs = pairs("1", &output, "0");
    pairs.retain(|(name, _)| *name != "rows");
    pairs.push(("rows", "9000000"));
    let parts = [
        "operator `stateful_process`",
        "69 MiB of state `seen`",
        "the limit is 64 MiB",
    ];
    jobs::fail(Guest::Flows, options, &pairs, "PL0006", Fault::Pipeline, &parts);
}

#[test]
fn lists_are_dealt_out_again_and_again() {
    let place = Place::new();
    let mut options = from_nothing(&place, 3);
    for (number, parallelism) in [2, 4, 1].into_iter().enumerate() {
        let output = as_text(&place.output()).to_owned();
        let job = jobs::start(Guest::Flows, options, &pairs("1", &output, "2000"));
        jobs::wait_until("rows are read", || {
            JobMetrics(job.tasks()).rows_in("stateful_process") > 500
        });
        job.stop();
        job.wait().expect("a stop is no failure");
        let savepoint = save(&place, &number.to_string());
        options = from(&place, &savepoint, parallelism, false);
    }
    let output = as_text(&place.output()).to_owned();
    jobs::succeed(Guest::Flows, options, &pairs("1", &output, "0"));
    let held = held(&place);
    assert_eq!((held.len(), total(&held, "own")), (1, ROWS), "{held:?}");
    assert_eq!(total(&held, "own_sum"), ROWS * (ROWS - 1) / 2, "{held:?}");
}

#[test]
fn items_that_change_their_type_are_migrated_or_refused() {
    let place = Place::new();
    leave(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");
    let check = |version: &str| {
        let version = format!("version={version}");
        let path = as_text(Guest::Flows.path());
        let arguments = ["check", "--from", &savepoint, path, "--param", "kind=operator-state"];
        cli(&[&arguments[..], &["--param", &version, "--param", "output=nowhere"]].concat())
    };
    let refused = check("changed");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("`seen`"), "{stderr}");
    assert!(check("1").status.success());
    assert!(check("text").status.success());

    let output = as_text(&place.output()).to_owned();
    let options = from(&place, &savepoint, 3, false);
    jobs::succeed(Guest::Flows, options, &pairs("text", &output, "0"));
    let held = held(&place);
    assert_eq!((held.len(), total(&held, "own")), (3, ROWS), "{held:?}");
    assert_eq!(total(&held, "own_sum"), ROWS * (ROWS - 1) / 2, "{held:?}");
    let items = stored(&savepoint, 2).concat().len() as i64;
    assert_eq!(total(&held, "restored"), 3 * items, "{held:?}");
}

/// In careful mode lists are on the host as well, and the row that traps is in none.
#[test]
fn a_row_that_traps_is_in_no_list() {
    let place = Place::new();
    let mut options = from_nothing(&place, 2);
    options.on_trap = OnTrap::Quarantine {
        dead_letter: Some(as_text(&place.0.path().join("letters.jsonl")).to_owned()),
        rows_max: 3,
    };
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.restart = RestartStrategy::None;
    }
    let output = as_text(&place.output()).to_owned();
    let mut pairs = pairs("1", &output, "3000");
    pairs.push(("trap", "2500"));
    let report = jobs::succeed(Guest::Flows, options, &pairs);
    let quarantined = jobs::task(&report.tasks, "stateful_process").total(|metrics| &metrics.quarantined);
    assert_eq!(quarantined, 1);
    let held = held(&place);
    assert_eq!((held.len(), total(&held, "own")), (2, ROWS - 1), "{held:?}");
    assert_eq!(total(&held, "own_sum"), ROWS * (ROWS - 1) / 2 - 2_500, "{held:?}");
}
