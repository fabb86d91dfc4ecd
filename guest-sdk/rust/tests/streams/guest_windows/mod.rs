//! Windows of the guest against a naive model: random rows, out of order, in blocks of several sizes, with another
//! instance taking over now and then.

mod functions;
mod host;
mod joined;
mod model;
mod settings;
mod shared_timers;
mod states;

use millrace::prelude::*;

use self::host::{Host, Outcome, Step};
use self::model::{Assign, Evict, Model, Setting, Timeout, When};
use crate::random::Random;
use crate::{Event, event, events};

static LATE: OutputTag<Event> = OutputTag::new("late");

/// [`Assign::Own`].
struct Own;

impl WindowAssigner<Event> for Own {
    fn assign(&self, row: &Event, time: Timestamp, windows: &mut Vec<Window>) {
        let of = |size: i64| Window {
            start: Timestamp::from_millis(time.millis().div_euclid(size) * size),
            end: Timestamp::from_millis(time.millis().div_euclid(size) * size + size),
        };
        if row.value % 7 != 0 {
            windows.push(of(10));
            if row.value % 2 == 0 {
                windows.push(of(30));
            }
        }
    }
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn assigned(keyed: KeyedStream<Event, i64>, setting: Setting) -> WindowedStream<Event, i64> {
    let gap = |row: &Event| ms(row.value % 10 + 1);
    match (setting.assign, setting.processing) {
        (Assign::Sliding(size, slide, offset), false) if size == slide => {
            keyed.window(Tumbling::of(ms(size)).offset(ms(offset)))
        }
        (Assign::Sliding(size, slide, offset), true) if size == slide => {
            keyed.window(Tumbling::of(ms(size)).offset(ms(offset)).processing_time())
        }
        (Assign::Sliding(size, slide, offset), false) => {
            keyed.window(Sliding::of(ms(size), ms(slide)).offset(ms(offset)))
        }
        (Assign::Sliding(size, slide, offset), true) => {
            keyed.window(Sliding::of(ms(size), ms(slide)).offset(ms(offset)).processing_time())
        }
        (Assign::Session(gap), false) => keyed.window(Session::gap(ms(gap))),
        (Assign::Session(gap), true) => keyed.window(Session::gap(ms(gap)).processing_time()),
        (Assign::Dynamic, false) => keyed.window(Session::dynamic(gap)),
        (Assign::Dynamic, true) => keyed.window(Session::dynamic(gap).processing_time()),
        (Assign::Global, _) => keyed.window(GlobalWindows),
        (Assign::Own, _) => keyed.window(Own),
    }
}

fn triggered(windows: WindowedStream<Event, i64>, setting: Setting) -> WindowedStream<Event, i64> {
    fn give<G: Trigger<Event>>(
        windows: WindowedStream<Event, i64>,
        trigger: G,
        purging: bool,
    ) -> WindowedStream<Event, i64> {
        match purging {
            true => windows.trigger(PurgingTrigger::of(trigger)),
            false => windows.trigger(trigger),
        }
    }
    let purging = setting.purging;
    match setting.when {
        // As it is without being asked for.
        When::End if !purging => windows,
        When::End if setting.processing => give(windows, ProcessingTimeTrigger, purging),
        When::End => give(windows, EventTimeTrigger, purging),
        When::Count(rows, false) => give(windows, CountTrigger::of(rows as u64), purging),
        When::Count(rows, true) => give(windows, CountTrigger::of(rows as u64).or_at_end(), purging),
        When::ContinuousEvent(interval) => give(windows, ContinuousEventTimeTrigger::of(ms(interval)), purging),
        When::ContinuousProcessing(interval) => {
            give(windows, ContinuousProcessingTimeTrigger::of(ms(interval)), purging)
        }
        When::Delta(threshold) => {
            let delta = |last: &Event, row: &Event| (row.value - last.value) as f64;
            give(windows, DeltaTrigger::of(threshold, delta), purging)
        }
        When::Timeout(timeout) => match timeout.rows {
            Some(rows) => give(windows, timed_out(CountTrigger::of(rows as u64), timeout), purging),
            None if setting.processing => give(windows, timed_out(ProcessingTimeTrigger, timeout), purging),
            None => give(windows, timed_out(EventTimeTrigger, timeout), purging),
        },
    }
}

fn timed_out<G>(trigger: G, timeout: Timeout) -> ProcessingTimeoutTrigger<G> {
    let mut trigger = ProcessingTimeoutTrigger::of(trigger, ms(timeout.after));
    if timeout.since_last {
        trigger = trigger.since_last_row();
    }
    if timeout.keeps_state {
        trigger = trigger.keep_state();
    }
    trigger
}

fn evicted(windows: WindowedStream<Event, i64>, setting: Setting) -> WindowedStream<Event, i64> {
    let delta = |row: &Event, last: &Event| (row.value - last.value).abs() as f64;
    match (setting.evict, setting.after) {
        (Evict::Nothing, _) => windows,
        (Evict::Count(rows), false) => windows.evictor(CountEvictor::of(rows as u64)),
        (Evict::Count(rows), true) => windows.evictor(CountEvictor::of(rows as u64).after()),
        (Evict::Time(age), false) => windows.evictor(TimeEvictor::of(ms(age))),
        (Evict::Time(age), true) => windows.evictor(TimeEvictor::of(ms(age)).after()),
        (Evict::Delta(threshold), false) => windows.evictor(DeltaEvictor::of(threshold, delta)),
        (Evict::Delta(threshold), true) => windows.evictor(DeltaEvictor::of(threshold, delta).after()),
    }
}

fn outcome(key: i64, window: Window, count: i64, sum: i64) -> Outcome {
    (key, window.start.millis(), window.end.millis(), count, sum)
}

fn keyed(flow: &Flow) -> KeyedStream<Event, i64> {
    let timed = events(flow).watermarks(Watermarks::monotonic(Event::FIELDS.value));
    timed.key_by(Event::FIELDS.key)
}

/// By an aggregate where `sums`, else with all rows of a window.
fn build(flow: &Flow, setting: Setting, sums: bool) {
    let windows = evicted(triggered(assigned(keyed(flow), setting), setting), setting);
    let windows = windows.allowed_lateness(ms(setting.lateness)).late_output(&LATE);
    if sums {
        let add = |(count, sum): &mut (i64, i64), row: Event| (*count, *sum) = (*count + 1, *sum + row.value);
        let merge = |kept: &mut (i64, i64), other: &(i64, i64)| *kept = (kept.0 + other.0, kept.1 + other.1);
        let finish = |key, window, kept: &(i64, i64)| outcome(key, window, kept.0, kept.1);
        windows
            .aggregate_with(|| (0, 0), add, merge, finish)
            .sink("out", Discard::new());
    } else {
        let all = |key, window, rows: &[Event], out: &mut Out<'_, Outcome>| {
            let sum = rows.iter().map(|row| row.value).sum();
            out.push(outcome(key, window, rows.len() as i64, sum));
        };
        windows.process(all).sink("out", Discard::new());
    }
}

fn check_seed(setting: Setting, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let sums = random.below(2) == 0;
    let host = Host::new(move |flow| build(flow, setting, sums));
    run((setting, seed), random, (host, Model::new(setting)), Host::rows)
}

/// Runs both over random rows, which are given to the host by `give`. Returns how many results there were.
fn run(
    (setting, seed): (Setting, u64),
    mut random: Random,
    (mut host, mut model): (Host, Model),
    give: fn(&mut Host, &[(i64, Event)], &mut Step),
) -> usize {
    let (mut clock, mut now, mut watermark, mut results) = (0, 0, i64::MIN, 0);
    for round in 0..60 {
        let (mut got, mut expected) = (Step::default(), Step::default());
        let mut rows = Vec::new();
        for _ in 0..random.below(6) {
            clock += random.below(4);
            let behind = if random.below(8) == 0 {
                random.below(60)
            } else {
                random.below(6)
            };
            rows.push((clock - behind, event(random.below(3), random.below(100))));
        }
        give(&mut host, &rows, &mut got);
        rows.iter().for_each(|(time, row)| model.row(*time, row, &mut expected));
        if random.below(3) > 0 {
            watermark = watermark.max(clock - 5);
            host.watermark(watermark, &mut got);
            model.watermark(watermark, &mut expected);
        }
        now += random.below(6);
        host.time(now, &mut got);
        model.time(now, &mut expected);
        expected.results.sort_unstable();
        expected.late.sort_unstable();
        results += got.results.len();
        assert_eq!(got, expected, "round {round} of {setting:?}, seed {seed}");
        if random.below(5) == 0 {
            host.restore();
        }
    }
    let (mut got, mut expected) = (Step::default(), Step::default());
    for event in [true, false] {
        if event {
            host.watermark(i64::MAX, &mut got);
            model.watermark(i64::MAX, &mut expected);
        } else {
            host.time(now + 10_000, &mut got);
            model.time(now + 10_000, &mut expected);
        }
    }
    expected.results.sort_unstable();
    assert_eq!(got, expected, "end of {setting:?}, seed {seed}");
    let keeps = setting.assign == Assign::Global;
    assert!(
        keeps || host.key_count() == 0,
        "{} keys of {setting:?}, seed {seed}",
        host.key_count()
    );
    results + got.results.len()
}

fn check(setting: Setting) {
    let results: usize = (0..12).map(|seed| check_seed(setting, seed)).sum();
    assert!(results > 20, "{results} results of {setting:?}");
}

const ASSIGN: [Assign; 5] = [
    Assign::Sliding(10, 10, 3),
    Assign::Sliding(20, 7, 0),
    Assign::Session(4),
    Assign::Dynamic,
    Assign::Own,
];

#[test]
fn windows_of_processing_time() {
    for assign in [
        Assign::Sliding(10, 10, 3),
        Assign::Sliding(20, 7, 0),
        Assign::Session(4),
        Assign::Dynamic,
    ] {
        for when in [
            When::End,
            When::Count(2, false),
            When::Count(3, true),
            When::ContinuousProcessing(3),
        ] {
            check(Setting {
                processing: true,
                when,
                ..Setting::plain(assign)
            });
        }
    }
}

#[test]
fn own_assigners_and_dynamic_sessions() {
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
fn triggers_of_windows_in_time_and_late() {
    for assign in ASSIGN {
        for when in [
            When::Count(2, false),
            When::Count(3, true),
            When::ContinuousEvent(4),
            When::ContinuousProcessing(3),
        ] {
            for (purging, lateness) in [(false, 0), (true, 0), (false, 15), (true, 15)] {
                check(Setting {
                    when,
                    purging,
                    lateness,
                    ..Setting::plain(assign)
                });
            }
        }
    }
}

#[test]
fn timeouts() {
    for (number, assign) in (0..).zip(ASSIGN.into_iter().chain([Assign::Global])) {
        for (rows, purging, processing) in [
            (Some(3), true, false),
            (Some(4), false, true),
            (None, true, true),
            (None, false, false),
        ] {
            // Windows of one's own are of event time, and so are results of those that never end.
            if (assign == Assign::Own && processing) || (assign == Assign::Global && rows.is_none()) {
                continue;
            }
            for (since_last, keeps_state) in [(false, false), (false, true), (true, false), (true, true)] {
                let timeout = Timeout {
                    after: 4 + number % 3 * 5,
                    rows,
                    since_last,
                    keeps_state,
                };
                check(Setting {
                    when: When::Timeout(timeout),
                    purging,
                    processing,
                    lateness: if processing { 0 } else { number % 2 * 15 },
                    ..Setting::plain(assign)
                });
            }
        }
    }
}

/// Rows between two windows are in none; they are late if they would have been late for a window.
#[test]
fn windows_with_gaps_between_them() {
    for (processing, lateness) in [(false, 0), (false, 15), (true, 0)] {
        for assign in [Assign::Sliding(6, 10, 1), Assign::Sliding(1, 7, 0)] {
            check(Setting {
                when: When::Count(2, true),
                processing,
                lateness,
                ..Setting::plain(assign)
            });
        }
    }
}

#[test]
fn late_firings_that_purge_are_of_what_came_since() {
    for assign in ASSIGN {
        check(Setting {
            purging: true,
            lateness: 15,
            ..Setting::plain(assign)
        });
    }
}

#[test]
fn global_windows() {
    for when in [
        When::Count(3, false),
        When::Count(1, true),
        When::ContinuousEvent(5),
        When::ContinuousProcessing(5),
        When::Delta(20.0),
    ] {
        for purging in [false, true] {
            check(Setting {
                when,
                purging,
                ..Setting::plain(Assign::Global)
            });
        }
    }
}

#[test]
fn deltas_of_windows_that_end() {
    for assign in [Assign::Sliding(30, 30, 0), Assign::Sliding(40, 15, 0), Assign::Own] {
        check(Setting {
            when: When::Delta(10.0),
            ..Setting::plain(assign)
        });
    }
}

#[test]
fn evictors() {
    for assign in [Assign::Sliding(20, 7, 0), Assign::Session(4), Assign::Global] {
        for evict in [Evict::Count(2), Evict::Time(5), Evict::Delta(30.0)] {
            for after in [false, true] {
                for when in [When::End, When::Count(2, true)] {
                    if (assign, when) != (Assign::Global, When::End) {
                        check(Setting {
                            when,
                            evict,
                            after,
                            lateness: 9,
                            ..Setting::plain(assign)
                        });
                    }
                }
            }
        }
    }
}
