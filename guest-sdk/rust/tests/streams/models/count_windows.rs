//! Windows of so many rows: each function gets the rows of a key that are in the window, in the order in which they came.

use std::collections::BTreeMap;

use millrace::prelude::*;
use millrace::testing::Job;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, timed, untimed};

/// What a function makes of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Sum,
    AggregateWith,
    AggregateProcess,
    AggregateProcessWith,
    Reduce,
    ReduceProcess,
    Process,
    ProcessWith,
}

const FUNCTIONS: [Function; 8] = [
    Function::Sum,
    Function::AggregateWith,
    Function::AggregateProcess,
    Function::AggregateProcessWith,
    Function::Reduce,
    Function::ReduceProcess,
    Function::Process,
    Function::ProcessWith,
];

/// Another order has another result.
fn digest(digest: i64, value: i64) -> i64 {
    (digest * 31 + value) % 1_000_003
}

/// Number and digest of rows.
struct Digest;

impl Aggregate for Digest {
    type In = Timed;
    type Key = i64;
    type Acc = (i64, i64);
    type Out = Line;

    fn create(&self) -> (i64, i64) {
        (0, 0)
    }

    fn add(&self, kept: &mut (i64, i64), row: Timed) {
        *kept = (kept.0 + 1, digest(kept.1, row.value));
    }

    fn merge(&self, _kept: &mut (i64, i64), _other: &(i64, i64)) {
        panic!("windows of so many rows are never merged");
    }

    fn finish(&self, key: i64, window: Window, kept: &(i64, i64)) -> Line {
        assert!(window.is_global(), "it never ends");
        (key, kept.0, kept.1, 0, 0)
    }
}

/// Counts firings, for the key and for its window.
struct Firings<T> {
    of_key: ValueState<i64>,
    of_window: WindowState<i64>,
    line: fn(i64, &[T]) -> Line,
}

impl<T> Firings<T> {
    fn new(setup: &mut WindowSetup, line: fn(i64, &[T]) -> Line) -> Self {
        Firings {
            of_key: setup.value_state("of_key"),
            of_window: setup.window_state("of_window"),
            line,
        }
    }
}

impl<T: Record + Owned> WindowProcess for Firings<T> {
    type In = T;
    type Key = i64;
    type Out = Line;

    fn process(&mut self, rows: &[T], cx: &mut WindowContext<'_, Self>) {
        let of_key = self.of_key.update(|firings| {
            *firings += 1;
            *firings
        });
        let of_window = self.of_window.get().unwrap_or(0) + 1;
        self.of_window.set(of_window);
        let line = (self.line)(cx.key(), rows);
        cx.push((line.0, line.1, line.2, of_key, of_window));
    }
}

fn line_of(key: i64, rows: &[Timed]) -> Line {
    let value = rows.iter().fold(0, |kept, row| digest(kept, row.value));
    (key, rows.len() as i64, value, 0, 0)
}

/// Adds a row to those before it: their number is in `time`.
fn reduce(kept: &mut Timed, row: Timed) {
    kept.time += row.time;
    kept.value = digest(kept.value, row.value);
}

fn reduced(key: i64, row: &Timed) -> Line {
    (key, row.time, row.value, 0, 0)
}

fn put(windows: WindowedStream<Timed, i64>, function: Function) {
    const NAME: &str = "windows";
    let out = Discard::new;
    match function {
        Function::Sum => {
            let sums = windows.sum(Timed::FIELDS.value).name(NAME);
            let line = |sum: Windowed<i64, i64>| (sum.key, 0i64, sum.value, 0i64, 0i64);
            sums.map(line).sink("out", out());
        }
        Function::AggregateWith => {
            let aggregated = windows.aggregate_with(
                || (0, 0),
                |kept, row| Digest.add(kept, row),
                |kept, other| Digest.merge(kept, other),
                |key, window, kept| Digest.finish(key, window, kept),
            );
            aggregated.name(NAME).sink("out", out());
        }
        Function::AggregateProcess => {
            let pass = |_key, _window, line: &Line, out: &mut Out<'_, Line>| out.push(*line);
            windows.aggregate_process(Digest, pass).name(NAME).sink("out", out());
        }
        Function::AggregateProcessWith => {
            let counted =
                windows.aggregate_process_with(Digest, |setup| Firings::<Line>::new(setup, |_, lines| lines[0]));
            counted.name(NAME).sink("out", out());
        }
        Function::Reduce => {
            let reduced = windows.reduce(reduce, |key, _window, row| reduced(key, row));
            reduced.name(NAME).sink("out", out());
        }
        Function::ReduceProcess => {
            let pass = |key, _window, row: &Timed, out: &mut Out<'_, Line>| out.push(reduced(key, row));
            windows.reduce_process(reduce, pass).name(NAME).sink("out", out());
        }
        Function::Process => {
            let all = |key, _window, rows: &[Timed], out: &mut Out<'_, Line>| out.push(line_of(key, rows));
            windows.process(all).name(NAME).sink("out", out());
        }
        Function::ProcessWith => {
            let counted = windows.process_with(|setup| Firings::<Timed>::new(setup, line_of));
            counted.name(NAME).sink("out", out());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Count {
    /// Every so many rows.
    Each(usize),
    /// The last rows, every so many.
    Last(usize, usize),
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    count: Count,
    function: Function,
    /// Rows have event time.
    timed: bool,
}

fn build(flow: &Flow, setting: Setting) {
    let rows = match setting.timed {
        true => timed(flow, 0),
        false => untimed(flow, 0),
    };
    // For `reduce` each row counts as one.
    let rows = rows.map(|row: Timed| Timed { time: 1, ..row });
    let keyed = rows.key_by(Timed::FIELDS.key);
    let windows = match setting.count {
        Count::Each(rows) => keyed.count_window(rows as u64),
        Count::Last(size, slide) => keyed.sliding_count_window(size as u64, slide as u64),
    };
    put(windows, setting.function);
}

/// All rows of each key, in the order in which they came.
struct Rows {
    setting: Setting,
    values: BTreeMap<i64, Vec<i64>>,
}

impl Rows {
    /// The rows of the window that the last row makes fire.
    fn window(&self, values: &[i64]) -> Option<Vec<i64>> {
        let (size, slide) = match self.setting.count {
            Count::Each(rows) => (rows, rows),
            Count::Last(size, slide) => (size, slide),
        };
        let fires = values.len().is_multiple_of(slide);
        fires.then(|| values[values.len().saturating_sub(size)..].to_vec())
    }
}

impl Model for Rows {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        let mut values = self.values.remove(&row.key).unwrap_or_default();
        values.push(row.value);
        if let Some(window) = self.window(&values) {
            let count = window.len() as i64;
            let value = window.iter().fold(0, |kept, value| digest(kept, *value));
            let firings = (1..=values.len()).filter(|rows| self.window(&values[..*rows]).is_some());
            let firings = firings.count() as i64;
            let line = match self.setting.function {
                Function::Sum => (row.key, 0, window.iter().sum(), 0, 0),
                Function::AggregateProcessWith | Function::ProcessWith => (row.key, count, value, firings, firings),
                _ => (row.key, count, value, 0, 0),
            };
            let time = if self.setting.timed { row.time } else { i64::MIN };
            came.out.push((time, line));
        }
        self.values.insert(row.key, values);
    }

    /// A key whose window is empty is forgotten, if its function keeps nothing.
    fn inspect(&self, job: &mut Job, told: &str) {
        if let Count::Each(rows) = self.setting.count
            && !matches!(
                self.setting.function,
                Function::ProcessWith | Function::AggregateProcessWith
            )
        {
            let keys = self
                .values
                .iter()
                .filter(|(_, values)| !values.len().is_multiple_of(rows));
            let keys: Vec<i64> = keys.map(|(key, _)| *key).collect();
            assert_eq!(job.keys::<i64>("windows"), keys, "{told}");
        }
    }
}

#[test]
fn every_function_gets_the_rows_of_the_window() {
    for count in [
        Count::Each(1),
        Count::Each(3),
        Count::Each(7),
        Count::Last(5, 2),
        Count::Last(2, 5),
        Count::Last(4, 4),
        Count::Last(6, 1),
    ] {
        for function in FUNCTIONS {
            for timed in [false, true] {
                let setting = Setting { count, function, timed };
                let drive = Drive {
                    raises: timed,
                    ..Drive::ONE
                };
                let rows = || Rows {
                    setting,
                    values: BTreeMap::new(),
                };
                let (out, _) = drive_seeds(drive, 0..6, move |flow| build(flow, setting), rows);
                assert!(out > 60, "{out} windows, {setting:?}");
            }
        }
    }
}
