//! Watermarks that rows say, by a field, by closures and by a generator with a state: how far event time has come when each
//! row is there, and which timers are due.

use std::collections::BTreeSet;

use millrace::prelude::*;
use millrace::stream::{WatermarkGenerator, generator};
use millrace::testing::Job;

use super::drive::{Came, Drive, Line, Model, SOURCES, Timed, drive_seeds, untimed};
use crate::random::Random;

/// How rows say the watermark.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    /// By the field `mark`, behind the source.
    Field,
    /// By the same field, behind a function.
    FieldOfFunction,
    /// By a closure.
    Closure,
    /// By a closure, as does the time.
    Both,
    /// By [`Lagging`].
    Generator,
}

/// Stays behind the latest row by as much as rows were out of order lately; says nothing each third time.
#[derive(Debug, Clone)]
struct Lagging {
    latest: i64,
    behind: i64,
    rows: i64,
}

impl Lagging {
    fn new() -> Self {
        Lagging {
            latest: i64::MIN,
            behind: 0,
            rows: 0,
        }
    }
}

impl WatermarkGenerator<Timed> for Lagging {
    fn next(&mut self, row: &Timed) -> Option<Timestamp> {
        self.latest = self.latest.max(row.time);
        self.behind = (self.latest - row.time).max(self.behind - 2);
        self.rows += 1;
        (self.rows % 3 != 0).then(|| Timestamp::from_millis(self.latest - self.behind))
    }
}

/// Tells of each row where the watermark is, and sets a timer a little later than the row.
struct Telling;

/// How long after a row its timer is.
const LATER_MS: i64 = 4;

fn watermark_of(watermark: Option<Timestamp>) -> i64 {
    watermark.map_or(i64::MIN, Timestamp::millis)
}

impl KeyedProcess for Telling {
    type In = Timed;
    type Key = i64;
    type Out = Line;

    fn process(&mut self, row: Timed, cx: &mut Context<'_, Self>) {
        let watermark = watermark_of(cx.watermark());
        if row.time + LATER_MS > watermark {
            cx.set_event_timer(Timestamp::from_millis(row.time + LATER_MS));
        }
        cx.push((row.key, 0, row.id, row.time, watermark));
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        cx.push((timer.key, 1, timer.time.millis(), 0, 0));
    }
}

fn build(flow: &Flow, said: Said) {
    let rows = untimed(flow, 0);
    let at = || Watermarks::monotonic(Timed::FIELDS.time);
    let timed = match said {
        Said::Field => rows.watermarks(at().punctuated(Timed::FIELDS.mark)),
        Said::FieldOfFunction => {
            let rows = rows.filter(|row| row.id > 0);
            rows.watermarks(at().punctuated(Timed::FIELDS.mark))
        }
        Said::Closure => rows.watermarks(at().punctuated(|row: &Timed| row.mark)),
        Said::Both => {
            let at = Watermarks::bounded_by(|row: &Timed| row.time, Duration::ZERO);
            rows.watermarks(at.punctuated(|row: &Timed| row.mark.map(Timestamp::from_millis)))
        }
        Said::Generator => rows.watermarks(at().punctuated(generator(Lagging::new()))),
    };
    let told = timed.key_by(Timed::FIELDS.key).process(|_| Telling);
    told.sink("out", Discard::new());
}

struct Told {
    said: Said,
    /// Rows since the job began, and their latest time: what a generator may keep.
    seen: Vec<i64>,
    watermark: i64,
    /// By time and key.
    timers: BTreeSet<(i64, i64)>,
}

impl Told {
    fn new(said: Said) -> Self {
        Told {
            said,
            seen: Vec::new(),
            watermark: i64::MIN,
            timers: BTreeSet::new(),
        }
    }

    /// What [`Lagging`] says of the last row, from all rows that it has seen.
    fn lagging(&self) -> Option<i64> {
        let mut behind = 0;
        let mut latest = i64::MIN;
        for &time in &self.seen {
            latest = latest.max(time);
            behind = (latest - time).max(behind - 2);
        }
        (!self.seen.len().is_multiple_of(3)).then_some(latest - behind)
    }
}

impl Model for Told {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        if row.time + LATER_MS > self.watermark {
            self.timers.insert((row.time + LATER_MS, row.key));
        }
        let told = (row.key, 0, row.id, row.time, self.watermark);
        came.out.push((row.time, told));
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        self.watermark = watermark.max(self.watermark);
        while let Some((time, key)) = self.timers.first().copied().filter(|timer| timer.0 <= watermark) {
            self.timers.remove(&(time, key));
            came.out.push((time, (key, 1, time, 0, 0)));
        }
    }

    /// The greatest that a row of the block says.
    fn said(&mut self, rows: &[Timed]) -> Option<i64> {
        if self.said != Said::Generator {
            return rows.iter().filter_map(|row| row.mark).max();
        }
        let mut said = None;
        for row in rows {
            self.seen.push(row.time);
            said = said.max(self.lagging());
        }
        said
    }

    /// What the generator kept is lost.
    fn restarted(&mut self) {
        self.seen.clear();
    }
}

#[test]
fn event_time_comes_as_far_as_rows_say() {
    for said in [
        Said::Field,
        Said::FieldOfFunction,
        Said::Closure,
        Said::Both,
        Said::Generator,
    ] {
        let drive = Drive {
            raises: said == Said::Field,
            ..Drive::ONE
        };
        let (out, _) = drive_seeds(drive, 0..16, move |flow| build(flow, said), || Told::new(said));
        assert!(out > 2_000, "{out} rows and timers, {said:?}");
    }
}

/// By a field each split has a watermark of its own, and the least counts.
#[test]
fn every_split_says_how_far_it_has_come() {
    for splits in [2, 3] {
        let drive = Drive { splits, ..Drive::ONE };
        let told = || Told::new(Said::Field);
        let (out, _) = drive_seeds(drive, 0..16, |flow| build(flow, Said::Field), told);
        assert!(out > 2_000, "{out} rows and timers, {splits} splits");
    }
}

/// How far event time stays behind the clock, and how often it is compared with it.
const LAG_MS: i64 = 70;
const INTERVAL_MS: i64 = 200;

fn behind_clock(flow: &Flow, of_function: bool) {
    let rows = untimed(flow, 0);
    let watermarks = Watermarks::monotonic(Timed::FIELDS.time).behind_clock(Duration::from_millis(LAG_MS as u64));
    let timed = match of_function {
        true => rows.filter(|row| row.id > 0).watermarks(watermarks),
        false => rows.watermarks(watermarks),
    };
    let told = timed.key_by(Timed::FIELDS.key).process(|_| Telling);
    told.sink("out", Discard::new());
}

/// With each row, and when none has come for a while; timers are due whether rows come or not.
#[test]
fn event_time_comes_as_far_as_the_clock() {
    for (seed, of_function) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let build = move |flow: &Flow| behind_clock(flow, of_function);
        let mut random = Random::new(seed);
        let mut job = Job::new(build);
        let mut now = job.processing_time().millis();
        let (mut watermark, mut next_look) = (i64::MIN, now);
        let mut timers = BTreeSet::new();
        let due = |timers: &mut BTreeSet<(i64, i64)>, watermark: i64| -> Vec<Line> {
            let due = timers.iter().filter(|(time, _)| *time <= watermark);
            let due = due.map(|&(time, key)| (key, 1, time, 0, 0)).collect();
            timers.retain(|(time, _)| *time > watermark);
            due
        };
        for id in 1..200 {
            let told = format!("row {id} of seed {seed}, behind a function: {of_function}");
            let until = now + random.below(300);
            job.advance_processing_time(Duration::from_millis((until - now) as u64));
            while next_look <= until {
                watermark = watermark.max(next_look - LAG_MS);
                next_look += INTERVAL_MS;
            }
            assert_eq!(sorted(&mut job), ordered(due(&mut timers, watermark)), "before {told}");
            now = until;
            let row = Timed {
                key: random.below(3),
                value: 0,
                id,
                time: now - random.below(200),
                mark: None,
            };
            job.push(SOURCES[0], row.clone());
            if row.time + LATER_MS > watermark {
                timers.insert((row.time + LATER_MS, row.key));
            }
            let mut expect = vec![(row.key, 0, row.id, row.time, watermark)];
            watermark = watermark.max(now - LAG_MS);
            next_look = now + INTERVAL_MS;
            expect.extend(due(&mut timers, watermark));
            assert_eq!(sorted(&mut job), ordered(expect), "{told}");
            if id % 50 == 0 {
                job.restart();
                next_look = now;
            }
        }
    }
}

fn ordered(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_unstable();
    lines
}

fn sorted(job: &mut Job) -> Vec<Line> {
    ordered(job.take("out"))
}
