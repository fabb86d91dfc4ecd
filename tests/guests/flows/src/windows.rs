//! Windows over event time, read from a file, with results and late rows written to folders.

use millrace::prelude::*;
use millrace::stream::{WatermarkGenerator, generator};

use super::{Event, Params};

static LATE: OutputTag<Event> = OutputTag::new("late");

/// Count, sum and smallest value of a window.
#[derive(Record, Clone, Debug)]
struct Outcome {
    key: i64,
    start: i64,
    end: i64,
    count: i64,
    sum: i64,
    least: i64,
}

#[derive(Record, Clone, Debug)]
struct Stats {
    count: i64,
    sum: i64,
    least: i64,
}

struct Gather;

impl Aggregate for Gather {
    type In = Event;
    type Key = i64;
    type Acc = Stats;
    type Out = Outcome;

    fn create(&self) -> Stats {
        Stats {
            count: 0,
            sum: 0,
            least: i64::MAX,
        }
    }

    fn add(&self, stats: &mut Stats, event: Event) {
        self.merge(
            stats,
            &Stats {
                count: 1,
                sum: event.value,
                least: event.value,
            },
        );
    }

    fn merge(&self, stats: &mut Stats, other: &Stats) {
        stats.count += other.count;
        stats.sum += other.sum;
        stats.least = stats.least.min(other.least);
    }

    fn finish(&self, key: i64, window: Window, stats: &Stats) -> Outcome {
        Outcome {
            key,
            start: window.start.millis(),
            end: window.end.millis(),
            count: stats.count,
            sum: stats.sum,
            least: stats.least,
        }
    }
}

fn timed(flow: &Flow, name: &str, path: &str, params: &Params) -> Stream<Rows<Event>> {
    let mut watermarks = Watermarks::bounded(Event::FIELDS.time, params.disorder);
    if !params.idle.is_zero() {
        watermarks = watermarks.idle_after(params.idle);
    }
    if !params.drift.is_zero() {
        watermarks = watermarks.aligned("all", params.drift);
    }
    flow.source(name, Files::ndjson::<Event>(path)).watermarks(watermarks)
}

/// A row that may say how far event time has come.
#[derive(Record, Clone, Debug)]
struct Marked {
    key: i64,
    value: i64,
    time: i64,
    mark: Option<i64>,
}

/// Stays behind the latest row by as much as rows were out of order lately; says nothing each third time.
struct Lagging {
    latest: i64,
    behind: i64,
    rows: i64,
}

impl WatermarkGenerator<Marked> for Lagging {
    fn next(&mut self, row: &Marked) -> Option<Timestamp> {
        self.latest = self.latest.max(row.time);
        self.behind = (self.latest - row.time).max(self.behind - 2);
        self.rows += 1;
        (self.rows % 3 != 0).then(|| Timestamp::from_millis(self.latest - self.behind))
    }
}

/// Rows say how far event time has come: in a column, by a closure, or by a generator.
fn punctuated(flow: &Flow, params: &Params) -> Stream<Rows<Event>> {
    let rows = flow.source("events", Files::ndjson::<Marked>(&params.input));
    let at = Watermarks::monotonic(Marked::FIELDS.time);
    let timed = match params.kind.as_str() {
        "punctuated" => rows.watermarks(at.punctuated(Marked::FIELDS.mark)),
        "punctuated-computed" => rows.watermarks(at.punctuated(|row: &Marked| row.mark)),
        "punctuated-generator" => {
            let lagging = Lagging {
                latest: i64::MIN,
                behind: 0,
                rows: 0,
            };
            rows.watermarks(at.punctuated(generator(lagging)))
        }
        // Both are computed.
        _ => {
            let at = Watermarks::bounded_by(|row: &Marked| row.time, Duration::ZERO);
            rows.watermarks(at.punctuated(|row: &Marked| row.mark.map(Timestamp::from_millis)))
        }
    };
    let event = |row: Marked| Event {
        key: row.key,
        value: row.value,
        time: row.time,
    };
    timed.map(event).share()
}

/// Windows over the time at which rows are read.
fn ingested(flow: &Flow, params: &Params) {
    let rows = flow.source("events", Files::ndjson::<Event>(&params.input));
    rows.watermarks(Watermarks::ingestion())
        .key_by(Event::FIELDS.key)
        .window(Session::gap(Duration::from_secs(3600)))
        .aggregate(Gather)
        .name("windows")
        .sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

fn finish(windows: WindowedStream<Event, i64>, params: &Params) {
    let results = windows
        .allowed_lateness(params.lateness)
        .late_output(&LATE)
        .aggregate(Gather)
        .name("windows");
    results
        .side_output(&LATE)
        .sink("late", Files::to_ndjson(format!("{}/late", params.output)));
    results.sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

/// Windows over the rows of all keys.
fn over_all(events: Stream<Rows<Event>>, params: &Params) {
    let windows = match params.kind.as_str() {
        "all-tumbling" => events.window_all(Tumbling::of(params.size).offset(params.offset)),
        "all-sliding" => events.window_all(Sliding::of(params.size, params.slide).offset(params.offset)),
        _ => events.window_all(Session::gap(params.size)),
    };
    finish_all(windows, params);
}

fn finish_all(windows: WindowedStream<Event, u8>, params: &Params) {
    let results = windows
        .allowed_lateness(params.lateness)
        .late_output(&LATE)
        .aggregate_with(
            || Gather.create(),
            |stats, event| Gather.add(stats, event),
            |stats, other| Gather.merge(stats, other),
            |key, window, stats| Gather.finish(i64::from(key), window, stats),
        )
        .name("windows");
    results
        .side_output(&LATE)
        .sink("late", Files::to_ndjson(format!("{}/late", params.output)));
    results.sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

/// Sets a timer at the next multiple of some ms behind each row, and puts out when they fire.
struct Coalesced(Duration);

/// How long after a row its timer is to fire, at the earliest.
const BEHIND: Duration = Duration::from_millis(5);

impl KeyedProcess for Coalesced {
    type In = Event;
    type Key = i64;
    type Out = Outcome;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        cx.set_coalesced_event_timer(Timestamp::from_millis(event.time) + BEHIND, self.0);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let time = timer.time.millis();
        cx.push(Outcome {
            key: timer.key,
            start: time,
            end: time,
            count: 1,
            sum: 0,
            least: 0,
        });
    }
}

/// Every row with its event time, to see the time of rows behind a window.
fn collected(events: Stream<Rows<Event>>, params: &Params) {
    events
        .key_by(Event::FIELDS.key)
        .window(Session::gap(params.size))
        .process(|key, window, rows: &[Event], out: &mut Out<'_, Outcome>| {
            out.push(Outcome {
                key,
                start: window.start.millis(),
                end: window.end.millis(),
                count: rows.len() as i64,
                sum: rows.iter().map(|row| row.value).sum(),
                least: rows.iter().map(|row| row.value).min().unwrap_or(0),
            });
        })
        .sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

/// The row with the least value of each window.
#[derive(Record, Clone, Debug)]
struct Least {
    key: i64,
    start: i64,
    end: i64,
    value: i64,
    time: i64,
}

fn least(flow: &Flow, params: &Params) {
    let keyed = || timed(flow, "events", &params.input, params).key_by(Event::FIELDS.key);
    let sliding = || keyed().window(Sliding::of(params.size, params.slide).offset(params.offset));
    let value = Event::FIELDS.value;
    match params.kind.as_str() {
        "least-session" => put_least(keyed().window(Session::gap(params.size)).min_by(value), params),
        "least-guest" => put_least(sliding().trigger(EventTimeTrigger).min_by(value), params),
        "least-two-phase" => put_least(sliding().two_phase().min_by(value), params),
        "least-salted" => put_least(sliding().salted(3).min_by(value), params),
        _ => put_least(sliding().min_by(value), params),
    }
}

fn put_least<C: Chain<Out = Windowed<i64, Event>>>(windows: Stream<C>, params: &Params) {
    let least = |least: Windowed<i64, Event>| Least {
        key: least.key,
        start: least.start.millis(),
        end: least.end.millis(),
        value: least.value.value,
        time: least.value.time,
    };
    windows
        .map(least)
        .sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

/// Windows over the results of windows: the time of a result is the end of its window - 1.
fn cascade(events: Stream<Rows<Event>>, params: &Params) {
    events
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(params.size))
        .aggregate(Gather)
        .filter(|outcome| outcome.count > 0)
        .key_by(|_: &Outcome| 0i64)
        .window(Tumbling::of(params.slide))
        .aggregate_with(
            || Stats {
                count: 0,
                sum: 0,
                least: i64::MAX,
            },
            |stats: &mut Stats, outcome: Outcome| {
                stats.count += 1;
                stats.sum += outcome.sum;
                stats.least = stats.least.min(outcome.least);
            },
            |stats: &mut Stats, other: &Stats| Gather.merge(stats, other),
            |key: i64, window: Window, stats: &Stats| Gather.finish(key, window, stats),
        )
        .name("outer")
        .sink("results", Files::to_ndjson(format!("{}/results", params.output)));
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> bool {
    let events = || timed(flow, "events", &params.input, params);
    match params.kind.as_str() {
        "tumbling" => finish(
            events()
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(params.size).offset(params.offset)),
            params,
        ),
        "sliding" => finish(
            events()
                .key_by(Event::FIELDS.key)
                .window(Sliding::of(params.size, params.slide).offset(params.offset)),
            params,
        ),
        "session" => finish(
            events().key_by(Event::FIELDS.key).window(Session::gap(params.size)),
            params,
        ),
        // The same by a computed key: the exchange and the key columns differ.
        "session-computed" => finish(
            events()
                .key_by(|event: &Event| event.key)
                .window(Session::gap(params.size)),
            params,
        ),
        // With a trigger they are the guest's.
        "guest-tumbling" => {
            let windows = Tumbling::of(params.size).offset(params.offset);
            let windows = events().key_by(Event::FIELDS.key).window(windows);
            finish(windows.trigger(EventTimeTrigger), params);
        }
        "guest-sliding" => {
            let windows = Sliding::of(params.size, params.slide).offset(params.offset);
            let windows = events().key_by(Event::FIELDS.key).window(windows);
            finish(windows.trigger(EventTimeTrigger), params);
        }
        "guest-session" => {
            let windows = events().key_by(Event::FIELDS.key).window(Session::gap(params.size));
            finish(windows.trigger(EventTimeTrigger), params);
        }
        "punctuated" | "punctuated-computed" | "punctuated-both" | "punctuated-generator" => {
            let events = punctuated(flow, params).key_by(Event::FIELDS.key);
            finish(events.window(Tumbling::of(params.size)), params);
        }
        "least" | "least-session" | "least-guest" | "least-two-phase" | "least-salted" => least(flow, params),
        "all-tumbling" | "all-sliding" | "all-session" => over_all(events(), params),
        "coalesced" => {
            let timers = events().key_by(Event::FIELDS.key).process(|_| Coalesced(params.size));
            timers.sink("results", Files::to_ndjson(format!("{}/results", params.output)));
        }
        "ingestion" => ingested(flow, params),
        "session-collected" => collected(events(), params),
        "cascade" => cascade(events(), params),
        "union" => finish(
            events()
                .union(timed(flow, "others", &params.other, params))
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(params.size)),
            params,
        ),
        _ => return false,
    }
    true
}
