//! Every operator of two inputs, each with a sink of its own. Results depend on no more than which rows are in time,
//! whatever the order in which the two inputs come.

use millrace::prelude::*;

use super::operators::Outputs;
use super::{Event, Params, joined_windows};

/// A row of the second input.
#[derive(Record, Clone, Debug)]
pub(crate) struct Other {
    name: String,
    pub(crate) key: i64,
    pub(crate) amount: i64,
    time: i64,
}

/// A result.
#[derive(Record, Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: i64,
    pub(crate) time: i64,
    pub(crate) value: i64,
    pub(crate) amount: i64,
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

/// Rows of both inputs, put out some hundred together, without a key.
struct Gathered {
    events: ListState<Event>,
    others: ListState<Other>,
}

impl Gathered {
    fn put_full(&mut self, out: &mut Out<'_, Pair>) {
        if self.events.len() + self.others.len() >= 300 {
            self.finish(out);
        }
    }
}

impl StatefulCoProcess for Gathered {
    type First = Event;
    type Second = Other;
    type Out = Pair;

    fn process_first(&mut self, row: Event, out: &mut Out<'_, Pair>) {
        self.events.push(row);
        self.put_full(out);
    }

    fn process_second(&mut self, row: Other, out: &mut Out<'_, Pair>) {
        self.others.push(row);
        self.put_full(out);
    }

    fn finish(&mut self, out: &mut Out<'_, Pair>) {
        let (events, others) = (self.events.take(), self.others.take());
        events.iter().for_each(|event| out.push(pair(Some(event), None)));
        others.iter().for_each(|other| out.push(pair(None, Some(other))));
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
        let (events, others) = match params.rate {
            0 => (events, others),
            rate => (events.rate(rate as u64), others.rate(rate as u64)),
        };
        (flow.source("events", events), flow.source("others", others))
    } else {
        (
            flow.source("events", Files::ndjson::<Event>(&params.input)),
            flow.source("others", Files::ndjson::<Other>(&params.other)),
        )
    };
    let mut of_events = Watermarks::bounded(Event::FIELDS.time, params.disorder);
    let mut of_others = Watermarks::bounded(Other::FIELDS.time, params.disorder);
    if !params.drift.is_zero() {
        of_events = of_events.aligned("both", params.drift);
        of_others = of_others.aligned("both", params.drift);
    }
    (events.watermarks(of_events), others.watermarks(of_others))
}

/// A fast source and a slow one, in one group.
pub(crate) fn aligned(flow: &Flow, params: &Params) {
    let source = |name: &str, rate: i64| {
        let rows = Generator::<Event>::new().rows(params.rows as u64);
        let rows = rows
            .column("key", "index % 5")
            .column("value", "index")
            .column("time", "index");
        let rows = if rate > 0 { rows.rate(rate as u64) } else { rows };
        let watermarks = Watermarks::monotonic(Event::FIELDS.time).aligned("both", params.drift);
        flow.source(name, rows).watermarks(watermarks)
    };
    source("fast", 0)
        .union(source("slow", params.rate))
        .sink("out", Discard::new());
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let (events, others) = inputs(flow, params);
    let outputs = Outputs(&params.output);
    connected(&events, &others, &outputs);
    window_joins(&events, &others, params, &outputs);
    let both = keyed(&events, &others);
    joined_windows::build((&events, &others), both, params, &outputs);
    interval_joins(&events, &others, params, &outputs);
    temporal_joins(&events, &others, &outputs);
    broadcast(&events, &others, &outputs);
    late(&events, &others, params, &outputs);
}

/// A pair, or what is there of it.
pub(crate) fn pair(event: Option<&Event>, other: Option<&Other>) -> Pair {
    Pair {
        key: event
            .map(|event| event.key)
            .or(other.map(|other| other.key))
            .unwrap_or(-1),
        time: other.map_or(-1, |other| other.name.len() as i64),
        value: event.map_or(-1, |event| event.value),
        amount: other.map_or(-1, |other| other.amount),
    }
}

pub(crate) type Events = KeyedStream<Event, i64>;
pub(crate) type Others = KeyedStream<Other, i64>;

fn keyed(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>) -> (Events, Others) {
    (
        events.clone().key_by(Event::FIELDS.key),
        others.clone().key_by(|other: &Other| other.key),
    )
}

/// Sums of a key and window, by side.
pub(crate) fn sums(key: i64, window: Window, events: &[Event], others: &[Other], out: &mut Out<'_, Pair>) {
    out.push(Pair {
        key,
        time: window.start.millis(),
        value: events.iter().map(|event| event.value).sum(),
        amount: others.iter().map(|other| other.amount).sum(),
    });
}

fn window_joins(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, params: &Params, outputs: &Outputs<'_>) {
    let (events, others) = keyed(events, others);
    let both = || (events.clone(), others.clone());
    let tumbling = || Tumbling::of(params.size).offset(params.offset);
    let sliding = || Sliding::of(params.size, params.slide).offset(params.offset);
    let (first, second) = both();
    let inner = first.join(second).window(tumbling());
    outputs.put("inner", inner.apply(|event, other| pair(Some(event), Some(other))));
    let (first, second) = both();
    let left = first.left_join(second).window(sliding());
    outputs.put("left", left.apply(|event, other| pair(Some(event), other)));
    let (first, second) = both();
    let right = first.right_join(second).window(Session::gap(params.slide));
    outputs.put("right", right.apply(|event, other| pair(event, Some(other))));
    let (first, second) = both();
    let full = first.full_join(second).window(tumbling());
    outputs.put("full", full.apply(pair));
    let (first, second) = both();
    outputs.put("co_group", first.co_group(second).window(sliding()).apply(sums));
    let (first, second) = both();
    outputs.put(
        "co_group-session",
        first.co_group(second).window(Session::gap(params.slide)).apply(sums),
    );
}

fn interval_joins(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, params: &Params, outputs: &Outputs<'_>) {
    let (events, others) = keyed(events, others);
    let both = || (events.clone(), others.clone());
    let Params {
        size, slide, offset, ..
    } = *params;
    let (first, second) = both();
    let inner = first
        .interval_join(second)
        .between(TimeBound::before(slide), TimeBound::after(size).exclusive());
    outputs.put(
        "interval-inner",
        inner.apply(|event, other| pair(Some(event), Some(other))),
    );
    let (first, second) = both();
    let left = first
        .left_join(second)
        .between(TimeBound::after(offset), TimeBound::after(size));
    outputs.put("interval-left", left.apply(|event, other| pair(Some(event), other)));
    let (first, second) = both();
    let right = first
        .right_join(second)
        .between(TimeBound::before(size).exclusive(), TimeBound::before(offset));
    outputs.put("interval-right", right.apply(|event, other| pair(event, Some(other))));
    let (first, second) = both();
    let full = first
        .full_join(second)
        .between(TimeBound::before(slide), TimeBound::after(slide));
    let full = full.apply(pair).share();
    let counted = full.clone().key_by(Pair::FIELDS.key).window(Tumbling::of(size));
    outputs.put("interval-counted", counted.count());
    outputs.put("interval-full", full);
}

fn temporal_joins(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, outputs: &Outputs<'_>) {
    let (events, others) = keyed(events, others);
    let inner = events.clone().temporal_join(others.clone());
    let inner = inner.apply(|event, other| pair(Some(event), Some(other)));
    outputs.put("temporal", inner);
    let left = events.left_temporal_join(others);
    outputs.put("left-temporal", left.apply(|event, other| pair(Some(event), other)));
}

/// Sums of buckets, beside the rule that was the last one in force.
struct Ruled {
    /// By kind, time and number.
    rules: BroadcastState<(i64, i64, i64), i64>,
    buckets: MapState<i64, i64>,
}

const KINDS: i64 = 5;

impl KeyedBroadcastProcess for Ruled {
    type In = Event;
    type Broadcast = Other;
    type Key = i64;
    type Out = Pair;

    fn process(&mut self, row: Event, cx: &mut ReadOnlyContext<'_, Self>) {
        let end = row.time.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS - 1;
        self.buckets
            .insert(end, self.buckets.get(&end).unwrap_or_default() + row.value);
        cx.set_event_timer(Timestamp::from_millis(end));
    }

    fn process_broadcast(&mut self, row: Other, cx: &mut BroadcastContext<'_, Self>) {
        let mut rules = cx.writable(&self.rules);
        let rule = (row.key % KINDS, row.time, row.amount);
        rules.insert(rule, row.amount * 2);
        if row.amount % 3 == 1 {
            assert_eq!(rules.remove(&rule), Some(row.amount * 2));
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut ReadOnlyContext<'_, Self>) {
        let (kind, time) = (timer.key % KINDS, timer.time.millis());
        let rule = self.rules.with(|rules| {
            let in_force = rules.range((kind, i64::MIN, i64::MIN)..=(kind, time, i64::MAX));
            in_force.last().map(|(_, amount)| *amount)
        });
        cx.push(Pair {
            key: timer.key,
            time,
            value: self.buckets.remove(&time).unwrap_or_default(),
            amount: rule.unwrap_or(-1),
        });
    }
}

/// Rows that wait for all rules, without a key.
struct RuledInTheEnd {
    rules: BroadcastState<(i64, i64, i64), i64>,
    waiting: ListState<Event>,
    rules_met: UnionState<i64>,
}

impl BroadcastProcess for RuledInTheEnd {
    type In = Event;
    type Broadcast = Other;
    type Out = Pair;

    fn process(&mut self, row: Event, _out: &mut Out<'_, Pair>) {
        self.waiting.push(row);
    }

    fn process_broadcast(&mut self, row: Other, cx: &mut UnkeyedContext<'_, Pair>) {
        let mut rules = cx.writable(&self.rules);
        let rule = (row.key % KINDS, row.time, row.amount);
        rules.insert(rule, row.amount * 2);
        if row.amount % 3 == 1 {
            assert_eq!(rules.remove(&rule), Some(row.amount * 2));
        }
        self.rules_met.own().push(row.amount);
    }

    fn finish(&mut self, out: &mut Out<'_, Pair>) {
        for event in self.waiting.take() {
            let (kind, time) = (event.key % KINDS, event.time);
            let rule = self.rules.with(|rules| {
                let in_force = rules.range((kind, i64::MIN, i64::MIN)..=(kind, time, i64::MAX));
                in_force.last().map(|(_, amount)| *amount)
            });
            out.push(Pair {
                key: event.key,
                time,
                value: event.value,
                amount: rule.unwrap_or(-1),
            });
        }
        assert!(!self.rules_met.own().is_empty(), "rules reach every subtask");
    }
}

fn broadcast(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, outputs: &Outputs<'_>) {
    let rules = others.clone().filter(|other| other.amount % 10 == 0);
    let ruled = events.clone().key_by(Event::FIELDS.key).connect_broadcast(rules);
    let ruled = ruled.process(|setup| Ruled {
        buckets: setup.map_state("buckets"),
        rules: setup.broadcast_state("rules"),
    });
    outputs.put("broadcast", ruled);
    let rules = others.clone().filter(|other| other.amount % 10 == 0);
    let ruled = events.clone().rebalance().connect_broadcast(rules);
    let ruled = ruled.process(|setup| RuledInTheEnd {
        rules: setup.broadcast_state("rules"),
        waiting: setup.list_state("waiting"),
        rules_met: setup.union_state("rules-met"),
    });
    outputs.put("broadcast-unkeyed", ruled);
}

static LATE_EVENTS: OutputTag<Event> = OutputTag::new("late-events");
static LATE_OTHERS: OutputTag<Other> = OutputTag::new("late-others");

/// Which rows are late is up to chance, but those that are not are counted in their windows.
fn late(events: &Stream<Rows<Event>>, others: &Stream<Rows<Other>>, params: &Params, outputs: &Outputs<'_>) {
    if params.lateness.is_zero() {
        return;
    }
    let events = events.clone().watermarks(Watermarks::monotonic(Event::FIELDS.time));
    let others = others.clone().watermarks(Watermarks::monotonic(Other::FIELDS.time));
    let (first, second) = keyed(&events, &others);
    let joined = first.left_temporal_join(second).late_output(&LATE_EVENTS);
    let joined = joined.apply(|event, other| pair(Some(event), other));
    outputs.put("temporal-late", joined.side_output(&LATE_EVENTS));
    outputs.put("temporal-in-time", joined);
    let (first, second) = keyed(&events, &others);
    let counted = first
        .co_group(second)
        .window(Tumbling::of(params.lateness))
        .late_outputs(&LATE_EVENTS, &LATE_OTHERS)
        .apply(
            |key, window, events: &[Event], others: &[Other], out: &mut Out<'_, Pair>| {
                out.push(Pair {
                    key,
                    time: window.start.millis(),
                    value: events.len() as i64,
                    amount: others.len() as i64,
                });
            },
        );
    outputs.put("late-events", counted.side_output(&LATE_EVENTS));
    outputs.put("late-others", counted.side_output(&LATE_OTHERS));
    outputs.put("in-time", counted);
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
    let anywhere = events.clone().shuffle().connect(others.clone().shuffle());
    let gathered = anywhere.process(|setup| Gathered {
        events: setup.list_state("events"),
        others: setup.list_state("others"),
    });
    outputs.put("co_process-unkeyed", gathered);
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
