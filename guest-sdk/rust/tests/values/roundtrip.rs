//! Property: rows of a rich record, chosen at random, come back from a block as they went in; also after
//! rows were dropped from the builder, and from a builder that is used again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millrace::value::Builder;
use millrace::values::{Bytes, Date, Decimal, LocalTimestampMicros, Time, Timestamp};
use millrace::{Record, Value};

use crate::{finish, read, write};

#[derive(Record, Debug, Clone, PartialEq)]
struct Rich<'a> {
    numbers: (i8, u16, i32, u64, f32, f64),
    flag: bool,
    maybe: Option<bool>,
    text: &'a str,
    other: Cow<'a, str>,
    owned: Option<String>,
    bytes: &'a [u8],
    more: Option<Bytes>,
    hash: [u8; 5],
    price: Option<Decimal<12, 3>>,
    times: (Timestamp, Date, Option<Time>, LocalTimestampMicros),
    words: Vec<&'a str>,
    grid: Option<Vec<Vec<Option<i16>>>>,
    counts: BTreeMap<&'a str, Option<u32>>,
    event: Event<'a>,
    last: Option<Event<'a>>,
    history: Vec<Event<'a>>,
}

#[derive(Record, Debug, Clone, PartialEq)]
enum Event<'a> {
    None,
    Moved { x: f64, y: Option<f64> },
    Said(&'a str),
    Pair(i64, Vec<u8>),
    Nested(Inner<'a>),
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Inner<'a> {
    name: &'a str,
    switch: Option<Switch>,
}

#[derive(Record, Debug, Clone, PartialEq)]
enum Switch {
    Off,
    On,
}

const TEXT: &str = "the quick brown føx jumps over 雨 and the lazy dog";

/// Random numbers (xorshift), the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) > 0).then(|| value(self))
    }

    fn list<T>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| value(self)).collect()
    }

    fn text(&mut self) -> &'static str {
        let words: Vec<&str> = TEXT.split_inclusive(' ').collect();
        let start = self.below(words.len() as u64) as usize;
        let length = words[start..]
            .iter()
            .take(self.below(4) as usize)
            .map(|word| word.len())
            .sum::<usize>();
        let before: usize = words[..start].iter().map(|word| word.len()).sum();
        &TEXT[before..before + length]
    }

    fn event(&mut self) -> Event<'static> {
        match self.below(5) {
            0 => Event::None,
            1 => Event::Moved {
                x: self.next() as f64,
                y: self.option(|random| random.next() as f64),
            },
            2 => Event::Said(self.text()),
            3 => Event::Pair(self.next() as i64, self.list(|random| random.next() as u8)),
            _ => Event::Nested(Inner {
                name: self.text(),
                switch: self.option(|random| if random.below(2) == 0 { Switch::Off } else { Switch::On }),
            }),
        }
    }

    fn rich(&mut self) -> Rich<'static> {
        let n = self.next();
        Rich {
            numbers: (n as i8, n as u16, n as i32, n, n as f32, n as f64),
            flag: self.below(2) == 0,
            maybe: self.option(|random| random.below(2) == 0),
            text: self.text(),
            other: Cow::Borrowed(self.text()),
            owned: self.option(|random| random.text().to_owned()),
            bytes: self.text().as_bytes(),
            more: self.option(|random| Bytes::from(random.text().as_bytes())),
            hash: std::array::from_fn(|_| self.next() as u8),
            price: self.option(|random| Decimal::from_units(i128::from(random.next() as i32))),
            times: (
                Timestamp::from_millis(self.next() as i64),
                Date::from_days(self.next() as i32),
                self.option(|random| Time::from_micros(random.below(86_400_000_000) as i64)),
                LocalTimestampMicros::from_micros(self.next() as i64),
            ),
            words: self.list(Random::text),
            grid: self.option(|random| {
                random.list(|random| random.list(|random| random.option(|random| random.next() as i16)))
            }),
            counts: self
                .list(|random| (random.text(), random.option(|random| random.next() as u32)))
                .into_iter()
                .collect(),
            event: self.event(),
            last: self.option(Random::event),
            history: self.list(Random::event),
        }
    }
}

#[test]
fn rows_come_back() {
    for seed in 1..200 {
        let mut random = Random(seed * 0x9e37_79b9_7f4a_7c15);
        let rows: Vec<Rich<'static>> = (0..random.below(40)).map(|_| random.rich()).collect();
        let block = write::<Rich<'static>>(rows.clone());
        assert_eq!(read::<Rich<'static>>(&block), rows, "seed {seed}");
    }
}

#[test]
fn rows_may_be_dropped_and_builders_used_again() {
    let mut builder = <Option<Rich<'static>> as Value>::Builder::default();
    for seed in 1..200 {
        let mut random = Random(seed * 0x9e37_79b9_7f4a_7c15);
        let mut rows: Vec<Option<Rich<'static>>> = Vec::new();
        for _ in 0..random.below(60) {
            if random.below(8) == 0 {
                rows.truncate(random.below(rows.len() as u64 + 1) as usize);
                builder.truncate(rows.len());
            } else {
                rows.push(random.option(Random::rich));
                <Option<Rich<'static>>>::push(&mut builder, rows.last().expect("one was pushed").clone());
            }
            assert_eq!(builder.rows(), rows.len());
        }
        let block = finish(&mut builder);
        assert_eq!(read::<Option<Rich<'static>>>(&block), rows, "seed {seed}");
    }
}

#[test]
fn dropped_rows_leave_no_trace() {
    let mut random = Random(7);
    let rows: Vec<Rich<'static>> = (0..9).map(|_| random.rich()).collect();
    let mut builder = <Rich<'static> as Value>::Builder::default();
    for row in rows.iter().cloned() {
        <Rich<'static>>::push(&mut builder, row);
        for _ in 0..random.below(5) {
            let kept = builder.rows();
            <Rich<'static>>::push(&mut builder, random.rich());
            <Rich<'static>>::push_default(&mut builder);
            builder.truncate(kept);
        }
    }
    assert_eq!(
        finish(&mut builder).into_parts(),
        write::<Rich<'static>>(rows).into_parts()
    );
}
