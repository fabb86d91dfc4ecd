//! Connected streams: inputs, shared state and timers, refused rows.

use millrace::bindings::dataflow::{Head, Partition};
use millrace::bindings::operators;
use millrace::harness::{Harness, block, keys};
use millrace::prelude::*;

use crate::{Event, Word, event, events, word};

static ODD: OutputTag<Word> = OutputTag::new("odd");

fn words(flow: &Flow) -> Stream<Rows<Word>> {
    flow.source("words", Files::csv::<Word>("words.csv"))
}

#[test]
fn functions_take_rows_of_both_inputs() {
    let mut harness = Harness::build(|flow| {
        let events = events(flow).filter(|event| event.value > 0);
        events
            .connect(words(flow))
            .map(
                |event| word("event", event.value),
                |word| Word { n: word.n * 10, ..word },
            )
            .filter(|word| word.n != 30)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chain = harness.chain("co_map");
    let edges = harness
        .graph()
        .edges
        .iter()
        .map(|edge| (edge.from_operator, edge.to_operator, edge.to_input));
    assert_eq!(edges.collect::<Vec<_>>(), [(0, 1, 0), (1, 3, 0), (2, 3, 1), (4, 5, 0)]);
    assert_eq!(harness.graph().chains[chain as usize].inputs.len(), 2);
    let first = harness.process_input(chain, 0, &[], &block([event(1, 7), event(1, 30)]));
    assert_eq!(first.rows::<Word>(0), [word("event", 7)]);
    assert_eq!(first.result.emitted, [2, 1]);
    let second = harness.process_input(chain, 1, &[], &block([word("a", 1), word("b", 3)]));
    assert_eq!(second.rows::<Word>(0), [word("a", 10)]);
}

#[test]
fn what_was_put_out_for_a_refused_row_is_taken_back() {
    let mut harness = Harness::build(|flow| {
        let connected = events(flow).connect(words(flow)).flat_map(
            |event, out: &mut Out<'_, Event>| (0..event.value).for_each(|value| out.push(Event { value, ..event })),
            |word, out: &mut Out<'_, Event>| {
                if word.n % 2 == 1 {
                    out.side(&ODD, word.clone());
                }
                out.push(event(0, word.n));
            },
        );
        connected.side_output(&ODD).sink("odd", Discard::new());
        let refusing = |row: Event| if row.value == 3 { Err("a three") } else { Ok(row) };
        connected
            .try_map(refusing)
            .on_reject(Reject::Skip)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chain = harness.chain("co_flat_map");
    let called = harness.process_input(chain, 0, &[], &block([event(1, 5), event(2, 2)]));
    assert_eq!(called.rows::<Event>(1), [event(2, 0), event(2, 1)]);
    assert_eq!(called.result.emitted, [2, 2]);
    assert_eq!(
        called.rejections(),
        [(0, harness.operator("try_map"), "a three".to_owned())]
    );
    let called = harness.process_input(chain, 1, &[], &block([word("x", 3), word("y", 5)]));
    assert_eq!(called.rows::<Event>(1), [event(0, 5)]);
    assert_eq!(called.rows::<Word>(0), [word("y", 5)]);
}

/// Puts the sum of both streams out when a timer is due.
struct Sum {
    sum: ValueState<i64>,
}

impl CoProcess for Sum {
    type First = Event;
    type Second = Word;
    type Key = i64;
    type Out = Event;

    fn process_first(&mut self, row: Event, cx: &mut CoContext<'_, Self>) {
        assert_eq!(cx.key(), row.key);
        self.sum.update(|sum| *sum += row.value);
        cx.set_event_timer(Timestamp::from_millis(9));
    }

    fn process_second(&mut self, row: Word, cx: &mut CoContext<'_, Self>) {
        assert_eq!(cx.key(), row.n);
        self.sum.update(|sum| *sum -= row.word.len() as i64);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut CoContext<'_, Self>) {
        cx.push(event(timer.key, self.sum.take().unwrap_or_default()));
    }
}

#[test]
fn both_inputs_share_state_and_timers() {
    let mut harness = Harness::build(|flow| {
        let first = events(flow).key_by(Event::FIELDS.key);
        first
            .connect(words(flow).key_by(|word: &Word| word.n))
            .process(|setup| Sum {
                sum: setup.value_state("sum"),
            })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chain = harness.chain("co_process");
    let graph = harness.graph();
    assert!(matches!(&graph.chains[chain as usize].head, Head::Keyed(keyed) if keyed.states.len() == 1));
    let partitions: Vec<&Partition> = graph.edges.iter().map(|edge| &edge.partition).collect();
    assert!(
        matches!(partitions[1], Partition::HashFields(fields) if fields == &[0]),
        "{partitions:?}"
    );
    assert!(matches!(partitions[2], Partition::HashComputed), "{partitions:?}");
    let called = harness.process_input(chain, 0, &[4, 5], &block([event(1, 10), event(2, 20)]));
    assert_eq!(called.timers(), [(0, 9, 0), (1, 9, 0)]);
    harness.process_input(chain, 1, &[5], &block([word("four", 2)]));
    assert_eq!(harness.export::<i64>(chain, 0, &[4, 5]), [Some(10), Some(16)]);
    let due = harness.timers(
        chain,
        operators::TimerKind::EventTime,
        &[4, 5],
        &[9, 9],
        &keys([1_i64, 2]),
    );
    assert_eq!(due.rows::<Event>(0), [event(1, 10), event(2, 16)]);
}

#[test]
fn mistakes_of_connected_functions_are_told() {
    let error = Harness::build(|flow| {
        let first = events(flow).key_by(Event::FIELDS.key);
        first
            .connect(words(flow).key_by(Word::FIELDS.n))
            .process(|setup| {
                let _twice: ValueState<i64> = setup.value_state("sum");
                Sum {
                    sum: setup.value_state("sum"),
                }
            })
            .sink("out", Discard::new());
    })
    .expect_err("a state is declared twice");
    assert!(error.contains("state `sum` is declared twice"), "{error}");
}
