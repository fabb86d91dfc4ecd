//! States of windows of every kind, against lists of all that was added to them.

use std::collections::BTreeMap;

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use super::{Random, ms};
use crate::reduced::Digits;
use crate::{Event, event};

/// Does to all states what the last row of a firing says, and puts out what they hold then.
struct Every {
    of_key: ValueState<i64>,
    value: WindowState<i64>,
    list: WindowListState<i64>,
    map: WindowMapState<i64, String>,
    // Does not commute.
    reduced: WindowReducingState<i64>,
    digits: WindowAggregatingState<Digits>,
}

impl Every {
    fn new(setup: &mut WindowSetup) -> Self {
        Every {
            of_key: setup.value_state("of_key"),
            value: setup.window_state("value"),
            list: setup.window_list_state("list"),
            map: setup.window_map_state("map"),
            reduced: setup.window_reducing_state("reduced", |kept, value| *kept = reduce(*kept, value)),
            digits: setup.window_aggregating_state("digits", Digits),
        }
    }

    fn change(&self, value: i64) {
        match value {
            0 => {
                self.value.clear();
                self.list.clear();
                self.map.clear();
                self.reduced.clear();
                self.digits.clear();
            }
            1 => {
                // As good as to clear them, one by one.
                self.value.take();
                self.list.update(Vec::clear);
                self.map.retain(|_, _| false);
                self.reduced.take();
                self.digits.take();
            }
            _ => {
                self.value.set(value);
                self.list.push(value);
                self.map.insert(value % 4, value.to_string());
                self.reduced.add(value);
                self.digits.add(value);
            }
        }
    }

    fn told(&self) -> Vec<i64> {
        let map = self.map.entries();
        let from_map = map
            .iter()
            .map(|(key, value)| key * 1_000 + value.parse::<i64>().expect("a number"));
        let mut told = vec![self.value.get().unwrap_or(-1)];
        told.extend(self.list.to_vec());
        told.push(-2);
        told.extend(from_map);
        told.push(self.reduced.get().unwrap_or(-3));
        told.push(self.digits.get().map_or(-4, |count| count as i64));
        told
    }
}

fn reduce(kept: i64, value: i64) -> i64 {
    (kept * 3 + value) % 1_000_003
}

/// Key, start of the window, firings of the key, what the states hold.
type Told = (i64, i64, i64, Vec<i64>);

impl WindowProcess for Every {
    type In = Event;
    type Key = i64;
    type Out = Told;

    fn process(&mut self, rows: &[Event], cx: &mut WindowContext<'_, Self>) {
        self.change(rows.last().expect("a window that fires has rows").value);
        let firings = self.of_key.update(|firings| {
            *firings += 1;
            *firings
        });
        cx.push((cx.key(), cx.window().start.millis(), firings, self.told()));
    }
}

const LENGTH: i64 = 10;
const LATENESS: i64 = 15;

fn every(flow: &Flow) {
    testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .window(Tumbling::of(ms(LENGTH)))
        .allowed_lateness(ms(LATENESS))
        .trigger(CountTrigger::of(1))
        .process_with(Every::new)
        .uid("every")
        .sink("out", Discard::new());
}

/// What was added to the states of each window since they were cleared, by key and start.
#[derive(Default)]
struct Model {
    windows: BTreeMap<(i64, i64), Vec<i64>>,
    firings: BTreeMap<i64, i64>,
}

impl Model {
    fn row(&mut self, time: i64, row: &Event) -> Told {
        let start = time.div_euclid(LENGTH) * LENGTH;
        let added = self.windows.entry((row.key, start)).or_default();
        match row.value {
            0 | 1 => added.clear(),
            value => added.push(value),
        }
        let mut told = vec![added.last().copied().unwrap_or(-1)];
        told.extend(added.iter());
        told.push(-2);
        let map: BTreeMap<i64, i64> = added.iter().map(|value| (value % 4, *value)).collect();
        told.extend(map.iter().map(|(key, value)| key * 1_000 + value));
        told.push(added.iter().copied().reduce(reduce).unwrap_or(-3));
        told.push(if added.is_empty() { -4 } else { added.len() as i64 + 1 });
        let firings = self.firings.entry(row.key).or_insert(0);
        *firings += 1;
        (row.key, start, *firings, told)
    }

    fn watermark(&mut self, watermark: i64) {
        self.windows
            .retain(|(_, start), _| start + LENGTH - 1 + LATENESS > watermark);
    }
}

const STATES: [&str; 5] = ["value", "list", "map", "reduced", "digits"];

/// What is stored for a window.
macro_rules! stored {
    ($name:ident, $value:ty) => {
        #[derive(Record)]
        struct $name {
            start: Timestamp,
            end: Timestamp,
            value: $value,
        }

        impl $name {
            fn starts(job: &mut Job, state: &str, key: i64) -> Vec<i64> {
                let stored = job.state::<Vec<$name>>("every", state, key).unwrap_or_default();
                let start = |window: &$name| {
                    assert_eq!(window.end.millis(), window.start.millis() + LENGTH);
                    assert_ne!(
                        format!("{:?}", window.value),
                        format!("{:?}", <$value>::default())
                    );
                    window.start.millis()
                };
                stored.iter().map(start).collect()
            }
        }
    };
}
stored!(Number, i64);
stored!(Text, String);
stored!(List, Vec<i64>);
stored!(Map, BTreeMap<i64, String>);

/// Windows for which a state of the key is stored.
fn stored(job: &mut Job, state: &str, key: i64) -> Vec<i64> {
    match state {
        "list" => List::starts(job, state, key),
        "map" => Map::starts(job, state, key),
        "digits" => Text::starts(job, state, key),
        _ => Number::starts(job, state, key),
    }
}

fn check_seed(seed: u64) {
    let mut random = Random::new(seed);
    let (mut job, mut model) = (Job::new(every), Model::default());
    let (mut clock, mut watermark) = (0, i64::MIN);
    for round in 0..400 {
        clock += random.below(3);
        let time = clock - random.below(LENGTH);
        if time + LATENESS > watermark {
            let row = event(random.below(3), random.below(12));
            let expected = model.row(time, &row);
            job.push_at("events", time, row);
            assert_eq!(job.take::<Told>("out"), [expected], "row {round} of seed {seed}");
        }
        if random.below(3) == 0 {
            watermark = watermark.max(clock - 4);
            job.watermark("events", watermark);
            model.watermark(watermark);
        }
        if round % 50 == 17 {
            job.restart();
        }
        if round % 130 == 77 {
            job = Options::new()
                .parallelism(1 + seed as u32 % 3)
                .restore(&job.snapshot(), every);
        }
        if round % 20 == 0 {
            check_stored(&mut job, &model);
        }
    }
    job.watermark("events", clock + 100);
    model.watermark(clock + 100);
    assert!(model.windows.is_empty());
    check_stored(&mut job, &model);
}

/// States have the windows that were given something since they were cleared, and no others.
fn check_stored(job: &mut Job, model: &Model) {
    for key in 0..3 {
        let windows = model.windows.range((key, i64::MIN)..=(key, i64::MAX));
        let filled: Vec<i64> = windows
            .filter(|(_, added)| !added.is_empty())
            .map(|(window, _)| window.1)
            .collect();
        for state in STATES {
            assert_eq!(stored(job, state, key), filled, "`{state}` of key {key}");
        }
    }
}

#[test]
fn states_of_windows_are_kept_by_window_and_go_with_it() {
    (0..12).for_each(check_seed);
}
