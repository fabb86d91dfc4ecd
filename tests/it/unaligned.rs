//! Checkpoints whose barriers overtake rows: under load they hold what is on its way between operators, and a job goes
//! on from them as from any other.

use std::time::{Duration, Instant};

use millrace_core::Fault;
use millrace_engine::{Beginning, End, JobOptions, Request, Restore};
use millrace_state::{Depth, Metadata, Storage};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, PATIENCE, as_text, check_error, cli, parallel, wait_until};

use crate::durable::{EXACTLY, Place, ROWS, assert_same, expected, kill_after, sorted, spawn};

/// Some ten microseconds for each result: what comes before it backs up.
pub(crate) const WORK: (&str, &str) = ("work", "20000");

fn options(place: &Place, parallelism: u32, restore: Restore, timeout: Duration) -> JobOptions {
    let mut options = place.options(parallelism, EXACTLY, restore);
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.config.aligned_timeout = Some(timeout);
    }
    options.block_rows = 256;
    options
}

/// Those of a job in a process of its own.
pub(crate) fn arguments() -> Vec<String> {
    ["--unaligned-checkpoints", "--block-rows=128"]
        .map(String::from)
        .to_vec()
}

/// What the newest checkpoint says, if there is one.
fn latest(place: &Place) -> Option<Metadata> {
    latest_of(place, "durable")
}

fn latest_of(place: &Place, job: &str) -> Option<Metadata> {
    let storage = Storage::open(&place.storage()).expect("a storage");
    // The job may be deleting it.
    let latest = storage.open_latest(job, Depth::Sizes).ok()?;
    latest.found.map(|found| found.metadata().clone())
}

#[test]
fn rows_in_flight_change_no_result() {
    let expected = expected();
    for parallelism in [1, 2, 3] {
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let place = Place::new();
            let report = place.run(options(&place, parallelism, Restore::Nothing, timeout), &[WORK]);
            assert_same(&sorted(&place.output()), &expected);
            let taken = &report.checkpoints;
            assert!(taken.completed > 1 && taken.unaligned > 0, "{parallelism}: {taken:?}");
            assert_eq!(taken.restarts, 0);
        }
    }
}

/// What has time enough waits, and holds nothing but state; so does the last checkpoint of every job.
#[test]
fn what_is_aligned_in_time_holds_no_rows() {
    let place = Place::new();
    let options = options(&place, 2, Restore::Nothing, Duration::from_secs(3600));
    let report = place.run(options, &[WORK]);
    let taken = &report.checkpoints;
    assert!(taken.completed > 1 && taken.unaligned == 0, "{taken:?}");
    assert_eq!(latest(&place).expect("the last one").in_flight().rows, 0);
}

#[test]
fn a_job_that_traps_goes_on_with_the_rows_in_flight() {
    let expected = expected();
    for parallelism in [1, 2] {
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let place = Place::new();
            let options = options(&place, parallelism, Restore::Nothing, timeout);
            let report = place.run(options, &[WORK, ("trap", "17777")]);
            assert_same(&sorted(&place.output()), &expected);
            let taken = &report.checkpoints;
            assert!(taken.restarts == 2 && taken.unaligned > 0, "{parallelism}: {taken:?}");
        }
    }
}

#[test]
fn a_job_that_is_killed_again_and_again_puts_out_everything_once() {
    let expected = expected();
    for (parallelism, timeout) in [(1, "0s"), (2, "0s"), (3, "20ms")] {
        let mut arguments = arguments();
        arguments.push(format!("--aligned-checkpoint-timeout={timeout}"));
        let place = Place::new();
        kill_after(60, &place, parallelism, &arguments, &[WORK], &[]);
        assert_same(&sorted(&place.output()), &expected);
    }
}

/// Kills the job as soon as its newest checkpoint holds rows in flight.
pub(crate) fn kill_in_flight(place: &Place, parallelism: u32, more: &[(&str, &str)]) {
    let begin = Instant::now();
    let job = more
        .iter()
        .find(|(name, _)| *name == "kind")
        .map_or("durable", |(_, kind)| kind);
    let before = latest_of(place, job).map(|metadata| metadata.checkpoint);
    let mut child = spawn(place, parallelism, "0", &arguments(), more, &[]);
    loop {
        let found = latest_of(place, job).filter(|metadata| Some(metadata.checkpoint) > before);
        if found.is_some_and(|metadata| metadata.in_flight().rows > 0) {
            break;
        }
        assert!(child.try_wait().expect("a child").is_none(), "it ended before");
        assert!(begin.elapsed() < PATIENCE, "no checkpoint holds rows in flight");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child");
}

/// What is left behind by one number of subtasks is taken up by another.
#[test]
fn rows_in_flight_survive_other_parallelisms() {
    let expected = expected();
    // A subtask may read what several read before, each as far as it had come.
    let more = [WORK, ("disorder", "8s")];
    let place = Place::new();
    for parallelism in [2, 3, 1, 4] {
        kill_in_flight(&place, parallelism, &more);
        let held = latest(&place).expect("it was there").in_flight();
        assert!(held.rows > 0 && held.bytes > 0, "{held:?}");
    }
    let report = place.run(place.options(2, EXACTLY, Restore::Latest), &more);
    assert_same(&sorted(&place.output()), &expected);
    assert_eq!(report.checkpoints.restarts, 0, "to let rows through is no restart");
}

/// A savepoint and a stop that come while rows are overtaken have barriers that wait for rows.
#[test]
fn what_is_asked_for_meanwhile_holds_no_rows() {
    // The savepoint waits for rows in flight: behind it a job may have none left, and end before it is stopped.
    let is_stopped = (0..5).any(|_| savepoint_and_stop_hold_no_rows());
    assert!(is_stopped, "it always ended before");
}

/// Whether the job was there to be stopped.
fn savepoint_and_stop_hold_no_rows() -> bool {
    let place = Place::new();
    let output = place.output();
    let pairs = |work| {
        [
            ("kind", "durable"),
            ("rows", ROWS),
            ("disorder", "8s"),
            ("work", work),
            ("output", as_text(&output)),
        ]
    };
    let options = options(&place, 2, Restore::Nothing, Duration::ZERO);
    let job = jobs::start(Guest::Flows, options, &pairs("200000"));
    let (control, target) = (job.control(), |name: &str| {
        as_text(&place.0.path().join(name)).to_owned()
    });
    wait_until("rows are in flight", || job.checkpoints().unaligned > 0);
    let request = Request::Savepoint {
        target: target("while-it-runs"),
    };
    let savepoint = control.request(request).expect("a running job makes savepoints");
    let savepoint = control.wait_operation(savepoint, PATIENCE).expect("it is remembered");
    assert!(savepoint.ended && savepoint.error.is_none(), "{savepoint:?}");
    let request = Request::Stop {
        savepoint: Some(target("stopped")),
        drain: false,
    };
    if let Err(error) = control.request(request) {
        assert_eq!(error.code(), "AP0003", "{error}");
        job.wait().expect("it came to its end");
        return false;
    }
    let report = job.wait().expect("a stop is no failure");
    if report.end != End::Stopped {
        return false;
    }
    assert_eq!(latest(&place).expect("the last one").in_flight().elements, 0);
    let from = |name| Beginning {
        url: target(name),
        allow_non_restored_state: false,
        claim: false,
    };
    let goes_on = JobOptions {
        from: Some(from("stopped")),
        ..place.options(3, EXACTLY, Restore::Nothing)
    };
    jobs::run(Guest::Flows, goes_on, &pairs("1")).expect("the savepoint is sound");
    assert_same(&sorted(&output), &expected());
    true
}

/// Before rows in flight are through, a job at another parallelism has not begun: it can be stopped and cancelled.
#[test]
fn a_job_that_lets_rows_through_first_can_be_told_to_end() {
    let place = Place::new();
    let output = place.output();
    let more = [WORK, ("disorder", "8s")];
    let mut pairs = vec![("kind", "durable"), ("rows", ROWS), ("output", as_text(&output))];
    pairs.extend(more);
    for (parallelism, cancel) in [(3, false), (3, true), (1, true), (1, false)] {
        kill_in_flight(&place, 2, &more);
        let options = options(&place, parallelism, Restore::Latest, Duration::ZERO);
        let job = jobs::start(Guest::Flows, options, &pairs);
        let expect = if cancel {
            job.control().request(Request::Cancel).expect("at any time");
            End::Cancelled
        } else {
            job.stop();
            End::Stopped
        };
        assert_eq!(job.wait().expect("no failure").end, expect);
    }
    place.run(place.options(2, EXACTLY, Restore::Latest), &more);
    assert_same(&sorted(&output), &expected());
}

/// A job without checkpoints may begin with rows in flight, but not at another parallelism.
#[test]
fn rows_in_flight_without_checkpoints() {
    let place = Place::new();
    kill_in_flight(&place, 2, &[WORK]);
    let held = latest(&place).expect("it was there");
    let (run, id) = (held.run, held.checkpoint);
    let options = |parallelism| JobOptions {
        from: Some(Beginning {
            url: format!("{}/durable/{run}/chk-{id}", place.storage()),
            allow_non_restored_state: false,
            claim: false,
        }),
        ..parallel(parallelism)
    };
    let output = place.output();
    let pairs = [("kind", "durable"), ("rows", ROWS), WORK, ("output", as_text(&output))];
    let error = jobs::run(Guest::Flows, options(3), &pairs).expect_err("there is nowhere to settle");
    check_error(
        &error,
        "CK0015",
        Fault::User,
        &["rows in flight", "place for checkpoints"],
    );
    jobs::run(Guest::Flows, options(2), &pairs).expect("the same subtasks take them up");
    assert_same(&sorted(&output), &expected());
}

#[test]
fn rows_in_flight_need_the_edge_that_they_were_on() {
    let place = Place::new();
    kill_in_flight(&place, 2, &[WORK]);
    let output = place.output();
    let pairs = [("kind", "durable"), ("rows", "30000"), ("output", as_text(&output))];
    // Without work there is no exchange before it.
    let error = jobs::run(Guest::Flows, place.options(2, EXACTLY, Restore::Latest), &pairs).expect_err("no such edge");
    check_error(
        &error,
        "CK0013",
        Fault::User,
        &["rows in flight", "to `", "does not have"],
    );
}

#[test]
fn no_savepoint_is_made_of_rows_in_flight() {
    let place = Place::new();
    kill_in_flight(&place, 1, &[WORK]);
    let to = place.0.path().join("savepoint");
    let storage = format!("--checkpoint-dir={}", place.storage());
    let output = cli(&["savepoint", "durable", &storage, "--to", as_text(&to)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("CS0207") && stderr.contains("in flight"), "{stderr}");
    assert!(!to.exists());
}

/// Rows in flight become what the next version of the code expects, or it is refused before anything runs.
#[test]
fn rows_in_flight_take_another_shape() {
    let place = Place::new();
    let output = place.output();
    let pairs = |version| {
        [
            ("kind", "reshaped"),
            ("rows", "20000"),
            ("version", version),
            ("output", as_text(&output)),
        ]
    };
    kill_in_flight(&place, 2, &pairs("1"));
    let error = jobs::run(
        Guest::Flows,
        options(&place, 2, Restore::Latest, Duration::ZERO),
        &pairs("3"),
    );
    let error = error.expect_err("a label is not a title");
    check_error(
        &error,
        "CK0014",
        Fault::User,
        &["rows in flight from `shape`", "field `title`"],
    );
    kill_in_flight(&place, 2, &pairs("2"));
    // Also where they are let through first.
    kill_in_flight(&place, 3, &pairs("2"));
    jobs::run(
        Guest::Flows,
        options(&place, 1, Restore::Latest, Duration::ZERO),
        &pairs("2"),
    )
    .expect("it fits");
    let clean = Place::new();
    jobs::succeed(
        Guest::Flows,
        jobs::options(),
        &[
            ("kind", "reshaped"),
            ("rows", "20000"),
            ("output", as_text(&clean.output())),
        ],
    );
    assert_same(&sorted(&output), &sorted(&clean.output()));
}
