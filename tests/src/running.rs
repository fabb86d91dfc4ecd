//! Jobs in processes of their own, found by their sockets as users find them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::guests::{Guest, code_cache, jobctl};
use crate::jobs::{as_text, wait_until};

/// A folder with a data folder, an output and checkpoints.
pub struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Place::new()
    }
}

impl Place {
    /// A new one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = folder.path().join("data");
        Place { folder, data }
    }

    /// One whose data folder has this path within it.
    pub fn with_data(path: &str) -> Self {
        let mut place = Place::new();
        place.data = place.folder.path().join(path);
        place
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        as_text(&self.path(name)).to_owned()
    }

    /// Where results go.
    pub fn output(&self) -> PathBuf {
        self.path("output")
    }

    /// Folder with the sockets.
    pub fn sockets(&self) -> PathBuf {
        self.data.join("run")
    }

    /// Checkpoints as often as that.
    pub fn checkpoints(&self, interval: &str) -> Vec<String> {
        vec![
            format!("--checkpoint-dir={}", self.text("checkpoints")),
            format!("--checkpoint-interval={interval}"),
        ]
    }

    fn command(&self) -> Command {
        let mut command = Command::new(jobctl());
        command.env("MILLRACE_CACHE", code_cache().join("cli"));
        command.env("MILLRACE_DATA", &self.data);
        command
    }

    /// Starts a job of the guest `flows`.
    pub fn start(&self, kind: &str, arguments: &[String], parameters: &[(&str, &str)]) -> Running {
        let mut command = self.command();
        command.args(["run", "--quiet"]).args(arguments);
        command.arg(format!("--param=kind={kind}"));
        if parameters.iter().all(|(name, _)| *name != "output") {
            command.arg(format!("--param=output={}", as_text(&self.output())));
        }
        command.args(parameters.iter().map(|(name, value)| format!("--param={name}={value}")));
        command.arg(Guest::Flows.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Running(command.spawn().expect("jobctl starts"))
    }

    /// Runs `jobctl`.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("jobctl starts")
    }

    /// Runs `jobctl`, which must succeed, and gives what it says.
    pub fn tell(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--output=json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).expect("JSON on demand")
    }

    /// Runs `jobctl`, which must fail with this exit code; all parts must be in its message.
    pub fn refuse(&self, arguments: &[&str], exit: i32, parts: &[&str]) {
        let output = self.cli(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
        }
    }

    /// The jobs that run.
    pub fn list(&self) -> Vec<Value> {
        let jobs = self.tell(&["list"]);
        jobs["jobs"].as_array().expect("a list").clone()
    }

    /// Waits until one job is there in this state, and returns it.
    pub fn wait_for(&self, state: &str) -> Value {
        let mut found = Value::Null;
        wait_until(state, || {
            let jobs = self.list();
            found = jobs.into_iter().find(|job| job["state"] == state).unwrap_or_default();
            !found.is_null()
        });
        found
    }

    /// Waits until rows have come as far as the files of the output, visible or not.
    pub fn wait_for_rows(&self) {
        wait_until("rows in the output", || bytes_in(&self.output()) > 10_000);
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // A part may be renamed or removed meanwhile.
    entries
        .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

/// The process of a job. It is killed if it is still there when this is dropped.
pub struct Running(Child);

impl Running {
    /// As `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().expect("a child of ours");
        self.0.wait().expect("a child");
    }

    /// Sends it a signal by name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.0.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success());
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end; exit code and messages.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut messages = String::new();
        let mut stderr = self.0.stderr.take().expect("standard error is piped");
        std::io::Read::read_to_string(&mut stderr, &mut messages).expect("messages are text");
        (self.0.wait().expect("a child").code(), messages)
    }

    /// Waits for its end, which must be a good one; its messages.
    pub fn succeed(self) -> String {
        let (code, messages) = self.end();
        assert_eq!(code, Some(0), "{messages}");
        messages
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
