//! Every operator that the SDK has, each with a sink of its own, on one ordered source: whatever the parallelism, the
//! rows of a key come in the order in which they were generated.

use millrace::prelude::*;

use super::{Event, Params};

static ODD: OutputTag<Event> = OutputTag::new("odd");
static LATE: OutputTag<Event> = OutputTag::new("late");

/// Some result of a window.
#[derive(Record, Clone, Debug)]
pub(crate) struct Result {
    pub(crate) key: i64,
    pub(crate) start: i64,
    pub(crate) value: i64,
}

pub(crate) fn result(key: i64, window: Window, value: i64) -> Result {
    Result {
        key,
        start: window.start.millis(),
        value,
    }
}

/// Every kind of state, with results that depend on no more than which rows are before a time; a timer at the end of each
/// bucket, and one far away that every row moves.
struct Everything {
    sum: ReducingState<i64>,
    squares: AggregatingState<Squares>,
    recent: ListState<Event>,
    buckets: MapState<i64, i64>,
    alarm: ValueState<i64>,
}

/// The sum of squares, as text.
pub(crate) struct Squares;

impl AggregateFunction for Squares {
    type In = i64;
    type Acc = i64;
    type Out = String;

    fn create(&self) -> i64 {
        0
    }

    fn add(&self, sum: &mut i64, value: i64) {
        *sum += value * value;
    }

    fn finish(&self, sum: &i64) -> String {
        sum.to_string()
    }
}

const BUCKET_MS: i64 = 100;

const FAR_MS: i64 = 1_000_000;

impl KeyedProcess for Everything {
    type In = Event;
    type Key = i64;
    type Out = Result;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        let end = event.time.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS;
        if self.buckets.insert(end, event.time).is_none() {
            cx.set_event_timer(Timestamp::from_millis(end));
        }
        let alarm = FAR_MS + event.value;
        if let Some(before) = self.alarm.get() {
            cx.delete_event_timer(Timestamp::from_millis(before));
        }
        self.alarm.set(alarm);
        cx.set_event_timer(Timestamp::from_millis(alarm));
        self.sum.add(event.value);
        self.squares.add(event.value);
        self.recent.push(event.clone());
        if event.value % 2 == 1 {
            cx.side(&ODD, event);
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let end = timer.time.millis();
        let value = if end < FAR_MS {
            self.buckets.remove(&end);
            let (before, after) = self.recent.take().into_iter().partition(|event| event.time < end);
            self.recent.set(after);
            before.iter().map(|event: &Event| event.value).sum()
        } else {
            self.alarm.clear();
            let squares = self.squares.take().expect("rows were added");
            self.sum.take().unwrap_or_default() + squares.len() as i64
        };
        cx.push(Result {
            key: timer.key,
            start: end,
            value,
        });
    }
}

/// A folder for each.
pub(crate) struct Outputs<'p>(pub(crate) &'p str);

impl Outputs<'_> {
    pub(crate) fn put<C: Chain>(&self, name: &str, stream: Stream<C>) {
        stream.sink(name, Files::to_ndjson(format!("{}/{name}", self.0)));
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "mix % 50")
        .column("value", "index")
        .column("time", "index");
    // A row in nine is out of order, and some are too late.
    let delay = |event: &Event| if event.value % 9 == 0 { event.value % 64 } else { 0 };
    let events = flow.source("events", generator).map(move |event: Event| Event {
        time: event.time - delay(&event),
        ..event
    });
    let events = events.share();
    let outputs = Outputs(&params.output);
    if params.kind == "clock" {
        return super::guest_windows::clock(&events, &outputs);
    }
    stateless(&events, &outputs);
    rolling(&events, &outputs);
    super::operator_state::lists(&events, &outputs);
    let timed = events.watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_millis(64)));
    windows(&timed, &outputs);
    late(&timed, &outputs);
    super::guest_windows::build(&timed, &outputs);
    let processed = timed.key_by(Event::FIELDS.key).process(|setup| Everything {
        sum: setup.reducing_state("sum", |sum, value| *sum += value),
        squares: setup.aggregating_state("squares", Squares),
        recent: setup.list_state("recent"),
        buckets: setup.map_state("buckets"),
        alarm: setup.value_state("alarm"),
    });
    outputs.put("odd", processed.side_output(&ODD));
    outputs.put("process", processed);
}

fn stateless(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let events = || events.clone();
    outputs.put("filter", events().filter(|event| event.value % 5 == 0));
    outputs.put(
        "flat_map",
        events().flat_map(|event: Event, out: &mut Out<'_, Event>| {
            for time in 0..event.value % 3 {
                out.push(Event { time, ..event });
            }
        }),
    );
    outputs.put(
        "try_map",
        events()
            .try_map(|event: Event| match event.value % 11 {
                0 => Err("a multiple of eleven"),
                _ => Ok(event),
            })
            .on_reject(Reject::Skip),
    );
    outputs.put(
        "broadcast",
        events().broadcast().map(|event: Event| event).parallelism(2),
    );
    outputs.put("global", events().global().map(|event: Event| event));
    outputs.put(
        "rebalance",
        events().rebalance().map(|event: Event| event).parallelism(3),
    );
    outputs.put("rescale", events().rescale().map(|event: Event| event).parallelism(3));
    outputs.put("shuffle", events().shuffle().map(|event: Event| event).parallelism(2));
    outputs.put(
        "partition_custom",
        events()
            .partition_custom(|event: &Event| event.key as u32)
            .map(|event: Event| event)
            .start_new_chain()
            .map(|event: Event| event),
    );
    outputs.put("union", events().filter(|event| event.key < 9).union(events()));
}

fn rolling(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    let value = || Event::FIELDS.value;
    outputs.put("count", keyed().count());
    outputs.put("sum", keyed().sum(value()));
    outputs.put("min", keyed().min(Event::FIELDS.time));
    outputs.put("max", keyed().max(value()));
    outputs.put("min_by", keyed().min_by(Event::FIELDS.time));
    outputs.put("max_by", keyed().max_by(value()));
    outputs.put(
        "reduce",
        keyed().reduce(|all: &mut Event, event: Event| all.value = all.value * 3 % 1_000_003 + event.value),
    );
    outputs.put(
        "computed",
        events
            .clone()
            .key_by(|event: &Event| (event.key % 7, event.key.to_string()))
            .count(),
    );
}

fn windows(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    let tumbling = || keyed().window(Tumbling::of(Duration::from_millis(200)));
    let sliding = || keyed().window(Sliding::of(Duration::from_millis(300), Duration::from_millis(100)));
    let sessions = || keyed().window(Session::gap(Duration::from_millis(60)));
    outputs.put("tumbling-count", tumbling().count());
    outputs.put("tumbling-max", tumbling().max(Event::FIELDS.value));
    let most = |most: Windowed<i64, Event>| Result {
        key: most.key,
        start: most.start.millis(),
        value: most.value.value,
    };
    let value = Event::FIELDS.value;
    outputs.put("tumbling-max_by", tumbling().max_by(value).map(most));
    outputs.put("sliding-min_by", sliding().min_by(value).map(most));
    outputs.put("two-phase-min_by", sliding().two_phase().min_by(value).map(most));
    outputs.put("salted-min_by", sliding().salted(3).min_by(value).map(most));
    outputs.put("sliding-sum", sliding().sum(Event::FIELDS.value));
    outputs.put(
        "sliding-reduce",
        sliding().reduce(
            |all: &mut Event, event: Event| all.value += event.value,
            |key, window, all: &Event| result(key, window, all.value),
        ),
    );
    outputs.put("two-phase-count", tumbling().two_phase().count());
    outputs.put("two-phase-sum", sliding().two_phase().sum(Event::FIELDS.value));
    outputs.put("salted-count", tumbling().salted(3).count());
    outputs.put("salted-sum", sliding().salted(3).sum(Event::FIELDS.value));
    let uneven = Sliding::of(Duration::from_millis(250), Duration::from_millis(100)).offset(Duration::from_millis(30));
    outputs.put("uneven-count", keyed().window(uneven).count());
    outputs.put("two-phase-uneven", keyed().window(uneven).two_phase().count());
    outputs.put("salted-uneven", keyed().window(uneven).salted(3).count());
    let apart = Sliding::of(Duration::from_millis(50), Duration::from_millis(120)).offset(Duration::from_millis(10));
    outputs.put("apart-count", keyed().window(apart).count());
    outputs.put("two-phase-apart", keyed().window(apart).two_phase().count());
    outputs.put("salted-apart", keyed().window(apart).salted(3).count());
    outputs.put("session-min", sessions().min(Event::FIELDS.value));
    outputs.put(
        "session-process",
        sessions().process(|key, window, rows: &[Event], out: &mut Out<'_, Result>| {
            out.push(result(key, window, rows.iter().map(|row| row.value).sum()));
        }),
    );
}

fn late(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    // Held back by nothing, so that which rows are late depends on rows alone: none is within the bound.
    let windows = events
        .clone()
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(50)).offset(Duration::from_millis(7)))
        .allowed_lateness(Duration::from_millis(10))
        .late_output(&LATE)
        .count();
    outputs.put("late", windows.side_output(&LATE));
    outputs.put("lateness", windows);
}
