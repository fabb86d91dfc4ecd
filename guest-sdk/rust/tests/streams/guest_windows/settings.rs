//! Parameters of windows, triggers and evictors: which are refused, how windows are described, and what becomes of windows
//! that are open where a parameter changes.

use millrace::bindings::dataflow::Head;
use millrace::harness::Harness;
use millrace::prelude::*;
use millrace::testing::{self, Job};
use millrace::window::WindowedStream;

use super::{Own, keyed, ms};
use crate::{Event, event, events};

type Windows = WindowedStream<Event, i64>;

fn refusal(windows: impl Fn(KeyedStream<Event, i64>) -> Windows + 'static) -> String {
    let built = Harness::build(|flow| {
        let counts = windows(keyed(flow)).count().name("counts");
        counts.sink("out", Discard::new());
    });
    built.err().unwrap_or_default()
}

#[test]
fn what_makes_no_sense_is_refused_by_the_name_of_the_operator() {
    let check = |windows: fn(KeyedStream<Event, i64>) -> Windows, expect: &str| {
        let expect = match expect {
            "" => String::new(),
            expect => format!("operator `counts` (`window.count`): {expect}"),
        };
        assert_eq!(refusal(windows), expect);
    };
    const SECOND: Duration = Duration::from_secs(1);
    check(|keyed| keyed.window(Tumbling::of(SECOND)), "");
    check(
        |keyed| keyed.window(Tumbling::of(Duration::from_micros(1_500))),
        "a window's size is whole milliseconds, not 1.5ms",
    );
    check(
        |keyed| keyed.window(Tumbling::of(SECOND).offset(Duration::from_nanos(1))),
        "a window's offset is whole milliseconds, not 1ns",
    );
    check(
        |keyed| keyed.window(Tumbling::of(Duration::MAX)),
        "a window's size is less than 5000 years, not 584554049253",
    );
    check(
        |keyed| keyed.window(Session::gap(Duration::MAX)).trigger(CountTrigger::of(1)),
        "a session's gap is less than 5000 years, not 584554049253",
    );
    check(
        |keyed| keyed.window(Tumbling::of(SECOND)).allowed_lateness(Duration::MAX),
        "the allowed lateness is less than 5000 years, not 584554049253",
    );
    check(
        |keyed| {
            let windows = keyed.window(Sliding::of(Duration::from_secs(3600), ms(1)));
            windows.trigger(EventTimeTrigger)
        },
        "windows of 3600s every 1ms put each row in 3600000 windows, and 100000 are the most",
    );
    check(|keyed| keyed.window(Sliding::of(ms(1), SECOND)), "");
    check(
        |keyed| keyed.count_window(0),
        "the number of rows at which a window fires is at least 1, not 0",
    );
    check(
        |keyed| keyed.sliding_count_window(0, 0),
        "the number of rows at which a window fires is at least 1, not 0\n\
         operator `counts` (`window.count`): the number of rows that an evictor leaves is at least 1, not 0",
    );
    check(
        |keyed| {
            let windows = keyed.window(Tumbling::of(SECOND));
            windows.evictor(TimeEvictor::of(Duration::ZERO))
        },
        "the age of rows that an evictor leaves is at least 1 ms, not 0ns",
    );
    check(
        |keyed| {
            let distance = |_: &Event, _: &Event| 0.0;
            let windows = keyed.window(Tumbling::of(SECOND));
            let windows = windows.trigger(DeltaTrigger::of(f64::NAN, distance));
            windows.evictor(DeltaEvictor::of(f64::INFINITY, distance))
        },
        "a threshold is a number, not NaN",
    );
}

#[test]
fn triggers_that_fire_all_the_time_are_refused() {
    fn check<G: Trigger<Event> + Copy>(trigger: G, expect: &str) {
        let told = refusal(move |keyed| keyed.window(Tumbling::of(ms(1_000))).trigger(trigger));
        let expect = format!("operator `counts` (`window.count`): {expect}");
        assert_eq!(told, expect);
        // Around another it is the same.
        let told = refusal(move |keyed| {
            let windows = keyed.window(Tumbling::of(ms(1_000)));
            windows.trigger(PurgingTrigger::of(ProcessingTimeoutTrigger::of(trigger, ms(5))))
        });
        assert_eq!(told, expect);
    }
    let interval = "the interval at which a window fires is at least 1 ms, not 0ns";
    check(ContinuousEventTimeTrigger::of(Duration::ZERO), interval);
    check(ContinuousProcessingTimeTrigger::of(Duration::ZERO), interval);
    check(
        ProcessingTimeoutTrigger::of(CountTrigger::of(3), Duration::ZERO),
        "the time after which a window fires is at least 1 ms, not 0ns",
    );
    check(
        CountTrigger::of(0).or_at_end(),
        "the number of rows at which a window fires is at least 1, not 0",
    );
}

/// An assigner whose parameter is checked, and which says what its windows are.
struct Days(i64);

impl WindowAssigner<Event> for Days {
    fn assign(&self, _row: &Event, time: Timestamp, windows: &mut Vec<Window>) {
        let start = time.millis().div_euclid(self.0) * self.0;
        windows.push(Window {
            start: Timestamp::from_millis(start),
            end: Timestamp::from_millis(start + self.0),
        });
    }

    fn check(&self) -> Result<(), String> {
        match self.0 {
            ..=0 => Err("a day has some milliseconds".to_owned()),
            1.. => Ok(()),
        }
    }

    fn description(&self) -> Option<String> {
        Some(format!("days of {} ms", self.0))
    }
}

#[test]
fn assigners_of_ones_own_are_asked() {
    let told = refusal(|keyed| keyed.window(Days(0)));
    assert_eq!(told, "operator `counts` (`window.count`): a day has some milliseconds");
}

#[test]
fn windows_of_the_pipeline_are_described() {
    fn check(assigner: impl WindowAssigner<Event>, expect: Option<&str>) {
        let harness = Harness::build(|flow| {
            let windows = keyed(flow).window(assigner).trigger(CountTrigger::of(1));
            windows.count().sink("out", Discard::new());
        });
        let harness = harness.expect("a graph");
        let heads = harness.graph().chains.iter().map(|chain| &chain.head);
        let windows: Vec<_> = heads
            .filter_map(|head| match head {
                Head::Keyed(keyed) => Some(keyed.windows.as_deref()),
                _ => None,
            })
            .collect();
        assert_eq!(windows, [expect]);
    }
    check(Tumbling::of(ms(2_500)), Some("tumbling windows of 2.5s"));
    // As with the host: slides of the whole length, offsets that differ by a length.
    check(
        Sliding::of(ms(10), ms(10)).offset(ms(30)),
        Some("tumbling windows of 10ms"),
    );
    check(
        Sliding::of(ms(30), ms(10)).offset(ms(25)).processing_time(),
        Some("sliding windows of 30ms every 10ms that begin 5ms later by processing time"),
    );
    check(Session::gap(ms(7)), Some("sessions with gaps of 7ms"));
    check(
        Session::dynamic(|row: &Event| ms(row.value)).processing_time(),
        Some("sessions whose gaps the rows say by processing time"),
    );
    check(GlobalWindows, Some("a global window"));
    check(Days(5), Some("days of 5 ms"));
    check(Own, None);
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    size: i64,
    lateness: i64,
    is_triggered: bool,
}

fn counts(flow: &Flow, setting: Setting) {
    let windows = testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(ms(setting.size)))
        .allowed_lateness(ms(setting.lateness));
    let windows = match setting.is_triggered {
        true => windows.trigger(EventTimeTrigger),
        false => windows,
    };
    windows.count().uid("counts").sink("out", Discard::new());
}

/// A job that goes on with another setting, at a watermark.
fn changed(then: Setting, now: Setting, watermark: i64) -> Job {
    let mut job = Job::new(move |flow: &Flow| counts(flow, then));
    job.push_at("events", 3, event(1, 0));
    job.watermark("events", watermark);
    let snapshot = job.snapshot();
    Job::restore(&snapshot, move |flow: &Flow| counts(flow, now))
}

fn results(job: &mut Job) -> Vec<i64> {
    job.take::<Windowed<i64, i64>>("out")
        .iter()
        .map(|row| row.value)
        .collect()
}

/// Windows that were open take late rows for as long as it is now, and go.
#[test]
fn the_allowed_lateness_may_change() {
    for is_triggered in [false, true] {
        for (then, now) in [(0, 20), (5, 20), (20, 5), (20, 0)] {
            let setting = |lateness| Setting {
                size: 10,
                lateness,
                is_triggered,
            };
            // Of a window that has not ended; the first firing is the new job's.
            let mut job = changed(setting(then), setting(now), 5);
            job.watermark("events", 9);
            assert_eq!(results(&mut job), [1]);
            // One that has ended is there if it was kept before and is kept now.
            let ended = changed(setting(then), setting(now), 9);
            for (mut job, was_kept) in [(job, true), (ended, then > 0)] {
                job.watermark("events", 12);
                job.push_at("events", 4, event(1, 0));
                job.watermark("events", 13);
                let expect: &[i64] = match (now, was_kept) {
                    (0, _) => &[],
                    (_, false) => &[1],
                    (_, true) => &[2],
                };
                assert_eq!(results(&mut job), expect, "{then} {now} {is_triggered}");
                job.watermark("events", 9 + now);
                job.watermark("events", 40);
                assert!(results(&mut job).is_empty());
                assert!(job.keys::<i64>("counts").is_empty(), "{then} {now} {is_triggered}");
                assert_eq!(job.event_timers("counts", 1i64), [], "{then} {now} {is_triggered}");
            }
        }
    }
}

#[test]
fn windows_do_not_change() {
    let check = |then: Setting, now: Setting, expect: &str| {
        let told = std::panic::catch_unwind(|| changed(then, now, 5)).expect_err("it is refused");
        let told = told.downcast_ref::<String>().expect("a message");
        assert!(told.ends_with(expect), "{told}");
    };
    let setting = |size, is_triggered| Setting {
        size,
        lateness: 0,
        is_triggered,
    };
    for is_triggered in [false, true] {
        check(
            setting(10, is_triggered),
            setting(20, is_triggered),
            "`counts`: it kept tumbling windows of 10ms, and keeps tumbling windows of 20ms now",
        );
    }
    check(
        setting(10, false),
        setting(10, true),
        "its windows were the host's and are the pipeline's now, which keep them in other ways: so it is where a trigger comes or \
         goes",
    );
    check(
        setting(10, true),
        setting(10, false),
        "its windows were the pipeline's and are the host's now, which keep them in other ways: so it is where a trigger comes or \
         goes",
    );
}

/// A state that the files of a savepoint have no name for.
#[test]
fn states_have_names() {
    for (name, expect) in [
        ("", "one of its states has an empty name"),
        (
            "timers",
            "no state is called `timers`: that is where savepoints keep the timers",
        ),
    ] {
        let built = Harness::build(|flow| {
            let keyed = events(flow).key_by(Event::FIELDS.key);
            let rows = keyed.process(|setup| Keeping(setup.value_state(name)));
            rows.name("keeps").sink("out", Discard::new());
        });
        let told = built.expect_err("it is refused");
        assert_eq!(told, format!("operator `keeps` (`process`): {expect}"));
    }
}

/// Times that are no windows'.
#[test]
fn other_times_are_checked_too() {
    let told = |built: Result<Harness, String>| built.err().unwrap_or_default();
    let micros = Duration::from_micros(1_500);
    let ttl = Harness::build(|flow| {
        let keyed = events(flow).key_by(Event::FIELDS.key);
        let rows = keyed.process(|setup| {
            let state = setup.value_state("last");
            setup.ttl(&state, Ttl::after(Duration::MAX));
            Keeping(state)
        });
        rows.name("keeps").sink("out", Discard::new());
    });
    assert_eq!(
        told(ttl),
        "operator `keeps` (`process`): the time to live of its state `last` is less than 5000 years, not 584554049253"
    );
    let bound = Harness::build(move |flow| {
        let times = Watermarks::bounded(Event::FIELDS.value, micros).idle_after(Duration::ZERO);
        events(flow).watermarks(times).name("times").sink("out", Discard::new());
    });
    assert_eq!(
        told(bound),
        "operator `times`: the time to idleness is at least 1 ms, not 0ns\noperator `times`: how far rows may be out of order is \
         whole milliseconds, not 1.5ms"
    );
    let join = Harness::build(move |flow| {
        let joined = keyed(flow).interval_join(keyed(flow));
        let joined = joined.between(TimeBound::before(Duration::ZERO), TimeBound::after(micros));
        joined
            .apply(|first, _| (first.key,))
            .name("near")
            .sink("out", Discard::new());
    });
    assert_eq!(
        told(join),
        "operator `near` (`interval_join`): a bound of the interval is whole milliseconds, and less than 5000 years"
    );
}

struct Keeping(ValueState<i64>);

impl KeyedProcess for Keeping {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        self.0.set(row.value);
        cx.push(row);
    }
}
