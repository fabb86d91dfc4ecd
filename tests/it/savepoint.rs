//! Savepoints: a job that was stopped goes on from one, elsewhere and at another parallelism, as if nothing had
//! happened.

use millrace_engine::{Beginning, JobOptions, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, JobMetrics, as_text, check_error, cli};
use serde_json::Value;

use crate::durable::{EXACTLY, Place, ROWS, assert_same, expected, sorted};

/// Slow enough that a job does not come to its end, after which it holds nothing.
const SLOWLY: &str = "10000";

/// Runs the job until it has read some more rows.
pub(crate) fn run_for_a_while(place: &Place, options: JobOptions) {
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", SLOWLY),
        // A subtask may read what several read before, each as far as it had come.
        ("disorder", "4s"),
        ("output", as_text(&output)),
    ];
    let job = jobs::start(Guest::Flows, options, &pairs);
    jobs::wait_until("rows are read", || JobMetrics(job.tasks()).rows_in("process") > 3_000);
    job.stop();
    job.wait().expect("a stop is no failure");
}

pub(crate) fn from_nothing(place: &Place, parallelism: u32) -> JobOptions {
    place.options(parallelism, EXACTLY, Restore::Nothing)
}

/// Makes a savepoint of the job's newest checkpoint.
pub(crate) fn save(place: &Place, name: &str) -> String {
    save_job(place, "durable", name)
}

/// The same of a job of that name.
pub(crate) fn save_job(place: &Place, job: &str, name: &str) -> String {
    let savepoint = as_text(&place.0.path().join(name)).to_owned();
    let arguments = [
        "savepoint",
        job,
        "--checkpoint-dir",
        &place.storage(),
        "--to",
        &savepoint,
        "--output=json",
    ];
    let output = cli(&arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON on demand");
    assert!(told["entries"].as_u64().is_some_and(|entries| entries > 100), "{told}");
    savepoint
}

pub(crate) fn from(place: &Place, savepoint: &str, parallelism: u32, allow_non_restored_state: bool) -> JobOptions {
    let from = Beginning {
        url: savepoint.to_owned(),
        allow_non_restored_state,
        claim: false,
    };
    JobOptions {
        from: Some(from),
        ..from_nothing(place, parallelism)
    }
}

#[test]
fn a_job_goes_on_from_a_savepoint_at_another_parallelism() {
    let expected = expected();
    for (before, after) in [(2, 3), (3, 1)] {
        let place = Place::new();
        run_for_a_while(&place, from_nothing(&place, before));
        let savepoint = save(&place, "savepoint");
        // Of what it was made nothing is needed.
        std::fs::remove_dir_all(place.storage()).expect("checkpoints");
        let report = place.run(from(&place, &savepoint, after, false), &[("disorder", "4s")]);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 0);
    }
}

/// Again and again from one savepoint to the next.
#[test]
pub(crate) fn savepoints_follow_each_other() {
    let expected = expected();
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "1");
    run_for_a_while(&place, from(&place, &savepoint, 4, false));
    let savepoint = save(&place, "2");
    place.run(from(&place, &savepoint, 1, false), &[("disorder", "4s")]);
    assert_same(&sorted(&place.output()), &expected);
}

/// There is a place for checkpoints, and none is taken before the end.
fn without_checkpoints(place: &Place, savepoint: &str) -> JobOptions {
    let mut options = from(place, savepoint, 2, false);
    let checkpoints = options.checkpoints.as_mut().expect("they are on");
    checkpoints.config.interval = None;
    options
}

/// A run that began with a savepoint and failed before its first checkpoint begins with it again.
#[test]
fn a_failure_before_the_first_checkpoint_loses_nothing() {
    let expected = expected();
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");
    let options = without_checkpoints(&place, &savepoint);
    let report = place.run(options, &[("disorder", "4s"), ("trap", "20000")]);
    assert_same(&sorted(&place.output()), &expected);
    assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
}

/// The same across processes: `--restore latest` finds the savepoint of a run that has no checkpoint.
#[test]
fn the_latest_state_of_a_run_without_checkpoints_is_its_savepoint() {
    let expected = expected();
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");
    let mut options = without_checkpoints(&place, &savepoint);
    let checkpoints = options.checkpoints.as_mut().expect("there is a place for them");
    checkpoints.restart = millrace_core::checkpoint::RestartStrategy::None;
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("disorder", "4s"),
        ("trap", "20000"),
        ("output", as_text(&output)),
    ];
    jobs::run(Guest::Flows, options, &pairs).expect_err("it traps");
    place.run(place.options(3, EXACTLY, Restore::Latest), &[("disorder", "4s")]);
    assert_same(&sorted(&output), &expected);
}

#[test]
fn state_without_an_operator_is_refused_unless_allowed() {
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");
    let output = place.0.path().join("other");
    let pairs = [("kind", "fields"), ("rows", "10"), ("output", as_text(&output))];
    let refused = jobs::run(Guest::Flows, from(&place, &savepoint, 1, false), &pairs);
    let error = refused.expect_err("it has other operators");
    check_error(&error, "CK0011", millrace_core::Fault::User, &["savepoint `"]);
    jobs::succeed(Guest::Flows, from(&place, &savepoint, 1, true), &pairs);
}

#[test]
fn what_is_no_savepoint_is_refused() {
    let place = Place::new();
    let output = place.output();
    let pairs = [("kind", "durable"), ("rows", "10"), ("output", as_text(&output))];
    let nothing = as_text(&place.0.path().join("nothing")).to_owned();
    let error = jobs::run(Guest::Flows, from(&place, &nothing, 1, false), &pairs).expect_err("there is none");
    check_error(&error, "CS0201", millrace_core::Fault::User, &["nothing"]);
    let storage = place.storage();
    let arguments = ["savepoint", "durable", "--checkpoint-dir", &storage, "--to", &nothing];
    let told = cli(&arguments);
    assert_eq!(told.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert!(stderr.contains("CS0105"), "{stderr}");
}
