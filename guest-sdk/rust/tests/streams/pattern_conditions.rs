//! Conditions that look at the rows a match has before, and what becomes of matches that run out of time, against the
//! definition: every start and every row behind it, tried one by one.

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use crate::random::Random;

#[derive(Record, Debug, Clone, Copy, PartialEq)]
struct Price {
    share: i64,
    cents: i64,
}

/// A match, or a row of one that ran out of time.
#[derive(Record, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    share: i64,
    rows: String,
}

static OVER: OutputTag<Found> = OutputTag::new("over");

const WITHIN: i64 = 6;

/// Small steps are of prices; a step is large if it more than doubles the first.
fn is_step(cents: i64, first: i64) -> bool {
    cents % 3 == 0 || cents > 2 * first
}

/// What ends the steps: a price below the last one.
fn falls(cents: i64, last: i64) -> bool {
    cents < last
}

fn steps(flow: &Flow) {
    let pattern = Pattern::<Price>::begin("first")
        .where_(|price| price.cents % 2 == 0)
        .followed_by("steps")
        .where_(|price| price.cents % 3 == 0)
        .or_iterative(|price, before| {
            before
                .first("first")
                .is_some_and(|first| is_step(price.cents, first.cents))
        })
        .one_or_more()
        .consecutive()
        .until_iterative(|price, before| {
            before
                .iter()
                .last()
                .is_some_and(|(_, last)| falls(price.cents, last.cents))
        })
        .followed_by("end")
        .where_(|price| price.cents == 1)
        .within(Duration::from_millis(WITHIN as u64));
    let text = |rows: &mut dyn Iterator<Item = i64>| rows.map(|cents| cents.to_string()).collect::<Vec<_>>().join(" ");
    let found = testing::source::<Price>(flow, "prices")
        .key_by(Price::FIELDS.share)
        .pattern(pattern)
        .flat_timed_out(&OVER, |begun| {
            let share = begun.key();
            let rows = begun
                .iter()
                .map(|(stage, price)| format!("{} {}", &stage[..1], price.cents));
            rows.map(|rows| Found { share, rows }).collect::<Vec<_>>()
        })
        .select(move |found| Found {
            share: found.key(),
            rows: text(&mut found.iter().map(|(_, price)| price.cents)),
        })
        .uid("steps");
    found.side_output(&OVER).sink("over", Discard::new());
    found.sink("found", Discard::new());
}

/// A partial match: its rows (first and steps), and whether it goes on with steps, or waits for its end.
#[derive(Clone)]
struct Begun {
    rows: Vec<i64>,
    start: i64,
    /// More steps may come.
    repeats: bool,
    /// An end may come.
    ends: bool,
}

/// Matches and what ran out of time, of the rows of one key: (time, cents), in order.
fn expected(share: i64, rows: &[(i64, i64)], end: i64) -> (Vec<Found>, Vec<Found>) {
    let (mut found, mut over, mut begun) = (Vec::new(), Vec::new(), Vec::<Begun>::new());
    let out = |match_: &Begun, over: &mut Vec<Found>| {
        over.extend(match_.rows.iter().enumerate().map(|(at, cents)| Found {
            share,
            rows: format!("{} {cents}", if at == 0 { "f" } else { "s" }),
        }));
    };
    for &(time, cents) in rows {
        let mut next = Vec::new();
        for mut one in std::mem::take(&mut begun) {
            if time - one.start >= WITHIN {
                out(&one, &mut over);
                continue;
            }
            let (first, last) = (one.rows[0], one.rows[one.rows.len() - 1]);
            let takes = one.repeats && is_step(cents, first) && !falls(cents, last);
            if takes {
                let mut longer = one.clone();
                longer.rows.push(cents);
                longer.ends = true;
                next.push(longer);
            }
            if one.ends && cents == 1 {
                let all = one.rows.iter().chain([&cents]).map(i64::to_string);
                found.push(Found {
                    share,
                    rows: all.collect::<Vec<_>>().join(" "),
                });
                one.ends = false;
            }
            // The first step may wait, until a price falls; the others follow at once.
            one.repeats = one.repeats && !takes && one.rows.len() == 1 && !falls(cents, last);
            if one.repeats || one.ends {
                next.push(one);
            }
        }
        begun = next;
        if cents % 2 == 0 {
            begun.push(Begun {
                rows: vec![cents],
                start: time,
                repeats: true,
                ends: false,
            });
        }
    }
    begun.retain(|one| end - one.start >= WITHIN);
    begun.iter().for_each(|one| out(one, &mut over));
    (found, over)
}

#[test]
fn every_match_is_one_by_definition() {
    let mut matches = 0;
    for seed in 0..60u64 {
        let mut random = Random::new(seed);
        let mut job = Options::new().parallelism(1 + seed as u32 % 3).seed(seed).start(steps);
        let mut rows = [Vec::new(), Vec::new()];
        for time in 1..=60 {
            let (share, cents) = (random.below(2), random.below(8));
            rows[share as usize].push((time, cents));
            job.push_at("prices", time, Price { share, cents });
            if random.below(10) == 0 {
                job.watermark("prices", time - random.below(4));
            }
            if random.below(25) == 0 {
                job.restart();
            }
        }
        job.finish();
        let all = [0, 1].map(|share| expected(share, &rows[share as usize], i64::MAX));
        let check = |job: &mut Job, sink: &str, mut expected: Vec<Found>| {
            let mut found = job.take::<Found>(sink);
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{sink}, seed {seed}: {rows:?}");
            expected.len()
        };
        let [(found, over), (others, more)] = all;
        matches += check(&mut job, "found", [found, others].concat());
        check(&mut job, "over", [over, more].concat());
    }
    assert!(matches > 100, "{matches}");
}
