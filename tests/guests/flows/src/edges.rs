//! Every way from subtask to subtask, with operators of different parallelism.

use millrace::prelude::*;

use super::{Event, Params, generated};

#[derive(Record, Clone, Debug)]
struct Labelled {
    label: String,
    value: i64,
}

fn label(event: Event) -> Labelled {
    Labelled {
        label: format!("k{}", event.key % 7),
        value: event.value,
    }
}

fn sum() -> Discard {
    Discard::new().sum("value").checksum()
}

/// A per-key running sum, written out to be looked at.
fn running(events: Stream<Rows<Event>>, params: &Params) {
    events
        .key_by(Event::FIELDS.key)
        .sum(Event::FIELDS.value)
        .sink("out", Files::to_ndjson(format!("{}/sums", params.output)));
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> bool {
    const KINDS: [&str; 13] = [
        "forward",
        "staying",
        "widths",
        "broadcast",
        "global",
        "computed",
        "fields",
        "diamond",
        "running",
        "rescale",
        "shuffle",
        "custom",
        "chains",
    ];
    if !KINDS.contains(&params.kind.as_str()) {
        return false;
    }
    let events = generated(flow, params);
    match params.kind.as_str() {
        "forward" => drop(events.map(label).sink("out", sum())),
        // To as many as the job has.
        "staying" => drop(
            events
                .rebalance()
                .map(label)
                .name("two")
                .parallelism(2)
                .forward()
                .share()
                .map(|row: Labelled| row)
                .name("as many")
                .sink("out", sum()),
        ),
        "widths" => drop(
            events
                .map(label)
                .parallelism(3)
                .rebalance()
                .filter(|row| row.value >= 0)
                .parallelism(2)
                .rebalance()
                .map(|row: Labelled| row)
                .sink("out", sum())
                .parallelism(1),
        ),
        "broadcast" => drop(events.broadcast().map(label).parallelism(3).sink("out", sum())),
        // From two to four, and from four to two.
        "rescale" => drop(
            events
                .rebalance()
                .map(label)
                .parallelism(2)
                .rescale()
                .map(|row: Labelled| row)
                .name("more")
                .parallelism(4)
                .rescale()
                .map(|row: Labelled| row)
                .name("fewer")
                .parallelism(2)
                .sink("out", sum()),
        ),
        "shuffle" => drop(events.shuffle().map(label).name("mixed").sink("out", sum())),
        "custom" => drop(
            events
                .partition_custom(|event: &Event| if event.value < 600 { 1 } else { 5 })
                .map(label)
                .name("told")
                .sink("out", sum()),
        ),
        "chains" => drop(
            events
                .map(label)
                .name("first")
                .start_new_chain()
                .map(|row: Labelled| row)
                .name("second")
                .filter(|row| row.value >= 0)
                .name("third")
                .disable_chaining(|rows| rows.filter(|row| row.value >= 0).name("fourth"))
                .filter(|row| row.value >= 0)
                .name("fifth")
                .sink("out", sum()),
        ),
        "global" => drop(events.global().map(label).name("alone").sink("out", sum())),
        "computed" => drop(
            events
                .key_by(|event: &Event| (event.key % 7, format!("key {}", event.key % 3)))
                .count()
                .parallelism(3)
                .sink("out", Discard::new().sum("count").checksum())
                .parallelism(2),
        ),
        "fields" => drop(
            events
                .map(label)
                .key_by(Labelled::FIELDS.label)
                .count()
                .parallelism(2)
                .sink("out", Discard::new().sum("count").checksum()),
        ),
        "diamond" => {
            let shared = events.share();
            let odd = shared.clone().filter(|event| event.value % 2 == 1).rebalance();
            let even = shared
                .clone()
                .filter(|event| event.value % 2 == 0)
                .map(|event: Event| event);
            let both = odd.union(even).union(shared);
            both.key_by(Event::FIELDS.key)
                .count()
                .sink("out", Discard::new().sum("count").checksum());
        }
        _ => running(events, params),
    }
    true
}
