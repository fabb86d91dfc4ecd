//! Files that can be read in one sitting, functions that fit on a screen, and a header on each file.

use crate::report;
use crate::tree::{File, sources};

/// More lines than this want a split; listed here are files that are one thing all the same, with the reason.
const FILE_LINES_MAX: usize = 600;
const LONG_FILES: &[(&str, &str)] = &[];

/// No reason is good enough for more.
const FILE_LINES_LIMIT: usize = 1_000;

/// A function fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Longer functions, of a thousand. A ratchet: lower it when it can be lowered.
const LONG_FUNCTIONS_PER_MILLE_MAX: usize = 3;

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if lines > FILE_LINES_LIMIT {
            findings.push(format!("{} has {lines} lines, over {FILE_LINES_LIMIT}", file.path));
        } else if lines > FILE_LINES_MAX && !listed {
            findings.push(format!(
                "{} has {lines} lines, over {FILE_LINES_MAX}: split it",
                file.path
            ));
        } else if lines <= FILE_LINES_MAX && listed {
            findings.push(format!("{} is short now: take it off the list", file.path));
        }
    }
    report("files are too long", &findings);
}

#[test]
fn functions_are_short() {
    let (mut all, mut long) = (0, Vec::new());
    for file in sources() {
        for (name, lines) in functions(&file) {
            all += 1;
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{}: `{name}` has {lines} lines", file.path));
            }
        }
    }
    assert!(all > 1_000, "functions are found in the sources, not only {all}");
    if long.len() * 1_000 > all * LONG_FUNCTIONS_PER_MILLE_MAX {
        let rule = format!("{} of {all} functions are over {FUNCTION_LINES_MAX} lines", long.len());
        report(&rule, &long);
    }
}

#[test]
fn every_source_says_what_it_is_for() {
    let missing: Vec<String> = sources()
        .into_iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path)
        .collect();
    report("sources do not open with a `//!` header", &missing);
}

/// Names of the functions of a file and how many lines they take, from `fn` to the closing brace.
fn functions(file: &File) -> Vec<(String, usize)> {
    let code = crate::tree::blank(&file.text);
    let bytes = code.as_bytes();
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let name: String = code[at + 3..]
            .chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect();
        // The type `fn (...)` has no name, a declaration in a trait ends before any brace.
        let body = code[at..].find(['{', ';']).map(|offset| at + offset);
        let Some(body) = body.filter(|body| word && !name.is_empty() && bytes[*body] == b'{') else {
            continue;
        };
        let Some(end) = closing(bytes, body) else { continue };
        functions.push((name, code[at..=end].lines().count()));
    }
    functions
}

fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0;
    bytes.iter().enumerate().skip(open).find_map(|(at, byte)| {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

#[test]
fn functions_are_measured() {
    let text = "//! x\ntrait T {\n    fn a(&self) -> u8;\n    fn b() {\n        if x {\n        }\n    }\n}\nfn c() { \"}\"; }\n";
    let file = File {
        path: String::new(),
        text: text.to_owned(),
    };
    assert_eq!(functions(&file), [("b".to_owned(), 4), ("c".to_owned(), 1)]);
}
