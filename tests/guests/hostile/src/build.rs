//! What is wrong before a row moves.

use millrace::prelude::*;

use crate::{Item, Number, Params, items};

fn count_to(stream: Stream<Rows<Item>>, uid: &str) {
    stream
        .key_by(Item::FIELDS.key)
        .count()
        .uid(uid)
        .sink("out", Discard::new());
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> Result<bool> {
    match params.kind.as_str() {
        "build-panic" => panic!("no pipeline today"),
        "build-error" => return Err("the moon is in the wrong phase".into()),
        "build-loop" => {
            let mut count = 0u64;
            while std::hint::black_box(count) < u64::MAX {
                count = std::hint::black_box(count).wrapping_add(1) % 1_000_000;
            }
        }
        "uids" => {
            let items = items(flow, params);
            count_to(items.clone(), "totals");
            count_to(items, "totals");
        }
        "unstable" => {
            let name = format!("number {}", millrace::environment::random());
            items(flow, params)
                .map(|item: Item| Number { value: item.id })
                .name(&name)
                .sink("out", Discard::new());
        }
        "nothing" => {}
        "window-without-time" => {
            items(flow, params)
                .key_by(Item::FIELDS.key)
                .window(Tumbling::of(Duration::from_secs(1)))
                .count()
                .name("late")
                .sink("out", Discard::new());
        }
        "parallelism" => {
            items(flow, params)
                .map(|item: Item| Number { value: item.id })
                .name("wide")
                .parallelism(1_000_000)
                .sink("out", Discard::new());
        }
        "instances" => {
            flow.max_parallelism(1_000);
            items(flow, params)
                .map(|item: Item| Number { value: item.id })
                .name("crowd")
                .parallelism(200)
                .sink("out", Discard::new());
        }
        "unknown-connector" => {
            flow.source("items", Connector::source::<Number>("carrier-pigeon"))
                .sink("out", Discard::new());
        }
        "unknown-option" => {
            items(flow, params).sink("out", Discard::new().option("colour", "green"));
        }
        "unknown-column" => {
            items(flow, params).sink("out", Discard::new().sum("weight"));
        }
        "sink-as-source" => {
            flow.source("items", Connector::source::<Number>("discard"))
                .sink("out", Discard::new());
        }
        "read" => {
            flow.source("items", Files::csv::<Number>(&params.path))
                .sink("out", Discard::new().sum("value"));
        }
        "read-skip" | "read-dead-letter" => {
            let reject = match params.kind.as_str() {
                "read-skip" => Reject::Skip,
                _ => Reject::dead_letter(format!("{}.rejected", params.path)),
            };
            flow.source("items", Files::csv::<Number>(&params.path).on_reject(reject))
                .sink("out", Discard::new().sum("value"));
        }
        "write" => {
            items(flow, params).sink("out", Files::to_csv(&params.path));
        }
        "dead-letter" => {
            flow.source("items", Generator::<Number>::new().rows(10).column("value", "index"))
                .try_map(|number: Number| if number.value < 0 { Err("negative") } else { Ok(number) })
                .name("careful")
                .on_reject(Reject::dead_letter(&params.path))
                .sink("out", Discard::new());
        }
        _ => return Ok(false),
    }
    Ok(true)
}
