//! Keys and rolling aggregates.

use millrace::bindings::dataflow::{Head, Partition, Renewal, StateKind};
use millrace::harness::{Harness, block, round_trip};
use millrace::keyed::RollingFunction;
use millrace::prelude::*;

use crate::{Event, Word, event, events, word};

#[derive(Record, Clone)]
struct Price {
    product: i64,
    price: f64,
}

/// Runs rows of two keys, slots 0 and 5000, through a rolling aggregate.
fn rolling<R>(aggregate: fn(KeyedStream<Event, i64>) -> Stream<millrace::keyed::Rolling<R>>) -> (Harness, Vec<R::Out>)
where
    R: RollingFunction<In = Event>,
    R::Out: Owned,
{
    let mut harness = Harness::build(|flow| {
        aggregate(events(flow).key_by(Event::FIELDS.key)).sink("out", Discard::new());
    })
    .expect("the flow is right");
    let rows = [event(1, 5), event(2, 7), event(1, 3), event(2, 9), event(1, 8)];
    let called = harness.process_keyed(0, &[0, 5000, 0, 5000, 0], &block(rows));
    assert_eq!(called.result.emitted, [5]);
    assert!(called.result.touched.is_empty(), "a rolling aggregate always writes");
    assert!(called.result.live_bytes[0] > 0);
    let rows = called.rows::<R::Out>(0);
    (harness, rows)
}

fn values(rows: &[Event]) -> Vec<i64> {
    rows.iter().map(|row| row.value).collect()
}

#[test]
fn sums_run() {
    let (mut harness, rows) = rolling(|keyed| keyed.sum(Event::FIELDS.value));
    assert_eq!(values(&rows), [5, 7, 8, 16, 16]);
    assert_eq!(harness.export::<i64>(0, 0, &[5000, 0]), [Some(16), Some(16)]);
}

#[test]
fn extremes_run() {
    let (_, rows) = rolling(|keyed| keyed.min(Event::FIELDS.value));
    assert_eq!(values(&rows), [5, 7, 3, 7, 3]);
    let (_, rows) = rolling(|keyed| keyed.max(Event::FIELDS.value));
    assert_eq!(values(&rows), [5, 7, 5, 9, 8]);
    let (_, rows) = rolling(|keyed| keyed.min_by(Event::FIELDS.value));
    assert_eq!(rows[4], event(1, 3));
    let (mut harness, rows) = rolling(|keyed| keyed.max_by(Event::FIELDS.value));
    assert_eq!(rows[3], event(2, 9));
    assert_eq!(harness.export::<Event>(0, 0, &[0, 1]), [Some(event(1, 8)), None]);
}

#[test]
fn reductions_and_counts_run() {
    let (_, rows) = rolling(|keyed| keyed.reduce(|kept, row| kept.value = kept.value * 10 + row.value));
    assert_eq!(values(&rows), [5, 7, 53, 79, 538]);
    let (_, rows) = rolling(KeyedStream::count);
    assert_eq!(rows[4], Counted { key: 1, count: 3 });
}

#[test]
fn state_moves_to_another_instance() {
    let (mut harness, _) = rolling(|keyed| keyed.sum(Event::FIELDS.value));
    let exported = round_trip(harness.export_block(0, 0, &[0, 5000, 9]));
    let (mut other, _) = rolling(|keyed| keyed.sum(Event::FIELDS.value));
    other.import_block(0, 0, &[70_000, 1, 2], &exported);
    let called = other.process_keyed(0, &[70_000, 1, 2], &block([event(1, 1), event(2, 1), event(3, 1)]));
    assert_eq!(values(&called.rows(0)), [17, 17, 1]);
}

#[test]
fn dropped_slots_hold_nothing() {
    let (mut harness, _) = rolling(|keyed| keyed.max_by(Event::FIELDS.value));
    harness.drop_state(0, &[0, 100_000]);
    let called = harness.process_keyed(0, &[0, 5000], &block([event(3, 1), event(2, 1)]));
    assert_eq!(called.rows::<Event>(0), [event(3, 1), event(2, 9)]);
}

#[test]
#[should_panic(expected = "the sum of field `value` does not fit its type")]
fn a_sum_that_overflows_fails() {
    let (mut harness, _) = rolling(|keyed| keyed.sum(Event::FIELDS.value));
    harness.process_keyed(0, &[0], &block([event(1, i64::MAX)]));
}

#[test]
fn nan_does_not_stay_an_extreme() {
    let mut harness = Harness::build(|flow| {
        let prices: Stream<Rows<Price>> = flow.source("in", Generator::new());
        prices
            .key_by(|row: &Price| row.product)
            .max(Price::FIELDS.price)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let rows = [f64::NAN, 1.0, f64::NAN, 2.0].map(|price| Price { product: 1, price });
    let called = harness.process_keyed(1, &[0; 4], &block(rows));
    let values: Vec<f64> = called.rows::<Price>(0).iter().map(|row| row.price).collect();
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [1.0, 1.0, 2.0]);
}

#[test]
fn keys_of_fields_are_read_by_the_host() {
    let harness = Harness::build(|flow| {
        let words: Stream<Rows<Word>> = flow.source("words", Generator::new());
        words
            .key_by((Word::FIELDS.n, Word::FIELDS.word))
            .count()
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let graph = harness.graph();
    assert_eq!(graph.chains.len(), 1);
    assert!(matches!(&graph.edges[0].partition, Partition::HashFields(fields) if fields == &[1, 0]));
    let Head::Keyed(keyed) = &graph.chains[0].head else {
        panic!("the head is keyed");
    };
    let names: Vec<&str> = graph.schemas[keyed.key_schema as usize]
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, ["n", "word"]);
    assert!(keyed.always_writes);
    assert_eq!(keyed.states[0].name, "count");
    assert!(matches!(keyed.states[0].kind, StateKind::Value));
    let state = &graph.schemas[keyed.states[0].schema as usize];
    assert!(state.len() == 1 && state[0].nullable);
}

#[test]
fn an_aggregate_with_a_time_to_live_says_what_it_touched() {
    let mut harness = Harness::build(|flow| {
        let sums = events(flow).key_by(Event::FIELDS.key).sum(Event::FIELDS.value);
        sums.ttl(Ttl::after(Duration::from_secs(60)))
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let Head::Keyed(keyed) = &harness.graph().chains[0].head else {
        panic!("the head is keyed");
    };
    assert!(!keyed.always_writes);
    let ttl = keyed.states[0].ttl.expect("it was given");
    assert_eq!((ttl.after_ms, ttl.renewed_by), (60_000, Renewal::Write));
    let called = harness.process_keyed(0, &[0, 3, 0], &block([event(1, 5), event(2, 7), event(1, 3)]));
    assert_eq!(values(&called.rows(0)), [5, 7, 8]);
    assert_eq!(called.result.touched, [3, 3, 3]);
}

#[test]
fn computed_keys_travel_beside_the_rows() {
    let mut harness = Harness::build(|flow| {
        let words: Stream<Rows<Word>> = flow.source("words", Generator::new());
        words
            .key_by(|row: &Word| row.word.len() as u64)
            .count()
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let graph = harness.graph();
    assert_eq!(graph.chains.len(), 2);
    assert_eq!(graph.operators[1].name, "key_by");
    assert!(graph.chains[0].ports[0].computed_key.is_some());
    assert!(matches!(graph.edges[1].partition, Partition::HashComputed));
    let called = harness.process(0, &block([word("a", 1), word("bcd", 2)]));
    assert_eq!(
        called.with_system::<Word, u64>(0),
        [(word("a", 1), 1), (word("bcd", 2), 3)]
    );
    assert_eq!(called.result.emitted, [2]);
    let called = harness.process_keyed(1, &[4], &block([word("bcd", 2)]));
    assert_eq!(called.rows::<Counted<u64>>(0), [Counted { key: 3, count: 1 }]);
}

#[test]
fn floats_are_no_keys() {
    let built = Harness::build(|flow| {
        let prices: Stream<Rows<Price>> = flow.source("in", Generator::new());
        prices.key_by(Price::FIELDS.price).count().sink("out", Discard::new());
    });
    let error = built.expect_err("a float is no key");
    assert_eq!(error, "`key_by`: `price` is a float, and rows cannot be keyed by that");
}
