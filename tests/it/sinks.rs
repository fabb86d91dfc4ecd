//! Files of the sink: there when the job has succeeded, and not before; never after it failed.

use millrace_core::Fault;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, all_files, as_text, parallel, read_csv, start, visible_files, wait_until};

#[test]
fn files_appear_when_the_job_has_ended() {
    for parallelism in [1, 2] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = folder.path().join("out");
        let pairs = [("kind", "endless"), ("output", as_text(&output))];
        let job = start(Guest::Flows, parallel(parallelism), &pairs);
        // Several parts are complete, and still none is to be seen.
        wait_until("three parts", || all_files(&output).len() >= 3);
        let names = all_files(&output);
        assert_eq!(visible_files(&output), Vec::<String>::new(), "of {names:?}");
        job.stop();
        job.wait().expect("a stopped job succeeds");
        assert_eq!(all_files(&output), visible_files(&output), "nothing hidden is left");
        assert!(visible_files(&output).len() >= 3);
    }
}

#[test]
fn every_row_is_in_exactly_one_file() {
    for parallelism in [1, 3] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pairs = [("kind", "copy"), ("rows", "1050"), ("output", as_text(folder.path()))];
        jobs::succeed(Guest::Flows, parallel(parallelism), &pairs);
        let rows = read_csv(folder.path());
        let mut times: Vec<i64> = rows
            .iter()
            .map(|row| {
                row.split(',')
                    .nth(2)
                    .and_then(|time| time.parse().ok())
                    .expect("a time")
            })
            .collect();
        times.sort_unstable();
        let expected: Vec<i64> = (0..1_050).map(|index| index / 10).collect();
        assert_eq!(times, expected);
    }
}

#[test]
fn a_failed_job_leaves_nothing() {
    for parallelism in [1, 2] {
        for row in ["0", "1234", "4999"] {
            let folder = tempfile::tempdir().expect("temporary folder");
            let pairs = [("kind", "files"), ("row", row), ("path", as_text(folder.path()))];
            let parts = ["operator `write`", "no further"];
            jobs::fail(
                Guest::Hostile,
                parallel(parallelism),
                &pairs,
                "PL0001",
                Fault::Pipeline,
                &parts,
            );
            assert_eq!(all_files(folder.path()), Vec::<String>::new(), "row {row}");
        }
    }
}

#[test]
fn a_second_run_into_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = as_text(folder.path());
    let pairs = [("kind", "copy"), ("rows", "10"), ("output", output)];
    jobs::succeed(Guest::Flows, jobs::options(), &pairs);
    let (names, rows) = (all_files(folder.path()), read_csv(folder.path()));
    let parts = ["sink `out`", output, "already has 1 part files"];
    jobs::fail(Guest::Flows, jobs::options(), &pairs, "CN0115", Fault::User, &parts);
    assert_eq!(all_files(folder.path()), names);
    assert_eq!(read_csv(folder.path()), rows);
}

#[test]
fn a_run_after_a_failed_one_succeeds() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = as_text(folder.path());
    let run = |row: &str| {
        let pairs = [("kind", "files"), ("row", row), ("path", path)];
        jobs::run(Guest::Hostile, jobs::options(), &pairs)
    };
    assert_eq!(run("700").expect_err("it panics").code(), "PL0001");
    run("-1").expect("no row has this id");
    assert_eq!(read_csv(folder.path()).len(), 5_000);
}
