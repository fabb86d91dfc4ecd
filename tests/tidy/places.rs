//! Things that are allowed in few places: `unsafe`, clocks, `unwrap`.

use crate::report;
use crate::tree::{File, sources};

/// Files with unsafe code, and what for.
const UNSAFE: &[(&str, &str)] = &[
    (
        "guest-sdk/rust/src/abi/allocator.rs",
        "the allocator, which reports where memory ran out",
    ),
    ("guest-sdk/rust/src/bindings.rs", "generated from the contract"),
    ("guest-sdk/rust/src/block.rs", "bytes of a block as numbers and back"),
    ("guest-sdk/rust/src/state/pages.rs", "loads that only warm the cache"),
    (
        "guest-sdk/rust/src/values/text.rs",
        "text of a block that the host has checked",
    ),
    ("host/wasm/src/codec/decode.rs", "offsets that were just checked"),
    ("host/wasm/src/codec/encode.rs", "numbers of a column as bytes"),
    (
        "host/wasm/src/component_cache.rs",
        "compiled code from the user's own cache",
    ),
];

/// Parts without any.
const SAFE_PARTS: &[&str] = &[
    "pattern",
    "core",
    "operators",
    "state",
    "net",
    "connectors",
    "engine",
    "cli",
];

/// Where the host may read a clock, and what for.
const CLOCKS: &[(&str, &str)] = &[
    ("host/cli/src/commands/build.rs", "says how long the build took"),
    (
        "host/engine/src/env/",
        "the engine's clocks; everybody else is told the time",
    ),
];

const CLOCK_READS: &[&str] = &["Instant::now", "SystemTime::now"];

/// Places of a word in code, as `path:line`.
fn places(file: &File, code: &str, word: &str) -> Vec<String> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let mut places = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let found = line.match_indices(word).any(|(at, _)| {
            let joins_before = word.starts_with(is_part) && line[..at].ends_with(is_part);
            let joins_after = word.ends_with(is_part) && line[at + word.len()..].starts_with(is_part);
            !joins_before && !joins_after
        });
        if found {
            places.push(format!("{}:{}", file.path, number + 1));
        }
    }
    places
}

/// Entries of a table that no file needs any more.
fn unused(table: &[(&str, &str)], used: &[String]) -> Vec<String> {
    let unused = table
        .iter()
        .filter(|(path, _)| !used.iter().any(|place| place.starts_with(path)));
    unused
        .map(|(path, _)| format!("{path} no longer needs to be on the list"))
        .collect()
}

fn only_in(rule: &str, table: &[(&str, &str)], found: &[String]) {
    let outside = found
        .iter()
        .filter(|place| !table.iter().any(|(path, _)| place.starts_with(path)));
    let mut findings: Vec<String> = outside.cloned().collect();
    findings.extend(unused(table, found));
    report(rule, &findings);
}

#[test]
fn unsafe_code_is_in_named_files() {
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| !file.path.starts_with("tests/")) {
        let code = file.code();
        found.extend(places(file, &code, "unsafe"));
        found.extend(
            places(file, &code, "unsafe_code")
                .into_iter()
                .filter(|_| !code.contains("forbid(unsafe_code)")),
        );
    }
    // The SDK denies unsafe code as a whole, and four files of it allow it.
    found.retain(|place| !place.starts_with("guest-sdk/rust/src/lib.rs"));
    only_in("unsafe code is in files that are not meant for it", UNSAFE, &found);
}

#[test]
fn safe_parts_forbid_unsafe_code() {
    let sources = sources();
    let forbids = |part: &&&str| {
        let path = format!("host/{part}/src/lib.rs");
        sources
            .iter()
            .any(|file| file.path == path && file.code().contains("#![forbid(unsafe_code)]"))
    };
    let lax: Vec<String> = SAFE_PARTS
        .iter()
        .filter(|part| !forbids(part))
        .map(|part| format!("host/{part}"))
        .collect();
    report("`#![forbid(unsafe_code)]` is missing", &lax);
}

#[test]
fn clocks_are_read_in_one_place() {
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test()) {
        let code = file.code();
        found.extend(CLOCK_READS.iter().flat_map(|read| places(file, &code, read)));
    }
    only_in("clocks are read outside of the engine's environment", CLOCKS, &found);
}

#[test]
fn impossible_errors_say_why_they_are() {
    let kept = |file: &&File| ["host/", "guest-sdk/"].iter().any(|part| file.path.starts_with(part)) && !file.is_test();
    let mut found = Vec::new();
    for file in sources().iter().filter(kept) {
        found.extend(places(file, &file.code(), ".unwrap()"));
    }
    report(
        "`unwrap` outside of tests: `expect` with the reason why it cannot fail, or return the error",
        &found,
    );
}

#[test]
fn words_are_found_whole() {
    let file = File {
        path: "x.rs".to_owned(),
        text: "unsafe {}\nunsafe_code\n// unsafe\nan_unsafe\nx.unwrap();\n".to_owned(),
    };
    assert_eq!(places(&file, &file.code(), "unsafe"), ["x.rs:1"]);
    assert_eq!(places(&file, &file.code(), ".unwrap()"), ["x.rs:5"]);
}
