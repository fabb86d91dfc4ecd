//! Runs Cargo on a pipeline project and finds the module that it made.
//!
//! All projects are compiled with the same flags and share one folder for intermediate results, so that the
//! standard library (where it is built here) and the SDK are compiled once.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millrace_core::{Error, Result};
use serde_json::Value;

use crate::files;
use crate::guest::owners::{self, BuildFolder};
use crate::guest::project::Project;
use crate::guest::toolchain::{TARGET, Toolchain};

/// Flags of every guest: both features are everywhere, and worth much on columns.
const RUSTFLAGS: &str = "-C target-feature=+simd128,+bulk-memory";

/// How to compile.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Use only the versions in Cargo.lock.
    pub locked: bool,
    /// Do not use the network.
    pub offline: bool,
}

/// Compiles a project and gives its core module. `folder` is for intermediate results, shared by all projects.
pub fn compile(project: &Project, toolchain: &Toolchain, folder: &BuildFolder, options: Options) -> Result<Vec<u8>> {
    let cargo = |arguments: &[&str]| command(project, toolchain, folder, options, arguments);
    let unbuilt = || Error::user("CL0007", format!("`{}` does not compile (see above)", project.name));
    let metadata = owners::output(cargo(&["metadata", "--no-deps", "--format-version=1"])?)?;
    folder.own(&metadata.ok_or_else(unbuilt)?, |package| {
        let cleaned = owners::output(cargo(&[
            "clean",
            "--quiet",
            "--release",
            "--target",
            TARGET,
            "-p",
            package,
        ])?)?;
        cleaned.map(drop).ok_or_else(unbuilt)
    })?;
    let mut command = cargo(&[
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ])?;
    if let Toolchain::Debian { .. } = toolchain {
        command.arg("-Zbuild-std=std,panic_abort");
    }
    let unstarted = |error| Error::external("CL0010", format!("cannot start {:?}: {error}", command_name(toolchain)));
    let mut cargo = command.stdout(Stdio::piped()).spawn().map_err(unstarted)?;
    let messages = BufReader::new(cargo.stdout.take().expect("standard output is piped"));
    let mut module = None;
    for line in messages.lines() {
        let line = line.map_err(|error| files::failed("read from", Path::new("cargo"), &error))?;
        if let Some(path) = module_in(&line, &project.manifest) {
            module = Some(path);
        }
    }
    let status = cargo
        .wait()
        .map_err(|error| files::failed("wait for", Path::new("cargo"), &error))?;
    if !status.success() {
        return Err(unbuilt());
    }
    let module = module.ok_or_else(|| {
        Error::user(
            "CL0005",
            format!("Cargo made no wasm module of package `{}`", project.name),
        )
    })?;
    files::read(&module)
}

fn command_name(toolchain: &Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Prebuilt { .. } => "cargo",
        Toolchain::Debian { .. } => "/usr/bin/cargo",
    }
}

fn command(
    project: &Project,
    toolchain: &Toolchain,
    folder: &BuildFolder,
    options: Options,
    arguments: &[&str],
) -> Result<Command> {
    let mut command = Command::new(command_name(toolchain));
    command
        .args(arguments)
        .arg("--manifest-path")
        .arg(absolute(&project.manifest)?)
        .current_dir(&project.folder);
    if options.locked {
        command.arg("--locked");
    }
    if options.offline {
        command.arg("--offline");
    }
    // What a surrounding cargo, or a setting for native builds, would change.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    command
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_BUILD_BUILD_DIR", &folder.path);
    if let Toolchain::Debian { linker, .. } = toolchain {
        command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    Ok(command)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| files::failed("find", path, &error))
}

/// The module, if this line of Cargo's messages says that the project's library was made.
fn module_in(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let same = Path::new(message["manifest_path"].as_str()?).canonicalize().ok()? == manifest.canonicalize().ok()?;
    let is_library = message["target"]["kind"]
        .as_array()?
        .iter()
        .any(|kind| kind == "cdylib");
    let modules = message["filenames"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .map(PathBuf::from);
    let module = modules
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    module.filter(|_| same && is_library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_in_the_messages_of_cargo() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(&manifest, "").expect("manifest");
        let artifact = |manifest: &Path, kind: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": manifest, "target": { "kind": [kind] },
                "filenames": ["/t/a.d", "/t/a.wasm"]
            })
            .to_string()
        };
        let found = |line: &str| module_in(line, &manifest);
        assert_eq!(found(&artifact(&manifest, "cdylib")), Some("/t/a.wasm".into()));
        assert_eq!(found(&artifact(&manifest, "bin")), None);
        assert_eq!(found(&artifact(&folder.path().join("other.toml"), "cdylib")), None);
        assert_eq!(found("{\"reason\":\"build-finished\"}"), None);
        assert_eq!(found("   Compiling a"), None);
    }
}
