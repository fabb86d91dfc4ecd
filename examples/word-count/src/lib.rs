//! Counts the words of a text.

use millrace::prelude::*;

/// A line of a file, read in place.
#[derive(Record)]
struct Line<'a> {
    text: &'a str,
}

/// A word, and how often it was seen.
#[derive(Record, Clone)]
struct Word {
    word: String,
    n: i64,
}

#[derive(Parameters)]
struct Params {
    /// Files to read: a path, a folder or a glob
    input: String,
    /// Folder to write to
    output: String,
}

#[millrace::pipeline]
fn word_count(flow: &Flow, params: Params) -> Result<()> {
    let lines: Stream<Rows<Line>> = flow.source("lines", Files::text(&params.input));
    lines
        .flat_map(|line: Line<'_>, out: &mut Out<'_, Word>| {
            for word in words(line.text) {
                out.push(Word {
                    word: word.to_lowercase(),
                    n: 1,
                });
            }
        })
        .name("split")
        .key_by(Word::FIELDS.word)
        .sum(Word::FIELDS.n)
        .name("count")
        .uid("count")
        .sink("counts", Files::to_ndjson(format!("{}/counts", params.output)));
    Ok(())
}

/// The words of a line: letters, with apostrophes inside (`o'er`, but not the quotes around `'Never'`).
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphabetic() && c != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_letters_with_apostrophes_inside() {
        let found: Vec<_> = words("\"Of 'Never, nevermore.'\" -- foot-falls o'er").collect();
        assert_eq!(found, ["Of", "Never", "nevermore", "foot", "falls", "o'er"]);
    }
}
