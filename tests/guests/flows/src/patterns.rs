//! Patterns of every kind over rows that come out of order, each with a sink of its own. Rows are generated, or those of `input`.

use millrace::prelude::*;

use super::poison::{self, Poison};
use super::{Event, Params};

/// A match: the values of its rows, with the first letters of their stages.
#[derive(Record, Clone, Debug)]
struct Found {
    key: i64,
    at: i64,
    rows: String,
}

static LATE: OutputTag<Event> = OutputTag::new("late");
static TIMED_OUT: OutputTag<Found> = OutputTag::new("timed-out");

fn found(found: &millrace::pattern::Match<'_, '_, Event, i64>) -> Found {
    let rows = found
        .iter()
        .map(|(stage, event)| format!("{}{}", &stage[..1], event.value));
    Found {
        key: found.key(),
        at: found.time().millis(),
        rows: rows.collect::<Vec<_>>().join(" "),
    }
}

fn kind(event: &Event) -> i64 {
    event.value * 7919 % 13
}

/// Three steps, the second of which must not be interrupted.
fn steps() -> Pattern<Event> {
    Pattern::<Event>::begin("a")
        .where_(|event| kind(event) < 4)
        .next("b")
        .where_(|event| kind(event) >= 4)
        .followed_by("c")
        .where_(|event| kind(event) == 2)
        .or(|event| kind(event) == 12)
        .within(Duration::from_millis(400))
}

fn loops() -> Pattern<Event> {
    Pattern::<Event>::begin("a")
        .where_(|event| kind(event) < 3)
        .followed_by("b")
        .where_(|event| kind(event) > 5)
        .one_or_more()
        .greedy()
        .until(|event| kind(event) == 4)
        .followed_by("c")
        .where_(|event| kind(event) == 3)
        .within(Duration::from_millis(600))
        .after_match(AfterMatch::SkipPastLast)
}

fn quiet() -> Pattern<Event> {
    Pattern::<Event>::begin("a")
        .where_(|event| kind(event) == 1)
        .followed_by_any("b")
        .where_(|event| kind(event) > 8)
        .not_followed_by("n")
        .where_(|event| kind(event) == 0)
        .within(Duration::from_millis(200))
}

fn rising() -> Pattern<Event> {
    Pattern::<Event>::begin("a")
        .where_(|event| kind(event) < 5)
        .followed_by("b")
        .where_iterative(|event, before| {
            before
                .last("b")
                .or(before.last("a"))
                .is_some_and(|last| kind(&last) < kind(event))
        })
        .times_or_more(2)
        .consecutive()
        .next("c")
        .where_iterative(|event, before| before.rows("b").any(|other| kind(&other) == kind(event)))
        .within(Duration::from_millis(500))
}

fn groups() -> Pattern<Event> {
    let pair = Pattern::<Event>::begin("b")
        .where_(|event| kind(event) % 2 == 0)
        .not_next("n")
        .where_(|event| kind(event) == 7)
        .followed_by("c")
        .where_(|event| kind(event) % 3 == 0)
        .optional();
    Pattern::<Event>::begin("a")
        .where_(|event| kind(event) == 5)
        .followed_by_group(pair)
        .times(2)
        .within(Duration::from_millis(300))
        .after_match(AfterMatch::SkipToNext)
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let keys = params.keys;
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {keys}"))
        .column("value", "index")
        .column("time", "index / 2");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    let events: Stream<Rows<Event>> = match params.input.as_str() {
        "" => flow.source("events", generator),
        input => flow.source("events", Files::ndjson(input)),
    };
    let events = events
        .uid("source")
        .map(|event: Event| Event {
            time: event.time - event.value * 7919 % 40,
            ..event
        })
        .watermarks(Watermarks::bounded(
            Event::FIELDS.time,
            Duration::from_millis(40) + params.disorder,
        ))
        .uid("events");
    let sink = |name: &str| Files::to_ndjson(format!("{}/{name}", params.output));
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    for (name, pattern) in [
        ("loops", loops()),
        ("quiet", quiet()),
        ("rising", rising()),
        ("groups", groups()),
    ] {
        keyed().pattern(pattern).select(found).uid(name).sink(name, sink(name));
    }
    keyed()
        .pattern(steps())
        .order_equal_times_by(|event| (kind(event), event.value))
        .select(found)
        .uid("ordered")
        .sink("ordered", sink("ordered"));
    let steps = keyed()
        .pattern(steps())
        .late_output(&LATE)
        .timed_out(&TIMED_OUT, found)
        .flat_select(|m, out: &mut Out<'_, Found>| out.push(found(m)))
        .uid("steps");
    steps.side_output(&LATE).sink("late", sink("late"));
    steps.side_output(&TIMED_OUT).sink("timed-out", sink("timed-out"));
    steps.sink("steps", sink("steps"));
}

/// Conditions that trap on some rows, and matches of which nothing can be made. `poison` says which, and what a spared job is.
pub(crate) fn traps(flow: &Flow, params: &Params) {
    let poison = Poison::new(params);
    let (begins, goes_on, ends) = (poison.clone(), poison.clone(), poison.clone());
    let steps = Pattern::<Event>::begin("a")
        .where_(move |event| {
            assert!(!begins.is("condition", event.value), "row {} is no event", event.value);
            event.value % 3 == 0
        })
        .followed_by("b")
        .where_iterative(move |event, before| {
            assert!(
                !goes_on.is("iterative", event.value),
                "row {} follows nothing",
                event.value
            );
            before.last("a").is_some_and(|first| first.value % 5 <= event.value % 7)
        })
        .within(Duration::from_millis(200));
    // Rows of equal time have different keys: their order is up to the sources.
    poison::only(poison::events(flow, params), &poison, &["condition", "iterative"])
        .key_by(|event: &Event| event.value % 97)
        .pattern(steps)
        .flat_select(move |m, out: &mut Out<'_, Found>| {
            let last = m.last("b").map_or(0, |event| event.value);
            if ends.is("select", last) {
                assert!(ends.spared, "nothing comes of row {last}");
                return;
            }
            out.push(found(m));
        })
        .uid("steps")
        .sink("found", Files::to_csv(&params.output));
}

/// Every row begins a match; the last row ends those that the bound has left.
pub(crate) fn bounded(flow: &Flow, params: &Params) {
    let last = params.rows - 1;
    let pattern = Pattern::<Event>::begin("a")
        .followed_by_any("b")
        .where_(move |event| event.value == last);
    poison::events(flow, params)
        .key_by(Event::FIELDS.key)
        .pattern(pattern)
        .partial_matches_max(10)
        .select(found)
        .sink("found", Files::to_ndjson(&params.output));
}

/// Each two rows of a key that follow each other. Rows of equal time do so in the order of their values, as their kinds say.
pub(crate) fn ordered(flow: &Flow, params: &Params) {
    flow.source("events", Files::ndjson::<Event>(&params.input))
        .watermarks(Watermarks::bounded(Event::FIELDS.time, params.disorder))
        .key_by(Event::FIELDS.key)
        .pattern(Pattern::<Event>::begin("a").next("b"))
        .order_equal_times_by(|event| (std::cmp::Reverse(kind(event)), event.value))
        .select(found)
        .uid("pairs")
        .sink("pairs", Files::to_ndjson(&params.output));
}

static OVER: OutputTag<Found> = OutputTag::new("over");

/// Without event time: rows are matched as they come, and the clock ends what takes too long.
pub(crate) fn clock(flow: &Flow, params: &Params) {
    let generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "mix % 1")
        .column("value", "index")
        .column("time", "index")
        .rate(params.rate as u64);
    let events = flow.source("events", generator).key_by(Event::FIELDS.key);
    let steps = Pattern::<Event>::begin("a")
        .where_(|event| event.value % 3 == 0)
        .next("b")
        .where_(|event| event.value % 3 == 1)
        .followed_by("c")
        .where_(|event| event.value % 30 == 5)
        .within(Duration::from_millis(50));
    let found = events.pattern(steps).timed_out(&OVER, found).select(found);
    let sink = |name: &str| Files::to_ndjson(format!("{}/{name}", params.output));
    found.side_output(&OVER).sink("over", sink("over"));
    found.sink("found", sink("found"));
}
