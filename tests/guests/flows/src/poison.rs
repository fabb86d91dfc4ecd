//! Functions of every kind that trap on certain rows, timers and windows; and the same job without these.
//!
//! The parameter `bad` says which: `process:1000,finish:2000` traps in the process function on row 1000 and in the window
//! that row 2000 is in. With `spared`, rows that would trap are filtered out in front of the function, and timers and
//! windows that would trap do nothing and put out nothing: what a job must come to that sets them aside.

use millrace::prelude::*;

use super::groups::{placed, placed_sink};
use super::{Event, Params};

/// One result: of which operator, for which key, for which time or number, and what.
#[derive(Record, Clone, Debug)]
struct Fact {
    operator: String,
    key: i64,
    at: i64,
    value: i64,
}

/// Marks sums with a row in them that something is to trap on.
const MARK: i64 = 1 << 40;

/// What is left out of the output of a spared job.
const NOTHING: i64 = i64::MIN;

fn fact(operator: &str, key: i64, at: i64, value: i64) -> Fact {
    let operator = operator.to_owned();
    Fact {
        operator,
        key,
        at,
        value,
    }
}

/// What traps where.
#[derive(Clone)]
pub(crate) struct Poison {
    bad: Vec<(String, i64)>,
    pub(crate) spared: bool,
}

impl Poison {
    pub(crate) fn new(params: &Params) -> Self {
        let item = |item: &str| {
            let (place, row) = item.split_once(':').expect("where:row");
            (place.to_owned(), row.parse().expect("a row"))
        };
        let items = params.bad.split(',').filter(|item| !item.is_empty());
        Poison {
            bad: items.map(item).collect(),
            spared: params.spared > 0,
        }
    }

    pub(crate) fn is(&self, place: &str, row: i64) -> bool {
        self.bad.iter().any(|(bad, number)| bad == place && *number == row)
    }

    /// Whether a function gets a row at all.
    fn lets_pass(&self, places: &[&str], row: i64) -> bool {
        !self.spared || !places.iter().any(|place| self.is(place, row))
    }

    /// A row's part of a sum.
    fn part(&self, place: &str, event: &Event) -> i64 {
        event.value % 1000 + if self.is(place, event.value) { MARK } else { 0 }
    }

    /// The result of a window; it traps on marked ones.
    fn finished(&self, sum: i64) -> i64 {
        if sum < MARK {
            return sum;
        }
        assert!(self.spared, "a sum of {sum} has no end");
        NOTHING
    }
}

/// Sums rows per bucket of time in a map, with a timer at the end of each.
struct Buckets {
    sums: MapState<i64, i64>,
    last: ValueState<i64>,
    poison: Poison,
    hoard: Vec<Vec<u8>>,
}

const BUCKET_MS: i64 = 500;

impl KeyedProcess for Buckets {
    type In = Event;
    type Key = i64;
    type Out = Fact;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        let end = event.time.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS;
        if !self.sums.contains(&end) {
            cx.set_event_timer(Timestamp::from_millis(end));
        }
        let part = self.poison.part("timer", &event);
        self.sums.update(&end, |sum| *sum += part);
        self.last.set(event.value);
        cx.push(fact("rows", event.key, event.value, 0));
        // All of that must come to nothing.
        assert!(
            !self.poison.is("process", event.value),
            "row {} is not welcome",
            event.value
        );
        while self.poison.is("spin", event.value) {
            std::hint::black_box(&mut self.last);
        }
        while self.poison.is("hoard", event.value) {
            self.hoard.push(vec![1; 1 << 20]);
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let end = timer.time.millis();
        let sum = self.sums.get(&end).expect("a bucket for each timer");
        if sum >= MARK && self.poison.spared {
            return;
        }
        self.sums.remove(&end);
        cx.push(fact("buckets", timer.key, end, self.poison.finished(sum)));
        self.last.clear();
    }
}

pub(crate) fn events(flow: &Flow, params: &Params) -> Events {
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {}", params.keys))
        .column("value", "index")
        .column("time", "index / 4");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    flow.source("events", generator)
        .uid("source")
        .watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_millis(40)))
        .uid("times")
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let poison = Poison::new(params);
    let events = events(flow, params);
    let branch = || events.clone();
    let facts = stateless(branch(), &poison)
        .union(totals(branch(), &poison))
        .union(placed(tumbling(branch(), &poison), params, "tumbling"))
        .union(placed(sliding(branch(), &poison), params, "sliding"))
        .union(placed(sessions(branch(), &poison), params, "sessions"))
        .union(placed(buckets(branch(), &poison), params, "buckets"));
    let facts = facts.filter(|fact: &Fact| fact.value != NOTHING);
    placed_sink(facts.sink("facts", Files::to_csv(&params.output)), params);
}

pub(crate) type Events = Stream<Rows<Event>>;

/// Without the rows that trap in these places, if the job is to be spared.
pub(crate) fn only(
    events: Events,
    poison: &Poison,
    places: &'static [&'static str],
) -> Stream<impl Chain<Out = Event>> {
    let poison = poison.clone();
    events.filter(move |event: &Event| poison.lets_pass(places, event.value))
}

fn stateless(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let passed = only(events, poison, &["map"]);
    let poison = poison.clone();
    let map = move |event: Event| {
        assert!(!poison.is("map", event.value), "row {} maps to nothing", event.value);
        fact("map", event.key, event.value, 1)
    };
    passed.map(map).name("map")
}

/// Counts rows by a function that writes its state whatever it does.
fn totals(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let passed = only(events, poison, &["reduce"]);
    let poison = poison.clone();
    let ones = move |event: Event| Event {
        time: if poison.is("reduce", event.value) { -1 } else { 0 },
        value: 1,
        ..event
    };
    passed
        .map(ones)
        .key_by(Event::FIELDS.key)
        .reduce(|total: &mut Event, event: Event| {
            total.value += event.value;
            assert!(event.time == 0, "a row of key {} does not count", event.key);
        })
        .uid("totals")
        .map(|total: Event| fact("totals", total.key, total.value, 0))
}

fn tumbling(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let windows = only(events, poison, &["add"])
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(400)));
    let (adds, ends) = (poison.clone(), poison.clone());
    windows
        .aggregate_with(
            || 0i64,
            move |sum: &mut i64, event: Event| {
                *sum += adds.part("finish", &event);
                assert!(!adds.is("add", event.value), "row {} does not add up", event.value);
            },
            |sum: &mut i64, other: &i64| *sum += other,
            move |key: i64, window: Window, sum: &i64| {
                fact("tumbling", key, window.start.millis(), ends.finished(*sum))
            },
        )
        .uid("tumbling")
}

fn sliding(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let windows = only(events, poison, &["slide"])
        .key_by(|event: &Event| format!("key {}", event.key))
        .window(Sliding::of(Duration::from_millis(900), Duration::from_millis(300)));
    let (adds, merges, ends) = (poison.clone(), poison.clone(), poison.clone());
    windows
        .aggregate_with(
            || 0i64,
            move |sum: &mut i64, event: Event| {
                *sum += adds.part("merge", &event);
                assert!(!adds.is("slide", event.value), "row {} does not slide", event.value);
            },
            move |sum: &mut i64, other: &i64| {
                assert!(
                    *other < MARK || merges.spared,
                    "{other} does not go together with {sum}"
                );
                *sum += other;
            },
            move |key: String, window: Window, sum: &i64| {
                let number = key.trim_start_matches("key ").parse().expect("a number");
                fact("sliding", number, window.start.millis(), ends.finished(*sum))
            },
        )
        .uid("sliding")
}

fn sessions(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let windows = only(events, poison, &["join"])
        .key_by(Event::FIELDS.key)
        .window(Session::gap(Duration::from_millis(25)));
    let (adds, ends) = (poison.clone(), poison.clone());
    windows
        .aggregate_with(
            || 0i64,
            move |sum: &mut i64, event: Event| {
                *sum += adds.part("close", &event);
                assert!(!adds.is("join", event.value), "row {} joins nothing", event.value);
            },
            |sum: &mut i64, other: &i64| *sum += other,
            move |key: i64, window: Window, sum: &i64| {
                fact("sessions", key, window.start.millis(), ends.finished(*sum))
            },
        )
        .uid("sessions")
}

fn buckets(events: Events, poison: &Poison) -> Stream<impl Chain<Out = Fact>> {
    let passed = only(events, poison, &["process", "spin", "hoard"]);
    let poison = poison.clone();
    let make = move |setup: &mut Setup| Buckets {
        sums: setup.map_state("sums"),
        last: setup.value_state("last"),
        poison: poison.clone(),
        hoard: Vec::new(),
    };
    passed.key_by(Event::FIELDS.key).process(make).uid("buckets")
}
