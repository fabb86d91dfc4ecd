//! Stopping an endless job: what was read is written and committed, and nothing else happens.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::{all_files, as_text, number, parallel, read_csv, start, task, visible_files, wait_until};

/// The values of all rows, sorted: the indices that the source gave, without a hole at parallelism 1.
fn values(folder: &Path) -> Vec<u64> {
    let rows = read_csv(folder);
    let value = |row: &String| row.split(',').nth(1).and_then(|value| value.parse().ok());
    let mut values: Vec<u64> = rows.iter().map(|row| value(row).expect("a value")).collect();
    values.sort_unstable();
    values
}

#[test]
fn a_stopped_job_commits_what_it_has_read() {
    for parallelism in [1, 2] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pairs = [("kind", "endless"), ("output", as_text(folder.path()))];
        let job = start(Guest::Flows, parallel(parallelism), &pairs);
        wait_until("a part", || !all_files(folder.path()).is_empty());
        job.stop();
        let report = job.wait().expect("a stopped job succeeds");
        let values = values(folder.path());
        let read = task(&report.tasks, "events").total(|metrics| &metrics.rows_in);
        assert_eq!(values.len() as u64, read);
        let mut once = values.clone();
        once.dedup();
        assert_eq!(once, values, "no row is there twice");
        if parallelism == 1 {
            assert_eq!(values, (0..read).collect::<Vec<_>>());
        }
    }
}

#[test]
fn open_windows_do_not_fire() {
    for parallelism in [1, 2] {
        let job = start(Guest::Flows, parallel(parallelism), &[("kind", "open-windows")]);
        wait_until("rows in windows", || {
            task(job.tasks(), "windows").total(|metrics| &metrics.rows_in) > 100
        });
        job.stop();
        let report = job.wait().expect("a stopped job succeeds");
        assert_eq!(number(&report, "out", "rows"), 0);
    }
}

#[test]
fn interrupt_and_terminate_stop_the_command() {
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut running = Command::new(jobctl())
            .arg("run")
            .arg(Guest::Flows.path())
            .args([
                "--param=kind=endless",
                &format!("--param=output={}", as_text(folder.path())),
            ])
            .env("MILLRACE_CACHE", code_cache().join("cli"))
            .env("MILLRACE_DATA", code_cache().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("jobctl starts");
        wait_until("two parts", || all_files(folder.path()).len() >= 2);
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &running.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success());
        let mut messages = String::new();
        let mut stderr = running.stderr.take().expect("standard error is piped");
        stderr.read_to_string(&mut messages).expect("messages are text");
        let status = running.wait().expect("jobctl ends");
        assert_eq!(status.code(), Some(0), "{signal}: {messages}");
        assert!(messages.contains("stopping"), "{messages}");
        assert_eq!(all_files(folder.path()), visible_files(folder.path()));
        let values = values(folder.path());
        assert!(values.len() >= 500);
        assert_eq!(values, (0..values.len() as u64).collect::<Vec<_>>());
    }
}
