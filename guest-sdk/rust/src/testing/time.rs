//! Watermarks: made from the times of rows, and merged over channels, as the host does.

use crate::bindings::dataflow::{WatermarkSource, Watermarks};

/// Before the first watermark.
pub(crate) const FIRST: i64 = i64::MIN;
/// Behind the last row.
pub(crate) const LAST: i64 = i64::MAX;

/// How often a watermark that follows the clock is announced, in ms.
const CLOCK_INTERVAL: i64 = 200;

/// Makes watermarks of a split, or of a subtask.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    out_of_orderness: i64,
    /// How far it stays behind the clock, if it follows that.
    behind_clock: Option<i64>,
    /// When it is compared with the clock next.
    next_look: i64,
    idle_after: Option<i64>,
    pub(crate) watermark: i64,
    /// Processing time of the last row.
    active_at: i64,
    pub(crate) is_idle: bool,
}

impl Generator {
    pub(crate) fn new(strategy: &Watermarks, now: i64) -> Self {
        let millis = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Generator {
            out_of_orderness: match strategy.source {
                WatermarkSource::Bounded(ms) => millis(ms),
                WatermarkSource::Field(_) | WatermarkSource::Computed | WatermarkSource::Clock(_) => 0,
            },
            behind_clock: match strategy.source {
                WatermarkSource::Clock(ms) => Some(millis(ms)),
                WatermarkSource::Bounded(_) | WatermarkSource::Field(_) | WatermarkSource::Computed => None,
            },
            next_look: now,
            idle_after: strategy.idle_after_ms.map(millis),
            watermark: FIRST,
            active_at: now,
            is_idle: false,
        }
    }

    /// Rows come, of which these are the times.
    pub(crate) fn rows(&mut self, times: impl Iterator<Item = i64>, now: i64) {
        self.stay_active(now);
        if let Some(latest) = times.max() {
            self.raise(latest.saturating_sub(self.out_of_orderness).saturating_sub(1));
        }
    }

    /// Rows come.
    pub(crate) fn stay_active(&mut self, now: i64) {
        self.active_at = now;
        self.is_idle = false;
    }

    /// The time of rows that are taken in now.
    pub(crate) fn ingestion_time(&self, now: i64) -> i64 {
        match self.watermark {
            FIRST | LAST => now,
            watermark => now.max(watermark + 1),
        }
    }

    pub(crate) fn raise(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// It follows the clock, if it does.
    pub(crate) fn look(&mut self, now: i64) {
        if let Some(behind) = self.behind_clock {
            self.raise(now.saturating_sub(behind));
            self.next_look = now.saturating_add(CLOCK_INTERVAL);
        }
    }

    /// When it changes by itself, if no row comes.
    pub(crate) fn next_time(&self) -> Option<i64> {
        if self.behind_clock.is_some() {
            return Some(self.next_look);
        }
        let after = self.idle_after.filter(|_| !self.is_idle)?;
        Some(self.active_at.saturating_add(after))
    }

    /// Whether it changes now: it falls idle, or follows the clock.
    pub(crate) fn tick(&mut self, now: i64) -> bool {
        let is_due = self.next_time().is_some_and(|at| at <= now);
        if is_due {
            match self.behind_clock {
                Some(_) => self.look(now),
                None => self.is_idle = true,
            }
        }
        is_due
    }
}

/// What became of the merged watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Watermark(i64),
    Idle,
}

/// The least watermark of the inputs that are not idle; it never goes back.
#[derive(Debug, Clone)]
pub(crate) struct Merge {
    /// Watermark, and whether it is idle.
    inputs: Vec<(i64, bool)>,
    pub(crate) watermark: i64,
    is_idle: bool,
}

impl Merge {
    pub(crate) fn new(inputs: usize) -> Self {
        Merge {
            inputs: vec![(FIRST, false); inputs],
            watermark: FIRST,
            is_idle: false,
        }
    }

    /// Nothing ever comes over an input.
    pub(crate) fn leave_out(&mut self, input: usize) {
        self.inputs[input] = (LAST, false);
    }

    pub(crate) fn rows(&mut self, input: usize) {
        self.inputs[input].1 = false;
        self.is_idle = false;
    }

    pub(crate) fn watermark(&mut self, input: usize, watermark: i64) -> Option<Progress> {
        let entry = &mut self.inputs[input];
        *entry = (entry.0.max(watermark), false);
        self.progress()
    }

    pub(crate) fn idle(&mut self, input: usize) -> Option<Progress> {
        let entry = &mut self.inputs[input];
        entry.1 = entry.0 != LAST;
        self.progress()
    }

    fn progress(&mut self) -> Option<Progress> {
        let active = self.inputs.iter().filter(|input| !input.1);
        let least = active.map(|input| input.0).min();
        let some_idle = self.inputs.iter().any(|input| input.1);
        match least {
            // Ended inputs beside idle ones fire nothing: what is idle may wake up.
            Some(watermark) if watermark != LAST || !some_idle => {
                self.is_idle = false;
                let advances = watermark > self.watermark;
                self.watermark = self.watermark.max(watermark);
                advances.then_some(Progress::Watermark(watermark))
            }
            Some(_) | None => {
                let before = std::mem::replace(&mut self.is_idle, true);
                (!before).then_some(Progress::Idle)
            }
        }
    }
}
