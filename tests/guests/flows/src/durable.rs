//! Every kind of state at once, with results that do not depend on how rows of different subtasks interleave:
//! what a job must put out however often it is killed.

use std::hint::black_box;

use millrace::connect::RedisSink;
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

fn fact(operator: &str, key: i64, at: i64, value: i64) -> Fact {
    let operator = operator.to_owned();
    Fact {
        operator,
        key,
        at,
        value,
    }
}

/// Sums rows per bucket of 500 ms in a map, with a timer at the end of each. The row with the value `trap` panics in
/// the first two attempts.
struct Buckets {
    sums: MapState<i64, i64>,
    last: ValueState<i64>,
    trap: i64,
    attempt: i64,
}

const BUCKET_MS: i64 = 500;

impl KeyedProcess for Buckets {
    type In = Event;
    type Key = i64;
    type Out = Fact;

    fn open(&mut self, cx: &OpenContext) {
        self.attempt = i64::from(cx.attempt());
    }

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        assert!(
            event.value != self.trap || self.attempt > 1,
            "row {} in attempt {}",
            event.value,
            self.attempt
        );
        let end = event.time.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS;
        if !self.sums.contains(&end) {
            cx.set_event_timer(Timestamp::from_millis(end));
        }
        self.sums.update(&end, |sum| *sum += event.value % 1000);
        self.last.set(event.time);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let end = timer.time.millis();
        let sum = self.sums.remove(&end).expect("a bucket for each timer");
        if self.sums.is_empty() {
            self.last.clear();
        }
        cx.push(fact("buckets", timer.key, end, sum));
    }
}

/// Takes its time and changes nothing.
fn work(fact: Fact, rounds: i64) -> Fact {
    let mut value = fact.value as u64;
    for _ in 0..rounds {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(value);
    fact
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let keys = params.keys;
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {keys}"))
        .column("value", "index")
        .column("time", "index / 4");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    let events = placed(flow.source("events", generator).uid("source"), params, "source")
        .map(|event: Event| Event {
            time: event.time - event.value * 7919 % 40,
            ..event
        })
        .watermarks(Watermarks::bounded(
            Event::FIELDS.time,
            Duration::from_millis(40) + params.disorder,
        ))
        .uid("events");
    let counts = placed(
        events.clone().key_by(Event::FIELDS.key).count().uid("counts"),
        params,
        "counts",
    )
    .map(|counted: Counted<i64>| fact("counts", counted.key, counted.count, 0));
    let tumbling = events
        .clone()
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(400)))
        .count()
        .uid("tumbling")
        .map(|count: Windowed<i64, i64>| fact("tumbling", count.key, count.start.millis(), count.value));
    let sliding = events
        .clone()
        .key_by(|event: &Event| format!("key {}", event.key))
        .window(Sliding::of(Duration::from_millis(900), Duration::from_millis(300)))
        .sum(Event::FIELDS.value)
        .uid("sliding");
    let sliding = placed(sliding, params, "sliding").map(|sum: Windowed<String, i64>| {
        let key = sum.key.trim_start_matches("key ").parse().expect("a number");
        fact("sliding", key, sum.start.millis(), sum.value)
    });
    let sessions = events
        .clone()
        .key_by(Event::FIELDS.key)
        .window(Session::gap(Duration::from_millis(25)))
        .count()
        .uid("sessions")
        .map(|count: Windowed<i64, i64>| fact("sessions", count.key, count.start.millis(), count.value));
    let trap = params.trap;
    let buckets = events
        .clone()
        .key_by(Event::FIELDS.key)
        .process(move |setup| Buckets {
            sums: setup.map_state("sums"),
            last: setup.value_state("last"),
            trap,
            attempt: 0,
        })
        .uid("buckets");
    let buckets = placed(buckets, params, "buckets");
    if !params.letters.is_empty() {
        // By one function or by another in the same chain.
        events
            .clone()
            .try_map(refuse(7))
            .on_reject(Reject::dead_letter(&params.letters))
            .uid("first-refusal")
            .try_map(refuse(57))
            .on_reject(Reject::dead_letter(&params.letters))
            .uid("second-refusal")
            .sink("accepted", Discard::new());
    }
    let facts = counts.union(tumbling).union(sliding).union(sessions).union(buckets);
    let rounds = params.work;
    let facts = if rounds > 0 {
        let worked = facts.rebalance().map(move |fact: Fact| work(fact, rounds));
        placed(worked.uid("work"), params, "work").rebalance()
    } else {
        facts
    };
    if !params.redis.is_empty() {
        facts.sink("facts", redis(&params.redis, &params.structure));
    } else if params.postgres.is_empty() {
        placed_sink(facts.sink("facts", Files::to_csv(&params.output)), params);
    } else {
        let table = Postgres::to(&params.postgres, "facts").create(true);
        let upserted = params
            .upsert
            .split(',')
            .filter(|column| !column.is_empty())
            .collect::<Vec<_>>();
        facts.sink(
            "facts",
            if upserted.is_empty() {
                table
            } else {
                table.upsert(upserted)
            },
        );
    }
}

/// Each structure holds what a result is by.
fn redis(url: &str, structure: &str) -> RedisSink {
    let line = "{operator},{key},{at},{value}";
    match structure {
        "list" => Redis::list(url, "facts:{operator}").value(line),
        "stream" => Redis::stream(url, "facts"),
        "string" => Redis::string(url, "fact:{operator}:{key}:{at}").value(line),
        "hash" => Redis::hash(url, "fact:{operator}:{key}:{at}").immediate(),
        other => panic!("no structure `{other}`"),
    }
}

/// Refuses every hundredth row.
fn refuse(of: i64) -> impl Fn(Event) -> std::result::Result<Event, String> {
    move |event| match event.value % 100 == of {
        true => Err(format!("{} is refused", event.value)),
        false => Ok(event),
    }
}
