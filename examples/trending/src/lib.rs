//! Counts what is searched for, minute by minute, where a few terms have most of the searches. Thrice: as it is, with counts
//! combined before they are exchanged, and with terms divided into parts.

use millrace::prelude::*;

/// A search.
#[derive(Record)]
struct Search<'a> {
    at: Timestamp,
    /// Words of any case.
    text: &'a str,
}

/// A word that was searched for.
#[derive(Record, Clone)]
struct Word {
    word: String,
}

/// How often a word was searched for in a minute.
#[derive(Record)]
struct Count {
    word: String,
    minute: Timestamp,
    searches: i64,
}

#[derive(Parameters)]
struct Params {
    /// Searches, CSV with the columns at and text, in order
    input: String,
    /// Folder to write to
    output: String,
    /// How to count: `plain`, `two-phase`, `salted`, or `all` three
    #[parameter(default = "all")]
    aggregation: String,
}

const MINUTE: Duration = Duration::from_secs(60);

#[millrace::pipeline]
fn trending(flow: &Flow, params: Params) -> Result<()> {
    let searches: Stream<Rows<Search>> = flow.source("searches", Files::csv(&params.input));
    let words = searches
        .watermarks(Watermarks::monotonic(Search::FIELDS.at))
        .flat_map(|search: Search<'_>, out: &mut Out<'_, Word>| {
            for word in search.text.split_whitespace() {
                out.push(Word {
                    word: word.to_lowercase(),
                });
            }
        })
        .name("split");
    let words = words.key_by(Word::FIELDS.word);
    let minutes = || words.clone().window(Tumbling::of(MINUTE));
    let to = |name: &str| Files::to_csv(format!("{}/{name}", params.output));
    let wanted = |name: &str| params.aggregation == name || params.aggregation == "all";
    if !["plain", "two-phase", "salted"].into_iter().any(wanted) {
        return Err(format!(
            "`aggregation` is `{}`, not plain, two-phase, salted or all",
            params.aggregation
        )
        .into());
    }
    if wanted("plain") {
        minutes().count().map(count).sink("plain", to("plain"));
    }
    if wanted("two-phase") {
        minutes()
            .two_phase()
            .count()
            .map(count)
            .sink("two-phase", to("two-phase"));
    }
    if wanted("salted") {
        minutes()
            .salted(4)
            .count()
            .uid("salted")
            .map(count)
            .sink("salted", to("salted"));
    }
    Ok(())
}

fn count(counted: Windowed<String, i64>) -> Count {
    Count {
        word: counted.key,
        minute: counted.start,
        searches: counted.value,
    }
}
