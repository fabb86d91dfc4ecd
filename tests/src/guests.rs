//! Guests, built by `jobctl build` and loaded once per process.
//!
//! `jobctl` is the one beside the test binary, which Cargo builds before any test of the workspace runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A pipeline project of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// `tests/guests/hostile`: goes wrong through the SDK.
    Hostile,
    /// `tests/guests/raw`: breaks the contract.
    Raw,
    /// `tests/guests/flows`: has known results.
    Flows,
    /// `benches/guest`: the workloads of the benchmarks.
    Bench,
}

struct Built {
    path: PathBuf,
    bytes: Vec<u8>,
}

static BUILT: [OnceLock<Built>; 4] = [const { OnceLock::new() }; 4];

impl Guest {
    fn project(self) -> &'static str {
        match self {
            Guest::Hostile => "tests/guests/hostile",
            Guest::Raw => "tests/guests/raw",
            Guest::Flows => "tests/guests/flows",
            Guest::Bench => "benches/guest",
        }
    }

    fn built(self) -> &'static Built {
        BUILT[self as usize].get_or_init(|| build(self.project()))
    }

    /// The component.
    pub fn bytes(self) -> &'static [u8] {
        &self.built().bytes
    }

    /// File of the component.
    pub fn path(self) -> &'static Path {
        &self.built().path
    }
}

fn build(project: &str) -> Built {
    let name = project.replace('/', "-");
    let folder = target_folder().join("guests");
    std::fs::create_dir_all(&folder).expect("build results can be written");
    let path = folder.join(format!("{name}.wasm"));
    let output = Command::new(jobctl())
        .args(["build", "--locked"])
        .arg(top().join(project))
        .arg("--out")
        .arg(&path)
        .output()
        .expect("jobctl starts");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{project} does not build:\n{messages}");
    let bytes = std::fs::read(&path).expect("jobctl wrote the component");
    Built { path, bytes }
}

/// Top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folder of build results of this profile: `target/release`.
pub fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a file");
    let folder = test.parent().and_then(Path::parent);
    folder.expect("test binaries are in `deps`").to_owned()
}

/// Folder for compiled code, shared by all tests.
pub fn code_cache() -> PathBuf {
    target_folder().join("guests/code")
}

/// The command line tool.
pub fn jobctl() -> PathBuf {
    let path = target_folder().join("jobctl");
    assert!(
        path.is_file(),
        "`{}` is missing: `make jobctl` builds it",
        path.display()
    );
    path
}
