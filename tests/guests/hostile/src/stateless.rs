//! What goes wrong in functions without state: always in the second of a chain of three.

use std::hint::black_box;

use millrace::prelude::*;

use crate::{Item, Number, Params, items};

/// The chain `first`, `middle`, `last`; `fail` is called on the row that goes wrong, in `middle`.
fn chain(flow: &Flow, params: &Params, fail: fn(i64) -> i64) {
    let row = params.row;
    items(flow, params)
        .map(|item: Item| Number { value: item.id })
        .name("first")
        .map(move |number: Number| Number {
            value: if number.value == row {
                fail(number.value)
            } else {
                number.value
            },
        })
        .name("middle")
        .filter(|number| number.value >= 0)
        .name("last")
        .sink("out", Discard::new().sum("value"));
}

fn endless(mut value: i64) -> i64 {
    loop {
        value = black_box(value.wrapping_mul(3));
    }
}

/// Not a tail call: the result is used, and so is the frame.
#[inline(never)]
fn recurse(depth: i64) -> i64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == i64::MIN {
        return 0;
    }
    recurse(depth + 1) ^ frame[black_box(7)]
}

/// The same without a frame in memory: the locals are on the machine's stack.
#[inline(never)]
fn recurse_flat(depth: i64) -> i64 {
    if depth == i64::MIN {
        return 0;
    }
    recurse_flat(depth.wrapping_add(1)).rotate_left(1) ^ depth
}

fn bomb(value: i64) -> i64 {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![value as u8; 1 << 20]));
    }
}

/// Takes all there is to address, and touches nothing of it.
fn reserve(_: i64) -> i64 {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(Vec::with_capacity(512 << 20)));
    }
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> bool {
    match params.kind.as_str() {
        "fine" => chain(flow, params, |value| value),
        "panic" => chain(flow, params, |value| panic!("the answer is not {value}")),
        "expect" => chain(flow, params, |value| {
            "no number".parse::<i64>().expect("a number was promised") + value
        }),
        "loop" => chain(flow, params, endless),
        "recursion" => chain(flow, params, recurse),
        "flat-recursion" => chain(flow, params, recurse_flat),
        "bomb" => chain(flow, params, bomb),
        "reserve" => chain(flow, params, reserve),
        "overflow" => chain(flow, params, |value| black_box(i64::MAX) + value),
        "divide" => chain(flow, params, |value| value / black_box(0)),
        "index" => chain(flow, params, |value| black_box([1, 2, 3])[value as usize]),
        "million" => many(flow, params, 1_000_000),
        "flood" => many(flow, params, u64::MAX),
        "computed-key" => computed_key(flow, params),
        "computed-time" => computed_time(flow, params),
        "try-fail" => refuse(flow, params, Reject::Fail),
        "try-skip" => refuse(flow, params, Reject::Skip),
        "try-dead-letter" => refuse(flow, params, Reject::dead_letter(&params.path)),
        "try-times" => times(flow, params),
        "try-undo" => undo(flow, params),
        "log-flood" => log_flood(flow, params),
        "files" => files(flow, params),
        _ => return false,
    }
    true
}

/// Puts out that many rows for one row, and each other row once.
fn many(flow: &Flow, params: &Params, count: u64) {
    let row = params.row;
    items(flow, params)
        .flat_map(move |item: Item, out: &mut Out<'_, Number>| {
            let count = if item.id == row { count } else { 1 };
            for _ in 0..count {
                out.push(Number { value: 1 });
            }
        })
        .name("many")
        .sink("out", Discard::new().sum("value"));
}

fn computed_key(flow: &Flow, params: &Params) {
    let row = params.row;
    items(flow, params)
        .map(|item: Item| item)
        .name("before")
        .key_by(move |item: &Item| {
            assert!(item.id != row, "no key for {}", item.id);
            item.key % 3
        })
        .count()
        .sink("out", Discard::new());
}

fn computed_time(flow: &Flow, params: &Params) {
    let row = params.row;
    items(flow, params)
        .map(|item: Item| item)
        .name("before")
        .watermarks(Watermarks::bounded_by(
            move |item: &Item| {
                assert!(item.id != row, "no time for {}", item.id);
                item.time
            },
            Duration::ZERO,
        ))
        .key_by(Item::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(100)))
        .count()
        .sink("out", Discard::new());
}

/// Every thousandth row from `row` on is refused.
fn is_bad(id: i64, row: i64) -> bool {
    id >= row && (id - row) % 1000 == 0
}

fn refuse(flow: &Flow, params: &Params, reject: Reject) {
    let row = params.row;
    items(flow, params)
        .map(|item: Item| Number { value: item.id })
        .name("first")
        .try_map(move |number: Number| {
            if is_bad(number.value, row) {
                Err(format!("{} is a bad number", number.value))
            } else {
                Ok(number)
            }
        })
        .name("careful")
        .on_reject(reject)
        .sink("out", Discard::new().sum("value"));
}

/// A row with a time.
#[derive(Record, Clone, Debug)]
struct Moment {
    id: i64,
    at: Timestamp,
}

/// Refuses or, without a path, panics.
fn times(flow: &Flow, params: &Params) {
    let (row, panics) = (params.row, params.path.is_empty());
    let generator = Generator::new().rows(2_000).column("id", "index").column("at", "index");
    let moments: Stream<Rows<Moment>> = flow.source("moments", generator);
    moments
        .try_map(move |moment: Moment| {
            assert!(!(panics && moment.id == row), "too late");
            if moment.id == row { Err("late") } else { Ok(moment) }
        })
        .name("careful")
        .on_reject(Reject::dead_letter(if panics { "/dev/null" } else { &params.path }))
        .sink("out", Discard::new());
}

/// Rows put out before the error must not come out, and the error may come from the second half of a chain.
fn undo(flow: &Flow, params: &Params) {
    let row = params.row;
    items(flow, params)
        .flat_map(|item: Item, out: &mut Out<'_, Number>| {
            out.push(Number { value: item.id });
            out.push(Number { value: item.id });
        })
        .name("twice")
        .try_flat_map(move |number: Number, out: &mut Out<'_, Number>| {
            out.push(number.clone());
            if is_bad(number.value, row) {
                return Err("half done");
            }
            out.push(number);
            Ok(())
        })
        .name("careful")
        .on_reject(Reject::Skip)
        .sink("out", Discard::new().sum("value"));
}

fn log_flood(flow: &Flow, params: &Params) {
    items(flow, params)
        .inspect(|item| {
            for line in 0..10 {
                info!("row {} line {line}", item.id);
            }
        })
        .sink("out", Discard::new());
}

/// Writes files, small ones, and panics on the row.
fn files(flow: &Flow, params: &Params) {
    let row = params.row;
    items(flow, params)
        .map(move |item: Item| {
            assert!(item.id != row, "no further");
            Number { value: item.id }
        })
        .name("write")
        .sink("out", Files::to_csv(&params.path).roll_rows(100));
}
