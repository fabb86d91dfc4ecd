//! Windows: rows of a key gathered by event time.

mod aggregate;
mod assigner;
mod functions;
mod head;
mod stream;

use std::time::Duration;

use crate::values::Timestamp;

pub use aggregate::Aggregate;
pub use assigner::{Assigner, Session, Sliding, Tumbling};
pub use functions::{Aggregated, Collected, Folded, Most, Reduced, RowCount, Summed};
pub use head::{Fired, WindowFunction, WindowHead};
pub use stream::WindowedStream;

/// A stretch of event time: from `start` up to, but without, `end`.
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
}
