//! Slot-sharing groups: operators on threads of their own, where the number of a slot is not that of its subtasks. What a
//! job puts out is the same, whatever happens to it and whatever its groups were before.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_engine::{JobOptions, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, cli, number, parallel, text};
use millrace_tests::running;
use serde_json::{Value, json};

use crate::durable::{EXACTLY, Place, RATE, ROWS, assert_same, expected, kill_after, sorted};
use crate::quarantine;
use crate::savepoint::{from, from_nothing, save};
use crate::unaligned::{self, WORK, kill_in_flight};

/// Wider and narrower than the job, before others and behind them; what is not named goes with its inputs.
const WIDE: &str = "source:in:1,counts:counts:3,sliding:slow,buckets:slow:2,work:work:3,sink:out:1";

/// The same operators elsewhere.
const OTHER: &str = "counts:a,sliding:b:1,buckets:c,work:a:2,sink:a";

/// One number of subtasks for all.
const EVEN: &str = "source:in,counts:counts,sliding:slow,buckets:slow,work:work,sink:out";

#[test]
fn groups_change_no_result() {
    let expected = expected();
    for (parallelism, groups) in [(1, WIDE), (2, WIDE), (3, OTHER), (2, EVEN)] {
        let place = Place::new();
        let options = place.options(parallelism, EXACTLY, Restore::Nothing);
        let report = place.run(options, &[("rate", RATE), ("groups", groups)]);
        assert_same(&sorted(&place.output()), &expected);
        assert!(report.checkpoints.completed > 1, "{:?}", report.checkpoints);
        assert_eq!(report.checkpoints.restarts, 0);
    }
}

#[test]
fn a_group_has_slots_for_its_widest_task() {
    let place = Place::new();
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("groups", WIDE),
        WORK,
        ("output", as_text(&output)),
    ];
    let prepared = jobs::prepare(Guest::Flows, parallel(2), &pairs).expect("a job");
    let placement = &prepared.plan().placement;
    let groups = placement.groups().iter();
    let slots: Vec<_> = groups.map(|group| (group.name.as_str(), group.slots.len())).collect();
    assert_eq!(slots, [("in", 2), ("counts", 3), ("slow", 2), ("work", 3), ("out", 1)]);
    assert_eq!(placement.slot_count(), 11);
}

#[test]
fn functions_of_different_groups_are_not_fused() {
    let run = |parallelism| {
        let pairs = [("kind", "groups"), ("rows", "5000")];
        let report = jobs::succeed(Guest::Flows, parallel(parallelism), &pairs);
        let names: Vec<String> = report.tasks.iter().map(|task| task.name.clone()).collect();
        assert_eq!(
            names,
            ["events", "first", "second → third", "fourth", "count", "out"],
            "{parallelism}"
        );
        let of_sink = |name| number(&report, "out", name);
        (of_sink("rows"), of_sink("sum"), text(&report, "out", "checksum"))
    };
    let first = run(1);
    assert_eq!(first.0, 5_000);
    for parallelism in [2, 3, 4] {
        assert_eq!(run(parallelism), first);
    }
}

#[test]
fn a_job_that_traps_goes_on_from_its_checkpoint() {
    let expected = expected();
    for (parallelism, groups) in [(1, OTHER), (2, WIDE)] {
        let place = Place::new();
        let options = place.options(parallelism, EXACTLY, Restore::Nothing);
        let more = [("rate", RATE), ("trap", "17777"), ("groups", groups)];
        let report = place.run(options, &more);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
    }
}

/// The subtask that trapped is known by its number, not by that of its slot: or careful mode would not end.
#[test]
fn what_traps_is_set_aside() {
    let groups = ("groups", "tumbling:a,sessions:a,sliding:b:1,buckets:c:2,sink:d");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = lines.clone();
    let log = move |_, line: &str| log.lock().expect("nobody panics").push(line.to_owned());
    quarantine::comes_to_the_same(2, &[("rate", RATE), groups], Arc::new(log));
    let lines = lines.lock().expect("nobody panics");
    let ended = lines.iter().filter(|line| line.contains("careful mode has ended"));
    assert!(ended.count() > 0, "{lines:#?}");
}

#[test]
fn a_job_that_is_killed_again_and_again_puts_out_everything_once() {
    let expected = expected();
    let place = Place::new();
    kill_after(60, &place, 2, &[], &[("groups", WIDE)], &[]);
    assert_same(&sorted(&place.output()), &expected);
    // By unaligned checkpoints, with state on disk.
    let place = Place::new();
    let mut arguments = unaligned::arguments();
    arguments.push("--state-backend=rocksdb".to_owned());
    arguments.push("--state-cache=1".to_owned());
    arguments.push(format!("--state-dir={}", as_text(&place.0.path().join("state"))));
    kill_after(100, &place, 2, &arguments, &[WORK, ("groups", OTHER)], &[]);
    assert_same(&sorted(&place.output()), &expected);
}

/// Groups are no part of what a checkpoint or savepoint knows.
#[test]
fn a_job_goes_on_with_other_groups_and_another_parallelism() {
    let expected = expected();
    let place = Place::new();
    let output = place.output();
    let pairs = |groups| {
        [
            ("kind", "durable"),
            ("rows", ROWS),
            ("rate", "10000"),
            // A subtask may read what several read before, each as far as it had come.
            ("disorder", "8s"),
            ("groups", groups),
            ("output", as_text(&output)),
        ]
    };
    let for_a_while = |options: JobOptions, groups| {
        let job = jobs::start(Guest::Flows, options, &pairs(groups));
        job.wait_timeout(Duration::from_millis(500));
        job.stop();
        job.wait().expect("a stop is no failure");
    };
    for_a_while(from_nothing(&place, 2), WIDE);
    for (parallelism, groups) in [(2, ""), (3, OTHER)] {
        for_a_while(place.options(parallelism, EXACTLY, Restore::Latest), groups);
    }
    let savepoint = save(&place, "savepoint");
    let report = place.run(
        from(&place, &savepoint, 1, false),
        &[("disorder", "8s"), ("groups", EVEN)],
    );
    assert_same(&sorted(&output), &expected);
    assert_eq!(report.checkpoints.restarts, 0);
}

/// A channel is known by its edge and its ends: whether it was a queue does not matter.
#[test]
fn rows_in_flight_survive_other_groups() {
    let expected = expected();
    let place = Place::new();
    let more = |groups| [WORK, ("disorder", "8s"), ("groups", groups)];
    for (parallelism, groups) in [(2, EVEN), (2, ""), (2, EVEN), (3, WIDE)] {
        kill_in_flight(&place, parallelism, &more(groups));
    }
    place.run(place.options(2, EXACTLY, Restore::Latest), &more(OTHER));
    assert_same(&sorted(&place.output()), &expected);
}

#[test]
fn groups_and_slots_are_shown() {
    let inspect = |more: &[&str]| {
        let arguments = [&["inspect", as_text(Guest::Flows.path()), "--param=kind=groups"], more].concat();
        let output = cli(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        String::from_utf8(output.stdout).expect("text")
    };
    let shown = inspect(&[]);
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| *line == "slots, at parallelism 1");
    let table = &lines[at.expect("a section of slots") + 1..][..4];
    assert_eq!(
        table,
        [
            "group   slots  tasks",
            "in          1  events, first, fourth, count",
            "middle      3  second → third",
            "out         1  out"
        ]
    );
    let drawn = inspect(&["--graph=text"]);
    assert!(
        drawn.contains("second  (filter, parallelism 3, group middle)"),
        "{drawn}"
    );
    assert!(drawn.contains("events  (generator source, group in)"), "{drawn}");
    let told: Value = serde_json::from_str(&inspect(&["--output=json"])).expect("JSON");
    let middle = json!({ "name": "middle", "slots": 3, "tasks": ["second → third"] });
    assert_eq!(told["slot_sharing_groups"][1], middle);
    assert_eq!(told["graph"]["operators"][2]["slot_sharing_group"], "middle");
    // Of a job without groups nothing is said.
    let plain = cli(&["inspect", as_text(Guest::Flows.path()), "--param=kind=forward"]);
    let plain = String::from_utf8(plain.stdout).expect("text");
    assert!(
        plain.contains("generator source") && !plain.contains("slots, at"),
        "{plain}"
    );
    assert!(!plain.contains("group default"), "{plain}");
}

#[test]
fn a_running_job_tells_its_slots() {
    let place = running::Place::new();
    let more = [("rate", "1000"), ("rows", "1000000"), ("groups", OTHER)];
    let job = place.start("durable", &["--parallelism=2".to_owned()], &more);
    let listed = place.wait_for("running");
    let groups = json!([
        { "name": "default", "slots": 2 },
        { "name": "a", "slots": 2 },
        { "name": "b", "slots": 1 },
        { "name": "c", "slots": 2 }
    ]);
    assert_eq!((&listed["slots"], &listed["slot_sharing_groups"]), (&json!(7), &groups));
    job.signal("INT");
    job.succeed();
}
