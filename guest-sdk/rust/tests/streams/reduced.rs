//! States into which values are merged, against maps of all values.

use std::collections::BTreeMap;

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use crate::random::Random;
use crate::{Event, event};

/// The last digits of values in the order in which they came.
pub(crate) struct Digits;

impl AggregateFunction for Digits {
    type In = i64;
    type Acc = String;
    type Out = usize;

    fn create(&self) -> String {
        "+".to_owned()
    }

    fn add(&self, digits: &mut String, value: i64) {
        digits.push_str(&(value % 10).to_string());
    }

    fn finish(&self, digits: &String) -> usize {
        digits.len()
    }
}

/// Adds each value, or takes or forgets what there is; puts out what there is then.
struct Both {
    // Neither commutes.
    reduced: ReducingState<i64>,
    digits: AggregatingState<Digits>,
}

fn reduce(kept: i64, value: i64) -> i64 {
    (kept * 3 + value) % 1_000_003
}

impl KeyedProcess for Both {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        match row.value {
            0 => {
                self.reduced.clear();
                self.digits.clear();
            }
            1 => {
                cx.push(event(-row.key, self.reduced.take().unwrap_or(-1)));
                cx.push(event(-row.key, self.digits.take().map_or(-1, |count| count as i64)));
            }
            value => {
                self.reduced.add(value);
                self.digits.add(value);
            }
        }
        assert_eq!(self.reduced.get(), self.reduced.with(|kept| kept.copied()));
        cx.push(event(row.key, self.reduced.get().unwrap_or(-1)));
        cx.push(event(row.key, self.digits.get().map_or(-1, |count| count as i64)));
    }
}

fn both(flow: &Flow) {
    testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .process(|setup| Both {
            reduced: setup.reducing_state("reduced", |kept, value| *kept = reduce(*kept, value)),
            digits: setup.aggregating_state("digits", Digits),
        })
        .uid("both")
        .sink("out", Discard::new());
}

/// What comes of a row, by the values of its key since they were forgotten.
fn expected(model: &mut BTreeMap<i64, Vec<i64>>, row: &Event) -> Vec<Event> {
    let values = model.entry(row.key).or_default();
    let tell = |key: i64, values: &[i64]| {
        let reduced = values.iter().copied().reduce(reduce).unwrap_or(-1);
        let count = if values.is_empty() { -1 } else { values.len() as i64 + 1 };
        [event(key, reduced), event(key, count)]
    };
    let mut rows = Vec::new();
    match row.value {
        0 => values.clear(),
        1 => rows.extend(tell(-row.key, &std::mem::take(values))),
        value => values.push(value),
    }
    rows.extend(tell(row.key, values));
    rows
}

#[test]
fn values_are_merged_by_key_across_restarts() {
    let (mut job, mut model) = (Job::new(both), BTreeMap::new());
    let mut random = Random::new(1);
    for round in 0..2_000 {
        let row = event(1 + random.below(7), random.below(30));
        job.push("events", row.clone());
        assert_eq!(job.take::<Event>("out"), expected(&mut model, &row), "row {round}");
        if round % 250 == 100 {
            job.restart();
        }
        if round % 600 == 300 {
            job = Options::new().parallelism(3).restore(&job.snapshot(), both);
        }
    }
}

/// The same state as a value of one's own.
struct Plain {
    reduced: ValueState<i64>,
}

impl KeyedProcess for Plain {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        cx.push(event(row.key, self.reduced.get().unwrap_or(-1)));
    }
}

#[test]
fn a_value_state_goes_on_from_a_reducing_state() {
    let mut job = Job::new(both);
    job.push_all("events", [event(1, 20), event(1, 7)]);
    let mut job = Job::restore(&job.snapshot(), |flow| {
        testing::source::<Event>(flow, "events")
            .key_by(Event::FIELDS.key)
            .process(|setup| Plain {
                reduced: setup.value_state("reduced"),
            })
            .uid("both")
            .sink("out", Discard::new());
    });
    job.push("events", event(1, 0));
    assert_eq!(job.take::<Event>("out"), [event(1, 67)]);
}
