//! A function that is applied to every key.

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use crate::{Event, Word, event, word};

/// Gathers values, and puts the sums of all keys out when it is told to.
struct Gather {
    sum: ValueState<i64>,
    told: BroadcastState<String, i64>,
    factor: i64,
}

impl KeyedBroadcastProcess for Gather {
    type In = Event;
    type Broadcast = Word;
    type Key = i64;
    type Out = Event;
    const APPLIES: bool = true;

    fn process(&mut self, row: Event, cx: &mut ReadOnlyContext<'_, Self>) {
        self.sum.update(|sum| *sum += row.value);
        if row.value == 0 {
            self.sum.clear();
            cx.set_event_timer(Timestamp::from_millis(1_000));
        }
    }

    fn process_broadcast(&mut self, row: Word, cx: &mut BroadcastContext<'_, Self>) {
        cx.writable(&self.told).insert(row.word.clone(), row.n);
        if row.word != "quiet" {
            self.factor = row.n;
            cx.apply_to_every_key();
        }
    }

    fn apply(&mut self, key: i64, cx: &mut ReadOnlyContext<'_, Self>) {
        let told = self.told.with(|told| told.len() as i64);
        cx.push(event(key, self.sum.get().unwrap_or(-told) * self.factor));
        if self.factor > 1 {
            self.sum.clear();
        }
    }
}

fn gather(flow: &Flow) {
    let words = testing::source::<Word>(flow, "words");
    testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .connect_broadcast(words)
        .process(|setup| Gather {
            sum: setup.value_state("sum"),
            told: setup.broadcast_state("told"),
            factor: 0,
        })
        .uid("gather")
        .sink("out", Discard::new());
}

fn sorted(job: &mut Job) -> Vec<(i64, i64)> {
    let rows = job.take::<Event>("out");
    let mut rows: Vec<(i64, i64)> = rows.iter().map(|row| (row.key, row.value)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn every_key_that_holds_something_has_its_turn() {
    let mut job = Options::new().parallelism(2).start(gather);
    job.push_all(
        "events",
        [event(1, 5), event(2, 6), event(3, 7), event(1, 1), event(4, 0)],
    );
    job.push("words", word("quiet", 9));
    assert_eq!(sorted(&mut job), []);
    // Key 4 has a timer alone.
    job.push("words", word("once", 1));
    assert_eq!(sorted(&mut job), [(1, 6), (2, 6), (3, 7), (4, -2)]);
    let mut job = Options::new().parallelism(3).restore(&job.snapshot(), gather);
    job.push("words", word("twice", 2));
    assert_eq!(sorted(&mut job), [(1, 12), (2, 12), (3, 14), (4, -6)]);
    // The others hold nothing any more.
    job.push("events", event(2, 8));
    job.push("words", word("again", 1));
    assert_eq!(sorted(&mut job), [(2, 8), (4, -4)]);
}

/// What comes behind a row in the same block sees what the row has done to every key.
#[test]
fn one_row_after_the_other() {
    let mut job = Job::new(gather);
    job.push("events", event(1, 3));
    job.push_all("words", [word("a", 1), word("b", 2), word("c", 5)]);
    assert_eq!(sorted(&mut job), [(1, 3), (1, 6)], "the second has taken it");
}

/// Without saying that it may.
struct Shy {
    told: BroadcastState<String, i64>,
}

impl KeyedBroadcastProcess for Shy {
    type In = Event;
    type Broadcast = Word;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, _row: Event, _cx: &mut ReadOnlyContext<'_, Self>) {}

    fn process_broadcast(&mut self, row: Word, cx: &mut BroadcastContext<'_, Self>) {
        cx.writable(&self.told).insert(row.word, row.n);
        cx.apply_to_every_key();
    }
}

#[test]
#[should_panic(expected = "const APPLIES")]
fn who_asks_has_said_that_he_may() {
    let mut job = Job::new(|flow: &Flow| {
        let words = testing::source::<Word>(flow, "words");
        testing::source::<Event>(flow, "events")
            .key_by(Event::FIELDS.key)
            .connect_broadcast(words)
            .process(|setup| Shy {
                told: setup.broadcast_state("told"),
            })
            .sink("out", Discard::new());
    });
    job.push("words", word("a", 1));
}
