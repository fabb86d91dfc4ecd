//! Functions with state, functions behind aggregates, count windows, windows over all rows, and what is refused.

use millrace::bindings::dataflow::{Head, Partition};
use millrace::harness::{Harness, keys, timed_block};
use millrace::prelude::*;
use millrace::testing::{self, Options};

use super::host::{Host, Outcome, Step};
use super::{LATE, keyed, ms, outcome};
use crate::{Event, event, events};

/// Results and firings so far: of the window in `window_state`, of the key in `value_state`.
struct Counting {
    of_key: ValueState<i64>,
    of_window: WindowState<i64>,
}

impl Counting {
    fn new(setup: &mut WindowSetup) -> Self {
        Counting {
            of_key: setup.value_state("of_key"),
            of_window: setup.window_state("of_window"),
        }
    }

    /// Firings of the window, firings of the key times ten thousand.
    fn count(&self) -> i64 {
        let of_window = self.of_window.get().unwrap_or(0) + 1;
        self.of_window.set(of_window);
        let of_key = self.of_key.update(|firings| {
            *firings += 1;
            *firings
        });
        of_window + of_key * 10_000
    }
}

impl WindowProcess for Counting {
    type In = Event;
    type Key = i64;
    type Out = Outcome;

    fn process(&mut self, rows: &[Event], cx: &mut WindowContext<'_, Self>) {
        cx.push(outcome(cx.key(), cx.window(), rows.len() as i64, self.count()));
    }
}

fn step(host: &mut Host, rows: &[(i64, i64)], watermark: i64) -> Vec<Outcome> {
    let mut step = Step::default();
    let rows: Vec<_> = rows.iter().map(|&(time, value)| (time, event(7, value))).collect();
    host.rows(&rows, &mut step);
    host.watermark(watermark, &mut step);
    step.results.into_iter().map(|(_, outcome)| outcome).collect()
}

fn counting(flow: &Flow) {
    let windows = keyed(flow)
        .window(Tumbling::of(ms(10)))
        .allowed_lateness(ms(20))
        .late_output(&LATE);
    windows.process_with(Counting::new).sink("out", Discard::new());
}

#[test]
fn functions_have_states_of_keys_and_of_windows() {
    let mut host = Host::new(counting);
    assert_eq!(step(&mut host, &[(1, 5), (2, 5), (11, 5)], 10), [(7, 0, 10, 2, 10_001)]);
    host.restore();
    let late = step(&mut host, &[(3, 5)], 20);
    assert_eq!(late, [(7, 0, 10, 3, 20_002), (7, 10, 20, 1, 30_001)]);
    host.restore();
    assert_eq!(step(&mut host, &[(22, 5)], 40), [(7, 20, 30, 1, 40_001)]);
    assert_eq!(
        host.present_states(),
        [0, 1, 2, 3],
        "one window waits for late rows, the key has its count"
    );
    step(&mut host, &[], i64::MAX);
    assert_eq!(host.present_states(), [2], "the state of windows goes with them");
}

impl Aggregate for Summing {
    type In = Event;
    type Key = i64;
    type Acc = i64;
    type Out = Event;

    fn create(&self) -> i64 {
        0
    }

    fn add(&self, sum: &mut i64, row: Event) {
        *sum += row.value;
    }

    fn merge(&self, sum: &mut i64, other: &i64) {
        *sum += other;
    }

    fn finish(&self, key: i64, _window: Window, &sum: &i64) -> Event {
        event(key, sum)
    }
}

struct Summing;

static SMALL: OutputTag<Event> = OutputTag::new("small");

#[test]
fn results_of_windows_of_the_host_go_on_to_a_function() {
    let twice = |key, window, sum: &Event, out: &mut Out<'_, Outcome>| {
        out.side(&SMALL, sum.clone());
        out.push(outcome(key, window, 1, sum.value));
        out.push(outcome(key, window, 2, sum.value));
    };
    let build: [fn(&Flow, _); 2] = [
        |flow, twice| {
            let windows = keyed(flow)
                .window(Tumbling::of(ms(10)))
                .aggregate_process(Summing, twice);
            windows.side_output(&SMALL).sink("small", Discard::new());
            windows.sink("out", Discard::new());
        },
        |flow, twice| {
            let add = |kept: &mut Event, row: Event| kept.value += row.value;
            let windows = keyed(flow).window(Tumbling::of(ms(10))).reduce_process(add, twice);
            windows.side_output(&SMALL).sink("small", Discard::new());
            windows.sink("out", Discard::new());
        },
    ];
    for build in build {
        let harness = Harness::build_with(|flow| build(flow, twice), |config| config.time_out = true);
        let mut harness = harness.expect("the flow is right");
        harness.accumulate(0, &[1, 1], &millrace::harness::block([event(7, 3), event(7, 4)]));
        let called = harness.emit(0, &[1], &[(10, 20)], &keys([7i64]), true);
        assert_eq!(called.timed::<Event>(0), [(19, event(7, 7))]);
        assert_eq!(
            called.timed::<Outcome>(1),
            [(19, (7, 10, 20, 1, 7)), (19, (7, 10, 20, 2, 7))]
        );
        assert_eq!(called.result.emitted, [2]);
    }
}

/// The sums of a key that are greater than all before.
struct Greatest(ValueState<i64>);

impl WindowProcess for Greatest {
    type In = Event;
    type Key = i64;
    type Out = Outcome;

    fn process(&mut self, sums: &[Event], cx: &mut WindowContext<'_, Self>) {
        assert_eq!(sums.len(), 1);
        if self.0.get() < Some(sums[0].value) {
            self.0.set(sums[0].value);
            cx.push(outcome(cx.key(), cx.window(), 1, sums[0].value));
        }
    }
}

#[test]
fn results_go_on_to_a_function_with_state() {
    let host = Host::new(|flow| {
        let windows = keyed(flow).window(Tumbling::of(ms(10))).late_output(&LATE);
        let greatest = |setup: &mut WindowSetup| Greatest(setup.value_state("greatest"));
        windows
            .aggregate_process_with(Summing, greatest)
            .sink("out", Discard::new());
    });
    check_greatest(host);
    let host = Host::new(|flow| {
        let windows = keyed(flow).window(Tumbling::of(ms(10))).late_output(&LATE);
        let add = |sum: &mut Event, row: Event| sum.value += row.value;
        let greatest = |setup: &mut WindowSetup| Greatest(setup.value_state("greatest"));
        windows.reduce_process_with(add, greatest).sink("out", Discard::new());
    });
    check_greatest(host);
}

fn check_greatest(mut host: Host) {
    assert_eq!(step(&mut host, &[(1, 5), (2, 5)], 10), [(7, 0, 10, 1, 10)]);
    host.restore();
    assert_eq!(step(&mut host, &[(11, 9), (22, 5), (22, 6)], 40), [(7, 20, 30, 1, 11)]);
}

fn sums(windows: WindowedStream<Event, i64>) {
    let add = |kept: &mut Event, row: Event| kept.value += row.value;
    let finish = |key, window, kept: &Event| outcome(key, window, 0, kept.value);
    windows
        .late_output(&LATE)
        .reduce(add, finish)
        .sink("out", Discard::new());
}

/// Without event time the rows of count windows have none; results have the time of the row that completes them.
#[test]
fn count_windows_are_of_every_so_many_rows() {
    let global = |sum| (7, super::model::GLOBAL.0, super::model::GLOBAL.1, 0, sum);
    let mut host = Host::new(|flow| sums(events(flow).key_by(Event::FIELDS.key).count_window(3)));
    let rows = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)];
    assert_eq!(step(&mut host, &rows, 10), [global(6)]);
    host.restore();
    assert_eq!(step(&mut host, &[(6, 6)], 10), [global(15)]);
    assert_eq!(host.key_count(), 0, "a key whose window is empty is forgotten");

    let mut host = Host::new(|flow| sums(events(flow).key_by(Event::FIELDS.key).sliding_count_window(3, 2)));
    let mut results = Step::default();
    let rows: Vec<_> = rows.map(|(time, value)| (time, event(7, value))).to_vec();
    host.rows(&rows, &mut results);
    assert_eq!(results.results, [(2, global(3)), (4, global(9))]);
    host.restore();
    assert_eq!(step(&mut host, &[(6, 6)], 10), [global(15)]);
}

#[test]
fn windows_over_all_rows_are_in_one_subtask() {
    let harness = Harness::build(|flow| {
        let timed = events(flow).watermarks(Watermarks::monotonic(Event::FIELDS.value));
        timed
            .window_all(Tumbling::of(ms(10)))
            .count()
            .name("all")
            .sink("out", Discard::new());
        events(flow)
            .count_window_all(10)
            .count()
            .name("tens")
            .sink("out", Discard::new());
    });
    let harness = harness.expect("the flow is right");
    for name in ["all", "tens"] {
        let operator = harness.operator(name);
        assert_eq!(harness.graph().operators[operator as usize].parallelism, Some(1));
        let mut edges = harness.graph().edges.iter();
        let edge = edges.find(|edge| edge.to_operator == operator).expect("it has rows");
        assert!(matches!(edge.partition, Partition::HashComputed));
    }
    let all = &harness.graph().chains[harness.chain("all") as usize].head;
    assert!(matches!(all, Head::Window(_)), "the host does it");
    let tens = &harness.graph().chains[harness.chain("tens") as usize].head;
    assert!(matches!(tens, Head::Keyed(_)));
}

#[test]
fn late_rows_that_nobody_takes_are_counted() {
    let build = |flow: &Flow| {
        let windows = keyed(flow).window(Tumbling::of(ms(10))).trigger(CountTrigger::of(9));
        windows.count().name("counts").sink("out", Discard::new());
    };
    let mut harness = Harness::build_with(build, |config| config.time_in = true).expect("the flow is right");
    harness.at.watermark = 19;
    harness.process_keyed(0, &[1, 1], &timed_block([(19, event(7, 1)), (20, event(7, 1))]));
    assert_eq!(harness.metric(harness.operator("counts"), "late_rows_dropped"), [1.0]);
}

/// A row that comes in the last millisecond of a window by the clock is in it, whatever came before in that millisecond.
#[test]
fn windows_of_the_clock_last_to_their_end() {
    let mut job = Options::new().start(|flow| {
        let windows = testing::source::<Event>(flow, "events").key_by(Event::FIELDS.key);
        let windows = windows.window(Tumbling::of(ms(10)).processing_time());
        windows.sum(Event::FIELDS.value).sink("out", Discard::new());
    });
    job.push("events", event(1, 1));
    job.advance_processing_time(ms(9));
    job.push("events", event(1, 2));
    assert_eq!(job.take::<Windowed<i64, i64>>("out").len(), 0);
    job.advance_processing_time(ms(1));
    job.push("events", event(1, 4));
    job.finish();
    let sums = job.take::<Windowed<i64, i64>>("out").into_iter();
    assert_eq!(
        sums.map(|sum| (sum.start.millis(), sum.value)).collect::<Vec<_>>(),
        [(0, 3), (10, 4)]
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let check = |build: fn(KeyedStream<Event, i64>), expect: &str| {
        let built = Harness::build(|flow| build(keyed(flow)));
        assert_eq!(built.expect_err("it is refused"), expect);
    };
    check(
        |keyed| {
            let windows = keyed
                .window(GlobalWindows)
                .trigger(PurgingTrigger::of(EventTimeTrigger));
            windows.count().sink("out", Discard::new());
        },
        "operator `window.count`: these windows never end, and the trigger waits for their end: say another one with `trigger`",
    );
    check(
        |keyed| {
            let delta = DeltaTrigger::of(1.0, |_: &Event, _: &Event| 0.0);
            keyed
                .window(Session::gap(ms(5)))
                .trigger(delta)
                .count()
                .sink("out", Discard::new());
        },
        "operator `window.count`: these windows merge, and the trigger cannot follow them",
    );
    check(
        |keyed| {
            keyed
                .window(Session::gap(ms(5)))
                .process_with(Counting::new)
                .sink("out", Discard::new());
        },
        "operator `window.process`: these windows merge, and a state of each window cannot follow them",
    );
    check(
        |keyed| {
            let greatest = |setup: &mut WindowSetup| Greatest(setup.value_state("windows"));
            let windows = keyed.window(Tumbling::of(ms(5)));
            windows
                .aggregate_process_with(Summing, greatest)
                .sink("out", Discard::new());
        },
        "operator `window.aggregate_process`: its state `windows` is declared twice; the window has states of its own",
    );
    check(
        |keyed| {
            let gap = |_: &Event| ms(1);
            keyed
                .clone()
                .window(Tumbling::of(ms(0)).processing_time())
                .count()
                .sink("out", Discard::new());
            keyed.window(Session::dynamic(gap)).count().sink("fine", Discard::new());
        },
        "operator `window.count`: a window's size is at least 1 ms, not 0ns",
    );
    check(
        |keyed| {
            keyed.window(GlobalWindows).count().sink("out", Discard::new());
        },
        "operator `window.count`: these windows never end: say with `trigger` when they fire",
    );
    let built = Harness::build(|flow| {
        let windows = events(flow).key_by(Event::FIELDS.key).window(super::Own);
        windows.count().name("own").sink("out", Discard::new());
    });
    assert_eq!(
        built.expect_err("there is no event time"),
        "operator `own` (`window.count`): it goes by event time, but not all of its inputs have it; assign it with `watermarks`, or \
         use windows of processing time"
    );
}
