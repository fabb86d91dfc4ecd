//! How a running job is brought to its end by others: stop, with a savepoint, drained; cancel; kill while a savepoint is
//! being written.

use std::path::Path;
use std::time::Duration;

use millrace_engine::{Beginning, JobOptions, Request, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, visible_files, wait_until};
use millrace_tests::running::Place;

use crate::durable::{self, EXACTLY, ROWS, SmallDisk, assert_same, expected, sorted};
use crate::running::{NEVER, go_on_from, go_on_from_latest, in_the_middle};

fn has_manifest(savepoint: &Path) -> bool {
    savepoint.join("manifest.json").is_file()
}

/// Both the savepoint and the last checkpoint go on where the job stopped.
#[test]
fn a_stop_with_a_savepoint() {
    let expected = expected();
    for (from_savepoint, checkpoints) in [(true, NEVER), (false, NEVER), (true, "20ms")] {
        let place = Place::new();
        let job = in_the_middle(&place, 2, place.checkpoints(checkpoints));
        let savepoint = place.text("savepoint");
        let told = place.tell(&["stop", "durable", "--savepoint", &savepoint]);
        assert_eq!(told["savepoint"]["url"], savepoint, "{told}");
        let messages = job.succeed();
        assert!(
            messages.contains("was stopped") && messages.contains(&savepoint),
            "{messages}"
        );
        assert!(has_manifest(&place.path("savepoint")));
        // It commits all that it holds.
        assert!(!sorted(&place.output()).is_empty());
        if from_savepoint {
            go_on_from(&place, &savepoint, 3);
        } else {
            go_on_from_latest(&place, 1);
        }
        assert_same(&sorted(&place.output()), &expected);
    }
}

#[test]
fn a_stop_with_a_savepoint_without_checkpoints() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, Vec::new());
    let told = place.tell(&["stop", "durable", "--savepoint"]);
    let savepoint = told["savepoint"]["url"].as_str().expect("a default place").to_owned();
    job.succeed();
    assert!(!sorted(&place.output()).is_empty());
    go_on_from(&place, &savepoint, 3);
    assert_same(&sorted(&place.output()), &expected());
}

/// As Ctrl-C.
#[test]
fn a_stop_without_a_savepoint() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints(NEVER));
    let told = place.tell(&["stop", "durable"]);
    assert!(told["savepoint"].is_null(), "{told}");
    job.succeed();
    go_on_from_latest(&place, 3);
    assert_same(&sorted(&place.output()), &expected());
}

/// The results of a job that is drained are those of a job whose input ends there.
#[test]
fn a_drained_job_has_all_results_of_what_it_read() {
    for (durable, unaligned) in [(true, false), (false, false), (true, true)] {
        let place = durable::Place::new();
        let options = |parallelism, restore| {
            let mut options = place.options(parallelism, EXACTLY, restore);
            let timeout = unaligned.then_some(Duration::ZERO);
            let checkpoints = options.checkpoints.as_mut().expect("it takes checkpoints");
            checkpoints.config.aligned_timeout = timeout;
            options
        };
        let first = JobOptions {
            checkpoints: options(1, Restore::Nothing).checkpoints.filter(|_| durable),
            ..options(1, Restore::Nothing)
        };
        let output = place.output();
        let pairs = [
            ("kind", "durable"),
            ("rows", ROWS),
            ("rate", "10000"),
            ("output", as_text(&output)),
        ];
        let job = jobs::start(Guest::Flows, first, &pairs);
        wait_until("rows are read", || {
            jobs::JobMetrics(job.tasks()).rows_in("process") > 3_000
        });
        let savepoint = as_text(&place.0.path().join("savepoint")).to_owned();
        let control = job.control();
        let request = Request::Stop {
            savepoint: Some(savepoint.clone()),
            drain: true,
        };
        let operation = control.request(request).expect("a running job can be drained");
        let report = job.wait().expect("a drain is no failure");
        assert_eq!(report.end, millrace_engine::End::Drained);
        let operation = control.operation(operation).expect("it is remembered");
        assert!(operation.ended && operation.error.is_none(), "{operation:?}");
        let read = jobs::task(&report.tasks, "events")
            .total(|metrics| &metrics.rows_in)
            .to_string();
        let clean = tempfile::tempdir().expect("temporary folder");
        let pairs = [
            ("kind", "durable"),
            ("rows", read.as_str()),
            ("output", as_text(clean.path())),
        ];
        jobs::succeed(Guest::Flows, jobs::parallel(1), &pairs);
        let drained = sorted(&output);
        assert_same(&drained, &sorted(clean.path()));
        // It can go on with the rest: what does not depend on time goes on as if nothing had happened, and windows open
        // anew: no row is late.
        let from = Beginning {
            url: savepoint,
            allow_non_restored_state: false,
            claim: false,
        };
        let second = match unaligned {
            false => JobOptions {
                from: Some(from),
                ..options(2, Restore::Nothing)
            },
            // What was said on the channels of these subtasks is part of the checkpoint, but not the last watermark.
            true => options(1, Restore::Latest),
        };
        place.run(second, &[("disorder", "4s")]);
        let of = |rows: &[String], operator: &str| {
            let rows = rows.iter().filter(|row| row.starts_with(operator));
            rows.cloned().collect::<Vec<_>>()
        };
        let (all, expected) = (sorted(&output), expected());
        assert_same(&of(&all, "counts"), &of(&expected, "counts"));
        let rows_in_windows = |rows: &[String]| {
            let counts = of(rows, "tumbling").into_iter().map(|row| {
                let count = row.rsplit(',').next().and_then(|count| count.parse::<u64>().ok());
                count.expect("a count")
            });
            counts.sum::<u64>()
        };
        assert_eq!(rows_in_windows(&all), rows_in_windows(&expected));
    }
}

#[test]
fn the_command_drains() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    let savepoint = place.text("savepoint");
    place.tell(&["stop", "durable", "--drain", "--savepoint", &savepoint]);
    let messages = job.succeed();
    assert!(messages.contains("was drained"), "{messages}");
    for operator in ["tumbling", "sliding", "sessions", "buckets"] {
        let results = sorted(&place.output());
        assert!(results.iter().any(|row| row.starts_with(operator)), "{operator}");
    }
    let state = place.tell(&["state", "ls", &savepoint]);
    assert!(!state.is_null());
}

#[test]
fn a_cancelled_job_goes_on_from_its_last_checkpoint() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    wait_until("a checkpoint", || {
        !place.wait_for("running")["last_checkpoint"].is_null()
    });
    place.tell(&["cancel", "durable"]);
    let (code, messages) = job.end();
    assert_eq!(code, Some(5), "{messages}");
    assert!(messages.contains("job `durable` was cancelled"), "{messages}");
    go_on_from_latest(&place, 3);
    assert_same(&sorted(&place.output()), &expected());
}

/// What sinks had prepared for a savepoint is its own, whatever becomes of the job behind it.
#[test]
fn a_cancelled_job_goes_on_from_its_savepoint() {
    let expected = expected();
    for checkpoints in [true, false] {
        let place = Place::new();
        let options = match checkpoints {
            true => place.checkpoints(NEVER),
            false => Vec::new(),
        };
        let job = in_the_middle(&place, 2, options);
        let savepoint = place.text("savepoint");
        place.tell(&["savepoint", "durable", "--to", &savepoint]);
        place.tell(&["cancel", "durable"]);
        assert_eq!(job.end().0, Some(5));
        assert!(sorted(&place.output()).is_empty(), "a savepoint commits nothing");
        go_on_from(&place, &savepoint, 3);
        assert_same(&sorted(&place.output()), &expected);
    }
}

#[test]
fn a_cancelled_job_without_checkpoints_commits_nothing() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, Vec::new());
    place.tell(&["cancel", "durable"]);
    assert_eq!(job.end().0, Some(5));
    assert!(visible_files(&place.output()).is_empty());
    assert!(jobs::all_files(&place.output()).is_empty(), "nothing is left behind");
}

/// What a job that waits for its restart can be asked.
#[test]
fn a_job_that_waits_for_its_restart() {
    let restart = "--restart=fixed-delay:attempts=9,delay=1h".to_owned();
    let trap = [("rows", ROWS), ("rate", "4000"), ("disorder", "4s"), ("trap", "5000")];
    let start = |place: &Place| {
        let mut arguments = place.checkpoints("20ms");
        arguments.push(restart.clone());
        let job = place.start("durable", &arguments, &trap);
        let listed = place.wait_for("restarting");
        assert!(
            listed["last_failure"]
                .as_str()
                .is_some_and(|why| why.contains("row 5000")),
            "{listed}"
        );
        place.refuse(&["savepoint", "durable"], 2, &["AP0003", "restarted"]);
        job
    };
    let place = Place::new();
    let job = start(&place);
    place.tell(&["cancel", "durable"]);
    assert_eq!(job.end().0, Some(5));

    // A stop ends the waiting. The row comes again in the next attempt and may come before the stop, once.
    let place = Place::new();
    let job = start(&place);
    let savepoint = place.text("savepoint");
    let stop = ["stop", "durable", "--savepoint", savepoint.as_str()];
    let first = place.cli(&stop);
    if !first.status.success() {
        let stderr = String::from_utf8_lossy(&first.stderr).into_owned();
        assert!(
            stderr.contains("AP0005") && stderr.contains("the job failed meanwhile"),
            "{stderr}"
        );
        assert!(!has_manifest(&place.path("savepoint")));
        place.wait_for("restarting");
        place.tell(&stop);
    }
    job.succeed();
    go_on_from(&place, &savepoint, 2);
    assert_same(&sorted(&place.output()), &expected());
}

/// Ctrl-C in the middle of a stop changes nothing but what follows its failure.
#[test]
fn a_signal_during_a_stop() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints(NEVER));
    let savepoint = place.text("savepoint");
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| place.cli(&["stop", "durable", "--savepoint", &savepoint]));
        wait_until("the stop begins", || {
            place.list().iter().all(|job| job["state"] != "running")
        });
        job.signal("INT");
        let told = stop.join().expect("no panic");
        // The signal may have come in the moment in which the process was already leaving, or before.
        let stderr = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{stderr}");
    });
    job.end();
    assert!(has_manifest(&place.path("savepoint")));
    go_on_from(&place, &savepoint, 1);
    assert_same(&sorted(&place.output()), &expected());
}

/// A place that cannot be used is refused before anything is stopped.
#[test]
fn a_stop_to_a_place_that_is_taken_leaves_the_job_running() {
    let place = Place::new();
    let job = in_the_middle(&place, 1, place.checkpoints(NEVER));
    std::fs::create_dir_all(place.path("taken/by")).expect("a folder");
    let taken = place.text("taken");
    place.refuse(&["stop", "durable", "--savepoint", &taken], 2, &["CS0202", "taken"]);
    place.refuse(&["savepoint", "durable", "--to", "nothing://x"], 2, &["CS0001"]);
    assert_eq!(place.wait_for("running")["restarts"], 0);
    job.succeed();
    assert_same(&sorted(&place.output()), &expected());
}

/// A savepoint that cannot be written leaves nothing behind, and the job goes on; after a stop, from its last checkpoint.
#[test]
fn a_savepoint_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    wait_until("a checkpoint", || {
        !place.wait_for("running")["last_checkpoint"].is_null()
    });
    let target = as_text(&disk.path().join("savepoint")).to_owned();
    place.refuse(&["savepoint", "durable", "--to", &target], 4, &["CS0005", "savepoint"]);
    assert!(!Path::new(&target).join("tables").exists());
    assert_eq!(place.wait_for("running")["restarts"], 0);
    place.refuse(
        &["stop", "durable", "--savepoint", &target],
        4,
        &["CS0005", "savepoint"],
    );
    assert!(!has_manifest(Path::new(&target)));
    // There are rows for some seconds more.
    wait_until("a restart", || place.list().iter().all(|job| job["restarts"] == 1));
    disk.grow();
    let messages = job.succeed();
    assert!(messages.contains("restarted"), "{messages}");
    assert_same(&sorted(&place.output()), &expected());
}

/// Whatever the moment of a kill: there is a savepoint that is sound, or none.
#[test]
fn a_kill_while_a_savepoint_is_being_written() {
    let (mut written, mut unwritten) = (0, 0);
    for round in 0..8_u64 {
        let place = Place::new();
        let job = in_the_middle(&place, 2, place.checkpoints(NEVER));
        let savepoint = place.text("savepoint");
        let told = std::thread::scope(|scope| {
            let command = scope.spawn(|| place.cli(&["savepoint", "durable", "--to", &savepoint]));
            // The kill comes anywhere between the request and some time after its end.
            wait_until("the savepoint begins", || {
                Path::new(&savepoint).exists() || command.is_finished()
            });
            std::thread::sleep(Duration::from_micros(round * round * 4_000));
            job.kill();
            command.join().expect("no panic")
        });
        if has_manifest(Path::new(&savepoint)) {
            written += 1;
            place.tell(&["state", "ls", &savepoint]);
        } else {
            unwritten += 1;
            let stderr = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(4), "{stderr}");
            assert!(stderr.contains("AP0009"), "{stderr}");
            place.refuse(&["state", "ls", &savepoint], 2, &["CS0201"]);
        }
    }
    println!("{written} savepoints were written before the kill, {unwritten} were not");
    assert_eq!(written + unwritten, 8);
}
