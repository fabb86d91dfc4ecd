//! Windows against a naive model: random rows, out of order, in blocks of several sizes.
//!
//! The model keeps every row of every window and takes rows one by one. Event time moves at the end of each
//! block, as in the engine: the watermark is the latest time minus the allowed disorder minus 1.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, blocks_of, read_ndjson};
use millrace_tests::random::Random;
use serde_json::{Value, json};

const BLOCKS: [usize; 4] = [1, 2, 7, 1_000];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    key: i64,
    value: i64,
    time: i64,
}

/// Key, start, end, count, sum, smallest value.
type Outcome = [i64; 6];

/// Times that advance by half a ms a row, most within 20 ms of that, some far behind.
fn events(seed: u64, count: i64) -> Vec<Event> {
    let mut random = Random::new(seed);
    let event = |index: i64| {
        let behind = if random.below(20) == 0 {
            random.below(150)
        } else {
            random.below(20)
        };
        Event {
            key: random.below(5),
            value: random.below(1_000) - 500,
            time: index / 2 - behind,
        }
    };
    (0..count).map(event).collect()
}

fn write(path: &Path, events: &[Event]) {
    let line = |event: &Event| {
        let Event { key, value, time } = event;
        format!("{}\n", json!({ "key": key, "value": value, "time": time }))
    };
    fs::write(path, events.iter().map(line).collect::<String>()).expect("temporary file");
}

#[derive(Debug, Clone, Copy)]
enum Windows {
    /// Size, slide, offset.
    Sliding(i64, i64, i64),
    Session(i64),
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    windows: Windows,
    disorder: i64,
    lateness: i64,
}

/// A window of the model, with its rows.
#[derive(Debug, Clone)]
struct Kept {
    key: i64,
    start: i64,
    end: i64,
    /// In the order in which they came.
    rows: Vec<Event>,
}

impl Kept {
    fn outcome(&self) -> Outcome {
        let values = || self.rows.iter().map(|event| event.value);
        let (sum, least) = (values().sum(), values().min());
        let count = self.rows.len() as i64;
        [
            self.key,
            self.start,
            self.end,
            count,
            sum,
            least.expect("a window has rows"),
        ]
    }
}

#[derive(Debug, Default)]
struct Model {
    open: Vec<Kept>,
    /// Windows that were given up.
    closed: Vec<Kept>,
    late: Vec<Event>,
}

impl Model {
    fn run(setting: Setting, events: &[Event], block_rows: usize) -> Model {
        let mut model = Model::default();
        let mut watermark = i64::MIN;
        for block in events.chunks(block_rows) {
            for event in block {
                model.add(setting, *event, watermark);
            }
            let latest = block.iter().map(|event| event.time).max().expect("blocks have rows");
            watermark = watermark.max(latest - setting.disorder - 1);
            model.close(setting, watermark);
        }
        model.close(setting, i64::MAX);
        model
    }

    fn add(&mut self, setting: Setting, event: Event, watermark: i64) {
        let is_late = |end: i64| end - 1 + setting.lateness <= watermark;
        match setting.windows {
            Windows::Sliding(size, slide, offset) => {
                let mut start = (event.time - offset).div_euclid(slide) * slide + offset;
                let mut taken = false;
                while start > event.time - size {
                    if !is_late(start + size) {
                        taken = true;
                        self.put(event, start, start + size);
                    }
                    start -= slide;
                }
                let is_between = (event.time - offset).rem_euclid(slide) >= size;
                if !taken && (!is_between || is_late(event.time + 1)) {
                    self.late.push(event);
                }
            }
            Windows::Session(gap) => {
                let (mut start, mut end) = (event.time, event.time + gap);
                let touches = |kept: &Kept, start, end| kept.key == event.key && kept.start <= end && start <= kept.end;
                for kept in self
                    .open
                    .iter()
                    .filter(|kept| touches(kept, event.time, event.time + gap))
                {
                    start = start.min(kept.start);
                    end = end.max(kept.end);
                }
                if is_late(end) {
                    self.late.push(event);
                    return;
                }
                let mut rows = Vec::new();
                self.open.retain(|kept| {
                    let merged = touches(kept, event.time, event.time + gap);
                    if merged {
                        rows.extend_from_slice(&kept.rows);
                    }
                    !merged
                });
                rows.push(event);
                let key = event.key;
                self.open.push(Kept { key, start, end, rows });
            }
        }
    }

    /// Contents with which windows were given up, sorted.
    fn finals(&self) -> Vec<Outcome> {
        let mut finals: Vec<Outcome> = self.closed.iter().map(Kept::outcome).collect();
        finals.sort_unstable();
        finals
    }

    fn put(&mut self, event: Event, start: i64, end: i64) {
        let found = self
            .open
            .iter_mut()
            .find(|kept| (kept.key, kept.start) == (event.key, start));
        match found {
            Some(kept) => kept.rows.push(event),
            None => self.open.push(Kept {
                key: event.key,
                start,
                end,
                rows: vec![event],
            }),
        }
    }

    fn close(&mut self, setting: Setting, watermark: i64) {
        self.open.retain(|kept| {
            let stays = (kept.end - 1).saturating_add(setting.lateness) > watermark;
            if !stays {
                self.closed.push(kept.clone());
            }
            stays
        });
    }
}

fn outcome(row: &Value) -> Outcome {
    ["key", "start", "end", "count", "sum", "least"].map(|name| row[name].as_i64().expect("a number"))
}

fn event(row: &Value) -> Event {
    let [key, value, time] = ["key", "value", "time"].map(|name| row[name].as_i64().expect("a number"));
    Event { key, value, time }
}

/// What the engine makes of the rows: results and late rows, sorted.
fn engine(kind: &str, setting: Setting, events: &[Event], block_rows: usize) -> (Vec<Outcome>, Vec<Event>) {
    let folder = run(kind, setting, events, block_rows);
    let output = folder.path().join("out");
    let mut results: Vec<Outcome> = read_ndjson(&output.join("results")).iter().map(outcome).collect();
    let mut late: Vec<Event> = read_ndjson(&output.join("late")).iter().map(event).collect();
    results.sort_unstable();
    late.sort_unstable();
    (results, late)
}

/// Has the engine write what it makes of the rows to folders of `out`.
fn run(kind: &str, setting: Setting, events: &[Event], block_rows: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let input = folder.path().join("events.ndjson");
    write(&input, events);
    let (size, slide, offset) = match setting.windows {
        Windows::Sliding(size, slide, offset) => (size, slide, offset),
        Windows::Session(gap) => (gap, gap, 0),
    };
    let output = folder.path().join("out");
    let [size, slide, offset] = [size, slide, offset].map(|ms| format!("{ms}ms"));
    let [disorder, lateness] = [setting.disorder, setting.lateness].map(|ms| format!("{ms}ms"));
    let pairs = [
        ("kind", kind),
        ("input", as_text(&input)),
        ("output", as_text(&output)),
        ("size", &size),
        ("slide", &slide),
        ("offset", &offset),
        ("disorder", &disorder),
        ("lateness", &lateness),
    ];
    jobs::succeed(Guest::Flows, blocks_of(block_rows), &pairs);
    folder
}

fn check(kind: &str, setting: Setting, seed: u64) {
    let events = events(seed, 1_200);
    for block_rows in BLOCKS {
        let mut model = Model::run(setting, &events, block_rows);
        let finals = model.finals();
        model.late.sort_unstable();
        let (results, late) = engine(kind, setting, &events, block_rows);
        let told = format!("{kind} {setting:?}, seed {seed}, blocks of {block_rows}");
        assert!(!results.is_empty(), "{told}");
        // Rows lag by up to 150 ms: narrow windows have late ones, unless they wait for that long.
        let is_narrow = !matches!(setting.windows, Windows::Sliding(101.., ..));
        let waits = setting.disorder + setting.lateness >= 150;
        assert!(late.is_empty() == waits || !is_narrow, "{told}");
        assert_eq!(late, model.late, "late rows of {told}");
        if setting.lateness == 0 {
            assert_eq!(results, finals, "results of {told}");
        } else {
            check_finals(&results, &finals, &told);
        }
    }
}

/// With allowed lateness windows fire again: each window's last result is its final one, and a result has at
/// most as many rows as that.
fn check_finals(results: &[Outcome], finals: &[Outcome], told: &str) {
    let mut most = BTreeMap::<[i64; 3], Outcome>::new();
    for result in results {
        let entry = most.entry([result[0], result[1], result[2]]).or_insert(*result);
        if result[3] > entry[3] {
            *entry = *result;
        }
    }
    for expected in finals {
        let window = [expected[0], expected[1], expected[2]];
        assert_eq!(most.get(&window), Some(expected), "last result of a window of {told}");
    }
}

#[test]
fn tumbling_windows_in_time_and_late() {
    for (seed, disorder, size, offset) in [
        (1, 0, 10, 0),
        (2, 20, 10, 3),
        (3, 200, 25, 0),
        (4, 5, 1, 0),
        (5, 20, 1_000, 7),
    ] {
        let setting = Setting {
            windows: Windows::Sliding(size, size, offset),
            disorder,
            lateness: 0,
        };
        check("tumbling", setting, seed);
    }
}

#[test]
fn tumbling_windows_that_wait_for_late_rows() {
    for (seed, disorder, lateness) in [(11, 0, 15), (12, 10, 60), (13, 0, 500)] {
        let setting = Setting {
            windows: Windows::Sliding(10, 10, 0),
            disorder,
            lateness,
        };
        check("tumbling", setting, seed);
    }
}

#[test]
fn sliding_windows_in_time_and_late() {
    // Slides that divide the size, that do not, and that are as long as it.
    for (seed, disorder, size, slide, offset) in [
        (21, 0, 20, 5, 0),
        (22, 20, 20, 7, 2),
        (23, 5, 30, 30, 0),
        (24, 200, 100, 1, 0),
        (25, 10, 60, 35, 0),
    ] {
        let setting = Setting {
            windows: Windows::Sliding(size, slide, offset),
            disorder,
            lateness: 0,
        };
        check("sliding", setting, seed);
    }
}

#[test]
fn sliding_windows_that_wait_for_late_rows() {
    for (seed, disorder, lateness) in [(31, 0, 15), (32, 10, 60)] {
        let setting = Setting {
            windows: Windows::Sliding(20, 5, 0),
            disorder,
            lateness,
        };
        check("sliding", setting, seed);
    }
}

/// Rows between two windows are in none. They are late if a window that ended with them would have taken no more rows.
#[test]
fn sliding_windows_with_gaps_between_them() {
    for kind in ["sliding", "guest-sliding"] {
        for (seed, disorder, lateness, windows) in [
            (26, 0, 0, (6, 10, 1)),
            (27, 20, 0, (12, 30, 0)),
            (28, 0, 15, (4, 7, 0)),
            (29, 10, 60, (6, 10, 3)),
        ] {
            let (size, slide, offset) = windows;
            let setting = Setting {
                windows: Windows::Sliding(size, slide, offset),
                disorder,
                lateness,
            };
            check(kind, setting, seed);
        }
    }
}

#[test]
fn sessions_merge_across_rows_and_blocks() {
    for kind in ["session", "session-computed"] {
        for (seed, disorder, gap) in [(41, 0, 3), (42, 20, 3), (43, 200, 2), (44, 5, 8), (45, 20, 1)] {
            let setting = Setting {
                windows: Windows::Session(gap),
                disorder,
                lateness: 0,
            };
            check(kind, setting, seed);
        }
    }
}

#[test]
fn sessions_that_wait_for_late_rows() {
    for (seed, disorder, lateness) in [(51, 0, 15), (52, 10, 60)] {
        let setting = Setting {
            windows: Windows::Session(3),
            disorder,
            lateness,
        };
        check("session", setting, seed);
    }
}

/// Windows with a trigger are the guest's, whatever the trigger is.
#[test]
fn windows_of_the_guest_are_those_of_the_host() {
    for (kind, windows) in [
        ("guest-tumbling", Windows::Sliding(10, 10, 3)),
        ("guest-sliding", Windows::Sliding(20, 7, 2)),
        ("guest-session", Windows::Session(3)),
    ] {
        for (seed, disorder, lateness) in [(71, 0, 0), (72, 20, 0), (73, 0, 15), (74, 10, 20)] {
            let setting = Setting {
                windows,
                disorder,
                lateness,
            };
            check(kind, setting, seed);
        }
    }
}

/// Of all rows together: the model's have one key.
#[test]
fn windows_over_all_rows() {
    for (kind, windows) in [
        ("all-tumbling", Windows::Sliding(10, 10, 3)),
        ("all-sliding", Windows::Sliding(20, 7, 2)),
        ("all-session", Windows::Session(2)),
    ] {
        for (seed, disorder, lateness) in [(81, 0, 0), (82, 2, 0), (83, 0, 15)] {
            let setting = Setting {
                windows,
                disorder,
                lateness,
            };
            check_all(kind, setting, seed);
        }
    }
}

fn check_all(kind: &str, setting: Setting, seed: u64) {
    let events = events(seed, 1_200);
    let together: Vec<Event> = events.iter().map(|event| Event { key: 0, ..*event }).collect();
    let without_key = |late: &[Event]| {
        let mut late: Vec<Event> = late.iter().map(|event| Event { key: 0, ..*event }).collect();
        late.sort_unstable();
        late
    };
    for block_rows in BLOCKS {
        let model = Model::run(setting, &together, block_rows);
        let finals = model.finals();
        let (results, late) = engine(kind, setting, &events, block_rows);
        let told = format!("{kind} {setting:?}, seed {seed}, blocks of {block_rows}");
        assert!(results.len() > 5 && !late.is_empty() || block_rows == 1_000, "{told}");
        assert_eq!(without_key(&late), without_key(&model.late), "late rows of {told}");
        match setting.lateness {
            0 => assert_eq!(results, finals, "results of {told}"),
            _ => check_finals(&results, &finals, &told),
        }
    }
}

#[test]
fn windows_that_keep_all_rows() {
    let setting = Setting {
        windows: Windows::Session(3),
        disorder: 200,
        lateness: 0,
    };
    let events = events(61, 1_200);
    for block_rows in BLOCKS {
        let model = Model::run(setting, &events, block_rows);
        let (results, _) = engine("session-collected", setting, &events, block_rows);
        assert_eq!(results, model.finals(), "blocks of {block_rows}");
    }
}

/// Without a late output late rows are dropped, and counted.
#[test]
fn late_rows_that_nobody_takes_are_counted() {
    let setting = Setting {
        windows: Windows::Session(3),
        disorder: 0,
        lateness: 0,
    };
    let events = events(62, 1_200);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (input, output) = (folder.path().join("events.ndjson"), folder.path().join("out"));
    write(&input, &events);
    let model = Model::run(setting, &events, 7);
    let pairs = [
        ("kind", "session-collected"),
        ("input", as_text(&input)),
        ("output", as_text(&output)),
        ("size", "3ms"),
    ];
    let report = jobs::succeed(Guest::Flows, blocks_of(7), &pairs);
    let windows = jobs::task(&report.tasks, "window.process");
    assert!(!model.late.is_empty());
    assert_eq!(windows.total(|metrics| &metrics.late), model.late.len() as u64);
    assert_eq!(windows.total(|metrics| &metrics.dropped), model.late.len() as u64);
    assert_eq!(
        windows.total(|metrics| &metrics.state_slots),
        0,
        "nothing is kept at the end"
    );
}

/// Key, start, end, and value and time of the row with the least value.
type Least = [i64; 5];

/// Values are few, so that many rows tie. Which of them it is follows from the order in which they came, for windows that
/// slide from their slices first; where sessions merge and in two phases it is any.
#[test]
fn rows_with_the_least_value() {
    let sliding = |size, slide, offset| Windows::Sliding(size, slide, offset);
    for (seed, (kind, windows, decides)) in (81..).zip([
        ("least", sliding(20, 20, 3), Some(20)),
        ("least", sliding(20, 7, 2), Some(1)),
        ("least-guest", sliding(20, 7, 2), Some(20)),
        ("least-session", Windows::Session(3), None),
        ("least-two-phase", sliding(20, 20, 0), None),
        ("least-salted", sliding(20, 5, 0), None),
        ("least", sliding(6, 10, 1), Some(2)),
        ("least-two-phase", sliding(6, 10, 1), None),
        ("least-salted", sliding(6, 10, 1), None),
    ]) {
        let setting = Setting {
            windows,
            disorder: 20,
            lateness: 0,
        };
        let mut events = events(seed, 1_200);
        events.iter_mut().for_each(|event| event.value %= 3);
        for block_rows in BLOCKS {
            let model = Model::run(setting, &events, block_rows);
            let folder = run(kind, setting, &events, block_rows);
            let mut results: Vec<Least> = read_ndjson(&folder.path().join("out/results"))
                .iter()
                .map(least)
                .collect();
            results.sort_unstable();
            let told = format!("{kind} {windows:?}, blocks of {block_rows}");
            check_least(&model.closed, &results, decides, &told);
        }
    }
}

/// `decides`: length of the slices that decide first between equals, and then the order in which they came; none: any may be.
fn check_least(closed: &[Kept], results: &[Least], decides: Option<i64>, told: &str) {
    let mut closed = closed.to_vec();
    closed.sort_unstable_by_key(|kept| (kept.key, kept.start));
    assert_eq!(results.len(), closed.len(), "{told}");
    let mut ties = 0;
    for (result, kept) in results.iter().zip(&closed) {
        let slice = decides.unwrap_or(i64::MAX);
        let rank = |event: &&Event| (event.value, (event.time - kept.start).div_euclid(slice));
        let least = kept.rows.iter().min_by_key(rank).expect("a window has rows");
        let equal = kept.rows.iter().filter(|event| event.value == least.value);
        let equal: Vec<Least> = equal.map(|event| picked(kept, event)).collect();
        ties += usize::from(equal.len() > 1);
        match decides {
            Some(_) => assert_eq!(*result, picked(kept, least), "{told}"),
            None => assert!(equal.contains(result), "{result:?} of {told}"),
        }
    }
    assert!(ties > 30, "{ties} ties of {told}");
}

fn picked(kept: &Kept, event: &Event) -> Least {
    [kept.key, kept.start, kept.end, event.value, event.time]
}

fn least(row: &Value) -> Least {
    ["key", "start", "end", "value", "time"].map(|name| row[name].as_i64().expect("a number"))
}

/// Windows over results of windows, which come with the time of their window's end - 1.
#[test]
fn windows_of_windows() {
    let events = events(63, 1_200);
    let inner = Setting {
        windows: Windows::Sliding(10, 10, 0),
        disorder: 200,
        lateness: 0,
    };
    for block_rows in BLOCKS {
        let mut expected = BTreeMap::<i64, (i64, i64, i64)>::new();
        for [_, _, end, _, sum, least] in Model::run(inner, &events, block_rows).finals() {
            let (count, total, smallest) = expected
                .entry((end - 1).div_euclid(100) * 100)
                .or_insert((0, 0, i64::MAX));
            (*count, *total, *smallest) = (*count + 1, *total + sum, least.min(*smallest));
        }
        let expected: Vec<Outcome> = expected
            .iter()
            .map(|(start, (count, sum, least))| [0, *start, start + 100, *count, *sum, *least])
            .collect();
        // The guest takes the slide for the length of the outer windows.
        let between = Setting {
            windows: Windows::Sliding(10, 100, 0),
            ..inner
        };
        let (results, _) = engine("cascade", between, &events, block_rows);
        assert_eq!(results, expected, "blocks of {block_rows}");
    }
}
