//! Closures need as few annotations as the language allows: this file compiles, or it does not.

use millrace::chain::Chain;
use millrace::harness::Harness;
use millrace::prelude::*;

use crate::{Event, Line, Word, events, lines, word};

/// Streams of any shape can be taken and given.
fn positive<C: Chain<Out = Event>>(stream: Stream<C>) -> Stream<impl Chain<Out = Event>> {
    stream
        .filter(|event| event.value > 0)
        .map(|event| Event { key: 0, ..event })
}

#[test]
fn closures_know_their_rows() {
    Harness::build(|flow| {
        events(flow)
            .map(|event| (event.value,))
            .map(|(value,)| (value, value + 1))
            .sink("numbers", Discard::new());
        positive(positive(events(flow))).sink("positive", Discard::new());
        lines(flow)
            .filter(|line| line.text.len() > 3)
            .inspect(|line| millrace::debug!("{}", line.text))
            .map(|line| word(line.text, 1))
            .try_map(|word| word.word.parse::<i64>().map(|n| Word { n, ..word }))
            .try_flat_map(|word, out: &mut Out<'_, Word>| {
                let n = word.word.parse::<i64>()?;
                out.push(Word { n, ..word });
                Ok::<(), std::num::ParseIntError>(())
            })
            .key_by(|word: &Word| word.word.clone())
            .reduce(|kept, word| kept.n += word.n)
            .sink("words", Discard::new());
        lines(flow)
            .key_by(Line::FIELDS.text)
            .count()
            .map(|counted| word(&counted.key, counted.count))
            .sink("lines", Discard::new());
        lines(flow)
            .key_by(|line: &Line<'_>| line.text.len() as u64)
            .window(Session::gap(Duration::from_secs(1)))
            .aggregate_with(
                || 0i64,
                |bytes, line| *bytes += line.text.len() as i64,
                |bytes, other| *bytes += other,
                |length, window, bytes| Word {
                    word: format!("{length} {}", window.start),
                    n: *bytes,
                },
            )
            .sink("lengths", Discard::new());
        let longest: Stream<Rows<Line>> = flow.source("longest", Files::text("lines.txt"));
        longest.sink("longest", Stdout::text());
    })
    .expect("the flow is right");
}
