//! The workloads of the benchmarks, one pipeline with a parameter that picks one.
//!
//! Event i has key = mix(i) mod keys, value = i mod 1000 and time = i / per_ms ms; the host's generator
//! makes them. What comes out is summed by the discarding sink.

use std::hint::black_box;

use millrace::prelude::*;

#[derive(Record, Clone)]
struct Pair {
    key: i64,
    value: i64,
}

#[derive(Record, Clone)]
struct Event {
    key: i64,
    value: i64,
    time: i64,
}

#[derive(Record, Clone)]
struct Sent {
    key: i64,
    due_ns: i64,
}

/// Count, sum and greatest value of a window.
#[derive(Record, Clone)]
struct WindowResult {
    key: i64,
    start: Timestamp,
    count: i64,
    sum: i64,
    max: i64,
}

#[derive(Parameters)]
struct Params {
    /// stateless, keyed, large-map, slow, tumbling, triggered, processing-time, count-window, sliding, session,
    /// window-join, cep, timer or latency
    workload: String,
    /// Number of events
    rows: i64,
    /// Number of keys
    #[parameter(default = "100000")]
    keys: i64,
    /// Events per ms of event time
    #[parameter(default = "100")]
    per_ms: i64,
    /// Events per second of real time; 0: as fast as possible
    #[parameter(default = "0")]
    rate: i64,
    /// Exponent of Zipf's law by which keys are drawn; empty: evenly
    #[parameter(default = "")]
    zipf: String,
    /// Time to live of the state of keyed and timer, ms; 0: none
    #[parameter(default = "0")]
    ttl_ms: i64,
    /// Row that traps; -1: none
    #[parameter(default = "-1")]
    trap: i64,
    /// In how many attempts it does
    #[parameter(default = "0")]
    traps: i64,
}

#[derive(Record, Clone)]
struct Numbered {
    key: i64,
    index: i64,
}

/// A key's rows so far, at a row.
#[derive(Record, Clone)]
struct Counted {
    index: i64,
    count: i64,
}

/// Where the rows of a key are counted.
enum Counts {
    ByKey(ValueState<i64>),
    /// A hundred keys have one map.
    InMaps(LargeMap<i64, i64>),
}

/// Counts the rows of each key, and traps on one.
struct Trapping {
    counts: Counts,
    trap: i64,
    traps: i64,
    attempt: i64,
}

impl KeyedProcess for Trapping {
    type In = Numbered;
    type Key = i64;
    type Out = Counted;

    fn open(&mut self, cx: &OpenContext) {
        self.attempt = i64::from(cx.attempt());
    }

    fn process(&mut self, row: Numbered, cx: &mut Context<'_, Self>) {
        if row.index == self.trap && self.attempt < self.traps {
            // The time of this line is when the trap is.
            warn!("trap");
            panic!("row {} traps", row.index);
        }
        let count = |count: &mut i64| {
            *count += 1;
            *count
        };
        let count = match &mut self.counts {
            Counts::ByKey(counts) => counts.update(count),
            Counts::InMaps(counts) => counts.update(&row.key, count),
        };
        cx.push(Counted {
            index: row.index,
            count,
        });
    }
}

/// Rows behind the trap are summed: what they sum up to says whether state came back.
fn restart(flow: &Flow, params: &Params, in_maps: bool) {
    let rows = Generator::<Numbered>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {}", params.keys))
        .column("index", "index");
    let (trap, traps) = (params.trap, params.traps);
    let rows = flow.source("events", rows);
    let maps = (params.keys / 100).max(1);
    let rows = match in_maps {
        false => rows.key_by(Numbered::FIELDS.key),
        true => rows.key_by(move |row: &Numbered| row.key % maps),
    };
    let counted = rows
        .process(move |setup| Trapping {
            counts: match in_maps {
                false => Counts::ByKey(setup.value_state("count")),
                true => Counts::InMaps(setup.large_map("counts")),
            },
            trap,
            traps,
            attempt: 0,
        })
        .filter(|_: &Counted| true);
    let tail = counted.filter(move |counted: &Counted| counted.index > trap);
    tail.sink("out", Discard::new().sum("count"));
}

/// The accumulator of all window workloads.
struct Stats;

#[derive(Record, Clone, Copy)]
struct StatsAcc {
    count: i64,
    sum: i64,
    max: i64,
}

impl Aggregate for Stats {
    type In = Event;
    type Key = i64;
    type Acc = StatsAcc;
    type Out = WindowResult;

    fn create(&self) -> StatsAcc {
        StatsAcc {
            count: 0,
            sum: 0,
            max: i64::MIN,
        }
    }

    fn add(&self, acc: &mut StatsAcc, event: Event) {
        acc.count += 1;
        acc.sum += event.value;
        acc.max = acc.max.max(event.value);
    }

    fn merge(&self, acc: &mut StatsAcc, other: &StatsAcc) {
        acc.count += other.count;
        acc.sum += other.sum;
        acc.max = acc.max.max(other.max);
    }

    fn finish(&self, key: i64, window: Window, acc: &StatsAcc) -> WindowResult {
        WindowResult {
            key,
            start: window.start,
            count: acc.count,
            sum: acc.sum,
            max: acc.max,
        }
    }
}

#[derive(Record, Clone)]
struct Firing {
    key: i64,
    count: i64,
}

/// Counts a key's events until 10 s after the first.
struct CountUntil {
    count: ValueState<i64>,
}

const TIMER_MS: i64 = 10_000;

impl KeyedProcess for CountUntil {
    type In = Event;
    type Key = i64;
    type Out = Firing;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        let count = self.count.get().unwrap_or(0);
        if count == 0 {
            cx.set_event_timer(Timestamp::from_millis(event.time + TIMER_MS));
        }
        self.count.set(count + 1);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        if let Some(count) = self.count.take() {
            cx.push(Firing { key: timer.key, count });
        }
    }
}

/// The expression of keys. By Zipf's law frequent keys are not neighbours: 2^31 - 1 is prime.
fn keys(params: &Params) -> String {
    let Params { keys, zipf, .. } = params;
    match zipf.as_str() {
        "" => format!("mix % {keys}"),
        exponent => format!("zipf {keys} {exponent} * 2147483647 % {keys}"),
    }
}

fn ttl(params: &Params) -> Option<Ttl> {
    let after = u64::try_from(params.ttl_ms).ok().filter(|after| *after > 0)?;
    Some(Ttl::after(Duration::from_millis(after)))
}

fn pairs(params: &Params) -> Generator<Pair> {
    Generator::new()
        .rows(params.rows as u64)
        .column("key", &keys(params))
        .column("value", "index % 1000")
}

fn events(flow: &Flow, params: &Params) -> Stream<Rows<Event>> {
    let generator = Generator::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {}", params.keys))
        .column("value", "index % 1000")
        .column("time", &format!("index / {}", params.per_ms));
    let events: Stream<Rows<Event>> = flow.source("events", generator);
    events.watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(1)))
}

/// Two streams, of half the rows each. Which keys meet is up to chance: those of the second are other bits.
fn window_join(flow: &Flow, params: &Params) {
    let stream = |name: &str, key: String| {
        let generator = Generator::new()
            .rows(params.rows as u64 / 2)
            .column("key", &key)
            .column("value", "index % 1000")
            .column("time", &format!("index * 2 / {}", params.per_ms));
        let events: Stream<Rows<Event>> = flow.source(name, generator);
        let timed = events.watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(1)));
        timed.key_by(Event::FIELDS.key)
    };
    stream("first", format!("mix % {}", params.keys))
        .join(stream("second", format!("mix / 4096 % {}", params.keys)))
        .window(Tumbling::of(Duration::from_secs(10)))
        .apply(|first, second| Pair {
            key: first.key,
            value: first.value + second.value,
        })
        .sink("out", Discard::new().sum("value").gaps());
}

/// Every row is one of three kinds, and each may be a step of a match: a, then b, then c, within 10 s, whatever lies between.
fn cep(flow: &Flow, params: &Params) {
    let steps = Pattern::<Event>::begin("a")
        .where_(|event| event.value % 3 == 0)
        .followed_by("b")
        .where_(|event| event.value % 3 == 1)
        .followed_by("c")
        .where_(|event| event.value % 3 == 2)
        .within(Duration::from_secs(10));
    events(flow, params)
        .key_by(Event::FIELDS.key)
        .pattern(steps)
        .select(|found| Pair {
            key: found.key(),
            value: found.iter().map(|(_, event)| event.value).sum(),
        })
        .sink("out", Discard::new().sum("value").gaps());
}

/// Keys of the workload of large maps, which have all others as entries.
const MAPS: i64 = 16;

/// The running sums of "keyed", kept in large maps.
struct Sums {
    sums: LargeMap<i64, i64>,
}

impl KeyedProcess for Sums {
    type In = Pair;
    type Key = i64;
    type Out = Pair;

    fn process(&mut self, pair: Pair, cx: &mut Context<'_, Self>) {
        let value = self.sums.update(&pair.key, |sum| {
            *sum += pair.value;
            *sum
        });
        cx.push(Pair { value, ..pair });
    }
}

/// Every row reads an entry of a large map and writes it.
fn large_map(flow: &Flow, params: &Params) {
    flow.source("events", pairs(params))
        .key_by(|pair: &Pair| pair.key % MAPS)
        .process(|setup| Sums {
            sums: setup.large_map("sums"),
        })
        .sink("out", Discard::new().sum("value").gaps());
}

/// Some 20 us of work.
fn slow(pair: Pair) -> Pair {
    let mut value = pair.value as u64;
    for _ in 0..20_000 {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(value);
    pair
}

fn keyed(flow: &Flow, params: &Params) {
    let sums = flow
        .source("events", pairs(params))
        .key_by(Pair::FIELDS.key)
        .sum(Pair::FIELDS.value);
    let sums = match ttl(params) {
        Some(ttl) => sums.ttl(ttl),
        None => sums,
    };
    sums.sink("out", Discard::new().sum("value").gaps());
}

/// Everything before the slow function backs up.
fn backed_up(flow: &Flow, params: &Params) {
    flow.source("events", pairs(params))
        .key_by(Pair::FIELDS.key)
        .sum(Pair::FIELDS.value)
        .rebalance()
        .map(slow)
        .sink("out", Discard::new().sum("value"));
}

#[millrace::pipeline]
fn bench(flow: &Flow, params: Params) -> Result<()> {
    flow.name(&params.workload);
    match params.workload.as_str() {
        "stateless" => {
            flow.source("events", pairs(&params))
                .map(|pair: Pair| Pair {
                    key: pair.key,
                    value: pair.value * 31 + 7,
                })
                .filter(|pair| pair.value % 3 != 0)
                .sink("out", Discard::new().sum("value"));
        }
        "keyed" => keyed(flow, &params),
        "large-map" => large_map(flow, &params),
        "slow" => backed_up(flow, &params),
        "tumbling" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(Duration::from_secs(10)))
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "sliding" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .window(Sliding::of(Duration::from_secs(60), Duration::from_secs(5)))
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "triggered" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(Duration::from_secs(10)))
                .trigger(EventTimeTrigger)
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "processing-time" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(Duration::from_secs(10)).processing_time())
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "count-window" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .count_window(100)
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "session" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .window(Session::gap(Duration::from_secs(1)))
                .aggregate(Stats)
                .sink("out", Discard::new().sum("sum").gaps());
        }
        "window-join" => window_join(flow, &params),
        "cep" => cep(flow, &params),
        "timer" => {
            events(flow, &params)
                .key_by(Event::FIELDS.key)
                .process(|setup| {
                    let count = setup.value_state("count");
                    if let Some(ttl) = ttl(&params) {
                        setup.ttl(&count, ttl);
                    }
                    CountUntil { count }
                })
                .sink("out", Discard::new().sum("count"));
        }
        "latency" => {
            let mut generator = Generator::<Sent>::new()
                .rows(params.rows as u64)
                .column("key", &format!("mix % {}", params.keys))
                .column("due_ns", "now");
            if params.rate > 0 {
                generator = generator.rate(params.rate as u64);
            }
            flow.source("events", generator)
                .key_by(Sent::FIELDS.key)
                .max_by(Sent::FIELDS.due_ns)
                .sink("out", Discard::new().option("latency", "due_ns"));
        }
        "restart" => restart(flow, &params, false),
        "restart-large-map" => restart(flow, &params, true),
        other => return Err(format!("there is no workload `{other}`").into()),
    }
    Ok(())
}
