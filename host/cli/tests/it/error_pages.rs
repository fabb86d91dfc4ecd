//! Every code that the host's sources can report has a page in `docs/errors`, and every page a code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let root = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let mut codes = BTreeMap::new();
    for part in fs::read_dir(root.join("host")).expect("host").flatten() {
        collect(&part.path().join("src"), &mut codes);
    }
    assert!(codes.len() > 10, "codes are found in the sources");
    let has_page = |code: &str| root.join(format!("docs/errors/{code}.md")).is_file();
    let without: Vec<_> = codes.iter().filter(|(code, _)| !has_page(code)).collect();
    assert!(
        without.is_empty(),
        "there is no page docs/errors/CODE.md for {without:#?}"
    );
    for page in fs::read_dir(root.join("docs/errors")).expect("docs/errors").flatten() {
        let name = page.file_name().to_string_lossy().into_owned();
        let code = name.strip_suffix(".md").expect("a page of Markdown");
        assert!(
            codes.contains_key(code),
            "docs/errors/{name} explains a code that nothing reports"
        );
    }
}

/// Codes in string literals outside tests, with the first file that has them.
fn collect(folder: &Path, codes: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let outside_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for literal in outside_tests
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .flat_map(|line| line.split('"'))
            {
                if is_code(literal) {
                    codes
                        .entry(literal.to_owned())
                        .or_insert_with(|| path.display().to_string());
                }
            }
        }
    }
}

fn is_code(literal: &str) -> bool {
    let bytes = literal.as_bytes();
    bytes.len() == 6 && bytes[..2].iter().all(u8::is_ascii_uppercase) && bytes[2..].iter().all(u8::is_ascii_digit)
}
