//! Joins: late outputs, bounds, what waits for partners and until when.

use millrace::bindings::dataflow::Head;
use millrace::bindings::operators::TimerKind;
use millrace::harness::{Harness, block, keys, timed_block};
use millrace::join::{Inner, JoinedStreams, Left};
use millrace::prelude::*;

use crate::{Event, Word, event, events, word};

static LATE: OutputTag<Event> = OutputTag::new("late");
static LATE_WORDS: OutputTag<Word> = OutputTag::new("late");

fn keyed(flow: &Flow, name: &str) -> KeyedStream<Event, i64> {
    let events: Stream<Rows<Event>> = flow.source(name, Generator::new());
    events.key_by(Event::FIELDS.key)
}

fn joined(flow: &Flow) -> JoinedStreams<Event, Event, i64, Inner> {
    keyed(flow, "first").join(keyed(flow, "second"))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn rows_of_a_window_are_kept_by_side() {
    let mut harness = Harness::build(|flow| {
        let windows = joined(flow).window(Tumbling::of(ms(10)));
        let joined = windows.late_outputs(&LATE, &LATE);
        let joined = joined.apply(|first, second| (first.value, second.value));
        joined.side_output(&LATE).sink("late", Discard::new());
        joined.sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chain = &harness.graph().chains[0];
    let Head::Window(head) = &chain.head else {
        panic!("the head is windowed");
    };
    // Tags of one name are one output.
    assert_eq!(head.window.late_ports, [Some(0), Some(0)]);
    assert_eq!((chain.inputs.len(), chain.ports.len()), (2, 2));
    harness.accumulate_input(0, 0, &[3, 3, 4], &block([event(1, 1), event(1, 2), event(2, 9)]));
    harness.accumulate_input(0, 1, &[3, 5], &block([event(1, 10), event(1, 20)]));
    harness.merge(0, &[3], &[5]);
    let exported = harness.export_block(0, 0, &[3, 4, 6]);
    harness.drop_state(0, &[3, 4, 5]);
    harness.import_block(0, 0, &[7, 8, 9], &exported);
    let windows = [(0, 10), (0, 10), (0, 10), (0, 10)];
    let called = harness.emit(0, &[3, 7, 8, 9], &windows, &keys([0i64, 1, 2, 3]), true);
    assert_eq!(called.rows::<(i64, i64)>(1), [(1, 10), (1, 20), (2, 10), (2, 20)]);
    let again = harness.emit(0, &[7], &[(0, 10)], &keys([1i64]), true);
    assert!(again.rows::<(i64, i64)>(1).is_empty());
}

#[test]
fn outputs_of_late_rows_with_one_name_have_one_type() {
    let error = Harness::build(|flow| {
        let words: Stream<Rows<Word>> = flow.source("words", Files::csv("words.csv"));
        let grouped = events(flow)
            .key_by(Event::FIELDS.key)
            .co_group(words.key_by(Word::FIELDS.n));
        let windows = grouped.window(Session::gap(ms(1))).late_outputs(&LATE, &LATE_WORDS);
        let counted = windows.apply(|key, _, _: &[Event], words: &[Word], out: &mut Out<'_, Word>| {
            out.push(word("", key + words.len() as i64));
        });
        counted.sink("out", Discard::new());
    });
    let error = error.expect_err("the types differ");
    assert!(error.contains("the same tag and different types"), "{error}");
}

#[test]
fn rows_without_event_time_are_not_joined_by_it() {
    let error = Harness::build(|flow| {
        let joined = joined(flow).between(TimeBound::before(ms(1)), TimeBound::after(ms(1)));
        joined.apply(|first, _| (first.key,)).sink("out", Discard::new());
    });
    let error = error.expect_err("there is no event time");
    assert!(error.contains("goes by event time"), "{error}");
}

#[test]
fn empty_intervals_are_refused() {
    let error = Harness::build(|flow| {
        let bound = TimeBound::after(ms(1));
        let joined = joined(flow).between(bound, bound.exclusive());
        joined.apply(|first, _| (first.key,)).sink("out", Discard::new());
    });
    let error = error.expect_err("nothing is between them");
    assert!(error.contains("the interval is empty"), "{error}");
}

/// Rows of one key with their times, as slot 0.
fn run(harness: &mut Harness, input: u32, rows: &[(i64, i64)]) -> millrace::harness::Called {
    let slots = vec![0; rows.len()];
    harness.process_input(
        0,
        input,
        &slots,
        &timed_block(rows.iter().map(|&(time, value)| (time, event(7, value)))),
    )
}

#[test]
fn rows_wait_for_partners_as_long_as_some_may_come() {
    let build = |flow: &Flow| {
        let timed = |name| {
            let events: Stream<Rows<Event>> = flow.source(name, Generator::new());
            let events = events.watermarks(Watermarks::monotonic(Event::FIELDS.value));
            events.key_by(Event::FIELDS.key)
        };
        let left: JoinedStreams<Event, Event, i64, Left> = timed("first").left_join(timed("second"));
        let between = left.between(TimeBound::before(ms(2)), TimeBound::after(ms(16)));
        let joined = between.late_outputs(&LATE, &LATE);
        let joined = joined.apply(|first, second| (first.value, second.map_or(-1, |second| second.value)));
        joined.side_output(&LATE).sink("late", Discard::new());
        joined.sink("out", Discard::new());
    };
    let mut harness = Harness::build_with(build, |config| (config.time_in, config.time_out) = (true, true))
        .expect("the flow is right");
    harness.at.watermark = 99;
    let called = run(&mut harness, 0, &[(110, 1), (104, 2), (99, 3)]);
    // The last is late; the others wait exactly until no partner can come.
    assert_eq!(called.timers(), [(0, 126, 0), (1, 120, 0)]);
    assert_eq!(called.timed::<Event>(0), [(99, event(7, 3))]);
    // Of those that are not put out alone, the first has a timer for all.
    let called = run(&mut harness, 1, &[(108, 10), (107, 20), (103, 30)]);
    assert_eq!(called.timers(), [(0, 110, 0)]);
    let expected = [(110, (1, 10)), (108, (2, 10)), (107, (2, 20)), (104, (2, 30))];
    assert_eq!(
        called.timed::<(i64, i64)>(1),
        [expected[1], expected[0], expected[2], expected[3]]
    );
    // When it fires it is set anew for those that are left, if there are any.
    harness.at.watermark = 109;
    let called = harness.timers(0, TimerKind::EventTime, &[0], &[109], &keys([7i64]));
    assert_eq!(called.timers(), [(0, 110, 0)]);
    let called = run(&mut harness, 0, &[(130, 4)]);
    assert!(called.timed::<(i64, i64)>(1).is_empty());
    harness.at.watermark = 200;
    for (time, alone) in [(120, None), (126, None), (146, Some((146, (4, -1))))] {
        let called = harness.timers(0, TimerKind::EventTime, &[0], &[time], &keys([7i64]));
        assert_eq!(called.timed::<(i64, i64)>(1), Vec::from_iter(alone), "{time}");
    }
}
