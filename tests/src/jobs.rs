//! Jobs: from a guest and parameters to a report or an error.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use millrace_core::{Error, Fault};
use millrace_engine::metrics::TaskMetrics;
use millrace_engine::{Job, JobOptions, Loaded, Prepared, Report};
use serde_json::Value;

use crate::guests::{Guest, code_cache, jobctl};

/// Longest that a test waits for something that must come: far longer than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Default options, with a cache for compiled code.
pub fn options() -> JobOptions {
    JobOptions {
        cache: Some(code_cache()),
        ..JobOptions::default()
    }
}

/// Options with that parallelism.
pub fn parallel(parallelism: u32) -> JobOptions {
    JobOptions {
        parallelism,
        ..options()
    }
}

/// Options with blocks of that many rows.
pub fn blocks_of(block_rows: usize) -> JobOptions {
    JobOptions {
        block_rows,
        ..options()
    }
}

/// Names and values as the engine takes them.
pub fn parameters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

/// Loads and plans.
pub fn prepare(guest: Guest, options: JobOptions, pairs: &[(&str, &str)]) -> Result<Prepared, Error> {
    Loaded::new(guest.bytes(), options)?.prepare(&parameters(pairs))
}

/// Runs to the end.
pub fn run(guest: Guest, options: JobOptions, pairs: &[(&str, &str)]) -> Result<Report, Error> {
    prepare(guest, options, pairs)?.start()?.wait()
}

/// Starts what must start.
pub fn start(guest: Guest, options: JobOptions, pairs: &[(&str, &str)]) -> Job {
    let started = prepare(guest, options, pairs).and_then(Prepared::start);
    started.unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// Runs what must succeed.
pub fn succeed(guest: Guest, options: JobOptions, pairs: &[(&str, &str)]) -> Report {
    run(guest, options, pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// Runs what must fail, with that code and fault; every part must be in the message.
pub fn fail(guest: Guest, options: JobOptions, pairs: &[(&str, &str)], code: &str, fault: Fault, parts: &[&str]) {
    let error = match run(guest, options, pairs) {
        Ok(report) => panic!("{pairs:?} succeeded: {:?}", report.sinks),
        Err(error) => error,
    };
    check_error(&error, code, fault, parts);
}

/// An error must have that code and fault, and every part in its message.
pub fn check_error(error: &Error, code: &str, fault: Fault, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!((error.code(), error.fault()), (code, fault), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// A number that a sink reports.
pub fn number(report: &Report, sink: &str, name: &str) -> i128 {
    let sinks = report.sinks.iter().filter(|known| known.name == sink);
    let found = sinks.flat_map(|sink| &sink.values).find(|(known, _)| known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no `{name}` of `{sink}` in {:?}", report.sinks));
    value.parse().unwrap_or_else(|_| panic!("`{name}` is {value}"))
}

/// A text that a sink reports.
pub fn text(report: &Report, sink: &str, name: &str) -> String {
    let sinks = report.sinks.iter().filter(|known| known.name == sink);
    let found = sinks.flat_map(|sink| &sink.values).find(|(known, _)| known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no `{name}` of `{sink}` in {:?}", report.sinks));
    value.clone()
}

/// Metrics of the task that contains an operator of this name.
pub fn task<'t>(tasks: &'t [TaskMetrics], name: &str) -> &'t TaskMetrics {
    let found = tasks
        .iter()
        .find(|task| task.name == name || task.operators.iter().any(|operator| operator == name));
    found.unwrap_or_else(|| panic!("no task `{name}` in {tasks:?}"))
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends a job in a process of its own as Ctrl-C does. It must end well; its messages.
pub fn terminate(child: Child) -> String {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill starts").success());
    let output = child.wait_with_output().expect("a child");
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{messages}");
    messages
}

/// Runs `jobctl`.
pub fn cli(arguments: &[&str]) -> Output {
    let output = Command::new(jobctl())
        .args(arguments)
        .env("MILLRACE_CACHE", code_cache().join("cli"))
        .env("MILLRACE_DATA", code_cache().join("data"))
        .output();
    output.expect("jobctl starts")
}

/// Rows of all visible files of one extension in a folder, as JSON; none if there is no folder.
pub fn read_ndjson(folder: &Path) -> Vec<Value> {
    let mut rows = Vec::new();
    for name in visible_files(folder) {
        let text = fs::read_to_string(folder.join(name)).expect("a file that was just listed");
        rows.extend(
            text.lines()
                .map(|line| serde_json::from_str(line).expect("a line of JSON")),
        );
    }
    rows
}

/// Lines of all visible files, without the header of each.
pub fn read_csv(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for name in visible_files(folder) {
        let text = fs::read_to_string(folder.join(name)).expect("a file that was just listed");
        rows.extend(text.lines().skip(1).map(str::to_owned));
    }
    rows
}

/// Names of the files in a folder, sorted, but for what the files sink notes of what it committed.
pub fn all_files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.retain(|name| !name.ends_with(".committed"));
    names.sort();
    names
}

/// Names of the files that are not hidden.
pub fn visible_files(folder: &Path) -> Vec<String> {
    let mut names = all_files(folder);
    names.retain(|name| !name.starts_with('.'));
    names
}

/// A path as text.
pub fn as_text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Totals of a running job's tasks.
#[derive(Debug, Clone, Copy)]
pub struct JobMetrics<'t>(pub &'t [TaskMetrics]);

impl JobMetrics<'_> {
    /// Rows that a task has taken in.
    pub fn rows_in(self, name: &str) -> u64 {
        task(self.0, name).total(|metrics| &metrics.rows_in)
    }

    /// Rows that a task has put out.
    pub fn rows_out(self, name: &str) -> u64 {
        task(self.0, name).total(|metrics| &metrics.rows_out)
    }
}
