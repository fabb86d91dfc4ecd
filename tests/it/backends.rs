//! State that is not in the guest: results are those of a job that has all of it in memory.

use std::path::PathBuf;
use std::time::Duration;

use millrace_core::Fault;
use millrace_engine::metrics::TaskMetrics;
use millrace_engine::{JobOptions, Limits, Report, Restore, StateBackend};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, check_error};

use crate::durable::{EXACTLY, Place, RATE, ROWS, SmallDisk, assert_same, expected_with, kill_after, sorted, spawn};

/// Far more keys than stay in the guest when there is next to no memory for them.
const KEYS: (&str, &str) = ("keys", "3000");

/// RocksDB with next to no memory.
fn on_disk(place: &Place) -> StateBackend {
    StateBackend::RocksDb {
        folder: folder(place),
        cache_bytes: 1 << 20,
    }
}

fn folder(place: &Place) -> PathBuf {
    place.0.path().join("state")
}

fn options(place: &Place, parallelism: u32, backend: StateBackend, restore: Restore) -> JobOptions {
    JobOptions {
        backend,
        block_rows: 200,
        ..place.options(parallelism, EXACTLY, restore)
    }
}

/// Entries of each task that has state, and those among them that are in the guest.
fn entries(tasks: &[TaskMetrics]) -> Vec<(&str, u64, u64)> {
    let entries = tasks.iter().map(|task| {
        let slots = task.total(|metrics| &metrics.state_slots);
        (task.name.as_str(), slots, task.total(|metrics| &metrics.state_resident))
    });
    entries.filter(|(_, slots, _)| *slots > 0).collect()
}

/// Keys of the keyed functions, and those among them that were in the guest at the end.
fn slots(report: &Report) -> (u64, u64) {
    let keyed = report.tasks.iter().filter(|task| {
        let names = [task.name.as_str(), task.operators.first().map_or("", String::as_str)];
        names
            .iter()
            .any(|name| name.contains("count") || name.contains("process"))
    });
    keyed.fold((0, 0), |(slots, resident), task| {
        let total = |counter: fn(&millrace_engine::metrics::SubtaskMetrics) -> &millrace_engine::metrics::Counter| {
            TaskMetrics::total(task, counter)
        };
        (
            slots + total(|metrics| &metrics.state_slots),
            resident + total(|metrics| &metrics.state_resident),
        )
    })
}

#[test]
fn state_on_disk_changes_no_result() {
    let expected = expected_with(&[KEYS]);
    for parallelism in [1, 2] {
        let place = Place::new();
        let options = options(&place, parallelism, on_disk(&place), Restore::Nothing);
        let report = place.run(options, &[KEYS, ("rate", RATE), ("trap", "17777")]);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
        let (slots, resident) = slots(&report);
        assert!(slots > 2 * resident, "{resident} of {slots} keys are in the guest");
    }
}

/// Also without checkpoints, and in the host's memory.
#[test]
fn state_in_host_memory_changes_no_result() {
    let many = ("keys", "9000");
    let options = |memory_bytes| JobOptions {
        limits: Limits {
            memory_bytes,
            ..Limits::default()
        },
        block_rows: 200,
        ..jobs::options()
    };
    let clean = Place::new();
    let report = clean.run(options(Limits::default().memory_bytes), &[many]);
    let (all, resident) = slots(&report);
    assert_eq!(resident, all);
    // What it took is now more than it may.
    let place = Place::new();
    let report = place.run(options(report.guest_memory_bytes), &[many]);
    assert_same(&sorted(&place.output()), &sorted(&clean.output()));
    let (slots, resident) = slots(&report);
    assert!(
        slots == all && resident < slots,
        "{resident} of {slots} keys are in the guest"
    );
}

/// Windows that were open all the time are more than the guest may hold, and fire piece by piece at the end.
#[test]
fn windows_in_host_memory_change_no_result() {
    let more = [("rows", "200000"), ("keys", "20000"), ("disorder", "80s")];
    let options = |memory_bytes| JobOptions {
        limits: Limits {
            memory_bytes,
            ..Limits::default()
        },
        block_rows: 200,
        ..jobs::options()
    };
    let clean = Place::new();
    let report = clean.run(options(Limits::default().memory_bytes), &more);
    let place = Place::new();
    let output = place.output();
    let mut pairs = vec![("kind", "durable"), ("output", as_text(&output))];
    pairs.extend(more);
    // A quarter of a small instance is room for calls.
    let limit = report.guest_memory_bytes;
    let job = jobs::start(Guest::Flows, options(limit), &pairs);
    let mut below = Vec::new();
    while !job.is_finished() {
        let now = entries(job.tasks()).into_iter();
        let now = now.filter(|(_, slots, resident)| slots > resident);
        below.extend(now.map(|(name, ..)| name.to_owned()));
        below.sort();
        below.dedup();
        job.wait_timeout(Duration::from_millis(1));
    }
    let report = job.wait().expect("memory is enough");
    assert!(report.guest_memory_bytes <= limit);
    assert_same(&sorted(&output), &sorted(&clean.output()));
    assert!(below.len() >= 3, "{below:?}");
}

/// Each life on the other backend.
#[test]
fn a_job_that_is_killed_goes_on_with_another_backend() {
    let more = [KEYS, ("disorder", "2s")];
    let expected = expected_with(&more);
    let place = Place::new();
    let state = folder(&place);
    let arguments = |life: u64| {
        let disk = [
            "--state-backend=rocksdb".to_owned(),
            "--state-cache=1".to_owned(),
            format!("--state-dir={}", as_text(&state)),
            "--block-rows=200".to_owned(),
        ];
        let memory = ["--memory-limit=4".to_owned(), "--block-rows=200".to_owned()];
        if life.is_multiple_of(2) {
            disk.to_vec()
        } else {
            memory.to_vec()
        }
    };
    let mut kills = 0;
    for life in 0..10 {
        let parallelism = 1 + life as u32 % 3;
        let mut child = spawn(&place, parallelism, RATE, &arguments(life), &more, &[]);
        std::thread::sleep(Duration::from_millis(120 + life * 37 % 140));
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("a child of ours");
            kills += 1;
        }
        child.wait().expect("a child");
    }
    let last = spawn(&place, 2, "0", &arguments(1), &more, &[]);
    let last = last.wait_with_output().expect("a child");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(kills > 2, "{kills} kills");
    assert_same(&sorted(&place.output()), &expected);
}

#[test]
fn a_stopped_job_goes_on_with_another_backend() {
    let expected = expected_with(&[KEYS]);
    let place = Place::new();
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        KEYS,
        ("rate", RATE),
        ("disorder", "8s"),
        ("output", as_text(&output)),
    ];
    for (parallelism, disk) in [(2, true), (1, false), (3, true)] {
        let backend = if disk { on_disk(&place) } else { StateBackend::Memory };
        let job = jobs::start(
            Guest::Flows,
            options(&place, parallelism, backend, Restore::Latest),
            &pairs,
        );
        // Keyed functions and windows alike.
        let all_leave = |tasks: &[TaskMetrics]| {
            let entries = entries(tasks);
            entries.len() >= 5 && entries.iter().all(|(_, slots, resident)| slots > resident)
        };
        if disk {
            jobs::wait_until("entries leave memory", || all_leave(job.tasks()));
        } else {
            job.wait_timeout(Duration::from_millis(300));
        }
        job.stop();
        job.wait().expect("a stop is no failure");
        // What is on disk is worth nothing without a checkpoint, and a checkpoint needs nothing of it.
        if disk {
            std::fs::remove_dir_all(folder(&place)).expect("the folder of a stopped job");
        }
    }
    place.run(
        options(&place, 2, StateBackend::Memory, Restore::Latest),
        &[KEYS, ("disorder", "8s")],
    );
    assert_same(&sorted(&output), &expected);
}

#[test]
fn a_job_with_state_on_disk_is_killed_again_and_again() {
    let expected = expected_with(&[KEYS]);
    for parallelism in [1, 2] {
        let place = Place::new();
        let state = folder(&place);
        let arguments = [
            "--state-backend=rocksdb".to_owned(),
            "--state-cache=1".to_owned(),
            format!("--state-dir={}", as_text(&state)),
            "--block-rows=200".to_owned(),
        ];
        kill_after(100, &place, parallelism, &arguments, &[KEYS], &[]);
        assert_same(&sorted(&place.output()), &expected);
        // Those that were killed left theirs to the next.
        assert_eq!(std::fs::read_dir(&state).expect("the folder").count(), 0);
    }
}

#[test]
fn a_full_disk_under_the_state_loses_nothing() {
    let many = ("keys", "9000");
    let Some(disk) = SmallDisk::mount(1200) else { return };
    let place = Place::new();
    std::os::unix::fs::symlink(disk.path(), folder(&place)).expect("a link");
    let output = place.output();
    let small = |restore| {
        let backend = StateBackend::RocksDb {
            folder: folder(&place).join("job"),
            cache_bytes: 1 << 20,
        };
        let mut options = options(&place, 2, backend, restore);
        let checkpoints = options.checkpoints.as_mut().expect("they are on");
        checkpoints.restart = "none".parse().expect("a strategy");
        options
    };
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        many,
        ("rate", RATE),
        ("output", as_text(&output)),
    ];
    let error = jobs::run(Guest::Flows, small(Restore::Nothing), &pairs).expect_err("the disk is full");
    check_error(&error, "CS0301", Fault::External, &["No space left"]);
    disk.grow();
    place.run(small(Restore::Latest), &[many]);
    assert_same(&sorted(&output), &expected_with(&[many]));
}
