//! Evictors: which rows of a window leave it when it fires.

mod builtin;
mod store;

use super::Window;
use crate::value::Record;
use crate::values::Timestamp;

pub use builtin::{CountEvictor, DeltaEvictor, TimeEvictor};
pub(crate) use store::{RowStore, TakeRow, WithEvictor};

/// A row of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedRow<T> {
    /// Its event time, or the processing time at which it came where windows are of that.
    pub time: Timestamp,
    /// The row.
    pub row: T,
}

/// Takes rows out of a window when it fires: given to [`WindowedStream::evictor`](crate::WindowedStream::evictor). What is
/// taken out is gone for later firings too.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::window::TimedRow;
///
/// #[derive(Record, Clone)]
/// struct Bid { lot: i64, cents: i64, withdrawn: bool, at: Timestamp }
///
/// /// Does not count what was withdrawn.
/// struct Withdrawn;
///
/// impl Evictor<Bid> for Withdrawn {
///     fn evict_before(&self, rows: &mut Vec<TimedRow<Bid>>, _cx: &EvictorContext) {
///         rows.retain(|row| !row.row.withdrawn);
///     }
/// }
///
/// fn highest(bids: KeyedStream<Bid, i64>) {
///     bids.window(Tumbling::of(Duration::from_secs(60)))
///         .evictor(Withdrawn)
///         .max(Bid::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait Evictor<T: Record>: 'static {
    /// Before the window's function: takes out what the function shall not see.
    fn evict_before(&self, rows: &mut Vec<TimedRow<T>>, cx: &EvictorContext) {
        let _ = (rows, cx);
    }

    /// After the window's function: takes out what the next firing shall not see.
    fn evict_after(&self, rows: &mut Vec<TimedRow<T>>, cx: &EvictorContext) {
        let _ = (rows, cx);
    }

    /// Whether its parameters make sense: asked when the pipeline is built. Without this it is taken for granted.
    ///
    /// # Errors
    /// Why not. The pipeline is refused with it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What an evictor sees beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct EvictorContext {
    pub(crate) window: Window,
    pub(crate) watermark: i64,
    pub(crate) now: i64,
}

impl EvictorContext {
    /// The window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_long(cx: &EvictorContext) -> bool { cx.window().length() > Duration::from_secs(3600) }
    /// ```
    pub fn window(&self) -> Window {
        self.window
    }

    /// How far event time has come; none before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_over(cx: &EvictorContext) -> bool { cx.watermark() >= Some(cx.window().last()) }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != i64::MIN).then(|| Timestamp::from_millis(self.watermark))
    }

    /// Processing time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn minute_ago(cx: &EvictorContext) -> Timestamp { cx.now() - Duration::from_secs(60) }
    /// ```
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }
}
