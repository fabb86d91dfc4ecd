//! Words that must not stay: marks of unfinished work, and paths of the machine that something was written on.

use crate::report;
use crate::tree::{files, sources};

/// Macros of unfinished work.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Marks of unfinished work in comments: an issue is a better place.
const MARKS: &[&str] = &["FIXME", "XXX", "TODO"];

/// Texts that people read.
const TEXTS: &[&str] = &[".rs", ".md", ".wit", ".toml", ".json", ".sh", ".py", "Makefile"];

/// Folders at the top of somebody's machine. `/tmp` is everybody's.
const MACHINE: &[&str] = &["home", "root", "work", "mnt", "Users", "workspace", "workspaces"];

/// This file, which has to name them.
const SELF: &str = "tests/tidy/words.rs";

#[test]
fn nothing_is_left_unfinished() {
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| file.path != SELF) {
        let code = crate::tree::blank(&file.text);
        for (number, (line, code)) in file.text.lines().zip(code.lines()).enumerate() {
            let unfinished = UNFINISHED.iter().find(|word| code.contains(**word));
            let marked = MARKS
                .iter()
                .find(|mark| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == **mark));
            if let Some(word) = unfinished.or(marked) {
                findings.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    report("unfinished work", &findings);
}

#[test]
fn no_machine_is_named() {
    let mut findings = Vec::new();
    let mut texts = files(TEXTS);
    texts.extend(scripts());
    for file in texts.iter().filter(|file| file.path != SELF) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = machine_path(line) {
                findings.push(format!("{}:{}: {path}", file.path, number + 1));
            }
        }
    }
    report("paths of one machine", &findings);
}

/// Files without an extension in the folders of scripts.
fn scripts() -> Vec<crate::tree::File> {
    let is_script = |file: &crate::tree::File| !file.path.rsplit('/').next().unwrap_or_default().contains('.');
    files(&[
        "demo",
        "install",
        "check-examples",
        "setup-guest",
        "setup-native",
        "setup-duckdb",
        "setup-postgres",
        "setup-redis",
        "setup-s3",
        "fetch",
        "report",
        "verify",
        "run",
    ])
    .into_iter()
    .filter(is_script)
    .collect()
}

/// The first absolute path below a folder of [`MACHINE`].
fn machine_path(line: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = line[from..].find('/').map(|offset| from + offset) {
        let starts = !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/})*~$".contains(before));
        let mut names = line[at + 1..].split('/');
        let first = names.next().unwrap_or_default();
        if starts && MACHINE.contains(&first) && names.next().is_some_and(|next| !next.is_empty()) {
            return Some(&line[at..]);
        }
        from = at + 1;
    }
    None
}

#[test]
fn machine_paths_are_found() {
    assert_eq!(machine_path("see /home/me/x"), Some("/home/me/x"));
    assert_eq!(machine_path("(`/root/y`)"), Some("/root/y`)"));
    for line in [
        "$HOME/work/x",
        "~/home/x",
        "a/home/x",
        "/tmp/x",
        "https://x.org/home/y",
        "/work",
        "$(x)/root/y",
    ] {
        assert_eq!(machine_path(line), None, "{line}");
    }
}
