//! Joins and co-groups in windows of the guest, against the same model: a row with an even value is of the first stream, one
//! with an odd value of the second.

use millrace::bindings::dataflow::Head;
use millrace::harness::{Harness, timed_block};
use millrace::prelude::*;

use super::host::{Host, Outcome, Step};
use super::model::{Assign, Evict, Model, Outcomes, Setting, Timeout, When};
use super::{LATE, Own, Random, keyed, ms, outcome, run, timed_out};
use crate::{Event, Word, event, events, word};

type Row = TaggedUnion<Event, Event>;

fn either(row: &Row) -> &Event {
    match row {
        TaggedUnion::First(row) => {
            assert_eq!(row.value % 2, 0);
            row
        }
        TaggedUnion::Second(row) => {
            assert_eq!(row.value % 2, 1);
            row
        }
    }
}

impl WindowAssigner<Row> for Own {
    fn assign(&self, row: &Row, time: Timestamp, windows: &mut Vec<Window>) {
        WindowAssigner::<Event>::assign(self, either(row), time, windows);
    }
}

fn distance(from: &Row, to: &Row) -> f64 {
    (either(to).value - either(from).value) as f64
}

/// Windows of two streams as a setting says. Joins and co-groups have no type in common.
macro_rules! windowed {
    ($streams:expr, $setting:expr) => {{
        let (streams, setting) = ($streams, $setting);
        let gap = |row: &Row| ms(either(row).value % 10 + 1);
        let windows = match (setting.assign, setting.processing) {
            (Assign::Sliding(size, slide, offset), processing) => {
                let assigner = Sliding::of(ms(size), ms(slide)).offset(ms(offset));
                streams.window(if processing {
                    assigner.processing_time()
                } else {
                    assigner
                })
            }
            (Assign::Session(gap), processing) => {
                let assigner = Session::gap(ms(gap));
                streams.window(if processing {
                    assigner.processing_time()
                } else {
                    assigner
                })
            }
            (Assign::Dynamic, false) => streams.window(Session::dynamic(gap)),
            (Assign::Dynamic, true) => streams.window(Session::dynamic(gap).processing_time()),
            (Assign::Global, _) => streams.window(GlobalWindows),
            (Assign::Own, _) => streams.window(Own),
        };
        let windows = match (setting.when, setting.purging) {
            (When::End, _) => windows,
            (When::Count(rows, false), false) => windows.trigger(CountTrigger::of(rows as u64)),
            (When::Count(rows, false), true) => windows.trigger(PurgingTrigger::of(CountTrigger::of(rows as u64))),
            (When::Count(rows, true), false) => windows.trigger(CountTrigger::of(rows as u64).or_at_end()),
            (When::Count(rows, true), true) => {
                windows.trigger(PurgingTrigger::of(CountTrigger::of(rows as u64).or_at_end()))
            }
            (When::ContinuousEvent(interval), _) => windows.trigger(ContinuousEventTimeTrigger::of(ms(interval))),
            (When::ContinuousProcessing(interval), _) => {
                windows.trigger(ContinuousProcessingTimeTrigger::of(ms(interval)))
            }
            (When::Delta(threshold), _) => windows.trigger(DeltaTrigger::of(threshold, distance)),
            (When::Timeout(timeout), _) => match timeout.rows {
                Some(rows) => windows.trigger(timed_out(CountTrigger::of(rows as u64), timeout)),
                None if setting.processing => windows.trigger(timed_out(ProcessingTimeTrigger, timeout)),
                None => windows.trigger(timed_out(EventTimeTrigger, timeout)),
            },
        };
        let windows = match setting.evict {
            Evict::Nothing => windows,
            Evict::Count(rows) => windows.evictor(CountEvictor::of(rows as u64)),
            Evict::Time(age) => windows.evictor(TimeEvictor::of(ms(age))),
            Evict::Delta(threshold) => {
                let delta = |row: &Row, last: &Row| distance(last, row).abs();
                windows.evictor(DeltaEvictor::of(threshold, delta))
            }
        };
        windows
            .allowed_lateness(ms(setting.lateness))
            .late_outputs(&LATE, &LATE)
    }};
}

fn pair(first: Option<&Event>, second: Option<&Event>) -> Outcome {
    let key = first.or(second).map_or(-1, |row| row.key);
    let value = |row: Option<&Event>| row.map_or(-1, |row| row.value);
    (key, value(first), value(second), 0, 0)
}

/// Of values, in their order.
fn digest(values: impl Iterator<Item = i64>) -> i64 {
    values.fold(7, |digest, value| (digest * 31 + value) % 1_000_003)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
    CoGroup,
}

const KINDS: [Kind; 5] = [Kind::Inner, Kind::Left, Kind::Right, Kind::Full, Kind::CoGroup];

fn build(flow: &Flow, setting: Setting, kind: Kind) {
    let (first, second) = (keyed(flow), keyed(flow));
    match kind {
        Kind::Inner => windowed!(first.join(second), setting)
            .apply(|first, second| pair(Some(first), Some(second)))
            .sink("out", Discard::new()),
        Kind::Left => windowed!(first.left_join(second), setting)
            .apply(|first, second| pair(Some(first), second))
            .sink("out", Discard::new()),
        Kind::Right => windowed!(first.right_join(second), setting)
            .apply(|first, second| pair(first, Some(second)))
            .sink("out", Discard::new()),
        Kind::Full => windowed!(first.full_join(second), setting)
            .apply(pair)
            .sink("out", Discard::new()),
        Kind::CoGroup => windowed!(first.co_group(second), setting)
            .apply(
                |key, window, first: &[Event], second: &[Event], out: &mut Out<'_, Outcome>| {
                    let [first, second] = [first, second].map(|rows| digest(rows.iter().map(|row| row.value)));
                    out.push(outcome(key, window, first, second));
                },
            )
            .sink("out", Discard::new()),
    };
}

/// Values of both streams.
fn sides(rows: &[(i64, i64)]) -> (Vec<i64>, Vec<i64>) {
    rows.iter().map(|row| row.1).partition(|value| value % 2 == 0)
}

fn pairs(key: i64, rows: &[(i64, i64)], first_alone: bool, second_alone: bool) -> Vec<Outcome> {
    let (first, second) = sides(rows);
    let all = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| (key, *a, *b, 0, 0)));
    let mut pairs: Vec<Outcome> = all.collect();
    if first_alone && second.is_empty() {
        pairs.extend(first.iter().map(|value| (key, *value, -1, 0, 0)));
    }
    if second_alone && first.is_empty() {
        pairs.extend(second.iter().map(|value| (key, -1, *value, 0, 0)));
    }
    pairs
}

fn expected(kind: Kind) -> Outcomes {
    match kind {
        Kind::Inner => |key, _, rows| pairs(key, rows, false, false),
        Kind::Left => |key, _, rows| pairs(key, rows, true, false),
        Kind::Right => |key, _, rows| pairs(key, rows, false, true),
        Kind::Full => |key, _, rows| pairs(key, rows, true, true),
        Kind::CoGroup => |key, (start, end), rows| {
            let (first, second) = sides(rows);
            vec![(key, start, end, digest(first.into_iter()), digest(second.into_iter()))]
        },
    }
}

/// Rows of both streams in their order, as blocks of one or the other.
fn give(host: &mut Host, rows: &[(i64, Event)], step: &mut Step) {
    for block in rows.chunk_by(|one, other| one.1.value % 2 == other.1.value % 2) {
        host.rows_of((block[0].1.value % 2) as u32, block, step);
    }
}

fn check(setting: Setting) {
    for kind in KINDS {
        let results = (0..6).map(|seed| {
            let host = Host::new(move |flow| build(flow, setting, kind));
            let model = Model::of(setting, expected(kind));
            run((setting, seed), Random::new(seed), (host, model), give)
        });
        let results: usize = results.sum();
        assert!(results > 10, "{results} results of {kind:?}, {setting:?}");
    }
}

const ASSIGN: [Assign; 5] = [
    Assign::Sliding(12, 12, 3),
    Assign::Sliding(20, 7, 0),
    Assign::Session(4),
    Assign::Dynamic,
    Assign::Own,
];

#[test]
fn joins_by_processing_time() {
    for assign in &ASSIGN[..4] {
        for when in [When::End, When::Count(3, true)] {
            check(Setting {
                processing: true,
                when,
                ..Setting::plain(*assign)
            });
        }
    }
}

#[test]
fn joins_with_own_assigners_and_dynamic_sessions() {
    for assign in [Assign::Dynamic, Assign::Own] {
        for lateness in [0, 20] {
            check(Setting {
                lateness,
                ..Setting::plain(assign)
            });
        }
    }
}

#[test]
fn joins_with_triggers() {
    for assign in ASSIGN {
        for (when, purging, lateness) in [
            (When::Count(3, false), false, 0),
            (When::Count(4, true), true, 15),
            (When::ContinuousEvent(4), false, 15),
            (When::ContinuousProcessing(3), false, 0),
        ] {
            check(Setting {
                when,
                purging,
                lateness,
                ..Setting::plain(assign)
            });
        }
    }
}

#[test]
fn joins_that_do_not_wait_for_ever() {
    for assign in [Assign::Sliding(20, 7, 0), Assign::Session(4), Assign::Own] {
        for rows in [None, Some(4)] {
            let timeout = Timeout {
                after: 6,
                rows,
                since_last: true,
                keeps_state: false,
            };
            check(Setting {
                when: When::Timeout(timeout),
                ..Setting::plain(assign)
            });
        }
    }
}

#[test]
fn joins_in_global_windows() {
    for (when, purging, evict) in [
        (When::Count(4, false), true, Evict::Nothing),
        (When::Count(2, false), false, Evict::Count(5)),
        (When::ContinuousEvent(5), false, Evict::Time(20)),
        (When::Delta(20.0), false, Evict::Count(6)),
    ] {
        check(Setting {
            when,
            purging,
            evict,
            ..Setting::plain(Assign::Global)
        });
    }
}

#[test]
fn joins_with_evictors() {
    for assign in [Assign::Sliding(20, 7, 0), Assign::Session(4), Assign::Own] {
        for evict in [Evict::Count(3), Evict::Time(5), Evict::Delta(40.0)] {
            for when in [When::End, When::Count(2, true)] {
                check(Setting {
                    when,
                    evict,
                    lateness: 9,
                    ..Setting::plain(assign)
                });
            }
        }
    }
}

#[test]
fn windows_of_joins_are_the_hosts_where_it_can() {
    let windowed = |build: fn(&Flow)| {
        let harness = Harness::build(build).expect("the flow is right");
        matches!(harness.graph().chains[0].head, Head::Window(_))
    };
    assert!(windowed(|flow| build(
        flow,
        Setting::plain(Assign::Sliding(20, 7, 0)),
        Kind::Left
    )));
    assert!(!windowed(|flow| build(flow, Setting::plain(Assign::Own), Kind::Left)));
}

static LATE_WORDS: OutputTag<Word> = OutputTag::new("late-words");

fn words(flow: &Flow) -> KeyedStream<Word, i64> {
    let words = flow.source("words", Files::csv::<Word>("words.csv"));
    words
        .watermarks(Watermarks::monotonic(Word::FIELDS.n))
        .key_by(|word: &Word| word.n % 10)
}

/// Two types, each late row in the output of its own type; without outputs they are counted.
#[test]
fn late_rows_of_both_streams_are_told_apart() {
    let count = |key, _, events: &[Event], words: &[Word], out: &mut Out<'_, Event>| {
        out.push(event(key, (events.len() * 10 + words.len()) as i64));
    };
    let built = Harness::build_with(
        |flow| {
            let windows = keyed(flow).co_group(words(flow)).window(Tumbling::of(ms(10)));
            let windows = windows.trigger(CountTrigger::of(2)).late_outputs(&LATE, &LATE_WORDS);
            let counted = windows.apply(count);
            counted.side_output(&LATE).sink("late", Discard::new());
            counted.side_output(&LATE_WORDS).sink("late words", Discard::new());
            counted.sink("out", Discard::new());
        },
        |config| (config.time_in, config.time_out) = (true, true),
    );
    let mut harness = built.expect("the flow is right");
    let chain = harness.chain("window.co_group");
    harness.at.watermark = 19;
    let called = harness.process_input(chain, 0, &[1, 1], &timed_block([(19, event(7, 1)), (20, event(7, 2))]));
    assert_eq!(called.timed::<Event>(0), [(19, event(7, 1))]);
    let rows = [(3, word("late", 7)), (21, word("in time", 7))];
    let called = harness.process_input(chain, 1, &[1, 1], &timed_block(rows));
    assert_eq!(called.timed::<Word>(1), [(3, word("late", 7))]);
    assert_eq!(called.timed::<Event>(2), [(29, event(7, 11))]);
    let operator = harness.operator("window.co_group");
    assert!(harness.metric(operator, "late_rows_dropped").is_empty());

    let mut harness = Harness::build_with(
        |flow| {
            let windows = keyed(flow).co_group(words(flow)).window(Tumbling::of(ms(10)));
            windows
                .trigger(CountTrigger::of(2))
                .apply(count)
                .sink("out", Discard::new());
        },
        |config| config.time_in = true,
    )
    .expect("the flow is right");
    harness.at.watermark = 19;
    harness.process_input(chain, 1, &[1], &timed_block([(3, word("late", 7))]));
    assert_eq!(harness.metric(operator, "late_rows_dropped"), [1.0]);
}

#[test]
fn joins_that_cannot_be_are_refused() {
    let check = |build: fn(&Flow), expect: &str| {
        let error = Harness::build(build).expect_err("it is refused");
        assert!(error.contains(expect), "{error}");
    };
    check(
        |flow| {
            let windows = keyed(flow).join(keyed(flow)).window(GlobalWindows);
            windows.apply(|first, _| (first.key,)).sink("out", Discard::new());
        },
        "operator `window.join`: these windows never end: say with `trigger` when they fire",
    );
    check(
        |flow| {
            let windows = keyed(flow).left_join(keyed(flow)).window(Session::gap(ms(5)));
            windows
                .trigger(DeltaTrigger::of(1.0, distance))
                .apply(|first, _| (first.key,))
                .sink("out", Discard::new());
        },
        "operator `window.left_join`: these windows merge, and the trigger cannot follow them",
    );
    check(
        |flow| {
            let windows = keyed(flow).join(keyed(flow)).window(Tumbling::of(ms(0)));
            windows.apply(|first, _| (first.key,)).sink("out", Discard::new());
        },
        "operator `window.join`: a window's size is at least 1 ms, not 0ns",
    );
    check(
        |flow| {
            let untimed = events(flow).key_by(Event::FIELDS.key);
            let windows = keyed(flow).full_join(untimed).window(Own);
            windows.apply(pair).name("own").sink("out", Discard::new());
        },
        "operator `own` (`window.full_join`): it goes by event time, but not all of its inputs have it",
    );
}
