//! Event time: where it is read from, how watermarks come from it, and how watermarks of several inputs
//! become one.
//!
//! Everything is a value; clocks are passed in. Timers and windows are operators and live in
//! `millrace-operators`.

mod alignment;
mod calendar;
mod event_time;
mod frontier;
mod merge;
mod watermark;

pub use alignment::{Alignment, Member};
pub use calendar::civil;
pub use event_time::{event_times, latest_time};
pub use frontier::Frontier;
pub use merge::{Progress, WatermarkMerge};
pub use watermark::{Tick, WatermarkGenerator};
