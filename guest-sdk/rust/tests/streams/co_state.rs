//! Functions of two streams without a key, against a naive model: random rows of both, snapshots, and restores at random
//! parallelisms.

use millrace::bindings::dataflow::Head;
use millrace::harness::{Harness, block};
use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use crate::operator_state::dealt;
use crate::random::Random;
use crate::{Event, Word, event, events, word};

static ODD: OutputTag<Word> = OutputTag::new("odd");

/// Gathers values, and settles them at each word.
struct Settle {
    subtask: i64,
    open: ListState<i64>,
    settled: ListState<i64>,
    words: Counter,
}

impl Settle {
    fn new(setup: &mut OperatorSetup) -> Self {
        Settle {
            subtask: -1,
            open: setup.list_state("open"),
            settled: setup.list_state("settled"),
            words: setup.counter("words"),
        }
    }
}

impl StatefulCoProcess for Settle {
    type First = Event;
    type Second = Word;
    type Out = Event;

    fn open(&mut self, cx: &OpenContext) {
        self.subtask = cx.subtask().into();
    }

    fn process_first(&mut self, row: Event, out: &mut Out<'_, Event>) {
        self.open.push(row.value);
        out.push(event(self.subtask, row.value));
    }

    fn process_second(&mut self, row: Word, out: &mut Out<'_, Event>) {
        self.words.add(1);
        let sum: i64 = self.open.take().iter().sum();
        self.settled.push(sum + row.n);
        out.push(event(100 + self.subtask, sum + row.n));
        if row.n % 2 == 1 {
            out.side(&ODD, row);
        }
    }

    fn finish(&mut self, out: &mut Out<'_, Event>) {
        for value in self.settled.take() {
            out.push(event(200, value));
        }
        for value in self.open.take() {
            out.push(event(300, value));
        }
    }
}

/// Values go to any subtask, words to all.
fn settle(flow: &Flow) {
    let values = testing::source::<Event>(flow, "events").shuffle();
    let words = testing::source::<Word>(flow, "words").broadcast();
    let settled = values.connect(words).process(Settle::new).uid("settle");
    settled.side_output(&ODD).sink("odd", Discard::new());
    settled.sink("out", Discard::new());
}

/// Lists of so many subtasks.
#[derive(Clone)]
struct Model {
    open: Vec<Vec<i64>>,
    settled: Vec<Vec<i64>>,
}

impl Model {
    fn restore(&self, subtasks: usize) -> Model {
        Model {
            open: dealt(&self.open, subtasks),
            settled: dealt(&self.settled, subtasks),
        }
    }

    fn check(&self, job: &mut Job) {
        for (subtask, (open, settled)) in self.open.iter().zip(&self.settled).enumerate() {
            for (state, expected) in [("open", open), ("settled", settled)] {
                let list = job.state::<Vec<i64>>("settle", state, subtask as u32);
                assert_eq!(&list.unwrap_or_default(), expected, "{state} of {subtask}");
            }
        }
    }

    /// A word comes to every subtask: what they put out.
    fn settle(&mut self, n: i64) -> Vec<Event> {
        let mut told = Vec::new();
        for (subtask, (open, settled)) in self.open.iter_mut().zip(&mut self.settled).enumerate() {
            let sum = open.drain(..).sum::<i64>() + n;
            settled.push(sum);
            told.push(event(100 + subtask as i64, sum));
        }
        told
    }
}

fn sorted(mut rows: Vec<Event>) -> Vec<(i64, i64)> {
    let mut rows: Vec<(i64, i64)> = rows.drain(..).map(|row| (row.key, row.value)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn both_inputs_share_the_lists_of_their_subtask() {
    for seed in 0..20u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut model = Model {
            open: vec![Vec::new(); 2],
            settled: vec![Vec::new(); 2],
        };
        let mut job = Options::new().parallelism(2).seed(seed).start(settle);
        let mut kept = (job.snapshot(), model.clone());
        for value in 0..200 {
            match random.below(20) {
                0 => kept = (job.snapshot(), model.clone()),
                1 => {
                    let subtasks = random.below(4) as usize + 1;
                    let options = Options::new().parallelism(subtasks as u32).seed(seed);
                    job = options.restore(&kept.0, settle);
                    model = kept.1.restore(subtasks);
                }
                2..6 => {
                    job.push("words", word("", value));
                    assert_eq!(sorted(job.take::<Event>("out")), sorted(model.settle(value)));
                    let odd = if value % 2 == 1 { model.open.len() } else { 0 };
                    assert_eq!(job.take::<Word>("odd"), vec![word("", value); odd]);
                }
                _ => {
                    job.push("events", event(0, value));
                    let told = job.take::<Event>("out");
                    let [Event { key, value: told }] = told[..] else {
                        panic!("{told:?}")
                    };
                    assert_eq!(told, value);
                    model.open[key as usize].push(value);
                }
            }
            model.check(&mut job);
        }
        job.finish();
        let of = |key: i64, lists: &[Vec<i64>]| lists.concat().into_iter().map(move |value| event(key, value));
        let expected = of(200, &model.settled).chain(of(300, &model.open));
        assert_eq!(sorted(job.take::<Event>("out")), sorted(expected.collect()));
    }
}

#[test]
fn a_chain_has_both_inputs_no_key_and_metrics() {
    let mut harness = Harness::build(|flow| {
        let words = flow.source("words", Files::csv::<Word>("words.csv"));
        let settled = events(flow).connect(words).process(Settle::new);
        settled.filter(|row| row.value != 9).sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chain = harness.chain("stateful_co_process");
    let built = &harness.graph().chains[chain as usize];
    assert_eq!(built.inputs.len(), 2);
    assert!(matches!(&built.head, Head::Unkeyed(head) if head.states.len() == 2));
    let first = harness.process_input(chain, 0, &[0, 0], &block([event(1, 7), event(1, 9)]));
    assert_eq!(first.rows::<Event>(0).len(), 1);
    let second = harness.process_input(chain, 1, &[0], &block([word("a", 2)]));
    assert_eq!(second.rows::<Event>(0)[0].value, 18);
    let operator = harness.operator("stateful_co_process");
    assert_eq!(harness.metric(operator, "words"), [1.0]);
}
