//! `millrace::testing` itself: what tests see of a job, and what they are told when they are wrong.

use std::collections::BTreeMap;

use millrace::prelude::*;
use millrace::testing::{self, Disorder, Job, Options, assert_order_does_not_matter};

use crate::{Event, event};

/// Every kind of state, and a timer of each kind.
struct Keeper {
    value: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<String, i64>,
    large: LargeMap<i64, String>,
    items: LargeList<i64>,
}

impl KeyedProcess for Keeper {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        self.value.set(row.value);
        self.list.push(row.value);
        self.map.insert(format!("n{}", row.value), row.value);
        self.large.insert(row.value, "large".to_owned());
        self.items.push(row.value);
        cx.set_event_timer(Timestamp::from_millis(100 + row.value));
        cx.set_processing_timer(cx.now() + Duration::from_millis(50));
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        cx.push(event(timer.key, timer.time.millis()));
    }
}

fn keeper(flow: &Flow) {
    testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .process(|setup| Keeper {
            value: setup.value_state("value"),
            list: setup.list_state("list"),
            map: setup.map_state("map"),
            large: setup.large_map("large"),
            items: setup.large_list("items"),
        })
        .uid("keeper")
        .sink("out", Discard::new());
}

fn check_states(job: &mut Job) {
    assert_eq!(job.state::<i64>("keeper", "value", 1), Some(7));
    assert_eq!(job.state::<Vec<i64>>("keeper", "list", 1), Some(vec![5, 7]));
    let map = BTreeMap::from([("n5".to_owned(), 5), ("n7".to_owned(), 7)]);
    assert_eq!(job.state::<BTreeMap<String, i64>>("keeper", "map", 1), Some(map));
    let large = job.state::<BTreeMap<i64, String>>("keeper", "large", 1);
    assert_eq!(large.map(|large| large.into_keys().collect()), Some(vec![5, 7]));
    assert_eq!(job.state::<Vec<i64>>("keeper", "items", 1), Some(vec![5, 7]));
    assert_eq!(job.state::<Vec<i64>>("keeper", "items", 3), None);
    assert_eq!(job.keys::<i64>("keeper"), [1, 2]);
    let millis = |times: Vec<Timestamp>| times.iter().map(|time| time.millis()).collect::<Vec<_>>();
    assert_eq!(millis(job.event_timers("keeper", 1)), [105, 107]);
    assert_eq!(millis(job.processing_timers("keeper", 1)), [50]);
}

#[test]
fn states_and_timers_are_seen_and_survive() {
    let mut job = Job::new(keeper);
    job.push_at("events", 1, event(1, 5));
    job.push_at("events", 2, event(2, 6));
    job.push_at("events", 3, event(1, 7));
    check_states(&mut job);
    job.restart();
    check_states(&mut job);
    let mut job = Options::new().parallelism(3).restore(&job.snapshot(), keeper);
    check_states(&mut job);
    job.advance_processing_time(Duration::from_millis(49));
    assert_eq!(job.rows::<Event>("out"), []);
    job.advance_processing_time(Duration::from_millis(1));
    let mut fired = job.take::<Event>("out");
    fired.sort_by_key(|event| event.key);
    assert_eq!(fired, [event(1, 50), event(2, 50)]);
    job.watermark("events", 105);
    assert_eq!(job.take::<Event>("out"), [event(1, 105)]);
    job.finish();
    assert_eq!(job.take::<Event>("out").len(), 2);
}

/// A timer that sets the next one fires at each of its times, however far the clock is moved.
#[test]
fn time_passes_as_if_it_had_passed() {
    struct Clock {
        ticks: ValueState<i64>,
    }
    impl KeyedProcess for Clock {
        type In = Event;
        type Key = i64;
        type Out = Event;

        fn process(&mut self, _: Event, cx: &mut Context<'_, Self>) {
            cx.set_processing_timer(cx.now() + Duration::from_secs(1));
        }

        fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
            assert_eq!(cx.now(), timer.time);
            assert_eq!(millrace::environment::now(), timer.time);
            let ticks = self.ticks.update(|ticks| {
                *ticks += 1;
                *ticks
            });
            cx.push(event(ticks, cx.now().millis()));
            cx.set_processing_timer(timer.time + Duration::from_secs(1));
        }
    }
    let mut job = Options::new().now(500).start(|flow| {
        testing::source::<Event>(flow, "events")
            .key_by(Event::FIELDS.key)
            .process(|setup| Clock {
                ticks: setup.value_state("ticks"),
            })
            .sink("out", Discard::new());
    });
    job.push("events", event(1, 1));
    job.advance_processing_time(Duration::from_millis(3_400));
    assert_eq!(
        job.rows::<Event>("out"),
        [event(1, 1_500), event(2, 2_500), event(3, 3_500)]
    );
    assert_eq!(job.processing_time().millis(), 3_900);
}

/// State with a time to live is gone when it is over, and a restart does not renew it.
#[test]
fn state_expires() {
    struct Seen {
        seen: ValueState<bool>,
    }
    impl KeyedProcess for Seen {
        type In = Event;
        type Key = i64;
        type Out = Event;

        fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
            if self.seen.get().is_none() {
                self.seen.set(true);
                cx.push(row);
            }
        }
    }
    let mut job = Job::new(|flow| {
        testing::source::<Event>(flow, "events")
            .key_by(Event::FIELDS.key)
            .process(|setup| {
                let seen = setup.value_state("seen");
                setup.ttl(&seen, Ttl::after(Duration::from_secs(10)));
                Seen { seen }
            })
            .name("seen")
            .sink("out", Discard::new());
    });
    job.push("events", event(1, 1));
    job.advance_processing_time(Duration::from_secs(6));
    job.restart();
    job.push("events", event(1, 2));
    assert_eq!(job.state::<bool>("seen", "seen", 1), Some(true));
    job.advance_processing_time(Duration::from_secs(4));
    assert_eq!(job.state::<bool>("seen", "seen", 1), None);
    assert_eq!(job.keys::<i64>("seen"), [0i64; 0]);
    job.push("events", event(1, 3));
    assert_eq!(job.rows::<Event>("out"), [event(1, 1), event(1, 3)]);
}

/// Each entry of a large state has a time of its own, which a restart does not renew, and indexes count what is there.
#[test]
fn entries_of_large_states_expire_one_by_one() {
    struct Recent {
        items: LargeList<i64>,
        used: LargeMap<i64, i64>,
    }
    impl KeyedProcess for Recent {
        type In = Event;
        type Key = i64;
        type Out = Event;

        fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
            if self.used.get(&row.value).is_none() {
                self.used.insert(row.value, row.value);
            }
            self.items.push(row.value);
            cx.push(event(self.items.len() as i64, self.items.get(0).unwrap_or_default()));
        }
    }
    let mut job = Job::new(|flow| {
        testing::source::<Event>(flow, "events")
            .key_by(Event::FIELDS.key)
            .process(|setup| {
                let (items, used) = (setup.large_list("items"), setup.large_map("used"));
                setup.ttl(&items, Ttl::after(Duration::from_secs(10)));
                setup.ttl(&used, Ttl::after(Duration::from_secs(10)).on_read_and_write());
                Recent { items, used }
            })
            .name("recent")
            .sink("out", Discard::new());
    });
    job.push("events", event(1, 1));
    job.advance_processing_time(Duration::from_secs(4));
    job.push("events", event(1, 2));
    job.advance_processing_time(Duration::from_secs(4));
    job.restart();
    job.push("events", event(1, 1));
    job.advance_processing_time(Duration::from_secs(4));
    assert_eq!(job.state::<Vec<i64>>("recent", "items", 1), Some(vec![2, 1]));
    job.push("events", event(1, 3));
    job.advance_processing_time(Duration::from_secs(3));
    // The second entry was not read again.
    let used = job.state::<BTreeMap<i64, i64>>("recent", "used", 1);
    assert_eq!(used, Some(BTreeMap::from([(1, 1), (3, 3)])));
    assert_eq!(job.state::<Vec<i64>>("recent", "items", 1), Some(vec![1, 3]));
    assert_eq!(
        job.rows::<Event>("out"),
        [event(1, 1), event(2, 1), event(3, 1), event(3, 2)]
    );
    job.advance_processing_time(Duration::from_secs(10));
    assert_eq!(job.state::<Vec<i64>>("recent", "items", 1), None);
}

/// A changed version finds its state by names: a field more, another name, wider numbers.
#[test]
fn a_changed_version_goes_on() {
    #[derive(Record, Clone)]
    struct Old {
        sum: i32,
    }
    #[derive(Record, Clone, Debug, PartialEq)]
    struct New {
        #[record(alias = "sum")]
        total: i64,
        #[record(default = "none")]
        note: String,
        rows: Option<i64>,
    }
    struct Sum<S: Owned + Clone>(ValueState<S>);
    impl KeyedProcess for Sum<Old> {
        type In = Event;
        type Key = i64;
        type Out = Event;
        fn process(&mut self, row: Event, _: &mut Context<'_, Self>) {
            self.0.set(Old { sum: row.value as i32 });
        }
    }
    impl KeyedProcess for Sum<New> {
        type In = Event;
        type Key = i64;
        type Out = Event;
        fn process(&mut self, _: Event, _: &mut Context<'_, Self>) {}
    }
    let mut old = Job::new(|flow| {
        let keyed = testing::source::<Event>(flow, "events").key_by(Event::FIELDS.key);
        let summed = keyed.process(|setup| Sum::<Old>(setup.value_state("sum")));
        summed.uid("sums").sink("out", Discard::new());
    });
    old.push("events", event(1, 9));
    let mut new = Options::new().parallelism(2).restore(&old.snapshot(), |flow| {
        let keyed = testing::source::<Event>(flow, "events").key_by(Event::FIELDS.key);
        let summed = keyed.process(|setup| Sum::<New>(setup.value_state("sum")));
        summed.uid("sums").sink("out", Discard::new());
    });
    let expected = New {
        total: 9,
        note: "none".to_owned(),
        rows: None,
    };
    assert_eq!(new.state::<New>("sums", "sum", 1), Some(expected));
}

/// Splits have watermarks of their own, and idle ones hold nobody up.
#[test]
fn splits_and_idleness() {
    let mut job = Options::new().splits("events", 2).start(|flow| {
        let watermarks = Watermarks::monotonic(Event::FIELDS.value).idle_after(Duration::from_secs(1));
        let events = crate::events(flow).watermarks(watermarks);
        let counts = events
            .key_by(Event::FIELDS.key)
            .window(Tumbling::of(Duration::from_millis(10)));
        counts.count().name("counts").sink("out", Discard::new());
    });
    job.push_split("events", 0, [event(1, 5), event(1, 50)]);
    assert_eq!(job.event_time("counts"), None);
    job.push_split("events", 1, [event(1, 6)]);
    assert_eq!(job.event_time("counts"), Some(Timestamp::from_millis(5)));
    job.advance_processing_time(Duration::from_millis(500));
    job.push_split("events", 0, [event(1, 51)]);
    job.advance_processing_time(Duration::from_millis(500));
    assert_eq!(job.event_time("counts"), Some(Timestamp::from_millis(50)));
    let counts = job.rows::<Windowed<i64, i64>>("out");
    assert_eq!((counts.len(), counts[0].value), (1, 2));
}

fn last_wins(flow: &Flow) {
    crate::events(flow)
        .key_by(Event::FIELDS.key)
        .reduce(|last: &mut Event, row: Event| last.value = row.value)
        .sink("out", Discard::new());
}

/// Only the fewest rows are told, and how to see them again.
#[test]
fn a_result_that_depends_on_the_order_is_found_and_made_small() {
    let rows: Vec<Event> = (0..40).map(|value| event(value % 4, value)).collect();
    let run = |rows: &[Event], options: Options| {
        let mut job = options.start(last_wins);
        rows.iter().for_each(|row| job.push("events", row.clone()));
        let last = job.rows::<Event>("out");
        last.into_iter()
            .map(|event| (event.key, event.value))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect()
    };
    let disorder = || Disorder::within(Duration::from_millis(8), |row: &Event| row.value);
    let told = std::panic::catch_unwind(|| assert_order_does_not_matter(&rows, &disorder(), run));
    let told = told.expect_err("the last row wins");
    let told = told.downcast_ref::<String>().expect("a message");
    assert!(told.contains("at seed "), "{told}");
    assert_eq!(told.matches("Event {").count(), 2, "two rows are enough: {told}");
    let none = Disorder::within(Duration::ZERO, |row: &Event| row.value);
    assert_order_does_not_matter(&rows, &none, run);
}

#[test]
fn mistakes_are_told() {
    let check = |part: &str, mistake: fn(&mut Job)| {
        let mut job = Job::new(keeper);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mistake(&mut job)));
        let told = told.expect_err("it is a mistake");
        let told = told.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(told.contains(part), "`{part}` is not in: {told}");
    };
    check("no source is named `clicks`; there are: events", |job| {
        job.push("clicks", event(1, 1));
    });
    check("a row of `events` is { key: Int64, value: Int64", |job| {
        job.push("events", (1i64,))
    });
    check("has no state `valeu`; it has: value, list", |job| {
        job.state::<i64>("keeper", "valeu", 1);
    });
    check("state `value` of `keeper` is { value: Int64?", |job| {
        job.state::<String>("keeper", "value", 1);
    });
    check("the key is { key: Int64 }, and not { key: Utf8 }", |job| {
        job.state::<i64>("keeper", "value", "x");
    });
    check(
        "no operator has the uid or name `keepr`; there are: events, events, process (uid keeper), out",
        |job| drop(job.keys::<i64>("keepr")),
    );
}

/// Opened once in each subtask, with what it is; closed behind the last row, and not by a restart.
#[test]
fn functions_are_opened_and_closed() {
    struct Told {
        rows: Counter,
    }
    impl Process for Told {
        type In = Event;
        type Out = Event;

        fn open(&mut self, cx: &OpenContext) {
            let (subtask, parallelism, attempt) = (cx.subtask(), cx.parallelism(), cx.attempt());
            info!(
                "open {subtask} of {parallelism}, attempt {attempt}, groups {}",
                cx.max_parallelism()
            );
        }

        fn process(&mut self, row: Event, out: &mut Out<'_, Event>) {
            self.rows.add(1);
            (0..row.value).for_each(|value| out.push(event(row.key, value)));
        }

        fn close(&mut self) {
            info!("close");
        }
    }
    struct Keyed;
    impl KeyedProcess for Keyed {
        type In = Event;
        type Key = i64;
        type Out = Event;

        fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
            cx.push(row);
        }

        fn close(&mut self) {
            info!("keyed close");
        }
    }
    let mut job = Options::new().parallelism(2).start(|flow| {
        flow.max_parallelism(16);
        let told = crate::events(flow).filter(|event| event.key > 0).process(|setup| Told {
            rows: setup.counter("rows"),
        });
        let refusing = told
            .name("told")
            .try_map(|event| if event.value == 2 { Err("two") } else { Ok(event) });
        let refusing = refusing.on_reject(Reject::Skip);
        refusing
            .key_by(Event::FIELDS.key)
            .process(|_| Keyed)
            .sink("out", Discard::new());
    });
    // The second subtask has no split: its input has ended.
    let opened = |attempt| {
        let opened = (0..2).map(move |subtask| format!("open {subtask} of 2, attempt {attempt}, groups 16"));
        opened.chain(["close".to_owned()])
    };
    assert_eq!(job.log(), opened(0).collect::<Vec<_>>());
    job.push_all("events", [event(0, 9), event(1, 2), event(2, 3)]);
    assert_eq!(job.metric("told", "rows"), [2.0]);
    assert_eq!(job.rows::<Event>("out"), [event(1, 0), event(1, 1)]);
    assert_eq!(job.refused().len(), 1);
    job.restart();
    assert_eq!(job.log(), opened(1).collect::<Vec<_>>());
    job.finish();
    let mut closed = job.log().split_off(2);
    closed.sort_unstable();
    assert_eq!(closed, ["close", "close", "keyed close", "keyed close"]);
}

/// Watermarks that rows say, by a field, a closure, or a generator with a memory; and times of a clock.
#[test]
fn watermarks_of_all_kinds() {
    #[derive(Record, Clone)]
    struct Marked {
        at: i64,
        mark: Option<Timestamp>,
    }
    struct Third(i64);
    impl millrace::stream::WatermarkGenerator<Marked> for Third {
        fn next(&mut self, row: &Marked) -> Option<Timestamp> {
            self.0 += 1;
            (self.0 % 3 == 0).then(|| Timestamp::from_millis(row.at))
        }
    }
    let at = || Watermarks::monotonic(Marked::FIELDS.at);
    type Build = Box<dyn Fn(Stream<Rows<Marked>>) -> Stream<Rows<Marked>>>;
    let ways: [(Build, [Option<i64>; 4]); 5] = [
        (
            Box::new(move |rows| rows.watermarks(at().punctuated(Marked::FIELDS.mark))),
            [None, Some(7), Some(7), Some(7)],
        ),
        (
            Box::new(move |rows| rows.watermarks(at().punctuated(|row: &Marked| row.mark))),
            [None, Some(7), Some(7), Some(7)],
        ),
        (
            Box::new(move |rows| {
                let third = millrace::stream::generator(Third(0));
                rows.watermarks(Watermarks::bounded_by(|row: &Marked| row.at, Duration::ZERO).punctuated(third))
            }),
            [None, None, Some(30), Some(30)],
        ),
        (
            Box::new(move |rows| rows.watermarks(Watermarks::ingestion())),
            [Some(999), Some(999), Some(1_009), Some(1_009)],
        ),
        (
            Box::new(move |rows| rows.watermarks(at())),
            [Some(9), Some(19), Some(29), Some(39)],
        ),
    ];
    for (build, expected) in ways {
        let mut job = Options::new().now(1_000).start(move |flow| {
            let rows = flow.source("rows", Files::csv::<Marked>("rows.csv"));
            build(rows).filter(|_| true).name("seen").sink("out", Discard::new());
        });
        let mut seen = Vec::new();
        for (index, mark) in [None, Some(7), None, Some(3)].into_iter().enumerate() {
            let at = 10 + 10 * index as i64;
            job.push(
                "rows",
                Marked {
                    at,
                    mark: mark.map(Timestamp::from_millis),
                },
            );
            seen.push(job.event_time("seen").map(|time| time.millis()));
            if index == 1 {
                job.advance_processing_time(Duration::from_millis(10));
            }
        }
        assert_eq!(seen, expected);
    }
}
