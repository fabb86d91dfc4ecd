//! `jobctl build`, as far as projects get in each other's way.

use std::fs;
use std::path::Path;
use std::process::Command;

use millrace_tests::jobs::{as_text, cli};

/// Compiles a project: its component.
fn build(project: &Path) -> Vec<u8> {
    let output = cli(&["build", as_text(project)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(project.join("copied.wasm")).expect("a component")
}

/// Cargo takes what it has compiled last for what it is to compile, where the files are older than that.
#[test]
fn copies_of_a_project_have_components_of_their_own() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (one, other) = (folder.path().join("copied"), folder.path().join("copy"));
    let made = cli(&["new", as_text(&one)]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let copied = Command::new("cp").arg("-a").args([&one, &other]).status();
    assert!(copied.expect("cp starts").success());
    let code = other.join("src/lib.rs");
    let text = fs::read_to_string(&code).expect("the code");
    fs::write(&code, text.replace("\"out\"", "\"another-out\"")).expect("a change");
    let first = build(&one);
    let second = build(&other);
    assert!(first != second, "the copy has another sink");
    assert!(build(&one) == first, "the component is the project's own");
    assert!(build(&other) == second);
}
