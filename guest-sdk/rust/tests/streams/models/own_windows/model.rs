//! What windows of users are to do, said naively: every window has all its rows and timers, and each is looked at for
//! everything.

use std::collections::BTreeSet;

use millrace::prelude::*;
use millrace::testing::Job;

use super::super::drive::{Came, Model, Timed, ms};
use super::custom::{DAY_MS, FRESH_MS, LOOK_MS, MILESTONE};
use super::{Assign, Setting};

#[derive(Debug, Clone)]
struct Open {
    key: i64,
    start: i64,
    end: i64,
    /// With their times, by the window's clock.
    rows: Vec<(i64, Timed)>,
    /// Sum of values since the last milestone.
    sum: i64,
    /// When the clock has the window looked at.
    look: Option<i64>,
    /// It fires at its end.
    at_end: bool,
}

/// What becomes of a window: whether it fires, and whether its rows are dropped then.
type Verdict = (bool, bool);

const NOTHING: Verdict = (false, false);

/// All windows that take rows still.
pub(super) struct Windows {
    setting: Setting,
    open: Vec<Open>,
    watermark: i64,
    now: i64,
}

impl Windows {
    pub(super) fn new(setting: Setting) -> Self {
        Windows {
            setting,
            open: Vec::new(),
            watermark: i64::MIN,
            now: 0,
        }
    }

    fn is_global(&self) -> bool {
        self.setting.assign == Assign::Global
    }

    fn is_of_event_time(&self) -> bool {
        !self.setting.processing && !self.is_global()
    }

    fn has_ended(&self, window: &Open) -> bool {
        self.is_of_event_time() && window.end - 1 <= self.watermark
    }

    /// When a window is given up, by its clock.
    fn over(&self, window: &Open) -> Option<i64> {
        let lateness = if self.setting.processing {
            0
        } else {
            self.setting.lateness
        };
        (!self.is_global()).then(|| self.end_of(window) + lateness)
    }

    /// The watermark passes the last millisecond of a window; the clock comes to its end.
    fn end_of(&self, window: &Open) -> i64 {
        if self.setting.processing {
            window.end
        } else {
            window.end - 1
        }
    }

    fn assigned(&self, time: i64, value: i64) -> Vec<(i64, i64)> {
        match self.setting.assign {
            Assign::Global => vec![(Window::GLOBAL.start.millis(), Window::GLOBAL.end.millis())],
            Assign::Visits => {
                // Up to midnight at most.
                let day = |time: i64| time.div_euclid(DAY_MS);
                let mut ends = (time + 1..=time + 1 + value % 12).rev();
                let last = ends.find(|end| day(end - 1) == day(time));
                last.map(|end| (time, end)).into_iter().collect()
            }
            Assign::Scattered if value % 5 == 0 => Vec::new(),
            Assign::Scattered => {
                let twenty = time - time.rem_euclid(20);
                let around = Some((time - value % 7, time + 1 + value % 9));
                let common = (value % 2 == 0).then_some((twenty, twenty + 20));
                let later = (value % 3 == 0).then_some((time + 5, time + 15));
                [around, common, later].into_iter().flatten().collect()
            }
        }
    }

    /// The window of these bounds with all that become one with it, taken out of the others.
    fn take(&mut self, key: i64, start: i64, end: i64) -> Open {
        let merges = self.setting.assign == Assign::Visits;
        let is_part = |other: &Open| {
            let is_same = (other.start, other.end) == (start, end);
            let overlaps = (start..end).any(|time| other.start <= time && time < other.end);
            other.key == key && (is_same || merges && overlaps)
        };
        let (parts, others): (Vec<Open>, Vec<Open>) = self.open.drain(..).partition(is_part);
        self.open = others;
        let mut window = Open {
            key,
            start: parts.iter().map(|part| part.start).fold(start, i64::min),
            end: parts.iter().map(|part| part.end).fold(end, i64::max),
            rows: Vec::new(),
            sum: parts.iter().map(|part| part.sum).sum(),
            look: parts.iter().filter_map(|part| part.look).min(),
            at_end: false,
        };
        let is_new = parts.len() != 1 || (parts[0].start, parts[0].end) != (window.start, window.end);
        window.at_end = match is_new {
            true => !parts.is_empty() && !self.is_global() && !self.has_ended(&window),
            false => parts[0].at_end,
        };
        window.rows = parts.into_iter().flat_map(|part| part.rows).collect();
        window
    }

    /// A row was added to the window.
    fn on_row(&self, window: &mut Open, value: i64) -> Verdict {
        let ended = self.has_ended(window);
        if !self.setting.trigger {
            window.at_end |= !ended;
            return (ended, false);
        }
        window.sum += value;
        if ended {
            return (true, false);
        }
        window.at_end = !self.is_global();
        window.look = window.look.or(Some(self.now + LOOK_MS[0]));
        if value % 17 == 0 {
            // A window has one timer for a time.
            window.at_end &= !self.setting.processing || window.look != Some(window.end);
            window.look = None;
        }
        if value % 13 == 0 {
            return (false, true);
        }
        if window.sum < MILESTONE {
            return NOTHING;
        }
        window.sum = 0;
        (true, value % 2 != 0)
    }

    /// The clock has come to where the window is looked at, or to its end.
    fn on_look(&self, window: &mut Open, time: i64) -> Verdict {
        let looks = window.look == Some(time);
        if self.setting.processing && window.at_end && time == window.end {
            window.at_end = false;
            return (true, self.setting.trigger);
        }
        if !looks {
            return NOTHING;
        }
        window.look = (window.sum > 0).then_some(time + LOOK_MS[1]);
        (true, false)
    }

    fn carry_out(&self, window: &mut Open, (fires, purges): Verdict, time: i64, came: &mut Came) {
        if fires && !window.rows.is_empty() {
            if self.setting.evictor {
                let latest = window.rows.iter().map(|row| row.0).max().unwrap_or(0);
                window
                    .rows
                    .retain(|row| latest - row.0 < FRESH_MS && row.1.value % 10 != 0);
            }
            let (count, sum) = (
                window.rows.len() as i64,
                window.rows.iter().map(|row| row.1.value).sum(),
            );
            if count > 0 {
                let time = if self.is_global() { time } else { window.end - 1 };
                came.out
                    .push((time, (window.key, window.start, window.end, count, sum)));
            }
            if self.setting.evictor {
                window.rows.sort_by_key(|row| (row.0, row.1.id));
                let left = window.rows.len().saturating_sub(3);
                window.rows.drain(..left);
            }
        }
        if purges {
            window.rows.clear();
        }
    }

    /// Goes on to the next moment at which something is due, up to `upto`; none: nothing is.
    fn next(&self, upto: i64, due: impl Fn(&Open) -> Vec<i64>) -> Option<i64> {
        let times = self.open.iter().flat_map(due);
        times.min().filter(|&time| time <= upto)
    }

    fn each(&mut self, mut act: impl FnMut(&Self, &mut Open) -> bool) {
        let mut open = std::mem::take(&mut self.open);
        open.retain_mut(|window| act(self, window));
        self.open = open;
    }
}

impl Model for Windows {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        let time = if self.is_of_event_time() { row.time } else { self.now };
        let mut is_taken = false;
        for (start, end) in self.assigned(time, row.value) {
            let mut window = self.take(row.key, start, end);
            if self.is_of_event_time() && self.over(&window) <= Some(self.watermark) {
                continue;
            }
            is_taken = true;
            window.rows.push((time, row.clone()));
            let verdict = self.on_row(&mut window, row.value);
            self.carry_out(&mut window, verdict, row.time, came);
            self.open.push(window);
        }
        if !is_taken && self.is_of_event_time() && row.time + self.setting.lateness <= self.watermark {
            came.late.push((row.time, row.clone()));
        }
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        self.watermark = watermark;
        if !self.is_of_event_time() {
            if watermark == i64::MAX && !self.is_global() {
                // The end of the input ends windows of the clock too.
                self.each(|model, window| {
                    let time = window.end;
                    let verdict = model.on_look(window, time);
                    model.carry_out(window, verdict, time, came);
                    false
                });
            }
            return;
        }
        let lateness = self.setting.lateness;
        let due = |window: &Open| {
            let end = window.at_end.then_some(window.end - 1);
            [end, Some(window.end - 1 + lateness)].into_iter().flatten().collect()
        };
        while let Some(time) = self.next(watermark, due) {
            self.each(|model, window| {
                if window.at_end && window.end - 1 == time {
                    window.at_end = false;
                    model.carry_out(window, (true, false), time, came);
                }
                model.over(window) != Some(time)
            });
        }
    }

    fn clock(&mut self, now: i64, came: &mut Came) {
        let by_clock = self.setting.processing;
        let due = move |window: &Open| {
            let end = by_clock.then_some(window.end);
            [window.look, end].into_iter().flatten().collect()
        };
        while let Some(time) = self.next(now, due) {
            self.now = time;
            self.each(|model, window| {
                let verdict = model.on_look(window, time);
                let at = model.watermark;
                model.carry_out(window, verdict, at, came);
                !(model.setting.processing && model.over(window) == Some(time))
            });
        }
        self.now = now;
    }

    /// Keys go with their last window.
    fn inspect(&self, job: &mut Job, told: &str) {
        if self.watermark == i64::MAX {
            // A timer that was due already comes for no window.
            job.advance_processing_time(ms(1));
        }
        let keys: BTreeSet<i64> = self.open.iter().map(|window| window.key).collect();
        assert_eq!(
            job.keys::<i64>("windows"),
            Vec::from_iter(keys),
            "{:?}, {told}",
            self.setting
        );
    }
}
