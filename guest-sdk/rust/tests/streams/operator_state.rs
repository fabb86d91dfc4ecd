//! Lists of subtasks, against a naive model: random rows, snapshots, and restores at random parallelisms.

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use crate::random::Random;
use crate::{Event, event};

/// Keeps values, and says who has got them and how many there were before.
struct Keeper {
    subtask: i64,
    waiting: ListState<i64>,
    seen: UnionState<i64>,
}

impl StatefulProcess for Keeper {
    type In = Event;
    type Out = Event;

    fn open(&mut self, cx: &OpenContext) {
        self.subtask = cx.subtask().into();
    }

    fn process(&mut self, row: Event, out: &mut Out<'_, Event>) {
        if row.value % 7 == 0 {
            self.waiting.clear();
        }
        self.waiting.push(row.value);
        self.seen.own().push(row.value);
        out.push(event(self.subtask, self.seen.restored().len() as i64));
    }

    fn finish(&mut self, out: &mut Out<'_, Event>) {
        for value in self.seen.own().take() {
            out.push(event(-1, value));
        }
        for value in self.seen.restored() {
            out.push(event(-2 - self.subtask, value));
        }
    }
}

fn keeper(flow: &Flow) {
    testing::source::<Event>(flow, "events")
        .shuffle()
        .process_with_state(|setup| Keeper {
            subtask: 0,
            waiting: setup.list_state("waiting"),
            seen: setup.union_state("seen"),
        })
        .uid("keeper")
        .sink("out", Discard::new());
}

/// Lists of so many subtasks.
#[derive(Clone)]
struct Model {
    waiting: Vec<Vec<i64>>,
    seen: Vec<Vec<i64>>,
    restored: Vec<i64>,
}

pub(crate) fn dealt(lists: &[Vec<i64>], subtasks: usize) -> Vec<Vec<i64>> {
    if lists.len() == subtasks {
        return lists.to_vec();
    }
    let mut all = lists.concat().into_iter();
    let count = all.len();
    let shares = (0..subtasks).map(|subtask| count * (subtask + 1) / subtasks - count * subtask / subtasks);
    shares.map(|share| all.by_ref().take(share).collect()).collect()
}

impl Model {
    fn restore(&self, subtasks: usize) -> Model {
        Model {
            waiting: dealt(&self.waiting, subtasks),
            seen: dealt(&self.seen, subtasks),
            restored: self.seen.concat(),
        }
    }

    fn check(&self, job: &mut Job) {
        for (subtask, (waiting, seen)) in self.waiting.iter().zip(&self.seen).enumerate() {
            let of = |job: &mut Job, state| {
                job.state::<Vec<i64>>("keeper", state, subtask as u32)
                    .unwrap_or_default()
            };
            assert_eq!(&of(job, "waiting"), waiting);
            assert_eq!(&of(job, "seen"), seen);
        }
    }
}

#[test]
fn no_item_is_lost_or_doubled() {
    for seed in 0..20u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut model = Model {
            waiting: vec![Vec::new(); 2],
            seen: vec![Vec::new(); 2],
            restored: Vec::new(),
        };
        let mut job = Options::new().parallelism(2).seed(seed).start(keeper);
        let mut kept = (job.snapshot(), model.clone());
        for value in 0..200 {
            match random.below(20) {
                0 => kept = (job.snapshot(), model.clone()),
                1 => {
                    let subtasks = random.below(4) as usize + 1;
                    let options = Options::new().parallelism(subtasks as u32).seed(seed);
                    job = options.restore(&kept.0, keeper);
                    model = kept.1.restore(subtasks);
                    model.check(&mut job);
                }
                _ => {
                    job.push("events", event(0, value));
                    let told = job.take::<Event>("out");
                    let [Event { key, value: restored }] = told[..] else {
                        panic!("{told:?}")
                    };
                    assert_eq!(restored, model.restored.len() as i64);
                    if value % 7 == 0 {
                        model.waiting[key as usize].clear();
                    }
                    model.waiting[key as usize].push(value);
                    model.seen[key as usize].push(value);
                }
            }
        }
        model.check(&mut job);
        job.finish();
        let told = job.take::<Event>("out");
        let of = |key: i64| {
            let of = told.iter().filter(|row| row.key == key);
            of.map(|row| row.value).collect::<Vec<_>>()
        };
        // Which subtask ends first is up to the job.
        let sorted = |mut values: Vec<i64>| {
            values.sort_unstable();
            values
        };
        assert_eq!(sorted(of(-1)), sorted(model.seen.concat()));
        for subtask in 0..model.seen.len() {
            assert_eq!(of(-2 - subtask as i64), model.restored, "all are told of all");
        }
    }
}

#[test]
#[should_panic(expected = "state `seen` is declared twice")]
fn names_differ() {
    drop(Job::new(|flow: &Flow| {
        testing::source::<Event>(flow, "events")
            .process_with_state(|setup| Keeper {
                subtask: 0,
                waiting: setup.list_state("seen"),
                seen: setup.union_state("seen"),
            })
            .sink("out", Discard::new());
    }));
}
