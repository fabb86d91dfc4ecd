//! Every operator of two inputs, each with a sink of its own. Results depend on no more than which rows are in time,
//! whatever the order in which the two inputs come.

use millrace::prelude::*;

use crate::operators::Outputs;
use crate::{Event, Params};

/// A row of the second input.
#[derive(Record, Clone, Debug)]
pub(crate) struct Other {
    name: String,
    key: i64,
    amount: i64,
    time: i64,
}

/// A result.
#[derive(Record, Clone, Debug)]
pub(crate) struct Pair {
    key: i64,
    time: i64,
    value: i64,
    amount: i64,
}

/// Sums of both inputs by bucket.
struct Sums {
    buckets: MapState<i64, (i64, i64)>,
}

const BUCKET_MS: i64 = 50;

impl Sums {
    fn add(&self, time: i64, value: i64, amount: i64, cx: &mut CoContext<'_, Self>) {
        let end = time.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS - 1;
        if cx.watermark() >= Some(Timestamp::from_millis(end)) {
            return;
        }
        let (values, amounts) = self.buckets.get(&end).unwrap_or_default();
        self.buckets.insert(end, (values + value, amounts + amount));
        cx.set_event_timer(Timestamp::from_millis(end));
    }
}

impl CoProcess for Sums {
    type First = Event;
    type Second = Other;
    type Key = i64;
    type Out = Pair;

    fn process_first(&mut self, row: Event, cx: &mut CoContext<'_, Self>) {
        self.add(row.time, row.value, 0, cx);
    }

    fn process_second(&mut self, row: Other, cx: &mut CoContext<'_, Self>) {
        self.add(row.time, 0, row.amount, cx);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut CoContext<'_, Self>) {
        let time = timer.time.millis();
        let (value, amount) = self.buckets.remove(&time).unwrap_or_default();
        cx.push(Pair {
            key: timer.key,
            time,
            value,
            amount,
        });
    }
}

fn inputs(flow: &Flow, params: &Params) -> (Stream<Rows<Event>>, Stream<Rows<Other>>) {
    let (events, others) = if params.input.is_empty() {
        let rows = params.rows as u64;
        let events = Generator::<Event>::new().rows(rows);
        let events = events
            .column("key", "mix % 50")
            .column("value", "index")
            .column("time", "index");
        let others = Generator::<Other>::new().rows(rows);
        let others = others
            .column("name", "other {index}")
            .column("key", "mix / 64 % 50")
            .column("amount", "index")
            .column("time", "index");
        (flow.source("events", events), flow.source("others", others))
    } else {
        (
            flow.source("events", Files::ndjson::<Event>(&params.input)),
            flow.source("others", Files::ndjson::<Other>(&params.other)),
        )
    };
    (
        events.watermarks(Watermarks::bounded(Event::FIELDS.time, params.disorder)),
        others.watermarks(Watermarks::bounded(Other::FIELDS.time, params.disorder)),
    )
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let (events, others) = inputs(flow, params);
    let outputs = Outputs(&params.output);
    connected(&events, &others, &outputs);
}

fn connected(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, outputs: &Outputs<'_>) {
    let connected = || events.clone().connect(others.clone());
    outputs.put(
        "co_map",
        connected().map(
            |event| (event.key, event.value, String::new()),
            |other| (other.key, other.amount, other.name),
        ),
    );
    outputs.put(
        "co_flat_map",
        connected().flat_map(
            |event, out: &mut Out<'_, Event>| {
                if event.value % 3 == 0 {
                    out.push(event);
                }
            },
            |other, out: &mut Out<'_, Event>| {
                for time in 0..other.amount % 3 {
                    out.push(Event {
                        key: other.key,
                        value: other.amount,
                        time,
                    });
                }
            },
        ),
    );
    let keyed = events.clone().key_by(Event::FIELDS.key);
    outputs.put(
        "co_process",
        keyed
            .connect(others.clone().key_by(Other::FIELDS.key))
            .process(|setup| Sums {
                buckets: setup.map_state("buckets"),
            }),
    );
}
