//! Jobs that fail, are stopped or killed, and go on: their output is that of a job that ran through.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_core::checkpoint::{CheckpointConfig, CheckpointMode, RestartStrategy};
use millrace_engine::{CheckpointOptions, JobOptions, Report, Restore};
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::{self, as_text, parallel, read_csv};
use millrace_tests::postgres::Server;
use millrace_tests::s3;

/// Rows that the jobs read; at this rate they take a second and a half.
const ROWS: &str = "30000";
const RATE: &str = "20000";

/// What the job puts out if nothing happens to it, sorted.
fn expected() -> Vec<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [("kind", "durable"), ("rows", ROWS), ("output", as_text(folder.path()))];
    jobs::succeed(Guest::Flows, parallel(1), &pairs);
    let rows = sorted(folder.path());
    for operator in ["counts", "tumbling", "sliding", "sessions", "buckets"] {
        let count = rows.iter().filter(|row| row.starts_with(operator)).count();
        assert!(count > 500, "{count} results of {operator}");
    }
    rows
}

fn sorted(folder: &Path) -> Vec<String> {
    let mut rows = read_csv(folder);
    rows.sort_unstable();
    rows
}

fn assert_same(got: &[String], expected: &[String]) {
    if got == expected {
        return;
    }
    let missing = expected.iter().find(|row| got.binary_search(row).is_err());
    let wrong = got.iter().find(|row| expected.binary_search(row).is_err());
    let twice = got.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    let (rows, of) = (got.len(), expected.len());
    panic!("{rows} rows for {of}; missing: {missing:?}, wrong: {wrong:?}, twice: {twice:?}");
}

/// Everything in one folder: checkpoints and output.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("temporary folder"))
    }

    fn output(&self) -> std::path::PathBuf {
        self.0.path().join("output")
    }

    fn storage(&self) -> String {
        as_text(&self.0.path().join("checkpoints")).to_owned()
    }

    fn options(&self, parallelism: u32, mode: CheckpointMode, restore: Restore) -> JobOptions {
        let config = CheckpointConfig {
            mode,
            interval: Some(Duration::from_millis(30)),
            ..CheckpointConfig::default()
        };
        let checkpoints = CheckpointOptions {
            storage: self.storage(),
            config,
            restore,
            restart: "fixed-delay:attempts=5,delay=10ms".parse().expect("a strategy"),
        };
        JobOptions {
            checkpoints: Some(checkpoints),
            ..parallel(parallelism)
        }
    }

    fn run(&self, options: JobOptions, more: &[(&str, &str)]) -> Report {
        let output = self.output();
        let mut pairs = vec![("kind", "durable"), ("rows", ROWS), ("output", as_text(&output))];
        pairs.extend(more);
        jobs::succeed(Guest::Flows, options, &pairs)
    }
}

const EXACTLY: CheckpointMode = CheckpointMode::ExactlyOnce;

#[test]
fn checkpoints_change_no_result() {
    let expected = expected();
    for parallelism in [1, 2, 3] {
        for mode in [EXACTLY, CheckpointMode::AtLeastOnce] {
            let place = Place::new();
            let report = place.run(place.options(parallelism, mode, Restore::Nothing), &[("rate", RATE)]);
            assert_same(&sorted(&place.output()), &expected);
            assert!(report.checkpoints.completed > 5, "{:?}", report.checkpoints);
            assert_eq!(report.checkpoints.restarts, 0);
        }
    }
}

#[test]
fn a_job_that_traps_goes_on_from_its_checkpoint() {
    let expected = expected();
    for parallelism in [1, 2] {
        let place = Place::new();
        let options = place.options(parallelism, EXACTLY, Restore::Nothing);
        let report = place.run(options, &[("rate", RATE), ("trap", "17777")]);
        assert_same(&sorted(&place.output()), &expected);
        assert_eq!(report.checkpoints.restarts, 2, "{:?}", report.checkpoints);
    }
}

#[test]
fn a_job_that_traps_for_ever_fails_and_leaves_what_its_last_checkpoint_holds() {
    let place = Place::new();
    let mut options = place.options(2, EXACTLY, Restore::Nothing);
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.restart = RestartStrategy::None;
    }
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", RATE),
        ("trap", "17777"),
        ("output", as_text(&output)),
    ];
    let error = jobs::run(Guest::Flows, options, &pairs).expect_err("it traps");
    assert_eq!(error.code(), "PL0001", "{error}");
    let expected = expected();
    let rows = sorted(&output);
    assert!(!rows.is_empty() && rows.len() < expected.len());
    assert!(rows.iter().all(|row| expected.binary_search(row).is_ok()));
    // The same job without the trap goes on from there.
    let report = place.run(place.options(2, EXACTLY, Restore::Latest), &[]);
    assert_same(&sorted(&output), &expected);
    assert_eq!(report.checkpoints.restarts, 0);
}

#[test]
fn a_stopped_job_goes_on_at_another_parallelism() {
    let expected = expected();
    let place = Place::new();
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", RATE),
        // A subtask may read what several read before, each as far as it had come.
        ("disorder", "4s"),
        ("output", as_text(&output)),
    ];
    for parallelism in [2, 3, 1, 4] {
        let job = jobs::start(
            Guest::Flows,
            place.options(parallelism, EXACTLY, Restore::Latest),
            &pairs,
        );
        job.wait_timeout(Duration::from_millis(250));
        job.stop();
        job.wait().expect("a stop is no failure");
        let rows = sorted(&output);
        assert!(rows.iter().all(|row| expected.binary_search(row).is_ok()));
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1]));
    }
    place.run(place.options(2, EXACTLY, Restore::Latest), &[("disorder", "4s")]);
    assert_same(&sorted(&output), &expected);
    // There is nothing left to do, and nothing is done twice.
    place.run(place.options(1, EXACTLY, Restore::Latest), &[]);
    assert_same(&sorted(&output), &expected);
}

/// A job in a process of its own.
fn spawn(place: &Place, parallelism: u32, rate: &str, more: &[(&str, &str)], environment: &[(&str, String)]) -> Child {
    let output = place.output();
    let mut command = Command::new(jobctl());
    command.args(["run", "--quiet", "--restore=latest", "--checkpoint-interval=20ms"]);
    command.arg(format!("--checkpoint-dir={}", place.storage()));
    command.arg(format!("--parallelism={parallelism}"));
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", rate),
        ("output", as_text(&output)),
    ];
    let given = |name: &str| more.iter().any(|(other, _)| *other == name);
    for (name, value) in pairs.iter().filter(|(name, _)| !given(name)).chain(more) {
        command.arg(format!("--param={name}={value}"));
    }
    command.arg(Guest::Flows.path());
    command.env("MILLRACE_CACHE", code_cache().join("cli"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("jobctl starts")
}

/// Kills the job a dozen times and lets it end then.
fn kill_again_and_again(place: &Place, parallelism: u32, more: &[(&str, &str)]) {
    kill_after(60, place, parallelism, more, &[]);
}

/// The same with lives of at least so many milliseconds, and more of an environment.
fn kill_after(least: u64, place: &Place, parallelism: u32, more: &[(&str, &str)], environment: &[(&str, String)]) {
    let mut kills = 0;
    let begin = Instant::now();
    // Each life is long enough for the first checkpoint, most of the time.
    for life in 0..12_u64 {
        let mut child = spawn(place, parallelism, RATE, more, environment);
        let pause = least + (life * 37 + u64::from(parallelism) * 53) % 140;
        std::thread::sleep(Duration::from_millis(pause));
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("a child of ours");
            kills += 1;
        }
        child.wait().expect("a child");
    }
    let child = spawn(place, parallelism, "0", more, environment);
    let output = child.wait_with_output().expect("a child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(kills > 5, "{kills} kills in {:?}", begin.elapsed());
}

#[test]
fn a_job_that_is_killed_again_and_again_puts_out_everything_once() {
    let expected = expected();
    for parallelism in [1, 2, 3] {
        let place = Place::new();
        kill_again_and_again(&place, parallelism, &[]);
        assert_same(&sorted(&place.output()), &expected);
    }
}

#[test]
fn a_job_that_is_killed_again_and_again_fills_a_table_once() {
    let expected = expected();
    let server = Server::shared();
    for (name, parallelism, key) in [("once_1", 1, ""), ("once_3", 3, ""), ("upsert", 2, "operator,key,at")] {
        let database = server.database(name);
        let url = database.url();
        kill_again_and_again(&Place::new(), parallelism, &[("postgres", &url), ("upsert", key)]);
        let mut rows = database.query("SELECT operator, key, at, value FROM facts");
        rows.sort_unstable();
        assert_same(&rows, &expected);
        assert_eq!(
            database.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"),
            [""; 0]
        );
    }
}

#[test]
fn a_job_that_is_killed_again_and_again_fills_a_bucket_once() {
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: there is no moto; run scripts/setup-s3");
        return;
    };
    let expected = expected();
    let more = [("output", "s3://bucket/out")];
    kill_after(200, &Place::new(), 2, &more, &server.environment());
    let mut rows = server.read_csv("out/");
    rows.sort_unstable();
    assert_same(&rows, &expected);
    assert!(server.objects("out/").len() > 10, "{:?}", server.objects("out/"));
}
