//! A savepoint as it was once written: every later Millrace goes on from it.
//!
//! The fixture has what the job had put out before, too. A new version of the format gets a folder of its own, and the old
//! one stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_engine::Restore;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, JobMetrics, as_text};

use crate::durable::{EXACTLY, Place, assert_same, sorted};
use crate::savepoint::{from, save};

const ROWS: &str = "3000";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/savepoint-1")
}

fn pairs<'p>(output: &'p Path, rate: &'p str) -> [(&'p str, &'p str); 6] {
    [
        ("kind", "durable"),
        ("rows", ROWS),
        ("keys", "40"),
        ("disorder", "4s"),
        ("rate", rate),
        ("output", as_text(output)),
    ]
}

/// How it was made.
#[test]
#[ignore = "writes the fixture"]
fn write() {
    let place = Place::new();
    let output = place.output();
    let mut options = place.options(2, EXACTLY, Restore::Nothing);
    let checkpoints = options.checkpoints.as_mut().expect("they are on");
    checkpoints.config.interval = Some(Duration::from_millis(500));
    let job = jobs::start(Guest::Flows, options, &pairs(&output, "1000"));
    jobs::wait_until("rows are read", || JobMetrics(job.tasks()).rows_in("process") > 1_500);
    job.stop();
    job.wait().expect("a stop is no failure");
    std::fs::create_dir_all(folder()).expect("a folder");
    copy(Path::new(&save(&place, "savepoint")), &folder().join("savepoint"));
    copy(&output, &folder().join("output"));
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--recursive").args([from, to]).status();
    assert!(copied.expect("cp starts").success());
}

#[test]
fn a_savepoint_of_version_1_goes_on() {
    let clean = Place::new();
    jobs::succeed(Guest::Flows, jobs::options(), &pairs(&clean.output(), "0"));
    let savepoint = folder().join("savepoint");
    for parallelism in [1, 3] {
        let place = Place::new();
        copy(&folder().join("output"), &place.output());
        let options = from(&place, as_text(&savepoint), parallelism, false);
        jobs::succeed(Guest::Flows, options, &pairs(&place.output(), "0"));
        assert_same(&sorted(&place.output()), &sorted(&clean.output()));
    }
}
