//! Jobs that fail, are stopped or killed, and go on: their output is that of a job that ran through.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_core::checkpoint::{CheckpointConfig, CheckpointMode, RestartStrategy};
use millrace_engine::{CheckpointOptions, JobOptions, Report, Restore};
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::{self, as_text, parallel, read_csv};
use millrace_tests::postgres::Server;
use millrace_tests::{redis, s3};

/// Rows that the jobs read; at this rate they take a second and a half.
pub(crate) const ROWS: &str = "30000";
pub(crate) const RATE: &str = "20000";

/// What the job puts out if nothing happens to it, sorted.
pub(crate) fn expected() -> Vec<String> {
    expected_with(&[])
}

/// The same with more parameters.
pub(crate) fn expected_with(more: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut pairs = vec![("kind", "durable"), ("rows", ROWS), ("output", as_text(folder.path()))];
    pairs.extend(more);
    jobs::succeed(Guest::Flows, parallel(1), &pairs);
    let rows = sorted(folder.path());
    for operator in ["counts", "tumbling", "sliding", "sessions", "buckets"] {
        let count = rows.iter().filter(|row| row.starts_with(operator)).count();
        assert!(count > 500, "{count} results of {operator}");
    }
    rows
}

pub(crate) fn sorted(folder: &Path) -> Vec<String> {
    let mut rows = read_csv(folder);
    rows.sort_unstable();
    rows
}

pub(crate) fn assert_same(got: &[String], expected: &[String]) {
    if got == expected {
        return;
    }
    let missing = expected.iter().find(|row| got.binary_search(row).is_err());
    let wrong = got.iter().find(|row| expected.binary_search(row).is_err());
    let twice = got.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    let (rows, of) = (got.len(), expected.len());
    panic!("{rows} rows for {of}; missing: {missing:?}, wrong: {wrong:?}, twice: {twice:?}");
}

/// Nothing wrong and nothing twice, though not everything yet.
fn assert_part(got: &[String], expected: &[String]) {
    let wrong = got.iter().find(|row| expected.binary_search(row).is_err());
    let twice = got.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    assert!(wrong.is_none() && twice.is_none(), "wrong: {wrong:?}, twice: {twice:?}");
}

/// Everything in one folder: checkpoints and output.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Place(tempfile::tempdir().expect("temporary folder"))
    }

    pub(crate) fn output(&self) -> std::path::PathBuf {
        self.0.path().join("output")
    }

    pub(crate) fn storage(&self) -> String {
        as_text(&self.0.path().join("checkpoints")).to_owned()
    }

    pub(crate) fn options(&self, parallelism: u32, mode: CheckpointMode, restore: Restore) -> JobOptions {
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

    pub(crate) fn run(&self, options: JobOptions, more: &[(&str, &str)]) -> Report {
        let output = self.output();
        let mut pairs = vec![("kind", "durable"), ("output", as_text(&output))];
        pairs.extend(more);
        if !more.iter().any(|(name, _)| *name == "rows") {
            pairs.push(("rows", ROWS));
        }
        jobs::succeed(Guest::Flows, options, &pairs)
    }
}

pub(crate) const EXACTLY: CheckpointMode = CheckpointMode::ExactlyOnce;

#[test]
fn checkpoints_change_no_result() {
    let expected = expected();
    for parallelism in [1, 2, 3] {
        for mode in [EXACTLY, CheckpointMode::AtLeastOnce] {
            let place = Place::new();
            let report = place.run(place.options(parallelism, mode, Restore::Nothing), &[("rate", RATE)]);
            assert_same(&sorted(&place.output()), &expected);
            assert!(report.checkpoints.completed > 1, "{:?}", report.checkpoints);
            assert_eq!(report.checkpoints.restarts, 0);
        }
    }
}

/// Queues are full and barriers wait behind rows: what waits for a barrier must not hold up who brings it.
#[test]
fn checkpoints_at_full_load_change_no_result() {
    let many = ("rows", "300000");
    let clean = Place::new();
    let output = clean.output();
    let pairs = [("kind", "durable"), many, ("output", as_text(&output))];
    jobs::succeed(Guest::Flows, parallel(2), &pairs);
    let expected = sorted(&output);
    for parallelism in [1, 2, 3] {
        let place = Place::new();
        let mut options = place.options(parallelism, EXACTLY, Restore::Nothing);
        options.block_rows = 256;
        let report = place.run(options, &[many]);
        assert_same(&sorted(&place.output()), &expected);
        assert!(report.checkpoints.completed > 1, "{:?}", report.checkpoints);
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
    assert_part(&rows, &expected);
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
        ("disorder", "8s"),
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
        assert_part(&sorted(&output), &expected);
    }
    place.run(place.options(2, EXACTLY, Restore::Latest), &[("disorder", "8s")]);
    assert_same(&sorted(&output), &expected);
    // There is nothing left to do, and nothing is done twice.
    place.run(place.options(1, EXACTLY, Restore::Latest), &[]);
    assert_same(&sorted(&output), &expected);
}

/// A job in a process of its own.
pub(crate) fn spawn(
    place: &Place,
    parallelism: u32,
    rate: &str,
    arguments: &[String],
    more: &[(&str, &str)],
    environment: &[(&str, String)],
) -> Child {
    let output = place.output();
    let mut command = Command::new(jobctl());
    command.args(["run", "--quiet", "--restore=latest", "--checkpoint-interval=20ms"]);
    command.arg(format!("--checkpoint-dir={}", place.storage()));
    command.arg(format!("--parallelism={parallelism}")).args(arguments);
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
    command.env("MILLRACE_DATA", place.0.path().join("data"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("jobctl starts")
}

/// Kills the job a dozen times and lets it end then.
fn kill_again_and_again(place: &Place, parallelism: u32, more: &[(&str, &str)]) {
    kill_after(60, place, parallelism, &[], more, &[]);
}

/// The same with lives of at least so many milliseconds, and more arguments and variables.
pub(crate) fn kill_after(
    least: u64,
    place: &Place,
    parallelism: u32,
    arguments: &[String],
    more: &[(&str, &str)],
    environment: &[(&str, String)],
) {
    let mut kills = 0;
    let begin = Instant::now();
    // Each life is long enough for the first checkpoint, most of the time.
    for life in 0..12_u64 {
        let mut child = spawn(place, parallelism, RATE, arguments, more, environment);
        let pause = least + (life * 37 + u64::from(parallelism) * 53) % 140;
        std::thread::sleep(Duration::from_millis(pause));
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("a child of ours");
            kills += 1;
        }
        child.wait().expect("a child");
    }
    let child = spawn(place, parallelism, "0", arguments, more, environment);
    let output = child.wait_with_output().expect("a child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(kills > 2, "{kills} kills in {:?}", begin.elapsed());
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

/// A small disk, if this test may mount one.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn mount(kib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let size = format!("size={kib}k");
        let arguments = ["-t", "tmpfs", "-o", &size, "tmpfs", as_text(folder.path())];
        let mounted = Command::new("mount").args(arguments).stderr(Stdio::null()).status();
        if mounted.is_ok_and(|status| status.success()) {
            Some(SmallDisk(folder))
        } else {
            eprintln!("skipped: no small disk can be mounted here");
            None
        }
    }

    pub(crate) fn grow(&self) {
        let arguments = ["-o", "remount,size=256m", as_text(self.0.path())];
        let status = Command::new("mount").args(arguments).status().expect("mount runs");
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left over goes with the machine's temporary files.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Runs into a full disk, makes room, and goes on.
fn full_disk(place: &Place, disk: &SmallDisk, code: &str, part: &str, rate: &str) {
    let output = place.output();
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", rate),
        ("output", as_text(&output)),
    ];
    let error =
        jobs::run(Guest::Flows, place.options(2, EXACTLY, Restore::Nothing), &pairs).expect_err("the disk is full");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(part), "{error}");
    disk.grow();
    let expected = expected();
    assert_part(&sorted(&output), &expected);
    place.run(place.options(2, EXACTLY, Restore::Latest), &[]);
    assert_same(&sorted(&output), &expected);
}

#[test]
fn a_full_disk_under_the_checkpoints_loses_nothing() {
    let Some(disk) = SmallDisk::mount(160) else { return };
    let place = Place::new();
    std::os::unix::fs::symlink(disk.0.path(), place.0.path().join("checkpoints")).expect("a link");
    full_disk(&place, &disk, "CK0003", "No space left", RATE);
}

#[test]
fn a_full_disk_under_the_output_loses_nothing() {
    let Some(disk) = SmallDisk::mount(400) else { return };
    let place = Place::new();
    std::os::unix::fs::symlink(disk.0.path(), place.output()).expect("a link");
    full_disk(&place, &disk, "IO0105", "No space left", RATE);
}

/// The newest file with this ending.
fn newest(folder: &Path, ending: &str) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if as_text(&path).ends_with(ending) {
                found.push((entry.metadata().and_then(|data| data.modified()).expect("a time"), path));
            }
        }
    }
    found.into_iter().max().expect("such a file").1
}

#[test]
fn a_damaged_checkpoint_is_named_and_passed_over() {
    for (ending, code) in [("metadata.json", "CS0101"), (".arrow", "CS0104")] {
        let place = Place::new();
        let mut options = place.options(1, EXACTLY, Restore::Nothing);
        if let Some(checkpoints) = &mut options.checkpoints {
            checkpoints.config.retained = 3;
            checkpoints.restart = RestartStrategy::None;
        }
        let output = place.output();
        let pairs = [
            ("kind", "durable"),
            ("rows", ROWS),
            ("rate", RATE),
            ("trap", "25000"),
            ("output", as_text(&output)),
        ];
        jobs::run(Guest::Flows, options, &pairs).expect_err("it traps");
        let file = newest(Path::new(&place.storage()), ending);
        let mut bytes = std::fs::read(&file).expect("the file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("the file");
        let messages = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut options = place.options(1, EXACTLY, Restore::Latest);
        let log = messages.clone();
        options.log = std::sync::Arc::new(move |_, message| log.lock().expect("no panic").push(message.to_owned()));
        let report = place.run(options, &[]);
        // What the damaged one had committed is there twice: no sink can take back what was seen.
        assert!(report.checkpoints.completed > 0);
        let messages = messages.lock().expect("no panic").join("\n");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(
            messages.contains("is passed over") && messages.contains(&name),
            "{messages}"
        );
        assert!(messages.contains(code) || messages.contains("damaged"), "{messages}");
        let mut rows = sorted(&output);
        rows.dedup();
        assert_same(&rows, &expected());
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
    kill_after(200, &Place::new(), 2, &[], &more, &server.environment());
    let mut rows = server.read_csv("out/");
    rows.sort_unstable();
    assert_same(&rows, &expected);
}

/// What the job has put into Redis, as lines of the file sink.
fn read_redis(server: &redis::Server, structure: &str) -> Vec<String> {
    let mut rows = Vec::new();
    match structure {
        "list" => {
            for key in server.lines(&["KEYS", "facts:*"]) {
                rows.extend(server.lines(&["LRANGE", &key, "0", "-1"]));
            }
        }
        "stream" => {
            // For each entry its id, and the names and values of its four fields.
            let lines = server.lines(&["XRANGE", "facts", "-", "+"]);
            let entries = lines.chunks(9);
            rows.extend(entries.map(|entry| format!("{},{},{},{}", entry[2], entry[4], entry[6], entry[8])));
        }
        "string" | "hash" => {
            let keys = server.lines(&["KEYS", "fact:*"]);
            for keys in keys.chunks(500) {
                let script = match structure {
                    "string" => "local r={} for i,k in ipairs(KEYS) do r[i]=redis.call('GET',k) end return r",
                    _ => {
                        "local r={} for i,k in ipairs(KEYS) do local v=redis.call('HMGET',k,'operator','key','at','value') \
                         r[i]=table.concat(v,',') end return r"
                    }
                };
                let count = keys.len().to_string();
                let mut arguments = vec!["EVAL", script, &count];
                arguments.extend(keys.iter().map(String::as_str));
                rows.extend(server.lines(&arguments));
            }
        }
        other => panic!("no structure `{other}`"),
    }
    rows.sort_unstable();
    rows
}

#[test]
fn a_job_that_is_killed_again_and_again_fills_redis_once() {
    let expected = expected();
    for (structure, parallelism) in [("list", 1), ("stream", 2), ("string", 3), ("hash", 2)] {
        let server = redis::Server::new();
        let url = server.url();
        kill_again_and_again(&Place::new(), parallelism, &[("redis", &url), ("structure", structure)]);
        assert_same(&read_redis(&server, structure), &expected);
    }
}

/// The server goes away and comes back, again and again; the job restarts until it is there.
#[test]
fn a_job_whose_redis_is_killed_again_and_again_fills_it_once() {
    let expected = expected();
    let place = Place::new();
    let server = redis::Server::new();
    let mut options = place.options(2, EXACTLY, Restore::Nothing);
    if let Some(checkpoints) = &mut options.checkpoints {
        checkpoints.restart = "fixed-delay:attempts=1000,delay=20ms".parse().expect("a strategy");
    }
    let url = server.url();
    let pairs = [("kind", "durable"), ("rows", ROWS), ("rate", RATE), ("redis", &url)];
    let job = jobs::start(Guest::Flows, options, &pairs);
    for life in 0..5 {
        job.wait_timeout(Duration::from_millis(60 + life * 37));
        server.crash();
        // In every second life the job finds nobody for a while.
        if life % 2 == 1 {
            job.wait_timeout(Duration::from_millis(120));
        }
        server.start();
    }
    let report = job.wait().expect("it goes on each time");
    assert_same(&read_redis(&server, "list"), &expected);
    assert!(report.checkpoints.restarts > 0, "{:?}", report.checkpoints);
}

/// The causes in a dead-letter file, sorted, with the operator that refused the row.
fn causes(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("the dead-letter file");
    let cause = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        format!("{} {}", line["source"], line["cause"])
    };
    let mut causes: Vec<String> = text.lines().map(cause).collect();
    causes.sort_unstable();
    causes
}

/// What a run without failures refuses.
fn expected_causes() -> Vec<String> {
    let place = Place::new();
    let (output, letters) = (place.output(), place.0.path().join("letters.jsonl"));
    let (output, path) = (as_text(&output), as_text(&letters));
    let pairs = [
        ("kind", "durable"),
        ("rows", ROWS),
        ("output", output),
        ("letters", path),
    ];
    jobs::succeed(Guest::Flows, parallel(1), &pairs);
    let causes = causes(&letters);
    assert_eq!(causes.len(), 600);
    causes
}

#[test]
fn a_job_that_is_killed_again_and_again_writes_each_dead_letter_once() {
    let (expected, refused) = (expected(), expected_causes());
    for parallelism in [1, 2, 3] {
        let place = Place::new();
        let letters = place.0.path().join("deep/letters.jsonl");
        kill_again_and_again(&place, parallelism, &[("letters", as_text(&letters))]);
        assert_same(&sorted(&place.output()), &expected);
        assert_same(&causes(&letters), &refused);
        assert_eq!(jobs::all_files(&place.0.path().join("deep")), ["letters.jsonl"]);
    }
}

#[test]
fn dead_letters_follow_the_checkpoints_of_a_job_that_traps_and_is_stopped() {
    let refused = expected_causes();
    let place = Place::new();
    let letters = place.0.path().join("letters.jsonl");
    let more = [("letters", as_text(&letters)), ("disorder", "8s")];
    let output = place.output();
    let mut pairs = vec![
        ("kind", "durable"),
        ("rows", ROWS),
        ("rate", RATE),
        ("output", as_text(&output)),
    ];
    pairs.extend(more);
    for parallelism in [2, 3] {
        let options = place.options(parallelism, EXACTLY, Restore::Latest);
        let job = jobs::start(Guest::Flows, options, &pairs);
        job.wait_timeout(Duration::from_millis(250));
        job.stop();
        job.wait().expect("a stop is no failure");
        assert_part(&causes(&letters), &refused);
    }
    // This one traps in its first two attempts.
    let options = place.options(1, EXACTLY, Restore::Latest);
    let report = place.run(options, &[&more[..], &[("trap", "29000")]].concat());
    assert_eq!(report.checkpoints.restarts, 2);
    assert_same(&causes(&letters), &refused);
}
