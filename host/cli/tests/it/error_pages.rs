//! Every code that the host's sources can report has a page in `docs/errors`, every page a code, and a code
//! has one meaning: the same fault, and so the same exit code, wherever it is reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How errors are made, with the fault that each way stands for.
const CONSTRUCTORS: [&str; 3] = ["Error::user(", "Error::pipeline(", "Error::external("];

#[test]
fn a_code_stands_for_one_fault() {
    let mut faults: BTreeMap<String, (&str, String)> = BTreeMap::new();
    for (path, text) in sources() {
        for constructor in CONSTRUCTORS {
            for (at, _) in text.match_indices(constructor) {
                let argument = text[at + constructor.len()..].trim_start();
                let Some(code) = argument
                    .strip_prefix('"')
                    .and_then(|rest| rest.get(..6))
                    .filter(|code| is_code(code))
                else {
                    continue; // The code is a constant or comes from elsewhere.
                };
                let (fault, first) = faults.entry(code.to_owned()).or_insert((constructor, path.clone()));
                assert_eq!(
                    *fault, constructor,
                    "{code} is reported with two faults, in {first} and in {path}"
                );
            }
        }
    }
    assert!(faults.len() > 30, "errors are found in the sources");
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let mut codes = BTreeMap::new();
    for (path, text) in sources() {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for code in lines
            .flat_map(|line| line.split('"'))
            .filter(|literal| is_code(literal))
        {
            codes.entry(code.to_owned()).or_insert_with(|| path.clone());
        }
    }
    assert!(codes.len() > 50, "codes are found in the sources");
    let has_page = |code: &str| root().join(format!("docs/errors/{code}.md")).is_file();
    let without: Vec<_> = codes.iter().filter(|(code, _)| !has_page(code)).collect();
    assert!(
        without.is_empty(),
        "there is no page docs/errors/CODE.md for {without:#?}"
    );
    for page in fs::read_dir(root().join("docs/errors")).expect("docs/errors").flatten() {
        let name = page.file_name().to_string_lossy().into_owned();
        let code = name.strip_suffix(".md").expect("a page of Markdown");
        assert!(
            codes.contains_key(code),
            "docs/errors/{name} explains a code that nothing reports"
        );
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The host's sources as (path, text), without tests.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for part in fs::read_dir(root().join("host")).expect("host").flatten() {
        collect(&part.path().join("src"), &mut sources);
    }
    sources
}

fn collect(folder: &Path, sources: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let outside_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            sources.push((path.display().to_string(), outside_tests.to_owned()));
        }
    }
}

fn is_code(literal: &str) -> bool {
    let bytes = literal.as_bytes();
    bytes.len() == 6 && bytes[..2].iter().all(u8::is_ascii_uppercase) && bytes[2..].iter().all(u8::is_ascii_digit)
}
