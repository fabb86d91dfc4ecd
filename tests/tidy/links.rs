//! Links in Markdown lead to files that exist, and so do the paths that ARCHITECTURE.md names.

use std::path::Path;

use crate::report;
use crate::tree::{files, root};

#[test]
fn links_lead_somewhere() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for file in files(&[".md"]) {
        let folder = root().join(Path::new(&file.path).parent().expect("a file is in a folder"));
        for (number, target) in targets(&file.text) {
            checked += 1;
            if !folder.join(target).exists() {
                findings.push(format!("{}:{number}: {target}", file.path));
            }
        }
    }
    assert!(checked > 10, "links are found in the documents");
    report("links to nothing", &findings);
}

/// Links to other files, with their lines; code is skipped.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for piece in line.split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                targets.push((number + 1, target));
            }
        }
    }
    targets
}

#[test]
fn the_architecture_names_what_is_there() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let quoted = text
        .split("```")
        .step_by(2)
        .flat_map(|prose| prose.split('`').skip(1).step_by(2));
    // Paths are from the top or from `host/`; the code map says what to begin with in the folder of its row.
    let bases = ["", "host", "guest-sdk/rust/src", "wit", "host/engine/src/worker"];
    let parts = [
        "core",
        "operators",
        "wasm",
        "state",
        "net",
        "connectors",
        "engine",
        "cli",
    ];
    let exists = |path: &str| {
        bases.iter().any(|base| root().join(base).join(path).exists())
            || parts
                .iter()
                .any(|part| root().join("host").join(part).join("src").join(path).exists())
    };
    let is_path = |word: &&str| word.contains('/') || word.ends_with(".rs");
    let missing: Vec<String> = quoted
        .filter(is_path)
        .filter(|path| !exists(path))
        .map(str::to_owned)
        .collect();
    report("ARCHITECTURE.md names files that are not there", &missing);
}

#[test]
fn links_are_found() {
    let text = "see [a](a.md#x), [b](https://b) and [c](c/d)\n```\n[e](e)\n```\n[f](#f)\n";
    assert_eq!(targets(text), [(1, "a.md"), (1, "c/d")]);
}
