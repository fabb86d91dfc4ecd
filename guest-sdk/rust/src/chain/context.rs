//! What a row carries with it through a chain, and what user code does beside putting out rows.

use std::fmt::{Display, Write as _};

use super::sides::{SideMarks, Sides};
use crate::bindings::operators::{Moment, Rejections, TimerOperations};
use crate::position;
use crate::values::Timestamp;

/// What travels beside the rows of a call: times, refused rows, timers, side outputs.
#[derive(Debug)]
pub struct RowContext {
    /// Input blocks carry `$time`.
    pub(crate) time_in: bool,
    /// Event time of the row at hand.
    pub(crate) time: i64,
    pub(crate) watermark: i64,
    pub(crate) now: i64,
    pub(crate) rejections: Rejections,
    /// The entry at hand was refused.
    rejected: bool,
    pub(crate) timers: TimerOperations,
    pub(crate) sides: Sides,
    side_marks: SideMarks,
}

/// Actions of timer operations, as the contract numbers them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TimerAction {
    SetEvent = 0,
    DeleteEvent = 1,
    SetProcessing = 2,
    DeleteProcessing = 3,
    /// Not of a timer: every key is to have its turn.
    Apply = 4,
}

impl RowContext {
    pub(crate) fn new(sides: Sides) -> Self {
        RowContext {
            time_in: false,
            time: i64::MIN,
            watermark: i64::MIN,
            now: 0,
            rejections: no_rejections(),
            rejected: false,
            timers: no_timers(),
            sides,
            side_marks: SideMarks::default(),
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, at: Moment) {
        self.watermark = at.watermark;
        self.now = at.now;
        self.time = i64::MIN;
    }

    /// A new entry begins, in a chain that can refuse.
    #[inline(always)]
    pub(crate) fn mark(&mut self) {
        self.rejected = false;
        if !self.sides.is_empty() {
            self.sides.mark(&mut self.side_marks);
        }
    }

    /// Whether the entry was refused; if so, its side outputs are taken back.
    #[inline(always)]
    pub(crate) fn undo_if_rejected(&mut self) -> bool {
        if self.rejected && !self.sides.is_empty() {
            self.sides.undo(&self.side_marks);
        }
        self.rejected
    }

    /// Whether the entry was refused by a function before.
    #[inline(always)]
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// The operator refuses the entry at hand.
    #[cold]
    pub(crate) fn reject(&mut self, operator: u32, cause: &dyn Display) {
        self.rejected = true;
        self.rejections.entries.push(position::entry());
        self.rejections.operators.push(operator);
        write!(self.rejections.causes, "{cause}").expect("writing to a string does not fail");
        self.rejections.cause_ends.push(self.rejections.causes.len() as u32);
    }

    /// Event time of the entry at hand, if it has one.
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        timestamp(self.time)
    }

    /// How far event time has come, if it has begun.
    pub(crate) fn watermark(&self) -> Option<Timestamp> {
        timestamp(self.watermark)
    }

    /// Processing time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// Sets or deletes a timer of the entry's key.
    pub(crate) fn timer(&mut self, action: TimerAction, time: i64) {
        self.timers.entries.push(position::entry());
        self.timers.times.push(time);
        self.timers.actions.push(action as u8);
    }

    pub(crate) fn take_rejections(&mut self) -> Rejections {
        std::mem::replace(&mut self.rejections, no_rejections())
    }

    pub(crate) fn take_timers(&mut self) -> TimerOperations {
        std::mem::replace(&mut self.timers, no_timers())
    }
}

/// A time as the contract has it, where the least stands for none.
fn timestamp(millis: i64) -> Option<Timestamp> {
    (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
}

fn no_rejections() -> Rejections {
    Rejections {
        entries: Vec::new(),
        operators: Vec::new(),
        causes: String::new(),
        cause_ends: Vec::new(),
    }
}

fn no_timers() -> TimerOperations {
    TimerOperations {
        entries: Vec::new(),
        times: Vec::new(),
        actions: Vec::new(),
    }
}
