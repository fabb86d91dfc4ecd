//! Every kind of state, of a file that may grow: what is held can be asked for while nothing comes, and compared.

use millrace::prelude::*;

use super::groups::placed;
use super::{Event, Params};

/// All kinds of state of a key, and timers that are far away.
struct Kinds {
    sum: ValueState<i64>,
    last: ListState<i64>,
    by: MapState<String, i64>,
    large: LargeMap<i64, i64>,
    items: LargeList<i64>,
    fresh: ValueState<i64>,
}

const FAR_MS: i64 = 4_000_000_000_000;

impl KeyedProcess for Kinds {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        self.sum.update(|sum| *sum += event.value);
        self.last.update(|last| {
            last.push(event.value);
            last.drain(..last.len().saturating_sub(3));
        });
        self.by.insert(format!("m{}", event.value % 3), event.value);
        self.large.insert(event.value, event.time);
        self.items.push(event.value);
        self.fresh.set(event.value);
        cx.set_event_timer(Timestamp::from_millis(FAR_MS + event.value % 5));
        cx.set_processing_timer(Timestamp::from_millis(FAR_MS));
    }
}

/// What came without a key.
struct Kept {
    values: ListState<i64>,
}

impl StatefulProcess for Kept {
    type In = Event;
    type Out = Event;

    fn process(&mut self, event: Event, _out: &mut Out<'_, Event>) {
        self.values.push(event.value);
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let source = Files::ndjson::<Event>(&params.input)
        .follow()
        .scan_interval(Duration::from_millis(20));
    let events = flow.source("events", source).uid("events");
    // Nothing fires.
    let watermarks = Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(1_000_000));
    let events = events.watermarks(watermarks).uid("watermarks").share();
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    let kinds = keyed()
        .process(|setup| {
            let fresh = setup.value_state("fresh");
            setup.ttl(&fresh, Ttl::after(Duration::from_secs(100_000)));
            Kinds {
                sum: setup.value_state("sum"),
                last: setup.list_state("last"),
                by: setup.map_state("by"),
                large: setup.large_map("large"),
                items: setup.large_list("items"),
                fresh,
            }
        })
        .uid("kinds");
    placed(kinds, params, "kinds").sink("kinds-out", Discard::new());
    let value = Event::FIELDS.value;
    let tumbling = keyed().window(Tumbling::of(Duration::from_millis(1_000)));
    tumbling.sum(value).uid("tumbling").sink("tumbling-out", Discard::new());
    let sliding = keyed().window(Sliding::of(Duration::from_millis(1_000), Duration::from_millis(500)));
    sliding.count().uid("sliding").sink("sliding-out", Discard::new());
    let sessions = keyed().window(Session::gap(Duration::from_millis(50)));
    placed(sessions.max(value).uid("sessions"), params, "sessions").sink("sessions-out", Discard::new());
    placed(keyed().count().uid("counts"), params, "counts").sink("counts-out", Discard::new());
    let kept = events
        .rebalance()
        .process_with_state(|setup| Kept {
            values: setup.list_state("values"),
        })
        .uid("kept");
    placed(kept, params, "kept").sink("kept-out", Discard::new());
}
