//! Endless streams and slow functions.

use std::hint::black_box;

use millrace::prelude::*;

use super::{Event, Params, generated};

fn endless(rate: u64) -> Generator<Event> {
    Generator::new()
        .rate(rate)
        .column("key", "index % 5")
        .column("value", "index")
        .column("time", "index * 10")
}

/// Some ten microseconds of work.
fn work(event: Event) -> Event {
    let mut value = event.value as u64;
    for _ in 0..10_000 {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    Event {
        value: (value % 1_000) as i64,
        ..event
    }
}

fn timed(stream: Stream<Rows<Event>>, params: &Params) -> Stream<Rows<Event>> {
    let watermarks = Watermarks::monotonic(Event::FIELDS.time);
    if params.idle.is_zero() {
        stream.watermarks(watermarks)
    } else {
        stream.watermarks(watermarks.idle_after(params.idle))
    }
}

/// Two inputs, one of which gives its first row at once and then one a second, all of the same time.
fn sleepy(flow: &Flow, params: &Params) {
    let seldom = Generator::<Event>::new()
        .rows(1_000)
        .rate(1)
        .column("key", "7")
        .column("value", "index")
        .column("time", "0");
    let seldom = timed(flow.source("seldom", seldom), params);
    let often = timed(flow.source("often", endless(2_000)), params);
    often
        .union(seldom)
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(100)))
        .count()
        .name("windows")
        .sink("out", Discard::new().sum("value"));
}

/// Files that grow: event time is behind the clock by `disorder`, or else goes by rows.
fn live(flow: &Flow, params: &Params) {
    let files = Files::ndjson::<Event>(&params.input).follow();
    let rows = flow.source("events", files.scan_interval(Duration::from_millis(20)));
    let at = Watermarks::monotonic(Event::FIELDS.time);
    let timed = match params.disorder.is_zero() {
        true => rows.watermarks(at.idle_after(params.idle)),
        false => rows.watermarks(at.behind_clock(params.disorder)),
    };
    timed
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(10)))
        .count()
        .name("windows")
        .sink("out", Discard::new().sum("value"));
}

/// Rows of splits that turn up while others are read, by times that ascend from split to split.
fn unfolding(flow: &Flow, params: &Params) {
    let files = |path: &str| Files::ndjson::<Event>(path);
    let scan = Duration::from_millis(20);
    let at = || Watermarks::monotonic(Event::FIELDS.time);
    let rows = match params.version.as_str() {
        "hybrid" => {
            let then = files(&params.other);
            flow.source("events", Hybrid::of(files(&params.input)).then(then))
                .watermarks(at())
        }
        _ => flow
            .source("events", files(&params.input).watch().scan_interval(scan))
            .watermarks(at()),
    };
    rows.key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(10)))
        .count()
        .name("windows")
        .sink("out", Discard::new().sum("value"));
}

/// Sets a timer of the clock on the wall for each row, and puts out what it was set for.
struct Alarm {
    value: ValueState<i64>,
}

impl KeyedProcess for Alarm {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        self.value.set(event.value);
        cx.set_processing_timer(cx.now() + Duration::from_millis(1));
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        assert_eq!(timer.kind, TimerKind::ProcessingTime);
        assert!(timer.time <= cx.now(), "a timer is never early");
        if let Some(value) = self.value.take() {
            cx.push(Event {
                key: timer.key,
                value,
                time: timer.time.millis(),
            });
        }
    }
}

#[derive(Record, Clone, Debug)]
struct ShapeV1 {
    key: i32,
    label: String,
}

#[derive(Record, Clone, Debug)]
struct ShapeV2 {
    label: String,
    note: Option<String>,
    key: i64,
}

#[derive(Record, Clone, Debug)]
struct ShapeV3 {
    key: i64,
    title: String,
}

/// Slow behind an edge whose rows differ from version to version.
fn reshaped(flow: &Flow, params: &Params) {
    let (events, label) = (generated(flow, params), |event: &Event| format!("row {}", event.time));
    let slowly = |key: i64, label: String| {
        let mut event = Event { key, value: 0, time: 0 };
        (0..10).for_each(|_| event = work(event.clone()));
        ShapeV2 { label, note: None, key }
    };
    let output = || Files::to_csv(&params.output);
    match params.version.as_str() {
        "1" => events
            .map(move |event: Event| ShapeV1 {
                key: event.key as i32,
                label: label(&event),
            })
            .uid("shape")
            .rebalance()
            .map(move |row: ShapeV1| slowly(row.key.into(), row.label))
            .uid("slow")
            .sink("out", output()),
        "2" => events
            .map(move |event: Event| ShapeV2 {
                label: label(&event),
                note: None,
                key: event.key,
            })
            .uid("shape")
            .rebalance()
            .map(move |row: ShapeV2| slowly(row.key, row.label))
            .uid("slow")
            .sink("out", output()),
        _ => events
            .map(move |event: Event| ShapeV3 {
                title: label(&event),
                key: event.key,
            })
            .uid("shape")
            .rebalance()
            .map(move |row: ShapeV3| slowly(row.key, row.title))
            .uid("slow")
            .sink("out", output()),
    };
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> bool {
    match params.kind.as_str() {
        "endless" => {
            flow.source("events", endless(20_000))
                .map(|event: Event| event)
                .sink("out", Files::to_csv(&params.output).roll_rows(500));
        }
        "copy" => {
            generated(flow, params)
                .map(|event: Event| event)
                .sink("out", Files::to_csv(&params.output).roll_rows(100));
        }
        "sleepy" => sleepy(flow, params),
        "live" => live(flow, params),
        "unfolding" => unfolding(flow, params),
        "slow-function" => {
            generated(flow, params)
                .rebalance()
                .map(work)
                .name("slow")
                .sink("out", Discard::new().sum("value"));
        }
        "reshaped" => reshaped(flow, params),
        // The slow one is behind a keyed exchange, in one subtask of all.
        "slow-global" => {
            generated(flow, params)
                .map(|event: Event| event)
                .name("quick")
                .key_by(|_: &Event| 0i64)
                .reduce(|sum: &mut Event, event| *sum = work(event))
                .name("slow")
                .sink("out", Discard::new().sum("value"));
        }
        "alarms" => {
            flow.source("events", endless(2_000))
                .key_by(Event::FIELDS.key)
                .process(|setup| Alarm {
                    value: setup.value_state("value"),
                })
                .name("alarms")
                .sink("out", Discard::new().sum("value"));
        }
        // The end of the input fires half an hour of windows at once.
        "open-windows" => {
            flow.source("events", endless(20_000))
                .watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(1 << 30)))
                .key_by(Event::FIELDS.key)
                .window(Tumbling::of(Duration::from_millis(100)))
                .count()
                .name("windows")
                .sink("out", Discard::new().sum("value"));
        }
        _ => return false,
    }
    true
}
