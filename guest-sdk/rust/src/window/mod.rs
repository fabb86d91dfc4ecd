//! Windows: rows of a key gathered by time, by number, or as one likes.
//!
//! Tumbling and sliding windows and sessions of event time are done by the host, which needs the guest only for
//! accumulators (`head.rs`). Windows with another assigner, clock, trigger or evictor, and functions with states of their
//! own, run here, over keyed state and timers (`guest.rs`). Which it is follows from what is asked for.

mod aggregate;
mod assigner;
mod build;
mod by_window;
mod evictor;
mod functions;
mod guest;
mod head;
mod process;
mod stream;
mod trigger;

use std::time::Duration;

use crate::values::Timestamp;

pub use aggregate::Aggregate;
pub use assigner::{BuiltIn, DynamicSession, GlobalWindows, MergedWindow, Session, Sliding, Tumbling, WindowAssigner};
pub use evictor::{CountEvictor, DeltaEvictor, Evictor, EvictorContext, TimeEvictor, TimedRow};
pub use functions::{Aggregated, Collected, Folded, Most, Reduced, RowCount, Summed};
pub use head::{Fired, OwnStates, WindowFunction, WindowHead};
pub use process::{Finished, Processed, WindowContext, WindowProcess, WindowSetup, WindowState};
pub use stream::WindowedStream;
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger, EventTimeTrigger,
    ProcessingTimeTrigger, PurgingTrigger, Trigger, TriggerContext, TriggerResult,
};

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
