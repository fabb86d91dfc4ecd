//! The repository's files, and Rust sources without what is not code.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
pub(crate) struct File {
    /// Relative to the top, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether the file is tests, examples or measurements throughout: its code may be blunt.
    pub(crate) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let blunt = ["tests/", "/tests/", "benches/", "examples/"];
        blunt.iter().any(|folder| match folder.strip_prefix('/') {
            Some(_) => self.path.contains(folder),
            None => self.path.starts_with(folder),
        }) || self.path.contains("/examples/")
            || ["tests.rs", "testing.rs"].contains(&name)
    }

    /// The code, with comments and literals blanked and without the tests at the end of the file.
    pub(crate) fn code(&self) -> String {
        let code = blank(&self.text);
        // Whoever may see them: some tests are shared.
        let mut attributes = code.match_indices("#[cfg(test)]\n");
        let tests = attributes.find(|(at, attribute)| {
            let mut behind = code[at + attribute.len()..].lines();
            behind.next().is_some_and(|line| line.ends_with("mod tests {"))
        });
        let end = tests.map_or(code.len(), |(at, _)| at);
        code[..end].to_owned()
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files with one of these names or extensions, sorted by path; build outputs and hidden folders excepted.
pub(crate) fn files(endings: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    walk(&root(), "", endings, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "the repository has files that end in {endings:?}");
    files
}

/// All Rust sources.
pub(crate) fn sources() -> Vec<File> {
    files(&[".rs"])
}

fn walk(folder: &Path, prefix: &str, endings: &[&str], files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder can be read to its end");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            if name != "target" && !(name.starts_with('.') && name != ".ci") {
                walk(&entry.path(), &format!("{path}/"), endings, files);
            }
        } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            files.push(File { path, text });
        }
    }
}

/// Comments and the insides of literals become spaces; lines stay where they are.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            [b'/', b'*', ..] => end_of_comment(bytes, at),
            [b'r', b'"' | b'#', ..] if !in_word(bytes, at) => match end_of_raw(bytes, at) {
                Some(end) => end,
                None => at,
            },
            [b'"', ..] => end_of_quoted(bytes, at, b'"'),
            [b'\'', ..] => end_of_character(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map(|offset| from + offset)
}

fn end_of_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_raw(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return None; // a raw identifier
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    Some(find(bytes, start + 2 + hashes, &close).map_or(bytes.len(), |end| end + close.len()))
}

fn end_of_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character literal; of a lifetime, where it starts.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        return end_of_quoted(bytes, start, b'\'');
    }
    // One character of up to four bytes, then the quote.
    let close = (start + 2..=start + 5).find(|&at| bytes.get(at) == Some(&b'\''));
    match close {
        Some(close) if std::str::from_utf8(&bytes[start + 1..close]).is_ok_and(|text| text.chars().count() == 1) => {
            close + 1
        }
        _ => start,
    }
}

#[test]
fn what_is_not_code_is_blanked() {
    let check = |text: &str, expect: &str| assert_eq!(blank(text), expect, "{text}");
    check("a // unsafe\nb", "a          \nb");
    check("a /* x /* y */ z */ b", "a                   b");
    check(r#"f("un\"safe") + 'x'"#, r"f(          ) +    ");
    check(r##"f(r#"a " b"#, r"c\", br"d")"##, "f(          ,      , b    )");
    check("fn f<'a>(x: &'a str) { '{' }", "fn f<'a>(x: &'a str) {     }");
    check("r#type '\\'' 'é' x", "r#type           x");
}
