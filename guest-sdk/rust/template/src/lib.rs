//! Counts words.
//!
//! Reads lines of text, splits them into words and counts each word. Change it into what you need; the SDK's
//! documentation (`cargo doc --open --no-deps --package millrace-sdk`) is its manual.

use millrace::prelude::*;

/// What comes in. Borrowed: the text is read in place.
#[derive(Record)]
struct Line<'a> {
    text: &'a str,
}

/// What flows between the functions, and out.
#[derive(Record, Clone, Debug, PartialEq)]
struct Word {
    word: String,
    n: i64,
}

/// What `--param name=value` sets.
#[derive(Parameters)]
struct Params {
    /// File, folder or glob to read
    input: String,
    /// Shortest word that is counted, in characters
    #[parameter(default = "1")]
    shortest: i64,
}

#[millrace::pipeline]
fn pipeline_template(flow: &Flow, params: Params) -> Result<()> {
    let lines: Stream<Rows<Line>> = flow.source("lines", Files::text(&params.input));
    let shortest = params.shortest as usize;
    lines
        .flat_map(move |line: Line<'_>, out: &mut Out<'_, Word>| {
            for word in line.text.split(|c: char| !c.is_alphanumeric()) {
                if !word.is_empty() && word.chars().count() >= shortest {
                    out.push(Word { word: word.to_lowercase(), n: 1 });
                }
            }
        })
        .name("split")
        .key_by(Word::FIELDS.word)
        .sum(Word::FIELDS.n)
        .uid("count")
        .sink("out", Stdout::ndjson());
    Ok(())
}

#[cfg(test)]
mod tests {
    use millrace::testing::{self, Job};

    use super::*;

    #[test]
    fn words_are_counted_whatever_their_case() {
        let mut job = Job::new(|flow| pipeline_template(flow, testing::parameters(&[("input", "")])));
        job.push("lines", Line { text: "The wind" });
        job.push("lines", Line { text: "the ..." });
        let word = |word: &str, n| Word { word: word.to_owned(), n };
        assert_eq!(job.rows::<Word>("out"), [word("the", 1), word("wind", 1), word("the", 2)]);
    }
}
