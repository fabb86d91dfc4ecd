//! The commands that need no toolchain, and how failures end.

use std::path::Path;
use std::process::{Command, Output};

fn jobctl(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("MILLRACE_CACHE", folder.join("cache"));
    command.output().expect("jobctl starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

#[test]
fn new_makes_a_project_that_names_the_unpacked_sdk() {
    let folder = temporary();
    let output = jobctl(folder.path(), &["new", "clicks", "--output", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    assert_eq!(made["name"], "clicks");
    let manifest = std::fs::read_to_string(folder.path().join("clicks/Cargo.toml")).expect("manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let sdk = manifest["dependencies"]["millrace-sdk"]["path"].as_str().expect("path");
    for file in [
        "Cargo.toml",
        "src/lib.rs",
        "../rust-derive/Cargo.toml",
        "../../host/pattern/Cargo.toml",
        "../../wit/world.wit",
        "../../Cargo.toml",
    ] {
        assert!(Path::new(sdk).join(file).is_file(), "{file} is missing in {sdk}");
    }

    let again = jobctl(folder.path(), &["new", "clicks"]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(text(&again.stdout), "");
    assert!(text(&again.stderr).starts_with("error[CL0002]: `clicks` is already there\n  help: "));
}

#[test]
fn failures_say_whose_fault_it_was() {
    let folder = temporary();
    let check = |arguments: &[&str], exit: i32, start: &str| {
        let output = jobctl(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?} prints its failure on stderr");
        assert!(
            text(&output.stderr).starts_with(start),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    };
    check(&["build"], 2, "error[CL0004]: there is no project at `.`");
    check(
        &["new", "9lives"],
        2,
        "error[CL0001]: `9lives` cannot be the name of a project: ",
    );
    check(
        &["explain", "XX1234"],
        2,
        "error[CL0011]: there is no error code `XX1234`",
    );
    check(&["frobnicate"], 2, "error: unrecognized subcommand");
    std::fs::write(folder.path().join("file"), "").expect("file");
    check(&["new", "file/x"], 4, "error[CL0010]: cannot create");
    check(
        &["explain", "XX1234", "--output", "json"],
        2,
        "{\"error\":{\"code\":\"CL0011\"",
    );
}

#[test]
fn explain_prints_a_page_or_lists_all() {
    let folder = temporary();
    let page = jobctl(folder.path(), &["explain", "cl0006"]);
    assert!(text(&page.stdout).starts_with("# CL0006: no toolchain for wasm\n"));
    let list = jobctl(folder.path(), &["explain"]);
    assert!(
        text(&list.stdout)
            .lines()
            .any(|line| line.starts_with("CL0006  no toolchain for wasm"))
    );
}

#[test]
fn completions_know_the_commands() {
    let folder = temporary();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&jobctl(folder.path(), &["completions", shell]).stdout);
        assert!(script.contains("explain") && script.contains("jobctl"), "{shell}");
    }
}
