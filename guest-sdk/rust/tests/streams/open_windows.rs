//! What tests see of windows, against lists of rows: of the host, and the same of the pipeline.

use millrace::prelude::*;
use millrace::testing::{self, Job, OpenWindow, Options};
use millrace::window::TimedRow;

use crate::random::Random;
use crate::{Event, event};

#[derive(Debug, Clone, Copy)]
enum Assign {
    /// Size, slide, offset.
    Sliding(i64, i64, i64),
    Session(i64),
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    assign: Assign,
    lateness: i64,
    /// With a trigger, so that it is the pipeline which has them.
    is_triggered: bool,
    /// Sums are kept, or else all rows.
    sums: bool,
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn build(flow: &Flow, setting: Setting) {
    let keyed = testing::source::<Event>(flow, "events").key_by(Event::FIELDS.key);
    let windows = match setting.assign {
        Assign::Sliding(size, slide, offset) => keyed.window(Sliding::of(ms(size), ms(slide)).offset(ms(offset))),
        Assign::Session(gap) => keyed.window(Session::gap(ms(gap))),
    };
    let windows = windows.allowed_lateness(ms(setting.lateness));
    let windows = match setting.is_triggered {
        true => windows.trigger(EventTimeTrigger),
        false => windows,
    };
    if setting.sums {
        let sums = windows.sum(Event::FIELDS.value);
        sums.uid("windows").sink("out", Discard::new());
    } else {
        let count = |_key, _window, rows: &[Event], out: &mut Out<'_, (i64,)>| out.push((rows.len() as i64,));
        windows.process(count).uid("windows").sink("out", Discard::new());
    }
}

/// A window of the model.
#[derive(Debug, Clone)]
struct Open {
    key: i64,
    start: i64,
    end: i64,
    values: Vec<i64>,
}

struct Model {
    setting: Setting,
    windows: Vec<Open>,
    watermark: i64,
}

impl Model {
    fn row(&mut self, time: i64, row: &Event) {
        let spans: Vec<(i64, i64)> = match self.setting.assign {
            Assign::Sliding(size, slide, offset) => {
                let starts = (time - size + 1..=time).filter(|start| (start - offset).rem_euclid(slide) == 0);
                starts.map(|start| (start, start + size)).collect()
            }
            Assign::Session(gap) => vec![(time, time + gap)],
        };
        let merges = matches!(self.setting.assign, Assign::Session(_));
        for (start, end) in spans {
            let mut open = Open {
                key: row.key,
                start,
                end,
                values: Vec::new(),
            };
            let is_part = |window: &Open| match merges {
                true => window.key == row.key && window.start <= end && start <= window.end,
                false => (window.key, window.start) == (row.key, start),
            };
            let parts: Vec<Open> = self.windows.iter().filter(|window| is_part(window)).cloned().collect();
            for part in &parts {
                open.start = open.start.min(part.start);
                open.end = open.end.max(part.end);
                open.values.extend_from_slice(&part.values);
            }
            if open.end - 1 + self.setting.lateness > self.watermark {
                self.windows.retain(|window| !is_part(window));
                open.values.push(row.value);
                self.windows.push(open);
            }
        }
    }

    fn watermark(&mut self, watermark: i64) {
        self.watermark = watermark;
        let lateness = self.setting.lateness;
        self.windows.retain(|window| window.end - 1 + lateness > watermark);
    }

    /// Start, end, sorted values, when it fires.
    fn seen(&self, key: i64) -> Vec<Seen> {
        let of_key = self.windows.iter().filter(|window| window.key == key);
        let seen = of_key.map(|window| {
            let mut values = window.values.clone();
            values.sort_unstable();
            if self.setting.sums {
                values = vec![values.iter().sum()];
            }
            let last = window.end - 1;
            (
                window.start,
                window.end,
                values,
                (last > self.watermark).then_some(last),
            )
        });
        let mut seen: Vec<Seen> = seen.collect();
        seen.sort_unstable();
        seen
    }

    fn timers(&self, key: i64) -> Vec<i64> {
        let timers = self.seen(key).into_iter().flat_map(|(_, end, _, fires_at)| {
            let given_up = end - 1 + self.setting.lateness;
            fires_at.into_iter().chain([given_up])
        });
        let mut timers: Vec<i64> = timers.collect();
        timers.sort_unstable();
        timers.dedup();
        timers
    }
}

/// Start, end, sorted values, when it fires.
type Seen = (i64, i64, Vec<i64>, Option<i64>);

fn seen(job: &mut Job, setting: Setting, key: i64) -> Vec<Seen> {
    fn flat<V>(windows: Vec<OpenWindow<V>>, values: impl Fn(V) -> Vec<i64>) -> Vec<Seen> {
        let seen = |open: OpenWindow<V>| {
            let contents = open.contents.expect("it was not purged");
            let (start, end) = (open.window.start.millis(), open.window.end.millis());
            (start, end, values(contents), open.fires_at.map(|time| time.millis()))
        };
        windows.into_iter().map(seen).collect()
    }
    match setting.sums {
        true => flat(job.windows::<i64>("windows", key), |sum| vec![sum]),
        false => flat(job.windows::<Vec<Event>>("windows", key), |rows| {
            let mut values: Vec<i64> = rows.iter().map(|row| row.value).collect();
            values.sort_unstable();
            values
        }),
    }
}

fn check(setting: Setting, seed: u64) {
    let mut random = Random::new(seed);
    let mut below = move |bound: i64| random.below(bound);
    let start = move |flow: &Flow| build(flow, setting);
    let mut job = Job::new(start);
    let mut model = Model {
        setting,
        windows: Vec::new(),
        watermark: i64::MIN,
    };
    let (mut clock, mut most) = (0, 0);
    for round in 0..150 {
        clock += below(4);
        let behind = if below(6) == 0 { below(40) } else { below(6) };
        let (time, row) = (clock - behind, event(below(3), below(100)));
        model.row(time, &row);
        job.push_at("events", time, row);
        if below(2) == 0 && model.watermark < clock - 5 {
            model.watermark(clock - 5);
            job.watermark("events", clock - 5);
        }
        if round % 40 == 11 {
            job.restart();
        }
        if round % 60 == 31 {
            job = Options::new()
                .parallelism(1 + seed as u32 % 3)
                .restore(&job.snapshot(), start);
        }
        for key in 0..3 {
            let expected = model.seen(key);
            most = most.max(expected.len());
            let told = format!("key {key} in round {round} of seed {seed}, {setting:?}");
            assert_eq!(seen(&mut job, setting, key), expected, "{told}");
            let timers = job.event_timers("windows", key);
            let timers: Vec<i64> = timers.iter().map(|time| time.millis()).collect();
            assert_eq!(timers, model.timers(key), "timers of {told}");
        }
    }
    assert!(most > 1, "{most} windows of a key at once, {setting:?}");
}

#[test]
fn windows_are_seen_as_they_are() {
    for assign in [
        Assign::Sliding(10, 10, 3),
        Assign::Sliding(20, 7, 2),
        Assign::Sliding(6, 10, 1),
        Assign::Session(4),
    ] {
        for (seed, lateness) in (1..).zip([0, 25]) {
            for (is_triggered, sums) in [(false, true), (false, false), (true, true), (true, false)] {
                let setting = Setting {
                    assign,
                    lateness,
                    is_triggered,
                    sums,
                };
                check(setting, seed);
            }
        }
    }
}

fn keyed(flow: &Flow) -> KeyedStream<Event, i64> {
    testing::source::<Event>(flow, "events").key_by(Event::FIELDS.key)
}

/// Windows that only rows make fire, with all rows, with those that an evictor has left, and with none.
#[test]
fn windows_without_an_end_are_seen() {
    let mut job = Job::new(|flow| {
        let count = |windows: WindowedStream<Event, i64>, uid| {
            windows.count().uid(uid).sink(uid, Discard::new());
        };
        let keyed = keyed(flow);
        count(keyed.clone().count_window(3), "threes");
        count(keyed.clone().sliding_count_window(2, 1), "last-two");
        let timeout = ProcessingTimeoutTrigger::of(CountTrigger::of(2), ms(30));
        count(keyed.clone().window(GlobalWindows).trigger(timeout), "timeout");
        let grown = DeltaTrigger::of(0.0, |last: &Event, row: &Event| (row.value - last.value) as f64);
        count(keyed.window(GlobalWindows).trigger(PurgingTrigger::of(grown)), "purged");
    });
    let open = |contents, fires_at: Option<i64>| OpenWindow {
        window: Window::GLOBAL,
        contents,
        fires_at: fires_at.map(Timestamp::from_millis),
    };
    job.push_all("events", [event(1, 5), event(1, 6)]);
    assert_eq!(job.windows::<i64>("threes", 1), [open(Some(2), None)]);
    assert_eq!(job.windows::<i64>("threes", 2), []);
    assert_eq!(job.windows::<i64>("timeout", 1), [open(Some(2), None)], "it has fired");
    assert_eq!(job.windows::<i64>("purged", 1), [open(None, None)]);
    job.advance_processing_time(ms(10));
    job.push("events", event(1, 7));
    assert_eq!(job.windows::<i64>("threes", 1), [], "it is empty");
    assert_eq!(job.windows::<i64>("timeout", 1), [open(Some(3), Some(40))]);
    let rows = job.windows::<Vec<TimedRow<Event>>>("last-two", 1);
    let values = rows[0]
        .contents
        .as_ref()
        .expect("it keeps two")
        .iter()
        .map(|row| row.row.value);
    assert_eq!(values.collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn windows_of_two_streams_are_seen() {
    let mut job = Job::new(|flow| {
        keyed(flow)
            .join(testing::source::<Event>(flow, "others").key_by(Event::FIELDS.key))
            .window(Tumbling::of(ms(10)))
            .apply(|one: &Event, other: &Event| (one.value, other.value))
            .uid("pairs")
            .sink("out", Discard::new());
    });
    job.push_at("events", 3, event(7, 1));
    job.push_at("others", 5, event(7, 2));
    job.push_at("events", 8, event(7, 3));
    let windows = job.windows::<(Vec<Event>, Vec<Event>)>("pairs", 7);
    assert_eq!(windows.len(), 1);
    let both = (vec![event(7, 1), event(7, 3)], vec![event(7, 2)]);
    assert_eq!(windows[0].contents, Some(both));
}

#[test]
fn mistakes_about_windows_are_told() {
    let check = |part: &str, mistake: fn(&mut Job)| {
        let mut job = Job::new(|flow| {
            let keyed = keyed(flow);
            let counts = keyed.clone().window(Tumbling::of(ms(10))).count();
            counts.uid("counts").sink("out", Discard::new());
            keyed.count().uid("rolling").sink("totals", Discard::new());
        });
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mistake(&mut job)));
        let told = told.expect_err("it is a mistake");
        let told = told.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(told.contains(part), "`{part}` is not in: {told}");
    };
    check("`rolling` has no windows", |job| drop(job.windows::<i64>("rolling", 1)));
    check("what a window of `counts` keeps is { value: Int64?", |job| {
        job.windows::<String>("counts", 1);
    });
    check("`counts` keeps its state by window: `Job::windows` shows it", |job| {
        job.state::<i64>("counts", "count", 1);
    });
    check("state `count` of `rolling` is not of its windows", |job| {
        job.window_state::<i64>("rolling", "count", 1, Window::GLOBAL);
    });
}
