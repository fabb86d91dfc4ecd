//! Rows, timers and windows that trap are set aside, and the job comes to what it comes to without them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millrace_core::Fault;
use millrace_core::checkpoint::RestartStrategy;
use millrace_core::graph::Origin;
use millrace_engine::{Beginning, JobOptions, LogSink, OnTrap, Report, Restore};
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::http::{Reply, Server};
use millrace_tests::jobs::{self, as_text, cli, options, parallel, task, wait_until};
use millrace_tests::running;
use serde_json::Value;

use crate::durable::{EXACTLY, Place, RATE, ROWS, assert_same, sorted};
use crate::every_operator::outputs;

/// One of each kind, and two rows that follow each other.
const BAD: &str = "map:3000,reduce:12000,add:7000,finish:9000,slide:11000,merge:13000,join:15000,close:17000,\
                   process:19000,process:19001,timer:21000";

/// Operators that set something aside, and how many rows, timers and windows: a slice is in three sliding windows.
const ASIDE: &[(&str, &str, usize)] = &[
    ("map", "row", 1),
    ("reduce", "row", 1),
    ("window.aggregate", "row", 3),
    ("window.aggregate", "window", 5),
    ("process", "row", 2),
    ("process", "timer", 1),
];

struct Job {
    kind: &'static str,
    place: Place,
    bad: String,
}

impl Job {
    fn new(bad: &str) -> Self {
        Job::of("poison", bad)
    }

    fn of(kind: &'static str, bad: &str) -> Self {
        let (place, bad) = (Place::new(), bad.to_owned());
        Job { kind, place, bad }
    }

    fn letters_path(&self) -> String {
        as_text(&self.place.0.path().join("letters.jsonl")).to_owned()
    }

    fn options(&self, parallelism: u32) -> JobOptions {
        JobOptions {
            on_trap: OnTrap::Quarantine {
                dead_letter: Some(self.letters_path()),
                rows_max: 20,
            },
            ..self.place.options(parallelism, EXACTLY, Restore::Nothing)
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let output = self.place.output();
        let pairs = [
            ("kind", self.kind),
            ("rows", ROWS),
            ("bad", &self.bad),
            ("output", as_text(&output)),
        ];
        jobs::parameters(&pairs)
    }

    fn run(&self, options: JobOptions, more: &[(&str, &str)]) -> Result<Report, millrace_core::Error> {
        let mut pairs = self.pairs();
        pairs.extend(jobs::parameters(more));
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        jobs::run(Guest::Flows, options, &pairs.collect::<Vec<_>>())
    }

    /// The dead letters, each of which is there once.
    fn letters(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.letters_path()).expect("a dead-letter file");
        let letters = text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(text.lines().count(), letters.len(), "{text}");
        letters
    }

    /// All states at the end, as text; without windows, for of those that are over some rows stay in storage.
    fn state(&self) -> Vec<String> {
        let savepoint = self.place.0.path().join("savepoint");
        let storage = self.place.storage();
        succeed(&[
            "savepoint",
            "poison",
            "--checkpoint-dir",
            &storage,
            "--to",
            as_text(&savepoint),
        ]);
        let savepoint = as_text(&savepoint);
        let listed: Value = serde_json::from_str(&succeed(&["state", "ls", savepoint, "--output=json"])).expect("JSON");
        let mut rows = Vec::new();
        for operator in listed["operators"].as_array().expect("operators") {
            let id = operator["id"].as_str().expect("an id");
            for state in operator["states"].as_array().expect("states") {
                let name = state["name"].as_str().expect("a name");
                let exported = succeed(&["state", "export", savepoint, id, name, "--format=ndjson"]);
                let keyed = exported
                    .lines()
                    .filter(|row| !row.contains("slice_start_ms") && !row.contains("first_ms"));
                rows.extend(keyed.map(|row| format!("{id} {name} {row}")));
            }
        }
        rows.sort();
        rows
    }
}

fn succeed(arguments: &[&str]) -> String {
    let output = cli(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Output and final state of the job that is spared what traps.
fn spared(bad: &str) -> (Vec<String>, Vec<String>) {
    let job = Job::new(bad);
    let options = job.place.options(1, EXACTLY, Restore::Nothing);
    job.run(options, &[("spared", "1")]).expect("it is spared");
    (sorted(&job.place.output()), job.state())
}

/// What a dead letter is about.
fn what(letter: &Value) -> &'static str {
    let raw: Value = serde_json::from_str(letter["raw"].as_str().expect("raw")).expect("JSON");
    match (raw.get("timer"), raw.get("window"), raw.get("value")) {
        (Some(timer), None, None) => {
            assert_eq!(timer, "event-time");
            assert!(raw["time"].is_i64() && raw["key"]["key"].is_i64(), "{raw}");
            "timer"
        }
        (None, Some(window), None) => {
            assert!(
                window[0].as_i64() < window[1].as_i64() && raw["key"].is_object(),
                "{raw}"
            );
            "window"
        }
        _ => "row",
    }
}

fn check_letters(letters: &BTreeSet<String>) {
    let mut counts = std::collections::BTreeMap::new();
    for line in letters {
        let letter: Value = serde_json::from_str(line).expect("JSON");
        let cause = letter["cause"].as_str().expect("a cause");
        assert!(cause.starts_with("PL0001: panicked: "), "{cause}");
        let operator = letter["source"].as_str().expect("an operator").to_owned();
        *counts.entry((operator, what(&letter))).or_insert(0) += 1;
    }
    let expected = ASIDE
        .iter()
        .map(|&(operator, what, count)| ((operator.to_owned(), what), count));
    assert_eq!(counts, expected.collect(), "{letters:#?}");
}

#[test]
fn a_job_comes_to_what_it_comes_to_without_the_rows_that_trap() {
    for parallelism in [1, 2] {
        comes_to_the_same(parallelism, &[("rate", RATE)], jobs::options().log);
    }
}

/// The job with these parameters puts out and keeps what one does that is spared what traps.
pub(crate) fn comes_to_the_same(parallelism: u32, more: &[(&str, &str)], log: LogSink) {
    let (rows, state) = spared(BAD);
    assert!(
        rows.len() > 10_000 && state.len() > 90,
        "{} rows, {} entries",
        rows.len(),
        state.len()
    );
    let aside = ASIDE.iter().map(|(_, _, count)| *count as u64).sum::<u64>();
    let job = Job::new(BAD);
    let options = JobOptions {
        log,
        ..job.options(parallelism)
    };
    let report = job.run(options, more).expect("traps are set aside");
    assert_same(&sorted(&job.place.output()), &rows);
    assert_eq!(job.state(), state);
    check_letters(&job.letters());
    assert_eq!(report.checkpoints.quarantined, aside);
    assert!(report.checkpoints.restarts >= 1, "{:?}", report.checkpoints);
    let buckets = task(&report.tasks, "process");
    assert!(buckets.total(|metrics| &metrics.quarantined) >= 3);
    assert!(buckets.total(|metrics| &metrics.shadow_bytes_max) > 0);
}

/// A row that traps in a condition never was, and of a match that traps nothing comes.
#[test]
fn patterns_go_on_without_rows_and_matches_that_trap() {
    let traps = |place: &'static str, from: i64| (0..9).map(move |number| format!("{place}:{}", from + 21 * number));
    let bad = traps("condition", 3000)
        .chain(traps("iterative", 7000))
        .chain(traps("select", 9001));
    let bad = bad.collect::<Vec<_>>().join(",");
    let clean = Job::of("pattern-traps", &bad);
    let options = clean.place.options(1, EXACTLY, Restore::Nothing);
    clean.run(options, &[("spared", "1")]).expect("it is spared");
    let expected = sorted(&clean.place.output());
    assert!(expected.len() > 1_000, "{}", expected.len());
    for parallelism in [1, 2] {
        let job = Job::of("pattern-traps", &bad);
        let mut options = job.options(parallelism);
        options.on_trap = OnTrap::Quarantine {
            dead_letter: Some(job.letters_path()),
            rows_max: 100,
        };
        let report = job.run(options, &[("rate", RATE)]).expect("traps are set aside");
        assert_same(&sorted(&job.place.output()), &expected);
        let letters = job.letters();
        assert_eq!(report.checkpoints.quarantined, letters.len() as u64);
        let is_of = |cause: &str| letters.iter().filter(|letter| letter.contains(cause)).count();
        assert_eq!(is_of("is no event"), 9);
        assert!(is_of("follows nothing") > 0, "{letters:#?}");
        let matches = letters.iter().filter(|letter| letter.contains("nothing comes of row"));
        let matches = matches
            .map(|letter| letter.contains("match at 1970"))
            .collect::<Vec<_>>();
        assert!(
            !matches.is_empty() && matches.iter().all(|shown| *shown),
            "{letters:#?}"
        );
    }
}

/// Functions trap where they ask and where they are answered, while other rows are under way.
#[test]
fn rows_that_ask_a_server_go_on_without_those_that_trap() {
    let server = Server::start(|path, _| Reply {
        delay: Duration::from_micros(path.len() as u64 % 3 * 100),
        status: 200,
        body: path.to_owned(),
    });
    let url = server.url();
    let bad = [
        ("ask-ordered", [3000, 11000]),
        ("end-ordered", [5000, 5001]),
        ("ask-unordered", [7000, 7001]),
        ("end-unordered", [9000, 13000]),
    ];
    let each = |(place, rows): (&'static str, [i64; 2])| rows.map(|row| format!("{place}:{row}"));
    let places = bad.into_iter().flat_map(each).collect::<Vec<_>>().join(",");
    let more = [("from", url.as_str()), ("keys", "50"), ("capacity", "20")];
    let asking = |options: JobOptions| JobOptions {
        allow_http: vec![Origin::parse(&url).expect("an origin")],
        ..options
    };
    let clean = Job::of("request-traps", &places);
    let options = asking(clean.place.options(1, EXACTLY, Restore::Nothing));
    clean
        .run(options, &[&more[..], &[("spared", "1")]].concat())
        .expect("it is spared");
    let expected = outputs(&clean.place.output());
    for parallelism in [1, 2] {
        let job = Job::of("request-traps", &places);
        let options = asking(job.options(parallelism));
        let report = job
            .run(options, &[&more[..], &[("rate", RATE)]].concat())
            .expect("traps are set aside");
        let got = outputs(&job.place.output());
        for (name, rows) in &expected {
            assert_eq!(rows.len(), ROWS.parse::<usize>().expect("a number") - 4, "{name}");
            assert_same(&got[name], rows);
        }
        assert_eq!(report.checkpoints.quarantined, 8);
        check_asked(&job.letters(), &bad);
    }
}

/// Who was to ask was set aside as it came, and who was answered with the answer.
fn check_asked(letters: &BTreeSet<String>, bad: &[(&'static str, [i64; 2])]) {
    assert_eq!(letters.len(), 2 * bad.len(), "{letters:#?}");
    for (place, rows) in bad {
        for row in rows {
            let cause = match place.starts_with("ask") {
                true => format!("row {row} has no question"),
                false => format!("row {row} has no use for an answer"),
            };
            let mut of = letters.iter().filter(|letter| letter.contains(&cause));
            let letter: Value = serde_json::from_str(of.next().expect("a letter")).expect("JSON");
            let raw: Value = serde_json::from_str(letter["raw"].as_str().expect("raw")).expect("JSON");
            let value = match place.starts_with("ask") {
                true => &raw["value"],
                false => &raw["0"]["value"],
            };
            assert_eq!(value, row, "{letter}");
            assert_eq!(raw["1"]["status"].is_u64(), place.starts_with("end"), "{letter}");
        }
    }
}

/// At full speed all of it lies within the first checkpoints.
#[test]
fn many_traps_in_one_block_are_set_aside_one_by_one() {
    let bad = (500..510)
        .map(|row| format!("process:{row}"))
        .collect::<Vec<_>>()
        .join(",");
    let (rows, state) = spared(&bad);
    for parallelism in [1, 3] {
        let job = Job::new(&bad);
        let report = job.run(job.options(parallelism), &[]).expect("traps are set aside");
        assert_same(&sorted(&job.place.output()), &rows);
        assert_eq!(job.state(), state);
        assert_eq!((job.letters().len(), report.checkpoints.quarantined), (10, 10));
    }
}

#[test]
fn rows_that_take_too_long_or_too_much_are_set_aside() {
    for (bad, code, row) in [("spin:5000", "PL0003", 5000), ("hoard:5000", "PL0004", 5000)] {
        let (rows, _) = spared(bad);
        let job = Job::new(bad);
        let mut options = job.options(2);
        options.limits.call_deadline = Duration::from_secs(2);
        options.limits.memory_bytes = 64 << 20;
        let report = job.run(options, &[]).expect("it is set aside");
        assert_same(&sorted(&job.place.output()), &rows);
        assert_eq!(report.checkpoints.quarantined, 1);
        let letters = job.letters();
        let letter: Value = serde_json::from_str(letters.first().expect("a letter")).expect("JSON");
        assert!(
            letter["cause"].as_str().is_some_and(|cause| cause.starts_with(code)),
            "{letter}"
        );
        let raw: Value = serde_json::from_str(letter["raw"].as_str().expect("a row")).expect("JSON");
        assert_eq!(raw["value"], row, "{letter}");
        let place = letter["place"].as_str().expect("a place");
        assert_eq!(
            place,
            format!("operator `process`, key {{\"key\":{}}}", raw["key"]),
            "{letter}"
        );
    }
}

/// State that fills an instance is no row's fault.
#[test]
fn a_job_whose_state_is_too_large_fails() {
    let job = Job::new("");
    let mut options = job.options(1);
    options.limits.memory_bytes = 32 << 20;
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.restart = RestartStrategy::None;
    }
    let pairs = [("kind", "hoard"), ("rows", "100000")];
    jobs::fail(Guest::Hostile, options, &pairs, "PL0004", Fault::Pipeline, &["32 MiB"]);
    assert_eq!(std::fs::read_to_string(job.letters_path()).expect("an empty file"), "");
}

#[test]
fn more_than_is_tolerated_fails_the_job() {
    let bad = (500..510)
        .map(|row| format!("process:{row}"))
        .collect::<Vec<_>>()
        .join(",");
    let job = Job::new(&bad);
    let mut options = job.options(1);
    options.on_trap = OnTrap::Quarantine {
        dead_letter: Some(job.letters_path()),
        rows_max: 3,
    };
    let error = job.run(options, &[]).expect_err("ten rows trap");
    let parts = ["--quarantine-max", "and 3 may be", "is not welcome"];
    jobs::check_error(&error, "QU0003", Fault::Pipeline, &parts);
}

#[test]
fn what_cannot_be_set_aside_is_refused_at_the_start() {
    let job = Job::new("");
    let without_checkpoints = JobOptions {
        on_trap: job.options(1).on_trap,
        ..options()
    };
    let error = job
        .run(without_checkpoints, &[])
        .expect_err("there is nothing to go on from");
    jobs::check_error(&error, "QU0001", Fault::User, &["--checkpoint-dir"]);
    let mut nowhere = job.options(1);
    nowhere.on_trap = OnTrap::Quarantine {
        dead_letter: None,
        rows_max: 3,
    };
    let error = job.run(nowhere, &[]).expect_err("rows would have nowhere to go");
    jobs::check_error(&error, "QU0002", Fault::User, &["operator `filter`", "--dead-letter"]);
    let output = cli(&["run", "x.wasm", "--on-trap=quarantine"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--checkpoint-dir"));
    let pipeline = as_text(Guest::Flows.path());
    let output = cli(&["run", pipeline, "--checkpoint-dir=y", "--dead-letter=z"]);
    assert_eq!(output.status.code(), Some(2));
}

/// A trap that is no row's doing in careful mode: it does not come again, and the mode ends.
#[test]
fn a_trap_that_does_not_come_again_costs_a_restart() {
    let clean = tempfile::tempdir().expect("temporary folder");
    let pairs = [("kind", "durable"), ("rows", ROWS), ("output", as_text(clean.path()))];
    jobs::succeed(Guest::Flows, parallel(1), &pairs);
    let job = Job::new("");
    let output = job.place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", RATE),
        // It traps in the first two attempts; the first of them is enough for careful mode.
        ("trap", "17777"),
        ("output", as_text(&output)),
    ];
    let report = jobs::succeed(Guest::Flows, job.options(2), &pairs);
    let (got, expected) = (sorted(&output), sorted(clean.path()));
    // The second attempt sets the row aside, where the function of that operator has its results.
    let buckets = |row: &&String| row.starts_with("buckets");
    let others = |rows: &[String]| rows.iter().filter(|row| !buckets(row)).cloned().collect::<Vec<_>>();
    assert_same(&others(&got), &others(&expected));
    assert_eq!(report.checkpoints.quarantined, 1);
}

/// Begins a job that becomes careful and stays so, for no checkpoint completes; makes a savepoint of it after a while, and
/// kills it.
fn savepoint_while_careful(job: &Job, parallelism: u32, pause: Duration) -> Beginning {
    let place = running::Place::new();
    let arguments = [
        format!("--checkpoint-dir={}", job.place.storage()),
        "--checkpoint-interval=1h".to_owned(),
        "--on-trap=quarantine".to_owned(),
        format!("--dead-letter={}", job.letters_path()),
        format!("--parallelism={parallelism}"),
    ];
    let mut pairs = job.pairs();
    pairs.extend(jobs::parameters(&[("rate", "6000")]));
    pairs.retain(|(name, _)| name != "kind");
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let running = place.start("poison", &arguments, &pairs.collect::<Vec<_>>());
    wait_until("a careful job", || place.wait_for("running")["restarts"] == 1);
    std::thread::sleep(pause);
    let target = as_text(&job.place.0.path().join("careful")).to_owned();
    place.tell(&["savepoint", "poison", "--to", &target]);
    assert_eq!(place.wait_for("running")["restarts"], 1);
    running.kill();
    assert!(sorted(&job.place.output()).is_empty(), "nothing was committed");
    Beginning {
        url: target,
        allow_non_restored_state: false,
        claim: false,
    }
}

/// A savepoint that is made in careful mode, before the rows that trap or behind some of them, holds what one of a job
/// without them does, and what goes on from it has the dead letters, too.
#[test]
fn a_savepoint_of_a_careful_job_holds_what_it_holds_without_the_rows_that_trap() {
    let bad = "process:6000,process:6001,timer:8000,process:25000";
    let (rows, state) = spared(bad);
    let mut set_aside_before = 0;
    for (pause_ms, before, after) in [(0, 2, 1), (2_500, 1, 2), (2_500, 2, 3)] {
        let job = Job::new(bad);
        let from = savepoint_while_careful(&job, before, Duration::from_millis(pause_ms));
        let options = JobOptions {
            from: Some(from),
            ..job.options(after)
        };
        let report = job.run(options, &[]).expect("traps are set aside");
        assert_same(&sorted(&job.place.output()), &rows);
        assert_eq!(job.state(), state);
        let letters = job.letters();
        assert_eq!(letters.len(), 4, "{letters:#?}");
        set_aside_before += 4 - report.checkpoints.quarantined;
    }
    assert!(set_aside_before > 0, "no savepoint was behind a row that traps");
}

/// Kills the job a dozen times and lets it end then.
#[test]
fn a_job_that_is_killed_sets_aside_the_same_rows() {
    let (rows, state) = spared(BAD);
    for parallelism in [1, 2] {
        let job = Job::new(BAD);
        let mut kills = 0;
        for life in 0..12_u64 {
            let mut child = spawn(&job, parallelism, RATE);
            std::thread::sleep(Duration::from_millis(
                80 + (life * 37 + u64::from(parallelism) * 53) % 160,
            ));
            if child.try_wait().expect("a child").is_none() {
                child.kill().expect("a child of ours");
                kills += 1;
            }
            child.wait().expect("a child");
        }
        let output = spawn(&job, parallelism, "0").wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(kills > 2, "{kills} kills");
        assert_same(&sorted(&job.place.output()), &rows);
        assert_eq!(job.state(), state);
        check_letters(&job.letters());
    }
}

fn spawn(job: &Job, parallelism: u32, rate: &str) -> std::process::Child {
    let mut command = Command::new(jobctl());
    command.args([
        "run",
        "--quiet",
        "--restore=latest",
        "--checkpoint-interval=20ms",
        "--on-trap=quarantine",
    ]);
    command.arg(format!("--checkpoint-dir={}", job.place.storage()));
    command.arg(format!("--dead-letter={}", job.letters_path()));
    command.arg(format!("--parallelism={parallelism}"));
    for (name, value) in job.pairs() {
        command.arg(format!("--param={name}={value}"));
    }
    command.arg(format!("--param=rate={rate}"));
    command.arg(Guest::Flows.path() as &Path);
    command.env("MILLRACE_CACHE", code_cache().join("cli"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("jobctl starts")
}
