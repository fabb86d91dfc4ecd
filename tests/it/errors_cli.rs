//! Errors as a user of `jobctl` sees them: exit code, code and message on standard error, nothing on standard
//! output.

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text};

/// Runs the hostile guest with a parameter per pair and small limits.
fn run(guest: Guest, pairs: &[(&str, &str)], more: &[&str]) -> (i32, String, String) {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("--param={name}={value}"))
        .collect();
    let mut arguments = vec!["run", "--quiet", "--memory-limit=64"];
    arguments.extend(more);
    arguments.push(as_text(guest.path()));
    arguments.extend(pairs.iter().map(String::as_str));
    let output = jobs::cli(&arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("jobctl ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn check(guest: Guest, pairs: &[(&str, &str)], exit: i32, code: &str, parts: &[&str]) {
    let (got, stdout, stderr) = run(guest, pairs, &[]);
    assert_eq!(got, exit, "{pairs:?}: {stderr}");
    assert_eq!(stdout, "", "{pairs:?}");
    assert!(stderr.starts_with(&format!("error[{code}]: ")), "{pairs:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

#[test]
fn a_pipeline_whose_graph_cannot_be_built_is_inspected_as_far_as_it_goes() {
    let path = as_text(Guest::Hostile.path());
    let output = jobs::cli(&["inspect", path]);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for part in ["What goes wrong", "(required)", "imports\n", "millrace:pipeline/"] {
        assert!(stdout.contains(part), "{part:?} is not in: {stdout}");
    }
    for part in ["GR0002", "the graph could not be built", "there is no kind `<kind>`"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

#[test]
fn what_is_wrong_with_the_pipeline_or_the_command_ends_with_2() {
    let path = as_text(Guest::Hostile.path());
    check(
        Guest::Hostile,
        &[("kind", "uids")],
        2,
        "GR0005",
        &[path, "uid `totals`"],
    );
    check(
        Guest::Hostile,
        &[("kind", "build-error")],
        2,
        "GR0002",
        &["wrong phase"],
    );
    check(
        Guest::Hostile,
        &[("kind", "unknown-option")],
        2,
        "CN0004",
        &["`colour`"],
    );
    check(Guest::Hostile, &[], 2, "PM0002", &["--param kind=VALUE"]);
    check(
        Guest::Hostile,
        &[("kind", "fine"), ("color", "red")],
        2,
        "PM0001",
        &["`color`"],
    );
    check(Guest::Raw, &[("kind", "cycle")], 2, "GR0003", &["`function`"]);
    check(Guest::Raw, &[("kind", "mismatch")], 2, "GR0007", &["field `id`"]);
}

#[test]
fn what_user_code_does_wrong_ends_with_3() {
    let row = "row {id: 1234, key: 4, time: 1234}";
    for (kind, code, part) in [
        ("panic", "PL0001", "the answer is not 1234"),
        ("process", "PL0001", "row 1234 is not welcome"),
        ("bomb", "PL0004", "limit of 64 MiB"),
        ("recursion", "PL0005", "overflowed "),
    ] {
        check(Guest::Hostile, &[("kind", kind)], 3, code, &["operator `", row, part]);
    }
    let (exit, _, stderr) = run(Guest::Hostile, &[("kind", "loop")], &["--call-timeout=500ms"]);
    assert_eq!(exit, 3, "{stderr}");
    for part in ["error[PL0003]", "operator `", row, "did not return within 0.5 s"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    check(
        Guest::Hostile,
        &[("kind", "try-fail")],
        3,
        "PL0010",
        &["`careful`", "1234 is a bad number"],
    );
    check(
        Guest::Raw,
        &[("kind", "utf8")],
        3,
        "PL0007",
        &["job `raw`", "`function`", "column `text`"],
    );
}

#[test]
fn what_the_outside_world_does_wrong_ends_with_4() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("missing.csv");
    let path = as_text(&path);
    check(
        Guest::Hostile,
        &[("kind", "read"), ("path", path)],
        4,
        "IO0101",
        &["source `items`", path],
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("temporary file");
    let below = file.join("below");
    let below = as_text(&below);
    check(
        Guest::Hostile,
        &[("kind", "write"), ("path", below)],
        4,
        "IO0106",
        &["sink `out`", below],
    );
}

#[test]
fn files_that_are_no_pipelines_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("script.wasm");
    std::fs::write(&path, "#!/bin/sh\n").expect("temporary file");
    let output = jobs::cli(&["run", as_text(&path)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error[WM0001]: "), "{stderr}");
    assert!(stderr.contains(as_text(&path)), "{stderr}");
    let missing = folder.path().join("missing.wasm");
    let output = jobs::cli(&["run", as_text(&missing)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains(as_text(&missing)), "{stderr}");
}

#[test]
fn errors_are_json_on_demand() {
    let (exit, _, stderr) = run(Guest::Hostile, &[("kind", "panic")], &["--output=json"]);
    assert_eq!(exit, 3);
    let error: serde_json::Value = serde_json::from_str(stderr.trim()).expect("one line of JSON");
    assert_eq!(error["error"]["code"], "PL0001");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(message.contains("operator `middle`"), "{message}");
}
