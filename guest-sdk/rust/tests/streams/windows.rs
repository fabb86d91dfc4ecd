//! Windows: accumulating, merging, firing, state.

use millrace::bindings::dataflow::{Head, StateKind, WindowAssigner};
use millrace::harness::{Called, Harness, block, keys, round_trip};
use millrace::prelude::*;
use millrace::window::{TwoPhaseWindows, WindowFunction, WindowHead};

use crate::{Event, event, events};

type Windows = WindowedStream<Event, i64>;

static LATE: OutputTag<Event> = OutputTag::new("late");

fn harness<W>(function: fn(Windows) -> Stream<WindowHead<W>>) -> Harness
where
    W: WindowFunction<In = Event, Key = i64>,
{
    let build = |flow: &Flow| {
        let windows = events(flow)
            .key_by(Event::FIELDS.key)
            .window(Tumbling::of(Duration::from_secs(10)));
        function(windows).sink("out", Discard::new());
    };
    Harness::build_with(build, |config| config.time_out = true).expect("the flow is right")
}

/// Accumulates 1 + 2 + 3 in slot 4 and 10 in slot 5000, and fires both.
fn fired<W>(function: fn(Windows) -> Stream<WindowHead<W>>) -> (Harness, Called)
where
    W: WindowFunction<In = Event, Key = i64>,
{
    let mut harness = harness(function);
    let rows = [event(7, 1), event(8, 10), event(7, 2), event(7, 3)];
    let called = harness.accumulate(0, &[4, 5000, 4, 4], &block(rows));
    assert!(called.result.outputs.is_empty());
    assert_eq!(called.result.emitted, [0]);
    assert!(called.result.live_bytes[0] > 0);
    let windows = [(0, 10_000), (10_000, 20_000)];
    let called = harness.emit(0, &[4, 5000], &windows, &keys([7i64, 8]), false);
    (harness, called)
}

/// The result of a ready-made aggregate.
fn result<V>(key: i64, start: i64, value: V) -> (i64, Windowed<i64, V>) {
    let windowed = Windowed {
        key,
        start: Timestamp::from_millis(start),
        end: Timestamp::from_millis(start + 10_000),
        value,
    };
    (start + 9_999, windowed)
}

#[test]
fn ready_made_aggregates() {
    let (_, called) = fired(|windows| windows.sum(Event::FIELDS.value));
    assert_eq!(
        called.timed::<Windowed<i64, i64>>(0),
        [result(7, 0, 6), result(8, 10_000, 10)]
    );
    assert_eq!(called.result.emitted, [2]);
    let (_, called) = fired(WindowedStream::count);
    assert_eq!(
        called.timed::<Windowed<i64, i64>>(0),
        [result(7, 0, 3), result(8, 10_000, 1)]
    );
    let (_, called) = fired(|windows| windows.min(Event::FIELDS.value));
    assert_eq!(
        called.timed::<Windowed<i64, i64>>(0),
        [result(7, 0, 1), result(8, 10_000, 10)]
    );
    let (_, called) = fired(|windows| windows.max(Event::FIELDS.value));
    assert_eq!(
        called.timed::<Windowed<i64, i64>>(0),
        [result(7, 0, 3), result(8, 10_000, 10)]
    );
}

/// Keys stand for what else is in a row.
#[test]
fn rows_with_extreme_values() {
    let rows = || block([(1, 5), (2, 3), (3, 9), (4, 3), (5, 9)].map(|(key, value)| event(key, value)));
    let check = |harness: &mut Harness, least: Event| {
        harness.accumulate(0, &[4; 5], &rows());
        harness.accumulate(0, &[9], &block([event(6, least.value)]));
        harness.merge(0, &[4, 5], &[9, 4]);
        let called = harness.emit(0, &[5, 6], &[(0, 10_000), (0, 10_000)], &keys([7i64, 8]), true);
        assert_eq!(called.timed::<Windowed<i64, Event>>(0), [result(7, 0, least.clone())]);
        assert_eq!(called.result.emitted, [1], "a window without rows has no result");
        assert_eq!(harness.export::<Event>(0, 0, &[4, 5]), [Some(least), None]);
    };
    check(&mut harness(|windows| windows.min_by(Event::FIELDS.value)), event(2, 3));
    check(&mut harness(|windows| windows.max_by(Event::FIELDS.value)), event(3, 9));
}

#[test]
fn aggregates_by_functions() {
    let (mut harness, called) = fired(|windows| {
        windows.aggregate_with(
            || (0i64, 0i64),
            |(sum, rows), event| {
                *sum += event.value;
                *rows += 1;
            },
            |(sum, rows), other| {
                *sum += other.0;
                *rows += other.1;
            },
            |key, window, &(sum, rows)| event(key + window.length().as_millis() as i64, sum * 100 + rows),
        )
    });
    assert_eq!(
        called.rows_of_time::<Event>(0),
        [event(10_007, 603), event(10_008, 1001)]
    );
    harness.merge(0, &[5000, 9], &[4, 5000]);
    assert_eq!(
        harness.export::<(i64, i64)>(0, 0, &[9, 5000, 4]),
        [Some((16, 4)), Some((16, 4)), Some((6, 3))]
    );
}

#[test]
fn reductions() {
    let (mut harness, called) = fired(|windows| {
        windows.reduce(
            |kept, event| kept.value = kept.value * 10 + event.value,
            |key, window, kept| event(key, kept.value + window.start.millis()),
        )
    });
    assert_eq!(called.rows_of_time::<Event>(0), [event(7, 123), event(8, 10_010)]);
    harness.merge(0, &[4, 1], &[5000, 2]);
    assert_eq!(harness.export::<Event>(0, 0, &[4, 1]), [Some(event(7, 1240)), None]);
}

#[test]
fn collected_rows() {
    let (mut harness, called) = fired(|windows| {
        windows.process(|key, _window, rows, out: &mut Out<'_, Event>| {
            for row in rows.iter().rev() {
                out.push(event(key, row.value));
            }
        })
    });
    let expect = [event(7, 3), event(7, 2), event(7, 1), event(8, 10)];
    assert_eq!(called.rows_of_time::<Event>(0), expect);
    assert_eq!(called.result.emitted, [4]);
    let before = harness.accumulate(0, &[4], &block([event(7, 4)])).result.live_bytes;
    assert_eq!(before, [16]);
    harness.drop_state(0, &[4]);
    let after = harness.accumulate(0, &[5000], &block([event(7, 4)])).result.live_bytes;
    assert_eq!(after, [-4 * 16 + 16]);
}

/// Sums up, by way of the trait.
struct SumOf;

impl Aggregate for SumOf {
    type In = Event;
    type Key = i64;
    type Acc = i64;
    type Out = Event;

    fn create(&self) -> i64 {
        1000
    }

    fn add(&self, acc: &mut i64, row: Event) {
        *acc += row.value;
    }

    fn merge(&self, acc: &mut i64, other: &i64) {
        *acc += other - 1000;
    }

    fn finish(&self, key: i64, _window: Window, acc: &i64) -> Event {
        event(key, *acc)
    }
}

#[test]
fn aggregates_by_type() {
    let (mut harness, called) = fired(|windows| windows.aggregate(SumOf));
    assert_eq!(called.rows_of_time::<Event>(0), [event(7, 1006), event(8, 1010)]);
    harness.merge(0, &[4], &[5000]);
    let called = harness.emit(0, &[4, 5000], &[(0, 1), (0, 1)], &keys([7i64, 8]), true);
    assert_eq!(called.rows_of_time::<Event>(0), [event(7, 1016), event(8, 1010)]);
    let called = harness.emit(0, &[4], &[(0, 1)], &keys([7i64]), false);
    assert_eq!(
        called.rows_of_time::<Event>(0),
        [event(7, 1000)],
        "it was dropped after it fired"
    );
}

#[test]
fn accumulators_move_to_another_instance() {
    let (mut harness, _) = fired(|windows| windows.sum(Event::FIELDS.value));
    let exported = round_trip(harness.export_block(0, 0, &[4, 5000]));
    let mut other = self::harness(|windows| windows.sum(Event::FIELDS.value));
    other.import_block(0, 0, &[1, 2], &exported);
    let called = other.emit(0, &[2, 1], &[(0, 10_000), (0, 10_000)], &keys([8i64, 7]), false);
    assert_eq!(
        called.timed::<Windowed<i64, i64>>(0),
        [result(8, 0, 10), result(7, 0, 6)]
    );
}

#[test]
fn windows_are_in_the_graph() {
    let harness = Harness::build(|flow| {
        let totals = events(flow)
            .watermarks(Watermarks::bounded(Event::FIELDS.value, Duration::from_secs(1)))
            .key_by(Event::FIELDS.key)
            .window(Sliding::of(Duration::from_secs(10), Duration::from_secs(2)).offset(Duration::from_secs(1)))
            .allowed_lateness(Duration::from_secs(60))
            .late_output(&LATE)
            .sum(Event::FIELDS.value)
            .uid("totals");
        totals.side_output(&LATE).sink("late", Discard::new());
        totals.sink("out", Discard::new());
    })
    .expect("the flow is right");
    let graph = harness.graph();
    let Head::Window(head) = &graph.chains[0].head else {
        panic!("the head is a window");
    };
    let WindowAssigner::Sliding(sliding) = &head.window.assigner else {
        panic!("the window slides");
    };
    assert_eq!(
        (sliding.size_ms, sliding.slide_ms, sliding.offset_ms),
        (10_000, 2_000, 1_000)
    );
    assert_eq!(
        (head.window.allowed_lateness_ms, head.window.late_ports.as_slice()),
        (60_000, [Some(0)].as_slice())
    );
    assert!(matches!(head.accumulator.kind, StateKind::Accumulator));
    assert_eq!(graph.chains[0].ports[0].side.as_deref(), Some("late"));
    assert_eq!(graph.chains[0].ports[1].side, None);
    let late = graph
        .edges
        .iter()
        .find(|edge| edge.to_operator == harness.operator("late"))
        .expect("it is taken");
    assert_eq!(
        (late.from_operator, late.from_port),
        (harness.operator("window.sum"), 0)
    );
}

#[test]
fn impossible_windows_are_refused() {
    let check = |window: fn(KeyedStream<Event, i64>) -> Windows, expect: &str| {
        let built = Harness::build(|flow| {
            window(events(flow).key_by(Event::FIELDS.key))
                .count()
                .sink("out", Discard::new());
        });
        assert_eq!(built.expect_err("the window is impossible"), expect);
    };
    check(
        |keyed| keyed.window(Tumbling::of(Duration::from_micros(10))),
        "operator `window.count`: a window's size is at least 1 ms, not 10µs",
    );
    check(
        |keyed| keyed.window(Session::gap(Duration::ZERO)),
        "operator `window.count`: a session's gap is at least 1 ms, not 0ns",
    );
    check(
        |keyed| keyed.window(Sliding::of(Duration::from_secs(1), Duration::ZERO)),
        "operator `window.count`: a window's slide is at least 1 ms, not 0ns",
    );
}

#[test]
fn what_does_not_go_in_two_phases_is_refused() {
    let check = |window: fn(KeyedStream<Event, i64>) -> TwoPhaseWindows<Event, i64>, expect: &str| {
        let built = Harness::build(|flow| {
            window(events(flow).key_by(Event::FIELDS.key))
                .count()
                .sink("out", Discard::new());
        });
        assert_eq!(built.err().unwrap_or_default(), expect);
    };
    check(
        |keyed| keyed.window(Tumbling::of(Duration::from_secs(1))).two_phase(),
        "",
    );
    check(
        |keyed| keyed.window(Session::gap(Duration::from_secs(1))).two_phase(),
        "operator `window.count`: `two_phase` is for tumbling and sliding windows of event time",
    );
    check(
        |keyed| keyed.count_window(10).salted(3),
        "operator `window.count salted` (`window.salted`): these windows never end: say with `trigger` when they fire\noperator `window.count`: `salted` \
         does not go with a trigger or an evictor",
    );
    check(
        |keyed| {
            keyed
                .window(Tumbling::of(Duration::from_secs(1)).processing_time())
                .salted(3)
        },
        "operator `window.count`: `salted` is for tumbling and sliding windows of event time",
    );
    check(
        |keyed| {
            let windows = keyed.window(Tumbling::of(Duration::from_secs(1)));
            windows.allowed_lateness(Duration::from_secs(1)).salted(3)
        },
        "operator `window.count`: `salted` does not go with allowed lateness; `two_phase` does",
    );
    check(
        |keyed| {
            keyed
                .window(Tumbling::of(Duration::from_secs(1)))
                .late_output(&LATE)
                .two_phase()
        },
        "operator `window.count`: `two_phase` has no side output of late rows",
    );
}

#[test]
fn the_first_phase_has_a_name_of_its_own() {
    let harness = Harness::build(|flow| {
        let windows = events(flow)
            .key_by(Event::FIELDS.key)
            .window(Tumbling::of(Duration::from_secs(1)));
        windows.salted(4).count().uid("counts").sink("out", Discard::new());
    });
    let harness = harness.expect("the flow is right");
    let uids = harness
        .graph()
        .operators
        .iter()
        .filter_map(|operator| operator.uid.as_deref());
    assert_eq!(uids.collect::<Vec<_>>(), ["counts-salted", "counts"]);
}
