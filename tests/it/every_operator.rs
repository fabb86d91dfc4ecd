//! Every operator of the SDK, killed halfway and gone on with at another parallelism: what each of them puts out is what
//! it puts out in one go.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::{self, all_files, as_text, parallel, read_ndjson};

use crate::durable::{Place, assert_same};

const ROWS: &str = "6000";

/// Two seconds for all rows, if nothing happens.
const RATE: &str = "3000";

/// Sorted rows of each sink.
pub(crate) fn outputs(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let rows = |name: String| {
        let rows = read_ndjson(&folder.join(&name)).into_iter();
        let mut rows = rows.map(|row| row.to_string()).collect::<Vec<_>>();
        rows.sort_unstable();
        (name, rows)
    };
    all_files(folder).into_iter().map(rows).collect()
}

fn expected(kind: &str, sinks: usize) -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [("kind", kind), ("rows", ROWS), ("output", as_text(folder.path()))];
    jobs::succeed(Guest::Flows, parallel(1), &pairs);
    let outputs = outputs(folder.path());
    assert_eq!(outputs.len(), sinks, "{:?}", outputs.keys());
    for (name, rows) in &outputs {
        // Nothing is late within the bound.
        assert!(rows.len() > 100 || name == "late", "{} rows of {name}", rows.len());
    }
    if kind == "operators" {
        let pairs = [
            ("-count", "tumbling-count"),
            ("-sum", "sliding-sum"),
            ("-min_by", "sliding-min_by"),
            ("-uneven", "uneven-count"),
            ("-apart", "apart-count"),
        ];
        for (phased, plain) in pairs {
            assert_eq!(outputs[&format!("two-phase{phased}")], outputs[plain]);
            assert_eq!(outputs[&format!("salted{phased}")], outputs[plain]);
        }
    }
    outputs
}

/// Checkpoints that were complete at some time, for their numbers go on.
pub(crate) fn checkpoints(place: &Place, kind: &str) -> u64 {
    let storage = Path::new(&place.storage()).join(kind);
    let runs = all_files(&storage).into_iter();
    let files = runs.flat_map(|run| all_files(&storage.join(run)));
    let numbers = files.filter_map(|name| name.strip_prefix("chk-")?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Runs until it has taken some checkpoints and is killed, or to its end.
pub(crate) fn live(place: &Place, kind: &str, parallelism: u32, arguments: &[&str], killed: bool) {
    let mut command = Command::new(jobctl());
    command.args(["run", "--quiet", "--restore=latest", "--checkpoint-interval=20ms"]);
    command.arg(format!("--checkpoint-dir={}", place.storage()));
    command.arg(format!("--parallelism={parallelism}")).args(arguments);
    if killed {
        command.arg(format!("--source-rate={RATE}"));
    }
    for (name, value) in [("kind", kind), ("rows", ROWS), ("output", as_text(&place.output()))] {
        command.arg(format!("--param={name}={value}"));
    }
    command.arg(Guest::Flows.path());
    command.env("MILLRACE_CACHE", code_cache().join("cli"));
    command.env("MILLRACE_DATA", place.0.path().join("data"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("jobctl starts");
    if killed {
        let before = checkpoints(place, kind);
        jobs::wait_until("some checkpoints", || checkpoints(place, kind) > before + 4);
        assert!(child.try_wait().expect("a child").is_none(), "it had ended before");
        child.kill().expect("a child of ours");
        child.wait().expect("a child");
        return;
    }
    let output = child.wait_with_output().expect("a child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("going on from checkpoint"), "{stderr}");
}

/// `sinks`: how many the pipeline has.
pub(crate) fn kill_twice(kind: &str, sinks: usize, arguments: &[&str]) {
    let expected = expected(kind, sinks);
    let place = Place::new();
    live(&place, kind, 1, arguments, true);
    live(&place, kind, 3, arguments, true);
    live(&place, kind, 2, arguments, false);
    let got = outputs(&place.output());
    assert!(got.keys().eq(expected.keys()), "{:?}", got.keys());
    for (name, rows) in &got {
        eprintln!("{name}");
        assert_same(rows, &expected[name]);
    }
}

#[test]
fn every_operator_goes_on_at_another_parallelism() {
    kill_twice("operators", 58, &[]);
}

#[test]
fn every_operator_goes_on_from_unaligned_checkpoints() {
    kill_twice("operators", 58, &["--unaligned-checkpoints"]);
}

#[test]
fn every_operator_goes_on_with_state_on_disk() {
    kill_twice("operators", 58, &["--state-backend=rocksdb", "--state-cache=1"]);
}

/// Rows are in other windows after a recovery, but each is in one.
#[test]
fn windows_of_processing_time_lose_no_row() {
    let place = Place::new();
    live(&place, "clock", 1, &[], true);
    live(&place, "clock", 3, &[], true);
    live(&place, "clock", 2, &[], false);
    for name in ["tumbling", "session", "parts", "timeouts", "all"] {
        let rows = read_ndjson(&place.output().join(name));
        assert!(rows.len() > 5, "{} windows of {name}: the clock ends them", rows.len());
        let counted: i64 = rows.iter().map(|row| row["value"].as_i64().expect("a number")).sum();
        assert_eq!(counted.to_string(), ROWS, "rows of {name}");
    }
}
