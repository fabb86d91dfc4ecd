//! Rolling aggregates: each row's result follows from all rows of its key up to it.

use std::collections::BTreeMap;

use millrace::prelude::*;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, ms, timed};

/// What follows from the rows of a key so far.
type Result = fn(&[Timed]) -> Line;

/// All rows of each key, and when the last came by the clock.
struct Rolling {
    rows: BTreeMap<i64, (Vec<Timed>, i64)>,
    result: Result,
    /// After so long without rows a key begins anew.
    ttl: Option<i64>,
    now: i64,
}

impl Model for Rolling {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        let (rows, last) = self.rows.entry(row.key).or_default();
        if self.ttl.is_some_and(|ttl| *last + ttl <= self.now) {
            rows.clear();
        }
        rows.push(row.clone());
        *last = self.now;
        came.out.push((row.time, (self.result)(rows)));
    }

    fn clock(&mut self, now: i64, _came: &mut Came) {
        self.now = now;
    }
}

fn check(build: fn(KeyedStream<Timed, i64>, Option<Ttl>), result: Result) {
    for ttl in [None, Some(20)] {
        let model = || Rolling {
            rows: BTreeMap::new(),
            result,
            ttl,
            now: 0,
        };
        let build = move |flow: &Flow| {
            let ttl = ttl.map(|after| Ttl::after(ms(after)));
            build(timed(flow, 0).key_by(Timed::FIELDS.key), ttl);
        };
        let (out, _) = drive_seeds(Drive::ONE, 0..8, build, model);
        assert!(out > 500, "{out} rows");
    }
}

/// Puts an aggregate out, with the time to live that it is given.
macro_rules! put {
    ($rolling:expr, $ttl:expr) => {{
        let rolling = $rolling;
        let rolling = match $ttl {
            Some(ttl) => rolling.ttl(ttl),
            None => rolling,
        };
        rolling.map(line).sink("out", Discard::new());
    }};
}

fn line(row: Timed) -> Line {
    (row.key, row.value, row.time, row.id, row.mark.unwrap_or(-1))
}

fn last(rows: &[Timed]) -> Timed {
    rows.last().expect("a row came").clone()
}

/// The last row with another value.
fn with(rows: &[Timed], value: Option<i64>) -> Line {
    let value = value.expect("a row came");
    line(Timed { value, ..last(rows) })
}

#[test]
fn sums() {
    check(
        |keyed, ttl| put!(keyed.sum(Timed::FIELDS.value), ttl),
        |rows| with(rows, Some(rows.iter().map(|row| row.value).sum())),
    );
}

#[test]
fn least_and_greatest_values() {
    check(
        |keyed, ttl| put!(keyed.min(Timed::FIELDS.value), ttl),
        |rows| with(rows, rows.iter().map(|row| row.value).min()),
    );
    check(
        |keyed, ttl| put!(keyed.max(Timed::FIELDS.value), ttl),
        |rows| with(rows, rows.iter().map(|row| row.value).max()),
    );
}

/// Of equals the first; values are few, so that there are many.
#[test]
fn rows_with_the_least_and_the_greatest_value() {
    fn first(rows: &[Timed], is_wanted: impl Fn(i64) -> bool) -> Line {
        line(
            rows.iter()
                .find(|row| is_wanted(row.value))
                .expect("a row came")
                .clone(),
        )
    }
    fn coarse(rows: &[Timed]) -> Vec<Timed> {
        let coarse = |row: &Timed| Timed {
            value: row.value / 25,
            ..row.clone()
        };
        rows.iter().map(coarse).collect()
    }
    fn keyed_coarsely(keyed: KeyedStream<Timed, i64>) -> KeyedStream<Timed, i64> {
        let coarse = |row: Timed| Timed {
            value: row.value / 25,
            ..row
        };
        keyed
            .reduce(|kept, row| *kept = row)
            .map(coarse)
            .key_by(Timed::FIELDS.key)
    }
    check(
        |keyed, ttl| put!(keyed_coarsely(keyed).min_by(Timed::FIELDS.value), ttl),
        |rows| {
            let rows = coarse(rows);
            first(&rows, |value| rows.iter().all(|other| other.value >= value))
        },
    );
    check(
        |keyed, ttl| put!(keyed_coarsely(keyed).max_by(Timed::FIELDS.value), ttl),
        |rows| {
            let rows = coarse(rows);
            first(&rows, |value| rows.iter().all(|other| other.value <= value))
        },
    );
}

/// In the order in which rows came: another order has another result.
#[test]
fn reductions_and_counts() {
    fn step(value: i64, next: i64) -> i64 {
        (value * 31 + next) % 1_000_003
    }
    check(
        |keyed, ttl| put!(keyed.reduce(|kept, row| kept.value = step(kept.value, row.value)), ttl),
        |rows| {
            let values = rows.iter().map(|row| row.value);
            let value = values.reduce(step).expect("a row came");
            line(Timed {
                value,
                ..rows[0].clone()
            })
        },
    );
    check(
        |keyed, ttl| {
            let counted = keyed.count();
            let counted = match ttl {
                Some(ttl) => counted.ttl(ttl),
                None => counted,
            };
            let counted = counted.map(|counted: Counted<i64>| (counted.key, counted.count, 0i64, 0i64, 0i64));
            counted.sink("out", Discard::new());
        },
        |rows| (rows[0].key, rows.len() as i64, 0, 0, 0),
    );
}

#[derive(Record, Debug, Clone)]
struct Measured {
    key: i64,
    /// NaN for some.
    value: f64,
    id: i64,
}

fn measured(row: &Timed) -> Measured {
    Measured {
        key: row.key,
        value: if row.value % 4 == 0 { f64::NAN } else { row.value as f64 },
        id: row.id,
    }
}

/// The bits of a number; those of all that are none are the same.
fn bits(value: f64) -> i64 {
    if value.is_nan() { -1 } else { value.to_bits() as i64 }
}

fn shown(row: Measured) -> Line {
    (row.key, bits(row.value), row.id, 0, 0)
}

fn keyed_numbers(keyed: KeyedStream<Timed, i64>) -> KeyedStream<Measured, i64> {
    let rows = keyed.reduce(|kept, row| *kept = row);
    rows.map(|row: Timed| measured(&row)).key_by(Measured::FIELDS.key)
}

/// What is no number is an extreme as long as nothing else has come.
#[test]
fn extremes_of_floats() {
    fn numbers(rows: &[Timed]) -> Vec<Measured> {
        let measured = rows.iter().map(measured);
        measured.filter(|row| !row.value.is_nan()).collect()
    }
    check(
        |keyed, ttl| {
            let least = keyed_numbers(keyed).min(Measured::FIELDS.value);
            let least = match ttl {
                Some(ttl) => least.ttl(ttl),
                None => least,
            };
            least.map(shown).sink("out", Discard::new());
        },
        |rows| {
            let numbers = numbers(rows).into_iter().map(|row| row.value);
            let least = numbers.reduce(f64::min).unwrap_or(f64::NAN);
            (rows[0].key, bits(least), last(rows).id, 0, 0)
        },
    );
    check(
        |keyed, ttl| {
            let greatest = keyed_numbers(keyed).max_by(Measured::FIELDS.value);
            let greatest = match ttl {
                Some(ttl) => greatest.ttl(ttl),
                None => greatest,
            };
            greatest.map(shown).sink("out", Discard::new());
        },
        |rows| {
            let numbers = numbers(rows);
            let greatest = numbers.iter().map(|row| row.value).fold(f64::MIN, f64::max);
            let first = numbers.into_iter().find(|row| row.value >= greatest);
            shown(first.unwrap_or_else(|| measured(&last(rows))))
        },
    );
}
