//! Windows: rows of a key gathered by time, by number, or as one likes.
//!
//! Tumbling and sliding windows and sessions of event time are done by the host, which needs the pipeline only for
//! accumulators. Windows with another assigner, clock, trigger or evictor, and functions with states of their own, run in
//! the pipeline, over keyed state and timers. Which it is follows from what is asked for. The host's are some times faster:
//! it shares what sliding windows have in common, and fires windows together.
//!
//! # What surprises
//!
//! The semantics are Apache Flink's, with what follows from them:
//!
//! - **A trigger replaces the end of the window.** With [`CountTrigger::of`] alone, rows that came since the last firing are
//!   dropped when the window ends. Say [`CountTrigger::or_at_end`]. The continuous triggers fire at the end by themselves,
//!   the one of processing time too (Flink's does not), and so does [`ProcessingTimeoutTrigger`] (Flink's too).
//!   [`ProcessingTimeTrigger`] on windows of event time does not wait for them: what is over by event time first, as all windows
//!   are at the end of a bounded input, is dropped.
//! - **Triggers do not purge.** A window that fires early keeps its rows, so each result includes those before: sinks should
//!   replace, not add. With [`PurgingTrigger`] each result is of what came since the last, and so is that of late rows.
//! - **Late rows make updates.** Within the allowed lateness a window fires again: windows of the pipeline at each late row,
//!   those of the host once for the late rows of a block.
//! - **An evictor keeps all rows**, also behind `sum` or `aggregate`, which then begin anew at each firing. What it takes out
//!   is gone for later firings. If it leaves no row the function is not called (Flink calls it with none).
//! - **Sessions merge when a row falls between two**: counts of a trigger are added up, and the next row may fire. Triggers that
//!   [cannot merge](Trigger::merges), such as [`DeltaTrigger`], are refused, and so are [states of windows](OfWindow).
//! - **Sliding windows with a slide longer than their length** have gaps between them, whose rows are in none and are dropped.
//!   They are late if they come so late that a window which ended with them would take no more rows.
//! - **Windows that never end are state that never goes.** [`GlobalWindows`] keep what was not purged as long as the key
//!   may come. A count window that is empty is forgotten. Rows put out by [`GlobalWindows`] have the time of the row or
//!   timer that made them fire (Flink: the end of time, so that windows behind it never see them in time).
//! - **Processing time goes on while a job is down.** After a recovery rows that are read again are in other windows than
//!   before, and windows whose end has passed meanwhile fire at once. Results depend on when the job ran; nothing is late.
//! - **The end of a bounded input ends windows of processing time** as it does those of event time, and so does a drain
//!   (Flink drops them). A stop keeps them.
//! - **Joins and co-groups see both streams as one** ([`TaggedUnion`](crate::join::TaggedUnion)): a count is of the rows of both,
//!   and so are the last rows that an evictor leaves. Each firing puts out all pairs of the window, and, in an outer join, the
//!   rows that have no partner then.
//! - **A watermark that jumps** over many boundaries of [`ContinuousEventTimeTrigger`] makes one result, not many that are equal.
//!
//! # What is stored
//!
//! A window of the pipeline is an entry in lists that belong to the key: state `windows` has each window's `start`, `end`, what
//! the trigger keeps (`state`) and its timers; the state named after the function (`sum`, `process`) what is kept of the rows
//! (`value`), or `rows` all of them with their times, for an evictor; a [state of windows](OfWindow) its `value` for each. They can
//! be read and changed in savepoints as any state.
//!
//! A job goes on with the windows that it had: with others, or where they get a trigger or lose it and with that change between
//! host and pipeline, it is refused (`CK0010`), and the operator begins anew under another uid. The allowed lateness may
//! change; where it grows, late rows of windows that had gone make new ones.

mod aggregate;
mod assigner;
mod build;
mod by_window;
mod evictor;
mod firing;
mod functions;
mod guest;
mod head;
mod process;
mod states;
mod stream;
mod trigger;
mod two_phase;

use std::time::Duration;

use crate::process::TimerKind;
use crate::values::Timestamp;

pub use aggregate::Aggregate;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use assigner::in_words;
pub use assigner::{BuiltIn, DynamicSession, GlobalWindows, MergedWindow, Session, Sliding, Tumbling, WindowAssigner};
pub(crate) use build::Asked;
pub use evictor::{CountEvictor, DeltaEvictor, Evictor, EvictorContext, TimeEvictor, TimedRow};
pub(crate) use firing::Firing;
pub use functions::{Aggregated, Collected, Folded, Most, MostBy, Reduced, RowCount, Summed};
pub(crate) use guest::{GuestWindows, Inputs, Tag};
pub use head::{Fired, OwnStates, WindowFunction, WindowHead};
pub use process::{Finished, Processed, WindowContext, WindowProcess};
pub use states::{
    OfWindow, WindowAggregatingState, WindowListState, WindowMapState, WindowReducingState, WindowSetup, WindowState,
};
pub use stream::WindowedStream;
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger, EventTimeTrigger,
    ProcessingTimeTrigger, ProcessingTimeoutTrigger, PurgingTrigger, Trigger, TriggerContext, TriggerResult,
};

pub use two_phase::{Merged, TwoPhaseWindows};

/// A stretch of time: from `start` up to, but without, `end`.
///
/// ```
/// use std::time::Duration;
/// use millrace::values::Timestamp;
/// use millrace::window::Window;
///
/// let window = Window { start: Timestamp::from_millis(1000), end: Timestamp::from_millis(3000) };
/// assert_eq!(window.length(), Duration::from_secs(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First moment of the window.
    pub start: Timestamp,
    /// First moment after the window.
    pub end: Timestamp,
}

impl Window {
    /// How long it is.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn per_second(window: Window, rows: i64) -> f64 { rows as f64 / window.length().as_secs_f64() }
    /// ```
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.end.millis().saturating_sub(self.start.millis()).max(0) as u64)
    }

    /// The window of [`GlobalWindows`]: the years 1 to 9999, which every format can write.
    ///
    /// ```
    /// assert_eq!(millrace::window::Window::GLOBAL.start.to_string(), "0001-01-01T00:00:00.000Z");
    /// ```
    pub const GLOBAL: Window = Window {
        start: Timestamp::from_millis(-62_135_596_800_000),
        end: Timestamp::from_millis(253_402_300_799_999),
    };

    /// Whether it is the window that never ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert!(Window::GLOBAL.is_global());
    /// ```
    pub fn is_global(&self) -> bool {
        *self == Window::GLOBAL
    }

    /// Its last millisecond: when the watermark has reached it, the window has ended.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let window = Window { start: Timestamp::from_millis(1000), end: Timestamp::from_millis(3000) };
    /// assert_eq!(window.last().millis(), 2999);
    /// ```
    pub fn last(&self) -> Timestamp {
        Timestamp::from_millis(self.end.millis().saturating_sub(1))
    }

    /// When it is over by this clock: when the watermark has reached its last millisecond, for no row of it comes any more;
    /// when the clock on the wall has come to its end, for rows come in its last millisecond, too.
    pub(crate) fn over(&self, clock: TimerKind) -> Timestamp {
        match clock {
            TimerKind::EventTime => self.last(),
            TimerKind::ProcessingTime => self.end,
        }
    }

    /// The shortest window that covers both.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # let window = |start, end| Window { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end) };
    /// assert_eq!(window(1, 2).cover(&window(5, 7)), window(1, 7));
    /// ```
    pub fn cover(&self, other: &Window) -> Window {
        Window {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// What is no number is never exceeded.
///
/// # Errors
/// Why there cannot be such a threshold.
fn check_threshold(threshold: f64) -> Result<(), String> {
    match threshold.is_nan() {
        true => Err("a threshold is a number, not NaN".to_owned()),
        false => Ok(()),
    }
}
