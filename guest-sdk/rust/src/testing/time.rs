//! Watermarks: made from the times of rows, and merged over channels, as the host does.

use crate::bindings::dataflow::{WatermarkSource, Watermarks};

/// Before the first watermark.
pub(crate) const FIRST: i64 = i64::MIN;
/// Behind the last row.
pub(crate) const LAST: i64 = i64::MAX;

/// Makes watermarks of a split, or of a subtask.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    out_of_orderness: i64,
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
                WatermarkSource::Field(_) | WatermarkSource::Computed => 0,
            },
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

    /// When it falls idle, if no row comes.
    pub(crate) fn next_idle(&self) -> Option<i64> {
        let after = self.idle_after.filter(|_| !self.is_idle)?;
        Some(self.active_at.saturating_add(after))
    }

    /// Whether it falls idle now.
    pub(crate) fn falls_idle(&mut self, now: i64) -> bool {
        let falls = self.next_idle().is_some_and(|at| at <= now);
        self.is_idle |= falls;
        falls
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
